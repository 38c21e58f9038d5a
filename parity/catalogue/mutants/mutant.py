"""A mutant: the reference with one deliberate, named mistake, as people make them who port it.

It is made by replacing text in the source of `reference.microgpt` in memory, so that all the rest of it is the
reference; where the mistake is one of what a subject keeps between calls, by another subject around the same source.
"""

import inspect
from dataclasses import dataclass, replace
from functools import cached_property
from types import ModuleType
from typing import Any

from reference import microgpt
from reference.config import Config, Hyper, State, Step

SOURCE = inspect.getsource(microgpt)


class MutantSubject:
    """A mutant at work, as `parity.oracle.python_reference.Reference` is the reference at work."""

    dtype = "float64"

    def __init__(self, mutant: "Mutant", config: Config, hyper: Hyper) -> None:
        self.model: Any = mutant.module
        self.config, self.hyper = config, hyper

    def load(self, state: State) -> None:
        """Start from this state."""
        self.state = state

    def train_step(self, batch: list[list[int]]) -> Step:
        """Forward, backward and Adam on these documents, all as nested lists of floats."""
        self.state, step = self.model.train_step(self.state, batch, self.config, self.hyper)
        return step  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Mutant:
    """The reference with one mistake.

    mistake: a sentence that says what is wrong. edits: pairs of a text that the reference's source holds exactly once,
    and what stands in its place. stage: the part of a training step that is wrong, one of
    `parity.catalogue.mutants.STAGES`. place: the first thing that a step computes wrong, as a check calls it in which
    the mistake shows: a site or a gradient ("site layer0.attn.scores", "grad lm_head"; of a layer's gradient the last
    layer's), the loss, "m", "v" or "param" of any tensor, "grad" of any. subject: what runs it. in_vectors: it shows in
    the conformance vectors, whose cases are few and small. equivalent: why it computes the same in exact arithmetic, so
    that no check may refuse it; empty where it does not. rounds_to: the number format that it rounds to, where that is
    all: what is kept in that format does so by right. sources: where somebody really made it: issues and pull requests,
    as in "huggingface/transformers#34191", and ports, as in "port: enjector/microgpt-c"; none where nobody is known to
    have.
    """

    name: str
    mistake: str
    edits: tuple[tuple[str, str], ...] = ()
    stage: str = ""
    subject: type[MutantSubject] = MutantSubject
    in_vectors: bool = False
    sources: tuple[str, ...] = ()
    equivalent: str = ""
    rounds_to: str = ""
    place: str = ""
    parts: "tuple[Mutant, ...]" = ()
    """The mistakes that are in it, where it is several at once."""

    @cached_property
    def module(self) -> ModuleType:
        """`reference.microgpt` with the edits made; ValueError where a text does not stand there exactly once."""
        source, made = SOURCE, len(SOURCE)
        for old, new in sorted(self.edits, key=lambda edit: SOURCE.find(edit[0]), reverse=True):
            place = SOURCE.find(old)
            if SOURCE.count(old) != 1 or place + len(old) > made:
                raise ValueError(f"{old!r} does not stand in the reference's source exactly once ({self.name}).")
            source, made = source[:place] + new + source[place + len(old) :], place
        module = ModuleType(f"reference with {self.name}")
        exec(compile(source, f"<{module.__name__}>", "exec"), module.__dict__)
        return module

    @property
    def line(self) -> tuple[int, str] | None:
        """The line of `reference/microgpt.py` that the mistake is in, and what stands there; None where it is in none.

        Of several it is the first that is edited, helpers aside that stand before a function.
        """
        inside = [edit for edit in self.edits if not edit[0].startswith("def ")] or list(self.edits)
        if not inside or self.subject is not MutantSubject:
            return None
        old, new = min(inside, key=lambda edit: SOURCE.find(edit[0]))
        alike = next((i for i, (a, b) in enumerate(zip(old, new)) if a != b), min(len(old), len(new)))
        place = SOURCE.find(old) + alike
        number = SOURCE.count("\n", 0, place)
        return number + 1, SOURCE.splitlines()[number].strip()

    def make(self, config: Config, hyper: Hyper) -> MutantSubject:
        """The mutant as a subject, which computes in float64."""
        return self.subject(self, config, hyper)


def of_stage(stage: str, *mutants: Mutant) -> tuple[Mutant, ...]:
    """The mutants, with their stage."""
    return tuple(replace(mutant, stage=stage) for mutant in mutants)
