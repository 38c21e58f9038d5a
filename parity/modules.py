"""A subject made of any torch.nn.Module, with gradients by autograd and an optimizer of torch.

A name map says where the reference's matrices lie in the module; weights, gradients, m and v go through it alike:

    from my_gpt import GPT
    from parity.modules import ModuleSubject, stacked

    NAMES = {"wte.weight": "wte", "wpe.weight": "wpe", "lm_head.weight": "lm_head",
             "h.{i}.attn.qkv.weight": stacked("layer{i}.attn_wq", "layer{i}.attn_wk", "layer{i}.attn_wv"),
             "h.{i}.attn.proj.weight": "layer{i}.attn_wo",
             "h.{i}.mlp.up.weight": "layer{i}.mlp_fc1", "h.{i}.mlp.down.weight": "layer{i}.mlp_fc2"}

    def make(config, hyper, dtype="float64", device="cpu"):
        return ModuleSubject(GPT(config), config, hyper, NAMES, dtype=dtype, device=device)
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from parity.errors import UsageError
from parity.formats import FORMATS
from reference.config import Config, Hyper, State, Step

Batch = list[list[int]]
MOMENTS = ("exp_avg", "exp_avg_sq")
"""What torch's Adam calls m and v."""


@dataclass(frozen=True)
class Arranged:
    """Matrices of the reference, by name, as one parameter of the module.

    arrange takes the matrices as tensors, in the order of names, and returns the parameter. It may move elements and
    leave some out (to be mapped by another parameter), and is called once, on their positions, not on their values.
    """

    names: tuple[str, ...]
    arrange: Callable[..., Tensor]

    @property
    def T(self) -> "Arranged":  # noqa: N802 - as torch calls it
        """The same, transposed."""
        return Arranged(self.names, lambda *matrices: self.arrange(*matrices).T)


def stacked(*names: str, heads: int = 1) -> Arranged:
    """Several matrices in one parameter, the rows of one under those of another, in this order.

    heads: the rows of every matrix are split into that many blocks, and the first blocks of all come first, then the
    second ones, as where queries, keys and values lie side by side for each attention head.
    """

    def arrange(*matrices: Tensor) -> Tensor:
        blocks = zip(*(matrix.tensor_split(heads) for matrix in matrices), strict=True)
        return torch.cat([part for block in blocks for part in block])

    return Arranged(names, arrange)


class ModuleSubject:
    """The training step of a module, as a subject for the harness.

    names: from the name of every trainable parameter to that of the reference's matrix in it (see `Config.shapes`;
    "wte.T" for one that is transposed), or to what `stacked` or `Arranged` gives. {i} in both stands for every layer.
    frozen: patterns, such as "*.norm.weight", of parameters that the reference does not have. They are not trained
    and keep their values: gains must be 1 and biases 0.
    loss: takes the module and the batch (lists of tokens, of which n = min(block_size, len - 1) positions count) and
    returns the loss, or it and the logits, one (n, vocab_size) tensor for each document. None: the module maps int64
    tokens (1, n) to logits (1, n, vocab_size); the mean cross entropy of each document, and the mean of these.
    optimizer: a class or function that takes params, lr, betas and eps and keeps its moments as torch.optim.Adam does.
    The learning rate is set before every step.
    dtype: a name of `parity.formats.FORMATS`; device: as torch names it. The module is moved to both and set to
    training, so dropout must be 0.

    Raises UsageError where map and module or the optimizer do not fit.
    """

    def __init__(
        self,
        module: nn.Module,
        config: Config,
        hyper: Hyper,
        names: Mapping[str, str | Arranged],
        *,
        frozen: str | Iterable[str] = (),
        loss: Callable[[nn.Module, Batch], Any] | None = None,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
        dtype: str = "float64",
        device: str = "cpu",
    ) -> None:
        if dtype not in FORMATS:
            raise UsageError(f"A module computes in {', '.join(FORMATS)}, not in {dtype!r}.")
        self.config, self.hyper, self.dtype, self.device = config, hyper, dtype, device
        self.module = module.to(device, getattr(torch, dtype)).train()
        self.loss = loss or self._next_token_loss
        self.parameters = _trained(self.module, (frozen,) if isinstance(frozen, str) else tuple(frozen))
        self.layout = _Layout(config, self.parameters, names)
        self.optimizer = _optimizer(optimizer, self.parameters, hyper)

    def load(self, state: State) -> None:
        """Take these weights, m, v and step number."""
        self.number = state.step
        self.layout.write(self.parameters, state.params)
        for key, matrices in zip(MOMENTS, (state.m, state.v)):
            self.layout.write(self._moments(key), matrices)
        for parameter in self.parameters.values():
            kept = self.optimizer.state[parameter]
            # In place where it is a tensor: the optimizer chose its format and device.
            kept["step"] = kept["step"].fill_(state.step) if isinstance(kept["step"], Tensor) else state.step

    def train_step(self, batch: Batch) -> Step:
        """Forward, backward and the optimizer on these documents."""
        from torch_twin.microgpt import gradient, learning_rate

        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.number, self.hyper)
        self.module.zero_grad()
        answer = self.loss(self.module, batch)
        loss, logits = answer if isinstance(answer, tuple) else (answer, None)
        loss.backward()
        # Copied before the update, which may change gradients in place.
        grads = self.layout.read({name: gradient(parameter) for name, parameter in self.parameters.items()})
        self.optimizer.step()
        self.number += 1
        return Step(
            loss=loss.item(),
            logits=None if logits is None else [torch.as_tensor(rows).detach() for rows in logits],
            grads=grads,
            params=self.layout.read(self.parameters),
            m=self.layout.read(self._moments("exp_avg")),
            v=self.layout.read(self._moments("exp_avg_sq")),
        )

    def _moments(self, key: str) -> dict[str, Tensor]:
        return {name: self.optimizer.state[parameter][key] for name, parameter in self.parameters.items()}

    def _next_token_loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        losses, logits = [], []
        for document in batch:
            n = min(self.config.block_size, len(document) - 1)
            tokens = torch.tensor(document[: n + 1], device=self.device)
            answer = module(tokens[None, :n])
            answer = getattr(answer, "logits", answer)  # as transformers wraps them
            answer = answer[0] if isinstance(answer, tuple) else answer  # with a loss or a cache after them
            expected = (1, n, self.config.vocab_size)
            if tuple(getattr(answer, "shape", ())) != expected:
                what = f"shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else type(answer).__name__
                raise ValueError(
                    f"For tokens of shape (1, {n}) the module gave logits of {what}, expected shape {expected}; "
                    "where a module is called in another way, pass loss="
                )
            logits.append(answer[0])
            losses.append(cross_entropy(answer[0], tokens[1:]))
        return torch.stack(losses).mean(), logits


class _Layout:
    """Where every element of the module's parameters is found among the reference's matrices, laid end to end.

    places: for each parameter that the map names a tensor of such positions, in its shape.
    """

    def __init__(self, config: Config, parameters: Mapping[str, Tensor], names: Mapping[str, str | Arranged]) -> None:
        self.shapes = config.shapes()
        self.sizes = [prod(shape) for shape in self.shapes.values()]
        matrices = self._matrices(torch.arange(sum(self.sizes)))
        entries = dict(_expanded(names, config.n_layer))
        self.places = {
            name: _arranged(name, entry, matrices)
            for name, entry in entries.items()
            if name in parameters and matrices.keys() >= set(entry.names)
        }
        problems = [
            *_unmatched(entries, parameters, matrices),
            *_misshapen(entries, parameters, self.places),
            *_not_once(entries, matrices, self.places),
        ]
        if problems:
            raise UsageError(" ".join(["The name map does not fit.", *problems]))

    def write(self, tensors: Mapping[str, Tensor], matrices: Mapping[str, Any]) -> None:
        """Set the module's tensors, in place, to the reference's matrices."""
        flat = torch.cat([torch.as_tensor(matrices[name], dtype=torch.float64).flatten() for name in self.shapes])
        for name, place in self.places.items():
            tensors[name].detach().copy_(flat[place])

    def read(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The module's tensors as matrices of the reference: copies in float64, which holds every format exactly."""
        flat = torch.empty(sum(self.sizes), dtype=torch.float64)
        for name, place in self.places.items():
            flat[place] = tensors[name].detach().to(flat)
        return self._matrices(flat)

    def _matrices(self, flat: Tensor) -> dict[str, Tensor]:
        return {name: part.view(self.shapes[name]) for name, part in zip(self.shapes, torch.split(flat, self.sizes))}


def _expanded(names: Mapping[str, str | Arranged], n_layer: int) -> Iterator[tuple[str, Arranged]]:
    """The name map with {i} replaced by every layer."""
    for name, entry in names.items():
        if isinstance(entry, str):
            plain = Arranged((entry.removesuffix(".T"),), lambda matrix: matrix)
            entry = plain.T if entry.endswith(".T") else plain
        if not isinstance(entry, Arranged):
            raise UsageError(f"The name map gives {name} a {type(entry).__name__}, expected a name or stacked(...).")
        if "{i}" not in name:
            yield name, entry
            continue
        for i in map(str, range(n_layer)):
            yield (
                name.replace("{i}", i),
                Arranged(tuple(matrix.replace("{i}", i) for matrix in entry.names), entry.arrange),
            )


def _arranged(name: str, entry: Arranged, matrices: Mapping[str, Tensor]) -> Tensor:
    try:
        place = entry.arrange(*(matrices[matrix] for matrix in entry.names))
        if not isinstance(place, Tensor) or place.dtype != torch.int64:
            raise TypeError("they may be rearranged, but not computed with")
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        given = ", ".join(f"{matrix} {tuple(matrices[matrix].shape)}" for matrix in entry.names)
        raise UsageError(f"The name map cannot make {name} of {given}: {error}.") from None
    return place


def _unmatched(
    entries: Mapping[str, Arranged], parameters: Mapping[str, Tensor], matrices: Mapping[str, Tensor]
) -> Iterator[str]:
    """What the map leaves over on either side, and what it names that is not there."""
    mapped = dict.fromkeys(matrix for entry in entries.values() for matrix in entry.names)
    sides = (("module's trained parameters", parameters, entries), ("reference's matrices", matrices, mapped))
    for side, there, named in sides:
        left = [name for name in there if name not in named]
        if left:
            yield f"Unmatched among the {side}: {', '.join(left)}."
    for side, there, named in sides:
        unknown = {name: get_close_matches(name, there, n=1) for name in named if name not in there}
        if unknown:
            hinted = (f"{name} (is it {close[0]}?)" if close else name for name, close in unknown.items())
            yield f"Not among the {side}: {', '.join(hinted)}."


def _misshapen(
    entries: Mapping[str, Arranged], parameters: Mapping[str, Tensor], places: Mapping[str, Tensor]
) -> Iterator[str]:
    for name, place in places.items():
        has, given = tuple(parameters[name].shape), tuple(place.shape)
        if has != given:
            hint = "; transposed (.T) it would fit" if has == given[::-1] else ""
            yield f"{name} has the shape {has}, the map gives it {given} from {', '.join(entries[name].names)}{hint}."


def _not_once(
    entries: Mapping[str, Arranged], matrices: Mapping[str, Tensor], places: Mapping[str, Tensor]
) -> Iterator[str]:
    """Matrices of which an element goes to several places, or to none while all that they are mapped to is known."""
    count = torch.zeros(sum(matrix.numel() for matrix in matrices.values()), dtype=torch.int64)
    for place in places.values():
        count.put_(place, torch.ones_like(place), accumulate=True)
    for name, matrix in matrices.items():
        users = [user for user, entry in entries.items() if name in entry.names]
        if count[matrix].max() > 1:
            yield f"{name} is mapped more than once: to {', '.join(users)}."
        elif count[matrix].min() == 0 and users and places.keys() >= set(users):
            yield f"{name} is mapped only in part: to {', '.join(users)}."


def _trained(module: nn.Module, frozen: tuple[str, ...]) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name, once those that a pattern of frozen fits are not."""
    named = module.named_parameters(remove_duplicate=False)
    parameters = {name.replace("_orig_mod.", ""): parameter for name, parameter in named}  # torch.compile's
    for pattern in frozen:
        fitting = [name for name in parameters if fnmatchcase(name, pattern)]
        if not fitting:
            raise UsageError(f"No parameter of the module fits {pattern!r}, which is to be frozen.")
        for name in fitting:
            parameters[name].requires_grad_(False)
    trained = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    for parameter in trained.values():
        tied = [name for name, other in trained.items() if other is parameter]
        if len(tied) > 1:
            raise UsageError(f"{' and '.join(tied)} are one parameter; the reference ties no weights: untie them.")
    return trained


def _optimizer(
    make: Callable[..., torch.optim.Optimizer], parameters: Mapping[str, nn.Parameter], hyper: Hyper
) -> torch.optim.Optimizer:
    """An optimizer of these parameters that has its moments already; UsageError for one that does not keep Adam's."""
    betas = (float(hyper.beta1), float(hyper.beta2))
    try:
        optimizer = make(list(parameters.values()), lr=hyper.learning_rate, betas=betas, eps=hyper.eps_adam)
    except TypeError as error:
        raise UsageError(f"The optimizer cannot be made with params, lr, betas and eps: {error}.") from None
    # The first step brings the moments into being; what it does to them and to the weights, load undoes.
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    lacking = [name for name, p in parameters.items() if not optimizer.state[p].keys() >= {*MOMENTS, "step"}]
    if lacking:
        raise UsageError(
            f"The optimizer {type(optimizer).__name__} does not keep {', '.join(MOMENTS)} and step, as "
            f"torch.optim.Adam does, for {', '.join(lacking)}."
        )
    return optimizer
