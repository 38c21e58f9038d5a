"""What a gate found, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import parity
from parity.gate.acceptance import AcceptedChange, Fingerprints, answers_of, case_digest, in_words
from parity.gate.git import Lines
from parity.gate.judgement import CHANGES
from parity.gate.revisions import Changed, First
from parity.gate.speed import Speed
from parity.judging.plain import plain
from parity.judging.result import Result
from parity.verdict import Verdict


@dataclass
class GateResult:
    """What a gate found.

    change: the verdict's meaning for a refactor. head, base: each against the reference; base is None where head is
    bitwise the same and agrees with the reference. first: where they differ by more than rounding in lock-step (actual:
    head, expected: base). lines: of the changed files that the subject loads, the runs of lines that changed.
    fail_slower: the ratio that a step's time may have, None for any. accepted: the entry for this very change. merged:
    the one whose change base has already. stale: what is to be said of entries that do not apply.
    """

    subject: str
    head_name: str
    base_name: str
    verdict: Verdict
    reason: str
    head: Result
    base: Result | None
    changed: list[Changed]
    first: First | None
    speed: Speed | None
    lines: dict[str, list[Lines]] = field(default_factory=dict)
    fail_slower: float | None = None
    not_exercised: list[str] = field(default_factory=list)
    """What neither the case nor a probe did, and what no gate compares."""
    is_new: bool = False
    """Whether base has no such subject, and all that is known is what head is against the reference."""
    spelled: str = ""
    """The subject's one name, however it was given."""
    accepted: AcceptedChange | None = None
    merged: AcceptedChange | None = None
    stale: list[str] = field(default_factory=list)
    formats: tuple[str, str] = ("", "")
    """Of head and base."""
    dropped: list[str] = field(default_factory=list)
    """What base is held to and head is not: quantities, single tensors of one, and what head says it is without."""
    fingerprints: Fingerprints = field(default_factory=dict, repr=False)
    """Where there are entries to hold against them, or one is to be made."""

    @property
    def change(self) -> str:
        """What the verdict says of the refactor."""
        return "the subject is new" if self.is_new else CHANGES[self.verdict]

    @classmethod
    def of_new_subject(cls, subject: str, head_name: str, base_name: str, absent: str, head: Result) -> Self:
        """Of one that base does not have: what it is against the reference. absent: how base says so."""
        reason = f"At base: {absent} Against the reference: {head.reason}"
        found = cls(subject, head_name, base_name, head.verdict, reason, head, None, [], None, None, is_new=True)
        found.not_exercised = head.not_exercised
        return found

    @property
    def files(self) -> dict[str, int]:
        """The changed files that the subject loads, and the first changed line of each."""
        return {name: lines[0][0] for name, lines in self.lines.items()}

    @property
    def wrong_alike(self) -> bool:
        """Whether head and base agree with each other, and not with the reference."""
        wrong = self.head.verdict in (Verdict.DIVERGED, Verdict.PRECISION_LOSS)
        return self.verdict.passes and wrong and self.base is not None

    @property
    def slower(self) -> bool:
        """Whether a step takes longer than it may, beyond doubt."""
        return self.fail_slower is not None and self.speed is not None and self.speed.is_slower(self.fail_slower)

    @property
    def exit_status(self) -> int:
        """The verdict's, 0 if it is accepted; 1 where a step is slower than it may be, 3 where nobody could time it."""
        status = 0 if self.accepted else self.verdict.exit_status
        untimed = self.fail_slower is not None and self.speed is None
        return status or (1 if self.slower else 3 if untimed else 0)

    @property
    def may_be_accepted(self) -> bool:
        """Whether the verdict is of the kind that somebody may have meant."""
        changed = self.verdict in (Verdict.DIVERGED, Verdict.PRECISION_LOSS) or bool(self.dropped)
        return changed and not self.verdict.passes and not self.accepted and not self.is_new

    @property
    def not_acceptable(self) -> str:
        """Why the change cannot be accepted, as a sentence; nothing if it can."""
        if self.verdict.passes:
            return f"There is no change to accept: the verdict is {self.verdict}."
        if not self.fingerprints or (self.verdict is Verdict.INCONCLUSIVE and not self.dropped):
            return f"The change cannot be accepted: {self.reason}"
        if not all(found.is_finite for found in self.fingerprints.values()):
            return "The change cannot be accepted: some answers are infinite or no numbers."
        told = any(found.tells_head_from_base for found in self.fingerprints.values())
        if not told and not self.dropped and self.formats[0] == self.formats[1]:
            return (
                f"The change cannot be accepted: rounding in {self.formats[0]} hides which change it is, so that "
                "others would pass, too."
            )
        return ""

    def accept(self, reason: str) -> None:
        """Accept this change, for the reason given."""
        case = self.head.case
        self.accepted = AcceptedChange(
            subject=self.spelled or self.subject,
            reason=reason,
            verdict=self.verdict.value,
            found=self.reason,
            base=self.base_name,
            head=self.head_name,
            formats=[*self.formats],
            no_longer_exposed=self.dropped,
            not_exposed=self.head.unchecked,
            case=in_words(case),
            case_sha256=case_digest(case),
            answers=answers_of(self.fingerprints),
        )
        self.stale = []

    def to_dict(self) -> dict[str, Any]:
        """The result for JSON."""
        apart = ("fingerprints", "accepted", "merged", "first", "spelled", "changed")
        own: Mapping[str, Any] = {name: value for name, value in vars(self).items() if name not in apart}
        return {
            "parity": parity.__version__,
            "change": self.change,
            **plain({**own, "verdict": self.verdict.value, "head": None, "base": None}),
            "files": self.files,
            "first": self.first and plain(self.first.difference),
            "first_in_probe": self.first.probe.name if self.first and self.first.probe else None,
            "location": self.first and self.first.location and plain(self.first.location.to_dict()),
            "changed": [plain(vars(row)) for row in self.changed],
            "speed": self.speed and vars(self.speed),
            "slower": self.slower,
            "wrong_alike": self.wrong_alike,
            "accepted": self.accepted and {"reason": self.accepted.reason, "verdict": self.accepted.verdict},
            "merged": self.merged and {"reason": self.merged.reason, "verdict": self.merged.verdict},
            "head": self.head.to_dict(),
            "base": self.base and self.base.to_dict(),
        }
