"""Conformance vectors: small cases as files, for implementations that can run no Python.

`parity.vectors.cases` writes them, `parity.vectors.verify` judges answers by them. A vector holds what a port starts
from, what it has to give, with the deviation that rounding explains, and what it would give with one of the mistakes
of `parity.catalogue.mutants`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parity.case import Case
from parity.errors import SubjectError, UsageError
from parity.judging.pairing import paired
from parity.judging.pairs import Pairs
from parity.quantities import FIELDS
from reference.config import Config, Hyper, State, Step

VECTOR_FORMAT = "microgpt-parity vector 1"
DTYPES = ("float64", "float32")
"""Number formats that vectors can be written for: in narrower ones rounding alone turns ReLUs in every case."""


@dataclass(frozen=True)
class Mistake:
    """What the reference gives with one mistake: the losses, and the first quantity that is outside at its step."""

    name: str
    mistake: str
    values: list[Step]
    allowed: list[Step]


@dataclass(frozen=True)
class Vector:
    """One case: what to expect at every step, how far a correct answer may be off, and what mistakes would give.

    cases: the names of the whole set. limit, false_alarm: as `parity.judging.result.Judge` has them.
    """

    name: str
    exercises: str
    dtype: str
    cases: list[str]
    false_alarm: float
    limit: float
    case: Case
    expected: list[Step]
    allowed: list[Step]
    mistakes: list[Mistake]

    @property
    def lengths(self) -> list[list[int]]:
        """The positions of each document, step by step."""
        block = self.case.config.block_size
        return [[min(block, len(tokens) - 1) for tokens in batch] for batch in self.case.batches()]

    def outside(self, answers: Sequence[Step], values: Sequence[Step], allowed: Sequence[Step]) -> list[Pairs] | None:
        """The tensors with an element that is farther off than allowed; None where there is nothing to compare."""
        steps = enumerate(zip(answers, values, allowed, self.lengths, strict=True), self.case.state.step)
        tensors = [t for number, step in steps for t in paired(number, *step)]
        return [t for t in tensors if not np.all(t.z <= 1)] if tensors else None

    def fitting(self, answers: Sequence[Step]) -> list[Mistake]:
        """The mistakes whose answers these are, as far as rounding lets one tell."""
        found = []
        for mistake in self.mistakes:
            # What is not in the answers shows nothing, and where the mistake does not show a fit says nothing.
            shown = [_shown(step, answer) for step, answer in zip(mistake.values, answers, strict=True)]
            if self.outside(shown, self.expected, self.allowed) and self.outside(answers, shown, mistake.allowed) == []:
                found.append(mistake)
        return found

    def to_json(self) -> str:
        """The vector as JSON, a line for each of its parts."""
        case, state = self.case, self.case.state
        parts = {
            "format": VECTOR_FORMAT,
            "name": self.name,
            "exercises": self.exercises,
            "cases": self.cases,
            "dtype": self.dtype,
            "false_alarm": self.false_alarm,
            "limit": self.limit,
            "config": vars(case.config),
            "hyper": vars(case.hyper),
            "state": {"step": state.step, "params": state.params, "m": state.m, "v": state.v},
            "batches": list(case.batches()),
            "expected": [_fields(step) for step in self.expected],
            "allowed": [_fields(step) for step in self.allowed],
            "mistakes": [
                {
                    "name": mistake.name,
                    "mistake": mistake.mistake,
                    "values": [_fields(step) for step in mistake.values],
                    "allowed": [_fields(step) for step in mistake.allowed],
                }
                for mistake in self.mistakes
            ],
        }
        lines = (f"{json.dumps(name)}: {json.dumps(part, allow_nan=False)}" for name, part in parts.items())
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> "Vector":
        """The vector that `to_json` wrote; ValueError and the like where it is not one."""
        parts = json.loads(text)
        batches = parts["batches"]
        case = Case(
            Config(**parts["config"]),
            Hyper(**parts["hyper"]),
            State(**parts["state"]),
            [tokens for batch in batches for tokens in batch],
            len(batches[0]),
            len(batches),
        )
        mistakes = [
            Mistake(entry["name"], entry["mistake"], _steps(entry["values"]), _steps(entry["allowed"]))
            for entry in parts["mistakes"]
        ]
        words = {name: parts[name] for name in ("name", "exercises", "dtype")}
        numbers = {name: parts[name] for name in ("false_alarm", "limit")}
        if not all(isinstance(word, str) for word in [*words.values(), *parts["cases"]]):
            raise TypeError(f"{', '.join(words)} and cases must be text")
        if not all(isinstance(number, float) and number > 0 for number in numbers.values()):
            raise TypeError(f"{' and '.join(numbers)} must be numbers above 0")
        return cls(
            **words,
            **numbers,
            cases=parts["cases"],
            case=case,
            expected=_steps(parts["expected"]),
            allowed=_steps(parts["allowed"]),
            mistakes=mistakes,
        )


def _shown(step: Step, answer: Step) -> Step:
    """The part of a step that an answer has: its fields, and of the matrices in them its own."""
    fields = {}
    for field, value in vars(step).items():
        given = getattr(answer, field, None)
        if given is not None:
            of_both = isinstance(value, dict) and isinstance(given, dict)
            fields[field] = {name: value[name] for name in value if name in given} if of_both else value
    return Step(**fields)


def _fields(step: Step) -> dict[str, Any]:
    return {name: value for name in FIELDS if (value := getattr(step, name)) is not None}


def _steps(entries: Any) -> list[Step]:
    return [Step(**entry) for entry in entries]


def format_of(path: Path) -> str | None:
    """The format of a vector file; None for anything else."""
    with path.open("rb") as file:
        beginning = file.read(100).decode("utf-8", "replace")
    before, key, after = beginning.partition('"format": "')
    return after.partition('"')[0] if key and not before.strip("{ \n") and "parity vector " in after else None


def load_vectors(folder: Path) -> list[Vector]:
    """The vectors in a folder, in their order; UsageError where they are not all there, or of another version."""
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.")
    found: dict[str, Vector] = {}
    for path in sorted(folder.glob("*.json")):
        form = format_of(path)
        if form not in (None, VECTOR_FORMAT):
            raise UsageError(
                f"{path} has the format {form!r}, and this version of parity reads {VECTOR_FORMAT!r}; write the "
                "vectors anew with `parity vectors`."
            )
        if form is not None:
            try:
                vector = Vector.from_json(path.read_text(encoding="utf-8"))
                vector.fitting(vector.expected)  # reads every number
            except (SubjectError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
                raise UsageError(
                    f"{path} is damaged ({error}); write the vectors anew with `parity vectors`."
                ) from None
            found[vector.name] = vector
    if not found:
        raise UsageError(f"{folder} holds no conformance vectors; `parity vectors {folder}` writes them.")
    names = next(iter(found.values())).cases
    kinds = {(vector.dtype, vector.false_alarm, tuple(vector.cases)) for vector in found.values()}
    if sorted(names) != sorted(found) or len(kinds) != 1:
        raise UsageError(f"{folder} does not hold one whole set of vectors ({', '.join(names)}); write them anew.")
    return [found[name] for name in names]
