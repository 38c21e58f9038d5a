"""Intended changes of the function: accepted with a reason, in a file that is reviewed and committed.

An entry knows its change by what base and head answer (`parity.gate.fingerprint`), not by their commits or files: it
survives a rebase, a squash and a comment, and lets no other change pass, one of base included.
"""

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from parity.case import Case
from parity.gate.fingerprint import Fingerprint, Sums

MERGED = "base has it already"
"""Why a change no longer applies that was merged."""

Fingerprints = Mapping[str, Fingerprint]
"""By question: the case, or the name of a probe."""


@dataclass(frozen=True)
class AcceptedChange:
    """One accepted change of one subject on one case, and how it is recognised."""

    subject: str
    """As `spelled` has it."""
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

    def why_not(
        self, now: Fingerprints, formats: Sequence[str], dropped: Sequence[str], not_exposed: Sequence[str]
    ) -> str:
        """Why what the gate found is not this change, as the end of a sentence; nothing if it is."""
        if now.keys() != self.answers.keys():
            return "of the two gates one had the probes and one had not (--only-case)"
        base, head = ({name: sides[side] for name, sides in self.answers.items()} for side in ("base", "head"))
        same_base = all(found.is_base(base[name]) for name, found in now.items())
        same_head = all(found.is_head(head[name]) for name, found in now.items())
        same_head &= [*formats] == self.formats and sorted(dropped) == sorted(self.no_longer_exposed)
        same_head &= sorted(not_exposed) == sorted(self.not_exposed)
        if same_base and same_head:
            return ""
        if all(found.is_base(head[name]) for name, found in now.items()):
            return MERGED
        if not same_base:
            return "base computes something else than it did then"
        return f"head computes something else than what was accepted{_beside_accepted(now, head)}"


def _beside_accepted(now: Fingerprints, head: Mapping[str, Sums]) -> str:
    """In which question and quantities head is not what was accepted, first of all."""
    for name, found in now.items():
        off = found.other_at_head(head[name])
        if off:
            first, times = next(iter(off.items()))
            where = "the case" if name == "case" else f"the probe {name}"
            amount = f" ({first} by {times:.2g} times what rounding may do)" if math.isfinite(times) else ""
            right = ", ".join(quantity for quantity in found.room if quantity not in off)
            as_accepted = f"; as accepted: {right}" if right else ""
            return f": beside that, off in {where}: {', '.join(off)}{amount}{as_accepted}"
    return ": it exposes something else, or computes in another format"


def spelled(subject: str, folder: Path, root: Path) -> str:
    """The one name of a subject, however it was spelled: of a file in the repository, that from its root on."""
    place, _, attribute = subject.rpartition(":")
    if subject.startswith("-- ") or not place.endswith(".py"):
        return subject
    path = Path(os.path.normpath(folder / place))
    return f"{path.relative_to(root).as_posix()}:{attribute}" if path.is_relative_to(root) else subject


def in_words(case: Case) -> str:
    """What of a case a reader wants to know."""
    sizes = ", ".join(f"{name} {size}" for name, size in vars(case.config).items())
    return f"{sizes}, steps {case.steps}, batch_size {case.batch_size}"


def case_digest(case: Case) -> str:
    """What tells a case from every other."""
    return hashlib.sha256(case.to_json().encode()).hexdigest()


def with_change(changes: Sequence[AcceptedChange], new: AcceptedChange) -> list[AcceptedChange]:
    """The changes with a new one, which takes the place of one of the same subject on the same case."""
    key = new.subject, new.case_sha256, new.formats[0]
    return [*(old for old in changes if (old.subject, old.case_sha256, old.formats[0]) != key), new]


def answers_of(found: Fingerprints) -> dict[str, dict[str, Sums]]:
    """What an entry keeps of what both sides answered."""
    return {name: {"base": sides.base, "head": sides.head} for name, sides in found.items()}
