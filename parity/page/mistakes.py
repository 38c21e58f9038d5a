"""Known mistakes beside the lines of the reference that they change."""

from dataclasses import dataclass

from parity.catalogue.mutants import MUTANTS
from parity.catalogue.mutants.mutant import SOURCE


@dataclass(frozen=True)
class Changed:
    """Lines of the reference, and what the mistake makes of them."""

    line: int
    before: str
    after: str


@dataclass(frozen=True)
class Mistake:
    """A known mistake; it has no changed lines where it lies around the reference, in what is kept between calls."""

    name: str
    said: str
    changed: list[Changed]
    sources: tuple[str, ...]


def mistakes(names: list[str]) -> list[Mistake]:
    """Those of the catalogue by these names."""
    found = (MUTANTS[name] for name in names if name in MUTANTS)
    return [
        Mistake(mutant.name, mutant.mistake, [_changed(*edit) for edit in mutant.edits], mutant.sources)
        for mutant in found
    ]


def _changed(old: str, new: str) -> Changed:
    place = SOURCE.find(old)
    start, end = SOURCE.rfind("\n", 0, place) + 1, SOURCE.find("\n", place + len(old))
    after = SOURCE[start:place] + new + SOURCE[place + len(old) : end]
    return Changed(SOURCE.count("\n", 0, start) + 1, SOURCE[start:end], after)
