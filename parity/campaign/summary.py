"""What a ledger shows: comparisons and refusals by format, the bound on a rate, failures, and what was exercised."""

import math
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from parity.campaign.item import MUTANTS, Item
from parity.campaign.ledger import Ledger
from parity.campaign.outcome import CAUGHT, OUT_OF_RANGE, CaseOutcome, Comparison, Outcome
from parity.number_formats import FORMATS
from parity.subjects.process import Limits
from parity.verdict import Verdict

_BINS = 20
"""Of the histogram of z as a part of the limit, from 0 to 1."""
_BEYOND = "beyond"
_SIZES = ("n_layer", "n_embd", "n_head", "block_size", "vocab_size")
_CONFIDENCE = 0.95
_OWN_FORMAT = "own format"


@dataclass
class Counts:
    """What was compared in a format, or of a subject. z: the largest; closeness: the largest part of a limit."""

    items: int = 0
    cases: int = 0
    elements: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    z: float = 0.0
    closeness: float = 0.0
    histogram: list[int] = field(default_factory=lambda: [0] * (_BINS + 1))

    def add(self, found: Comparison) -> None:
        """Take in one."""
        self.verdicts[found.verdict] += 1
        if found.verdict == OUT_OF_RANGE:
            return
        self.elements += found.elements
        self.modes[found.mode] += 1
        part = found.z / found.limit if found.limit else 0.0
        if Verdict(found.verdict).passes:
            self.z, self.closeness = max(self.z, found.z), max(self.closeness, part)
        self.histogram[int(part * _BINS) if part < 1 else _BINS] += 1  # NaN is beyond

    @property
    def comparisons(self) -> int:
        """What was compared: all but what is not finite in its format."""
        return self.verdicts.total() - self.verdicts[OUT_OF_RANGE]

    @property
    def refused(self) -> int:
        """Of them, those in which the subject was refused."""
        return sum(self.verdicts[verdict.value] for verdict in Verdict if verdict.exit_status == 1)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        undecided = self.verdicts[Verdict.INCONCLUSIVE.value]
        return {
            "items": self.items,
            "cases": self.cases,
            "comparisons": self.comparisons,
            "elements": self.elements,
            "modes": dict(self.modes),
            "verdicts": dict(self.verdicts),
            "refused": self.refused,
            "undecided": undecided,
            "not_finite_in_the_format": self.verdicts[OUT_OF_RANGE],
            "rate_below": rate_below(self.refused, self.comparisons - undecided),
            "largest_z": self.z,
            "largest_part_of_the_limit": self.closeness,
            "histogram_of_z_by_limit": {
                **{f"{number / _BINS:g}": count for number, count in enumerate(self.histogram[:_BINS]) if count},
                **({_BEYOND: self.histogram[_BINS]} if self.histogram[_BINS] else {}),
            },
        }


def rate_below(refused: int, comparisons: int) -> float | None:
    """What the rate of refusals lies below with a probability of _CONFIDENCE, by Clopper and Pearson; None of none."""
    from scipy.stats import beta

    return float(beta.ppf(_CONFIDENCE, refused + 1, comparisons - refused)) if comparisons > refused else None


@dataclass
class _Failure:
    """A subject's failures with a signature in a format; digest: of the first case, shrunk: of the smallest."""

    item: Item
    signature: str
    reason: str
    digest: str
    count: int = 0
    shrunk: str = ""

    def to_dict(self, ledger: str) -> dict[str, Any]:
        """For JSON; ledger: the file's name, for the command that repeats it."""
        item, digest = self.item, self.shrunk or self.digest
        verdict, mode, *_ = [*self.signature.split(", "), ""]
        options = ["--dtype", item.dtype] if item.dtype else []
        options += [] if item.seconds == Limits().seconds else ["--time-limit", f"{item.seconds:g}"]
        # A command comes last, for all that follows it is its own.
        subject = item.subject if item.subject.startswith("-- ") else shlex.quote(item.subject)
        words = ["parity", "replay", f"{ledger}#{digest[:12]}", *options]
        return {
            "subject": item.subject,
            "dtype": item.dtype,
            "draw": item.draw,
            "seed": item.seed,
            "cases": self.count,
            "verdict": verdict,
            "mode": mode,
            "signature": self.signature,
            "reason": self.reason,
            "case": digest,
            "smallest": bool(self.shrunk),
            "replay": f"{shlex.join(words)} {subject}",
        }


def kinds(ledger: Ledger) -> list[tuple[str, bool]]:
    """What a ledger has items of: the kind of a campaign, and whether drawing was guided, which makes it another."""
    return list(dict.fromkeys((item.kind, item.guided) for item in ledger.items()))


class Summary:
    """Of the items of a kind, those of the newest code; each comparison counts once. items: only these (None: all)."""

    def __init__(self, ledger: Ledger, kind: str, guided: bool = False, items: Iterable[Item] | None = None) -> None:
        self.ledger, self.shrunk, self.kind, self.guided = ledger, ledger.shrunk(), kind, guided
        newest, self.revision = dict[str, tuple[str, str]](), ""
        for item in filter(self._of_kind, (*ledger.items(), *ledger.asked())):
            newest[item.subject], self.revision = (item.revision, item.code), item.revision
        keys = None if items is None else {item.key for item in items}
        self.others = 0
        self.formats = defaultdict[str, Counts](Counts)
        self.subjects = defaultdict[str, Counts](Counts)
        self.mistakes = defaultdict[tuple[str, str], list[Comparison]](list)
        self.exercised, self.sizes = Counter[str](), [Counter[int]() for _ in _SIZES]
        self.failures: dict[str, _Failure] = {}
        self.died: list[tuple[Item, str]] = []
        self.extremes: dict[tuple[str, str], CaseOutcome] = {}
        self.seconds = self.checking = 0.0
        self.workers, self.done = set[str](), list[float]()
        self.items = self.drawn = 0
        self._seen, self._cases = set[tuple[str, ...]](), set[str]()
        for item, outcome, done in ledger.entries():
            of_newest = self._of_kind(item) and newest[item.subject] == (item.revision, item.code)
            if of_newest if keys is None else item.key in keys:
                self._add(item, outcome, done)
            else:
                self.others += 1

    def _of_kind(self, item: Item) -> bool:
        return (item.kind, item.guided) == (self.kind, self.guided)

    def _add(self, item: Item, outcome: Outcome, done: float) -> None:
        self.items += 1
        self.seconds, self.checking = self.seconds + outcome.seconds, self.checking + outcome.checking
        self.workers |= {outcome.worker} - {""}
        self.done += [done - outcome.seconds, done]
        if outcome.died:
            self.died.append((item, outcome.died))
        by_format, by_subject = self.formats[item.dtype or _OWN_FORMAT], self.subjects[item.subject]
        by_format.items, by_subject.items = by_format.items + 1, by_subject.items + 1
        for case in outcome.cases:
            self._add_case(item, case, (by_format, by_subject))

    def _add_case(self, item: Item, case: CaseOutcome, counts: tuple[Counts, ...]) -> None:
        address = (item.subject, item.dtype, case.digest, case.signature)  # one that passed may fail another time
        if address in self._seen:
            return
        self._seen.add(address)
        self._cases.add(case.digest)
        self.drawn += 1
        for of in counts:
            of.cases += 1
        self.exercised.update(case.exercised)
        for sizes, size in zip(self.sizes, case.sizes, strict=True):
            sizes[size] += 1
        if case.extreme:
            extreme = self.extremes.setdefault((item.subject, item.dtype), case)
            if (case.closeness < extreme.closeness) is (item.kind == MUTANTS):
                self.extremes[item.subject, item.dtype] = case
        if item.kind == MUTANTS:
            self.mistakes[item.subject, item.dtype or "float64"] += case.comparisons
            return
        for found in case.comparisons:
            for of in counts:
                of.add(found)
        if case.signature:
            key = item.failure(case.signature)
            _, smallest, reason = self.shrunk.get(key, ("", "", case.reason))
            failure = _Failure(item, case.signature, reason, case.digest, shrunk=smallest)
            self.failures.setdefault(key, failure).count += 1

    @property
    def refused(self) -> int:
        """Comparisons in which a subject was refused, and items that killed their workers."""
        return sum(counts.refused for counts in self.formats.values()) + len(self.died)

    @property
    def decided(self) -> bool:
        """Whether anything was."""
        passing = {verdict.value for verdict in Verdict if verdict.passes}
        return bool(self.mistakes) or any(passing & counts.verdicts.keys() for counts in self.formats.values())

    @property
    def missed(self) -> list[tuple[str, str]]:
        """The known mistakes that showed in no case, with the format."""
        return [name for name, found in self.mistakes.items() if all(one.verdict != CAUGHT for one in found)]

    @property
    def exit_status(self) -> int:
        """1 where a subject was refused, or a mistake was seen nowhere in float64; 3 where nothing was decided."""
        missed = any(dtype == "float64" for _, dtype in self.missed)
        return 1 if self.refused or missed else 0 if self.decided else 3

    def to_dict(self) -> dict[str, Any]:
        """For JSON: all that is shown."""
        wall = max(self.done) - min(self.done) if self.done else 0.0
        return {
            "kind": self.kind,
            "exit_status": self.exit_status,
            "refused": self.refused,
            "undecided": sum(counts.verdicts[Verdict.INCONCLUSIVE.value] for counts in self.formats.values()),
            "guided": self.guided,
            "revision": self.revision,
            "items": self.items,
            "other_items": self.others,
            "cases": self.drawn,
            "different_cases": len(self._cases),
            "comparisons": sum(counts.comparisons for counts in self.formats.values()),
            "formats": _listed(sorted(self.formats.items(), key=_by_width), "dtype"),
            "subjects": _listed(self.subjects.items(), "subject"),
            "mistakes": [_mistake(name, dtype, found) for (name, dtype), found in sorted(self.mistakes.items())],
            "failures": [failure.to_dict(str(self.ledger.path)) for failure in self.failures.values()],
            "extremes": [
                _extreme(*key, case)
                for key, case in self.extremes.items()
                if self.kind == MUTANTS or not case.signature
            ],
            "died": [{"item": str(item), "why": why} for item, why in self.died],
            "exercised": dict(self.exercised.most_common()),
            "sizes": {name: [min(found), max(found)] for name, found in zip(_SIZES, self.sizes) if found},
            "workers": len(self.workers),
            "seconds_of_work": self.seconds,
            "seconds_of_checks": self.checking,
            "seconds_from_first_to_last": wall,
        }


def _listed(found: Iterable[tuple[str, Counts]], name: str) -> list[dict[str, Any]]:
    return [{name: key, **counts.to_dict()} for key, counts in found]


def _by_width(entry: tuple[str, Counts]) -> float:
    return FORMATS[entry[0]].u if entry[0] in FORMATS else 0.0


def _extreme(subject: str, dtype: str, case: CaseOutcome) -> dict[str, Any]:
    part = case.closeness if math.isfinite(case.closeness) else None
    return {"subject": subject, "dtype": dtype, "part_of_the_limit": part, "case": case.digest}


def _mistake(name: str, dtype: str, found: list[Comparison]) -> dict[str, Any]:
    caught = [one for one in found if one.verdict == CAUGHT]
    return {
        "mistake": name,
        "dtype": dtype,
        "comparisons": len(found),
        "caught": len(caught),
        "smallest_z_caught": min((one.z for one in caught if math.isfinite(one.z)), default=None),
        "limit": max((one.limit for one in found), default=None),
    }
