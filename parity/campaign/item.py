"""What a campaign consists of: items, each some cases of one seed, known by a digest of what decides its outcome."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from parity.errors import UsageError
from parity.subjects.subject import command_words

CHECK, CALIBRATE, MUTANTS = "check", "calibrate", "mutants"
"""The kinds of campaigns: whether subjects are right, how often right ones are refused, which mistakes are caught."""

CASES_OF_AN_ITEM = 20
"""Cases that one seed draws: what a killed worker loses. Less, and drawing begins anew more often than it has to."""

CASES_OF_A_CLIMB = 200
"""Where drawing is guided: it takes some to climb from."""

_DECIDING = ("oracle", "subjects", "judging", "catalogue", "testing")
"""The rooms of parity whose code decides an outcome, beside the modules that lie directly in it and _OF_CAMPAIGNS."""
_OF_CAMPAIGNS = ("drawing.py", "outcome.py", "working.py")
_MODELS = ("reference", "torch_twin")
_PACKAGES = ("numpy", "numba", "torch", "hypothesis")


@dataclass(frozen=True)
class Item:
    """Some cases of a seed, put to a subject.

    subject: its name on the command line, or that of a known mistake. dtype: empty for the subject's own. draw: one of
    `parity.campaign.drawing.DRAWS`. guided: whether drawing climbs towards extremes. seconds: the limit for each
    answer. code: a digest of the subject.
    """

    kind: str
    subject: str
    dtype: str
    draw: str
    seed: int
    cases: int
    guided: bool
    seconds: float
    code: str
    revision: str

    @property
    def key(self) -> str:
        """Its address: what has the same one has the same outcome."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def question(self) -> tuple[Any, ...]:
        """What stays the same from revision to revision."""
        return (self.kind, self.subject, self.dtype, self.draw, self.seed, self.cases, self.guided)

    def failure(self, signature: str) -> str:
        """What a case that was made small is of: all failures with a signature of a subject in a format."""
        return "\n".join((self.kind, self.subject, self.dtype, self.code, self.revision, signature))

    def __str__(self) -> str:
        where = f" in {self.dtype}" if self.dtype else ""
        return f"{self.subject}{where}, {self.draw}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """What a campaign is to do: every subject in every format, on cases of every seed drawn in every way."""

    kind: str
    subjects: Sequence[str]
    dtypes: Sequence[str]
    draws: Sequence[str]
    seeds: range
    seconds: float
    guided: bool = False

    @property
    def cases(self) -> int:
        """That a seed draws."""
        return CASES_OF_A_CLIMB if self.guided else CASES_OF_AN_ITEM

    def items(self) -> list[Item]:
        """All of them, seed by seed, so that what is done of an interrupted campaign is of all kinds."""
        now = revision()
        codes = {name: code_of(self.kind, name) for name in self.subjects}
        return [
            Item(self.kind, name, dtype, draw, seed, self.cases, self.guided, self.seconds, codes[name], now)
            for seed in self.seeds
            for draw in self.draws
            for name in self.subjects
            for dtype in self.dtypes
        ]


@cache
def revision() -> str:
    """A digest of the code that decides outcomes, and of the packages that it computes with."""
    here = Path(__file__).parents[1]
    roots = [Path(found.origin).parent for name in _MODELS if (found := find_spec(name)) and found.origin]
    files = [*here.glob("*.py"), *(file for room in _DECIDING for file in (here / room).rglob("*.py"))]
    files += [here / "campaign" / name for name in _OF_CAMPAIGNS]
    files += [file for root in roots for file in root.rglob("*.py")]
    return _digest(files, *(f"{name} {version(name)}" for name in _PACKAGES))


def code_of(kind: str, subject: str) -> str:
    """A digest of the file that a factory lies in; of a command, of its program and those of its words that are files.

    What these import or run is not followed. Of a known mistake, nothing: the revision has it.
    """
    if kind == MUTANTS:
        return ""
    words = command_words(subject)
    if words:
        program = shutil.which(words[0])
        return _digest([Path(word) for word in (*([program] if program else []), *words[1:]) if Path(word).is_file()])
    place = subject.rpartition(":")[0]
    if not place.endswith(".py"):
        try:
            found = find_spec(place)
        except (ImportError, ValueError):
            found = None
        place = found.origin if found and found.origin else ""
    return _digest([Path(place)]) if place else ""


def _digest(files: Sequence[Path], *words: str) -> str:
    found = hashlib.sha256("\n".join(words).encode())
    try:
        for file in sorted(files):
            found.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be read: {error.strerror}.") from None
    return found.hexdigest()[:16]
