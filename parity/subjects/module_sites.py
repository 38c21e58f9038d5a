"""What the modules inside a torch.nn.Module are given and give, as sites of the reference: seen by hooks."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from parity.errors import SubjectError, UsageError
from parity.subjects.name_map import Arranged, arranged, expanded, unknown
from reference.config import Config

_INPUT = ".input"
"""Ends the name of a module that shows a site by what it is given."""

Sites = dict[str, list[Tensor]]
"""As in a Step: from site to one (width,) tensor for each position, the documents one after another."""


class ModuleSites:
    """Hooks that keep, between `start` and `stop`, what the sites of the reference are.

    sites: from the name of a module inside the module to the site that its output is, or with ".input" after it the
    first thing that it is given; to what `stacked` gives where several sites lie side by side in the last dimension.
    {i} in both stands for every layer. Raises UsageError where the module or the reference has no such thing.
    """

    def __init__(self, module: nn.Module, config: Config, sites: Mapping[str, str | Arranged]) -> None:
        self.widths = site_widths(config)
        self.entries = dict(expanded(sites, config.n_layer))
        self.patterns = {
            name: pattern for pattern, entry in sites.items() for name, _ in expanded({pattern: entry}, config.n_layer)
        }
        """By the name of an entry that of the one in the map, which may stand for every layer."""
        self.recording = False
        self.seen: dict[str, list[_Seen]] = {}
        self.called: set[str] = set()
        named = module.named_modules(remove_duplicate=False)
        modules = {name.replace("_orig_mod.", ""): part for name, part in named}  # torch.compile's
        problems = list(_problems(self.entries, modules, self.widths))
        if problems:
            raise UsageError(" ".join(["The map of sites does not fit.", *problems]))
        self.places = {name: self._places(name, entry) for name, entry in self.entries.items()}
        for name in self.entries:
            self._hook(name, modules)

    def start(self, recording: bool) -> None:
        """Forget what was seen, and keep what is seen from now on, if that is wanted."""
        self.recording = recording
        self.forget()

    def forget(self) -> None:
        """Begin anew with what is seen."""
        self.seen, self.called = {}, set()

    def stop(self) -> None:
        """Keep no more; gradients of what was seen still come in."""
        self.recording = False

    def shown(self, lengths: Sequence[int]) -> tuple[Sites, Sites]:
        """The sites, and the gradients of those that gradients can flow to, of documents with so many positions.

        Those of modules that were not called are left out. SubjectError where what was seen is not a row (positions,
        width) for each document, padded after its end.
        """
        sites: Sites = {}
        grads: Sites = {}
        for name, entry in self.entries.items():
            if name not in self.called:
                continue
            seen = self.seen.get(name, [])
            values = self._of_positions(name, [part.value for part in seen], lengths)
            self._take_apart(sites, name, entry, values)
            if all(part.differentiable for part in seen):  # not those of which nothing is known, as in a recomputation
                self._take_apart(grads, name, entry, self._of_positions(name, [part.grad for part in seen], lengths))
        return sites, grads

    def not_called(self) -> tuple[str, ...]:
        """The entries of the map whose modules were not called in forward, as phrases of what is not exercised."""
        left = [name for name in self.entries if name not in self.called]
        kept = {self.patterns[name] for name in self.called}
        named = dict.fromkeys(name if self.patterns[name] in kept else self.patterns[name] for name in left)
        return tuple(
            f"the site at {name!r} in the map of sites, a module that was never called in forward" for name in named
        )

    @property
    def shown_by(self) -> dict[str, str]:
        """By site the entry of the map that shows it."""
        return {site: repr(name) for name, entry in self.entries.items() for site in entry.names}

    def _hook(self, name: str, modules: Mapping[str, nn.Module]) -> None:
        def take(tensors: Any) -> None:
            value = next(iter(tensors), None) if isinstance(tensors, tuple) else tensors
            if isinstance(value, Tensor):
                self.seen.setdefault(name, []).append(_Seen.of(value))

        if "torch._dynamo" in sys.modules:  # which is slow to import
            take = torch.compiler.disable(take)  # type: ignore[no-untyped-call]  # hooks of gradients cannot be compiled

        def keep(tensors: Any) -> None:
            if self.recording:
                self.called.add(name)
                take(tensors)

        module = modules[_module_name(name, modules)]
        if name in modules:
            module.register_forward_hook(lambda module, given, output: keep(output))
        else:
            module.register_forward_pre_hook(
                lambda module, given, named: keep((*given, *named.values())), with_kwargs=True
            )

    def _places(self, name: str, entry: Arranged) -> Tensor:
        """Where the elements of the sites lie in the module's last dimension, the sites laid end to end."""
        every = torch.arange(self._width(entry))
        place = arranged(name, entry, self._apart(every, entry))
        if not torch.equal(place.flatten().sort().values, every):
            raise UsageError(f"The map of sites does not give {name} all of {', '.join(entry.names)}, each once.")
        return place.flatten().argsort()

    def _width(self, entry: Arranged) -> int:
        return sum(self.widths[site] for site in entry.names)

    def _of_positions(self, name: str, parts: Sequence[Tensor], lengths: Sequence[int]) -> Tensor:
        """(positions of all documents, width)."""
        rows = [row for part in parts if part.ndim in (2, 3) for row in part.reshape(-1, *part.shape[-2:])]
        width = self._width(self.entries[name])
        fitting = len(rows) == len(lengths) and all(
            row.shape[0] >= n and row.shape[1] == width for row, n in zip(rows, lengths)
        )
        if not fitting:
            raise SubjectError(self._misfit(name, (len(lengths), max(lengths), width), parts))
        return torch.cat([row[:n] for row, n in zip(rows, lengths)]).cpu()

    def _misfit(self, name: str, expected: tuple[int, ...], parts: Sequence[Tensor]) -> str:
        """What a module shows instead of a tensor of the expected shape, in sentences."""
        module, sites = name.removesuffix(_INPUT), " and ".join(self.entries[name].names)
        does = "is given" if name.endswith(_INPUT) else "gives"
        shown = [str(tuple(part.shape)) for part in parts[:3]]
        seen = " and ".join([*shown, *([f"{len(parts) - 3} more"] if len(parts) > 3 else [])])
        return (
            f"The map of sites does not fit: the module {module} {does} {seen or 'nothing that is seen'}, and {sites} "
            f"would be {expected} here (documents, positions, width). Correct the entry {name!r} of sites, or take it "
            "out."
        )

    def _take_apart(self, sites: Sites, name: str, entry: Arranged, values: Tensor) -> None:
        apart = self._apart(values[:, self.places[name]], entry)
        sites |= {site: list(part.unbind()) for site, part in apart.items()}

    def _apart(self, values: Tensor, entry: Arranged) -> dict[str, Tensor]:
        """By site, what lies end to end in the last dimension."""
        widths = [self.widths[site] for site in entry.names]
        return dict(zip(entry.names, torch.split(values, widths, dim=-1)))


@dataclass
class _Seen:
    """A tensor as it was when it was seen, whatever is done to it in place afterwards."""

    value: Tensor
    grad: Tensor
    differentiable: bool

    @classmethod
    def of(cls, tensor: Tensor) -> "_Seen":
        value = tensor.detach().clone()
        seen = cls(value, torch.zeros_like(value), tensor.requires_grad)
        if tensor.requires_grad:
            # Unlike retain_grad a hook stays with what the tensor was before an operation in place.
            tensor.register_hook(seen.take_gradient)  # type: ignore[no-untyped-call]
        return seen

    def take_gradient(self, grad: Tensor) -> None:
        self.grad = grad.detach().clone()


def site_widths(config: Config) -> dict[str, int]:
    """How many numbers a position has in each site that a module may show, in the order of computation."""
    widths = {"embedding": config.n_embd, "norm": config.n_embd}
    for layer in range(config.n_layer):
        for part in ("norm", "q", "k", "v", "heads", "residual"):
            widths[f"layer{layer}.attn.{part}"] = config.n_embd
        for part, width in (("norm", 1), ("pre", 4), ("post", 4), ("residual", 1)):
            widths[f"layer{layer}.mlp.{part}"] = width * config.n_embd
    return {**widths, "logits": config.vocab_size}


def _problems(
    entries: Mapping[str, Arranged], modules: Mapping[str, nn.Module], widths: Mapping[str, int]
) -> Iterator[str]:
    """What the map names that is not there, and what it names twice."""
    yield from unknown([_module_name(name, modules) for name in entries], "module's modules", modules)
    mapped = [site for entry in entries.values() for site in entry.names]
    yield from unknown(mapped, "sites that a module can show", widths)
    if not widths.keys() >= set(mapped):
        names = dict.fromkeys(re.sub(r"^layer\d+", "layer{i}", site) for site in widths)
        yield f"These are {', '.join(names)}."
    for site in dict.fromkeys(mapped):
        users = [name for name, entry in entries.items() if site in entry.names]
        if len(users) > 1:
            yield f"{site} is mapped more than once: to {', '.join(users)}."


def _module_name(name: str, modules: Mapping[str, nn.Module]) -> str:
    return name if name in modules else name.removesuffix(_INPUT)
