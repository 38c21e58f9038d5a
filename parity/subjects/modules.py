"""A subject made of any torch.nn.Module, with gradients by autograd and an optimizer of torch; see `parity.modules`."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import override

from parity.errors import UsageError
from parity.number_formats import FORMATS
from parity.subjects.frozen import odd_constants, trained
from parity.subjects.module_sites import ModuleSites
from parity.subjects.name_map import Arranged as Arranged
from parity.subjects.name_map import NameMap, tied_head
from parity.subjects.name_map import stacked as stacked
from parity.subjects.subject import Subject
from parity.tensors import TIED
from reference.config import Config, Hyper, State, Step

Batch = list[list[int]]
_MOMENT_KEYS = ("exp_avg", "exp_avg_sq")
"""What torch's Adam calls m and v."""


class ModuleSubject(Subject):
    """The training step of a module, as a subject for the harness.

    names: from the name of every trainable parameter to that of the reference's matrix in it (see `Config.shapes`;
    "wte.T" for one that is transposed), or to what `stacked` or `Arranged` gives. {i} in both stands for every layer.
    frozen: patterns, such as "*.norm.weight", of parameters that the reference does not have. They are not trained
    and keep their values: gains must be 1 and biases 0.
    loss: takes the module and the batch (lists of tokens, of which n = min(block_size, len - 1) positions count) and
    returns the loss, or it and the logits, one (n, vocab_size) tensor for each document. None: the module maps int64
    tokens (documents, longest n) to logits (documents, longest n, vocab_size); the mean cross entropy of each document,
    and the mean of these. Shorter documents are padded after their ends with token 0. A module whose forward has a
    parameter attention_mask is given it as well, int64 as the tokens, 1 for tokens and 0 for padding. One that refuses
    several documents is given them one by one, and not_exercised says so.
    sites: from names of modules within the module to the reference's sites (see the tap calls in
    reference/microgpt.py), as "h.{i}.ln_1": "layer{i}.attn.norm": the site is what that module gives, or with
    "h.{i}.ln_1.input" what it is given; `stacked` for several of them side by side. Where documents are rows of its
    tensors, padded after their ends, the site and its gradient are seen by hooks, and place a divergence. Sites that
    the map leaves out are not compared.
    optimizer: a class or function that takes params, lr, betas and eps and keeps its moments as torch.optim.Adam does.
    The learning rate is set before every step. None, where training has another one: then nothing is updated, and loss,
    logits and gradients are checked from the reference's states (without_update).
    dtype: a name of `parity.number_formats.FORMATS`; device: as torch names it. The module is moved to both and set to
    training, so dropout must be 0.

    warnings: what explains a failure of it: frozen gains other than 1, and biases other than 0, as they were given.

    not_exercised: what a check of this subject left out, in the words of `Case.not_exercised`; known after a step.

    tied_head: whether the module's lm_head is its wte, one parameter that the map names twice; see `Subject`.

    Raises UsageError where maps and module or the optimizer do not fit.
    """

    expose_sites: bool
    """Whether steps hold sites; there only where `sites` names some, for it is what the harness asks by."""

    def __init__(
        self,
        module: nn.Module,
        config: Config,
        hyper: Hyper,
        names: Mapping[str, str | Arranged],
        *,
        sites: Mapping[str, str | Arranged] | None = None,
        frozen: str | Iterable[str] = (),
        loss: Callable[[nn.Module, Batch], Any] | None = None,
        optimizer: Callable[..., torch.optim.Optimizer] | None = torch.optim.Adam,
        dtype: str = "float64",
        device: str = "cpu",
    ) -> None:
        if dtype not in FORMATS:
            raise UsageError(f"A module computes in {', '.join(FORMATS)}, not in {dtype!r}.")
        self.config, self.hyper, self.dtype, self.device = config, hyper, dtype, device
        self.module = module.to(device, getattr(torch, dtype)).train()
        self.loss = loss or self._next_token_loss
        self.parameters = trained(self.module, (frozen,) if isinstance(frozen, str) else tuple(frozen))
        self.layout = NameMap(config, self.parameters, names)
        self.tied_head = tied_head(config, self.parameters, self.layout)
        self.sites = ModuleSites(self.module, config, sites or {})
        if sites:
            self.expose_sites = False
        self.steps = 0
        self.shown_by = self.sites.shown_by
        self.warnings = tuple(odd_constants(self.module))
        self.not_exercised: tuple[str, ...] = ()
        self._takes_batches: bool | None = None
        self._takes_mask = _takes_mask(self.module)
        self.optimizer = optimizer and _optimizer(optimizer, self.parameters, hyper)
        self.without_update = optimizer is None

    @override
    def load(self, state: State) -> None:
        """Take these weights, m, v and step number."""
        self.number = state.step
        self.layout.write(self.parameters, state.params)
        if self.optimizer is None:
            return
        for key, matrices in zip(_MOMENT_KEYS, (state.m, state.v)):
            self.layout.write(self._moments(key), matrices)
        for parameter in self.parameters.values():
            kept = self.optimizer.state[parameter]
            # In place where it is a tensor: the optimizer chose its format and device.
            kept["step"] = kept["step"].fill_(state.step) if isinstance(kept["step"], Tensor) else state.step

    @override
    def train_step(self, batch: Batch) -> Step:
        """Forward, backward and the optimizer on these documents."""
        from torch_twin.microgpt import gradient, learning_rate

        for group in self.optimizer.param_groups if self.optimizer else ():
            group["lr"] = learning_rate(self.number, self.hyper)
        self.module.zero_grad()
        exposing = getattr(self, "expose_sites", False)
        # Where its map does not fit, the first step says so, and no divergence goes without its place.
        self.sites.start(exposing or not self.steps)
        answer = self.loss(self.module, batch)
        self.sites.stop()  # what backward computes again is no news
        loss, logits = answer if isinstance(answer, tuple) else (answer, None)
        loss.backward()
        lengths = [min(self.config.block_size, len(document) - 1) for document in batch]
        shown = self.sites.shown(lengths) if exposing or not self.steps else None
        if not self.steps:
            self.not_exercised += self.sites.not_called()
        sites, site_grads = shown if exposing and shown and shown[0] else (None, None)
        # Copied before the update, which may change gradients in place.
        grads = self.layout.read({name: gradient(parameter) for name, parameter in self.parameters.items()})
        self.number, self.steps = self.number + 1, self.steps + 1
        step = Step(
            loss=loss.item(),
            logits=None if logits is None else [torch.as_tensor(rows).detach() for rows in logits],
            grads=self._exposed(grads),
            sites=sites,
            site_grads=site_grads,
        )
        if self.optimizer is not None:
            self.optimizer.step()
            step.params = self._exposed(self.layout.read(self.parameters))
            step.m, step.v = (self._exposed(self.layout.read(self._moments(key))) for key in _MOMENT_KEYS)
        return step

    def _exposed(self, matrices: dict[str, Tensor]) -> dict[str, Tensor]:
        """Without those that share a parameter."""
        return {name: matrix for name, matrix in matrices.items() if not (self.tied_head and name in TIED)}

    def _moments(self, key: str) -> dict[str, Tensor]:
        assert self.optimizer is not None
        return {name: self.optimizer.state[parameter][key] for name, parameter in self.parameters.items()}

    def _next_token_loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        documents = [torch.tensor(tokens[: self.config.block_size + 1], device=self.device) for tokens in batch]
        logits = self._all_at_once(module, documents) if len(documents) > 1 else None
        if logits is None:
            logits = [rows for document in documents for rows in self._logits(module, [document])]
        losses = [cross_entropy(rows, document[1:]) for rows, document in zip(logits, documents)]
        return torch.stack(losses).mean(), logits

    def _all_at_once(self, module: nn.Module, documents: Sequence[Tensor]) -> list[Tensor] | None:
        """As `_logits`; None where the module refuses several documents, for good."""
        if self._takes_batches is False:
            return None
        try:
            logits = self._logits(module, documents)
        except Exception:
            if self._takes_batches:
                raise
            self._takes_batches = False
            self.not_exercised = ("batches of several documents", *self.not_exercised)
            self.sites.forget()
            return None
        self._takes_batches = True
        return logits

    def _logits(self, module: nn.Module, documents: Sequence[Tensor]) -> list[Tensor]:
        """Of each document (n + 1,), which are given to the module in one call, (n, vocab_size)."""
        tokens = pad_sequence([document[:-1] for document in documents], batch_first=True)
        mask = pad_sequence([torch.ones_like(document[:-1]) for document in documents], batch_first=True)
        answer = module(tokens, attention_mask=mask) if self._takes_mask else module(tokens)
        answer = getattr(answer, "logits", answer)  # as transformers wraps them
        answer = answer[0] if isinstance(answer, tuple) else answer  # with a loss or a cache after them
        expected = (*tokens.shape, self.config.vocab_size)
        if tuple(getattr(answer, "shape", ())) != expected:
            what = f"shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else type(answer).__name__
            raise ValueError(
                f"For tokens of shape {tuple(tokens.shape)} the module gave logits of {what}, expected shape "
                f"{expected}; where a module is called in another way, pass loss="
            )
        return [rows[: len(document) - 1] for rows, document in zip(answer, documents)]


def _takes_mask(module: nn.Module) -> bool:
    """Whether the module asks which tokens are padding, as those of transformers do."""
    return "attention_mask" in inspect.signature(getattr(module, "_orig_mod", module).forward).parameters


def _optimizer(
    make: Callable[..., torch.optim.Optimizer], parameters: Mapping[str, nn.Parameter], hyper: Hyper
) -> torch.optim.Optimizer:
    """An optimizer of these parameters that has its moments already; UsageError for one that does not keep Adam's."""
    betas = (float(hyper.beta1), float(hyper.beta2))
    try:
        optimizer = make(
            list(dict.fromkeys(parameters.values())), lr=hyper.learning_rate, betas=betas, eps=hyper.eps_adam
        )
    except TypeError as error:
        raise UsageError(f"The optimizer cannot be made with params, lr, betas and eps: {error}.") from None
    # The first step brings the moments into being; what it does to them and to the weights, load undoes.
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    lacking = [name for name, p in parameters.items() if not optimizer.state[p].keys() >= {*_MOMENT_KEYS, "step"}]
    if lacking:
        raise UsageError(
            f"The optimizer {type(optimizer).__name__} does not keep {', '.join(_MOMENT_KEYS)} and step, as "
            f"torch.optim.Adam does, for {', '.join(lacking)}. With optimizer=None all but the update is checked."
        )
    return optimizer
