"""Known mistakes: which small case shows which of them, in every format."""

from dataclasses import dataclass
from typing import Any

from parity.catalogue.mutants import MUTANTS

_KINDS = {"l": "shown", "f": "free", ".": "hidden"}


@dataclass(frozen=True)
class Shown:
    """A mistake. formats: of every format, for each probe "shown" in lock-step, "free" only free-running, or hidden."""

    name: str
    said: str
    stage: str
    formats: list[list[str]]


@dataclass(frozen=True)
class DetectionView:
    """The matrix, and by format how many mistakes some probe shows, and the names of the others."""

    probes: list[str]
    formats: list[str]
    rows: list[Shown]
    counts: list[tuple[str, int, int, list[str]]]


def detection_view(found: dict[str, Any]) -> DetectionView:
    """As `benchmarks.probes` writes it."""
    mutants = found["mutants"]
    formats = list(found["nowhere"])
    rows = [
        Shown(
            name,
            MUTANTS[name].mistake if name in MUTANTS else "",
            MUTANTS[name].stage if name in MUTANTS else "",
            [[_KINDS[letter] for letter in by_format[form]] for form in formats],
        )
        for name, by_format in mutants.items()
    ]
    counts = [
        (form, len(mutants) - len(found["nowhere"][form]), len(mutants), list(found["nowhere"][form]))
        for form in formats
    ]
    return DetectionView(list(found["probes"]), formats, rows, counts)
