"""Known mistakes beside the lines of the reference that they change."""

from dataclasses import dataclass

from parity.catalogue.mutants import MUTANTS, Mutant
from parity.catalogue.mutants.mutant import SOURCE
from parity.judging.sentences import TOGETHER

TOGETHER_NAMES = " + "
"""Between the names of mistakes that are made together."""


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
    """Those of the catalogue by these names, of which one may be of several mistakes together."""
    found = ((name, [MUTANTS.get(part) for part in name.split(TOGETHER_NAMES)]) for name in names)
    return [_mistake(name, [part for part in parts if part]) for name, parts in found if all(parts)]


def _mistake(name: str, parts: list[Mutant]) -> Mistake:
    changed = [_changed(*edit) for part in parts for edit in part.edits]
    sources = tuple(dict.fromkeys(source for part in parts for source in part.sources))
    return Mistake(name, TOGETHER.join(part.mistake for part in parts), changed, sources)


def _changed(old: str, new: str) -> Changed:
    """Whole lines, without the indentation that all of them share."""
    place = SOURCE.find(old)
    start, end = SOURCE.rfind("\n", 0, place) + 1, SOURCE.find("\n", place + len(old))
    before, after = SOURCE[start:end], SOURCE[start:place] + new + SOURCE[place + len(old) : end]
    blank = min(_indentation(line) for text in (before, after) for line in text.splitlines() if line.strip())
    shown = ("\n".join(line[blank:] for line in text.splitlines()) for text in (before, after))
    return Changed(SOURCE.count("\n", 0, start) + 1, *shown)


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip())
