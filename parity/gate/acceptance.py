"""Intended changes of the function: accepted with a reason, in a file that is reviewed and committed.

An entry knows its change by what base and head answer (`parity.gate.fingerprint`), not by their commits or files: it
survives a rebase, a squash and a comment, and lets no other change pass, one of base included.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from parity.case import Case
from parity.errors import UsageError
from parity.files import write_whole
from parity.gate.fingerprint import SUMS, Fingerprint, Sums

FILE_NAME = "parity-accepted.json"
_FORMAT = "microgpt-parity accepted changes 1"

Fingerprints = Mapping[str, Fingerprint]
"""By question: the case, or the name of a probe."""


@dataclass(frozen=True)
class AcceptedChange:
    """One accepted change of one subject on one case, and how it is recognised."""

    subject: str
    reason: str
    """Why it is intended, in somebody's words."""
    verdict: str
    found: str
    """What the gate said of it, with the first element that changed."""
    base: str
    head: str
    """What both were called when it was accepted; for readers."""
    formats: list[str]
    """The number formats of head and base."""
    no_longer_exposed: list[str]
    """What base is held to and head is not: quantities, single tensors of one, and what head says it is without."""
    not_exposed: list[str]
    """What head does not expose, in the same words; what is new in another head was never looked at."""
    case: str
    """What of the case a reader wants to know."""
    case_sha256: str
    answers: dict[str, dict[str, Sums]]
    """By question and side, "base" or "head"."""

    def concerns(self, subject: str, case: Case) -> bool:
        """Whether it is of this subject and this case."""
        return (self.subject, self.case_sha256) == (subject, case_digest(case))

    def why_not(
        self, now: Fingerprints, formats: Sequence[str], dropped: Sequence[str], not_exposed: Sequence[str]
    ) -> str:
        """Why what the gate found is not this change, as the end of a sentence; nothing if it is."""
        if now.keys() != self.answers.keys():
            return "it was accepted with other probes"
        base, head = ({name: sides[side] for name, sides in self.answers.items()} for side in ("base", "head"))
        same_base = all(found.is_base(base[name]) for name, found in now.items())
        same_head = all(found.is_head(head[name]) for name, found in now.items())
        same_head &= [*formats] == self.formats and sorted(dropped) == sorted(self.no_longer_exposed)
        same_head &= sorted(not_exposed) == sorted(self.not_exposed)
        if same_base and same_head:
            return ""
        if all(found.is_base(head[name]) for name, found in now.items()):
            return "base has it already"
        return f"{'head' if same_base else 'base'} computes something else"


def case_digest(case: Case) -> str:
    """What tells a case from every other."""
    return hashlib.sha256(case.to_json().encode()).hexdigest()


def accepted_file(folder: Path) -> Path:
    """Where accepted changes stand unless a file is named: beside the nearest pyproject.toml, or at the root."""
    places = [folder, *folder.parents]
    root = next((number for number, place in enumerate(places) if (place / ".git").exists()), 0)
    inside = places[: root + 1]
    return next((place for place in inside if (place / "pyproject.toml").is_file()), inside[-1]) / FILE_NAME


def read_accepted(path: Path) -> list[AcceptedChange]:
    """The changes in a file, none if it does not exist; UsageError where it is something else."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["format"] != _FORMAT:
            raise ValueError(f"its format is not {_FORMAT!r}")
        return [_entry(fields) for fields in stored["accepted"]]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"The accepted changes {path} cannot be read: {error.strerror}.") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{path} does not hold accepted changes as `parity gate --accept` writes them: {error}."
        ) from None


def write_accepted(path: Path, changes: Sequence[AcceptedChange]) -> None:
    """Write all changes, a line for each thing that a reviewer looks at; UsageError where that cannot be."""
    data = {"format": _FORMAT, "accepted": [asdict(change) for change in changes]}
    text = json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False)
    # Numbers side by side: what stands in quotation marks has no line ends, so that it stays what it is.
    write_whole(path, re.sub(r"\[\n[^][{}]*?\n\s*\]", lambda row: re.sub(r"\n\s+", " ", row[0]), text) + "\n")


def with_change(changes: Sequence[AcceptedChange], new: AcceptedChange) -> list[AcceptedChange]:
    """The changes with a new one, which takes the place of one of the same subject on the same case."""
    key = new.subject, new.case_sha256, new.formats[0]
    return [*(old for old in changes if (old.subject, old.case_sha256, old.formats[0]) != key), new]


def answers_of(found: Fingerprints) -> dict[str, dict[str, Sums]]:
    """What an entry keeps of what both sides answered."""
    return {name: {"base": sides.base, "head": sides.head} for name, sides in found.items()}


def _entry(stored: dict[str, Any]) -> AcceptedChange:
    change = AcceptedChange(**{field.name: stored[field.name] for field in fields(AcceptedChange)})
    for sides in change.answers.values():
        for sums in (*sides["base"].values(), *sides["head"].values()):
            if len(sums) != SUMS or not all(math.isfinite(number) for number in sums):
                raise ValueError(f"answers are {SUMS} numbers for each quantity")
    texts = [
        change.subject,
        change.reason,
        change.verdict,
        change.case_sha256,
        *change.formats,
        *change.no_longer_exposed,
        *change.not_exposed,
    ]
    if len(change.formats) != 2 or not all(isinstance(text, str) for text in texts):
        raise ValueError("formats are two names, and all else is text")
    return change
