"""A mutant that is asked often: it answers a question that it was asked before from memory, and can show its sites."""

import random
from dataclasses import replace
from functools import lru_cache
from typing import Any

from parity.catalogue.mutants import SOURCE, Mutant
from parity.errors import NoExpectation
from parity.oracle.python_reference import Reference
from parity.oracle.scalar import Scalar
from parity.tensors import vectors
from parity.trees import listed, mapped
from reference.config import Config, Hyper, State, Step
from reference.microgpt import gradient, init_params, init_state

_UPDATE = (SOURCE.index("def learning_rate("), SOURCE.index("@without_gc\ndef train_step("))
"""Where the source of the update stands."""


class RememberingMutant:
    """A mutant's factory, whose subjects share what they have computed: a step in pure Python takes 50 ms."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant
        self.known: dict[Any, tuple[State, Step]] = {}

    def make(self, config: Config, hyper: Hyper) -> "MutantWithSites":
        """The mutant as a subject that can show its sites."""
        return MutantWithSites(self, config, hyper)


class MutantWithSites:
    """A mutant at work, which shows its sites where it is asked for them: those that have the reference's shapes."""

    dtype = "float64"

    def __init__(self, factory: RememberingMutant, config: Config, hyper: Hyper) -> None:
        self.config, self.expose_sites = config, False
        self.subject = factory.mutant.make(config, hyper)
        self.model = self.subject.model = _RememberingModel(factory)
        self.shown: frozenset[str] = frozenset()
        """The names of the sites that it showed last."""

    def load(self, state: State) -> None:
        """Start from this state."""
        self.subject.load(state)

    def train_step(self, batch: list[list[int]]) -> Step:
        """Forward, backward and Adam on these documents, all as nested lists of floats."""
        self.model.begin(self.expose_sites)
        step = self.subject.train_step(batch)
        if not self.expose_sites:
            return replace(step, sites=None, site_grads=None)
        shown: Step = self.model.first
        lengths = tuple(min(self.config.block_size, len(tokens) - 1) for tokens in batch)
        alike = {
            name for name, shape in site_shapes(self.config, lengths).items() if _shape(shown.sites, name) == shape
        }
        self.shown = frozenset(alike)
        sites, grads = ({name: of[name] for name in of if name in alike} for of in (shown.sites, shown.site_grads))
        return replace(step, sites=sites, site_grads=grads)


class _RememberingModel:
    """A mutant's module with a train_step that remembers, and that notes the sites of its first call."""

    def __init__(self, factory: RememberingMutant) -> None:
        self.known, self.module = factory.known, factory.mutant.module
        self.updates_otherwise = _only_the_update(factory.mutant)
        self.begin(False)

    def begin(self, sites: bool) -> None:
        """A question comes, with its sites or without."""
        self.sites, self.first = sites, Step()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)

    def train_step(self, state: State, batch: list[list[int]], config: Config, hyper: Hyper) -> tuple[State, Step]:
        """The module's, with the sites in the step where they are asked for."""
        asked = (config, hyper, state.step, repr(batch), vectors(config, state).tobytes())
        found = self.known.get((*asked, self.sites)) or self.known.get((*asked, True))
        if found is None:
            ask = (
                self._with_sites if self.sites else self._updated if self.updates_otherwise else self.module.train_step
            )
            found = self.known[(*asked, self.sites)] = ask(state, batch, config, hyper)
        self.first = self.first if self.first.sites is not None else found[1]
        return found

    def _with_sites(self, state: State, batch: list[list[int]], config: Config, hyper: Hyper) -> tuple[State, Step]:
        values: dict[str, list[Any]] = {}

        def collect(site: str, value: Any) -> Any:
            values.setdefault(site, []).append(value)
            return value

        after, step = self.module.train_step(state, batch, config, hyper, collect)
        step.sites, step.site_grads = mapped(lambda value: value.data, values), mapped(gradient, values)
        return after, step

    def _updated(self, state: State, batch: list[list[int]], config: Config, hyper: Hyper) -> tuple[State, Step]:
        """The same where all but the update is the reference's, whose replay gives the same bits in less time."""
        replay = Scalar(config, hyper)
        replay.load(state)
        try:
            step = replay.train_step(batch)
        except NoExpectation:  # weights at which the reference fails, and the mutant may as well
            return self.module.train_step(state, batch, config, hyper)  # type: ignore[no-any-return]
        grads = listed(dict(step.grads))
        after = self.module.adam(state, grads, hyper)
        return after, Step(step.loss, listed(step.logits), grads, after.params, after.m, after.v)


def _only_the_update(mutant: Mutant) -> bool:
    """Whether a mutant is the reference but for what Adam makes of a gradient."""
    start, end = _UPDATE
    return bool(mutant.edits) and all(start <= SOURCE.index(old) < end for old, _ in mutant.edits)


@lru_cache(maxsize=256)
def site_shapes(config: Config, lengths: tuple[int, ...]) -> dict[str, Any]:
    """By name, in the order of computation, the shape of every entry of the reference's sites in such a batch."""
    reference = Reference(config, Hyper())
    reference.expose_sites = True
    reference.load(init_state(init_params(config, random.Random(0))))
    sites = reference.train_step([[0] * (length + 1) for length in lengths]).sites
    return {name: _shape(sites, name) for name in sites}


def _shape(sites: dict[str, Any], name: str) -> Any:
    """The shapes of the entries of a site as nested tuples of lengths; None where it is not there."""

    def of(tree: Any) -> Any:
        return tuple(map(of, tree)) if isinstance(tree, list) else ()

    return of(sites[name]) if name in sites else None
