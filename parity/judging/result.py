"""What a check found, as data: tables, JSON and assertions are views of it."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from parity import __version__
from parity.case import Case, how_to_exercise
from parity.judging.causes import (
    AllVacuous,
    Cause,
    Failed,
    NoAnswer,
    NoFloor,
    NothingCompared,
    Outside,
    OutsideTogether,
    RoundingExplains,
    SameBits,
)
from parity.judging.chain.evidence import Chain
from parity.judging.directions import Along
from parity.judging.judge import Judge
from parity.judging.location import Location, Place
from parity.judging.pairs import Difference, Pairs
from parity.judging.probes import Probe, out_of_reach
from parity.judging.quantity_result import QuantityResult, TensorPower, magnitude
from parity.judging.sentences import behaves_like, in_probe, located, said, suspicion
from parity.judging.suspected_sites import SuspectedSite
from parity.judging.z_map import z_maps
from parity.quantities import in_short
from parity.verdict import Verdict, worst
from parity.words import in_few

if TYPE_CHECKING:
    from parity.judging.exchange import Exchange

_MOST_DOCUMENTS = 1e6
"""That somebody would check to exclude a mistake."""

_MOST_SUSPECTED = 3
"""Entries of a map of sites that are named one by one."""


@dataclass
class TruthResult:
    """How far subject and reference are from the truth, in the quantities of a lock-step run.

    Each dict holds the largest z by quantity; the noise floor is that of the subject's number format, for the
    reference that of float64.
    """

    subject: dict[str, float] = field(default_factory=dict)
    reference: dict[str, float] = field(default_factory=dict)
    apart: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    """Why the reference had no answer, where it had none."""

    def add(self, columns: Mapping[str, Pairs], failure: str) -> None:
        """Take in the comparisons of one step, by column."""
        self.failures += [failure] if failure else []
        for name, pairs in columns.items():
            column = getattr(self, name)
            for tensor in pairs:
                quantity = tensor.keys[0].quantity
                column[quantity] = max(column.get(quantity, 0.0), tensor.largest_z)

    def sentence(self, limit: float) -> str:
        """Which of the two is wrong."""
        subject = all(z <= limit for z in self.subject.values())
        reference = not self.failures and all(z <= limit for z in self.reference.values())
        if subject and reference:
            return "The truth agrees with both: subject and reference are as near to it as rounding allows."
        cause = f" ({self.failures[0]})" if self.failures else ""
        if subject:
            return f"The reference is wrong here, not the subject{cause}."
        if reference:
            return "The subject is wrong: the truth agrees with the reference."
        return f"Both are wrong: neither subject nor reference is near the truth{cause}."


@dataclass
class ModeResult:
    """What one mode found."""

    mode: str
    steps: int = 0
    """How many were compared."""
    quantities: dict[str, QuantityResult] = field(default_factory=dict)
    first_divergence: Difference | None = None
    location: Location | None = None
    """Tensor by tensor, what is right and what is wrong in the step that diverged first."""
    first_site: Difference | None = None
    diverged: "Exchange | None" = field(default=None, compare=False, repr=False)
    """The question at which it did so first, and its answer."""
    suspected_sites: tuple[SuspectedSite, ...] = ()
    """Sites that are suspected to be shown under a wrong name."""
    sites_failure: str = ""
    """Why the sites of a right answer could not be compared, where nobody asked for them."""
    first_z: float = 0.0
    """The largest z of the tensor that diverged first."""
    wider: Place | None = None
    """Where the subject goes wrong in a wider format, if it was asked in one, which sees what rounding hides here."""
    near_gates: int = 0
    """ReLUs whose input lay within the noise floor of zero."""
    turned_gates: int = 0
    """Those of them that the subject, legitimately, decided otherwise than the reference."""
    own_updates: int = 0
    """Elements whose update was judged by itself, from the subject's own gradient."""
    repeatable: bool | None = None
    """Whether a question asked a second time got an answer of the same bits; None where none was."""
    truth: TruthResult | None = None
    exchanges: "list[Exchange]" = field(default_factory=list, compare=False, repr=False)
    """The first questions of a lock-step run in a small model, and their answers."""
    evidence: list[Along] = field(default_factory=list)
    """What is seen along directions, of whole tensors and quantities."""
    judge: Judge | None = None
    """What judged it, where that is another one than the result's."""
    by_constants: bool = False
    """Whether the rounding of constants that the subject was given had to explain something: its floor is wider."""
    verdict: Verdict = Verdict.INCONCLUSIVE
    causes: list[Cause] = field(default_factory=lambda: [NothingCompared()])
    """Why, the decisive one first."""

    @property
    def largest_z(self) -> float | None:
        """Over all quantities; None where nothing was compared, NaN where of nothing it is known."""
        return _largest(row.largest_z.z for row in self.quantities.values() if row.largest_z)

    @property
    def beyond(self) -> list[Along]:
        """The directions along which it is farther off than rounding explains, the clearest first."""
        return sorted((along for along in self.evidence if along.beyond), key=lambda along: -along.z / along.limit)

    @property
    def reason(self) -> str:
        """Why, in sentences."""
        return said(self.causes)

    @property
    def location_lines(self) -> list[tuple[str, str]]:
        """Tensor by tensor what is right and what is wrong, and where that begins, in words; empty where nothing is."""
        return located(self.location, self.first_site, self.wider) if self.location else []

    def add(self, pairs: Pairs, judge: Judge) -> None:
        """Take in the tensors of one step, in the order in which it computes them."""
        found = judge.measures(pairs)
        for group, quantity in enumerate(pairs.layout.groups):
            row = self.quantities.setdefault(quantity, QuantityResult(quantity))
            row.add(pairs, group, found, judge.form)
            if found.outside[group] and row.first_outside is None:
                row.first_outside = judge.first_outside(pairs, quantity)
            self.first_divergence = self.first_divergence or row.first_outside
        self.steps += 1

    def conclude(self, judge: Judge) -> None:
        """Set the verdict from what was compared."""
        rows = [row for row in self.quantities.values() if row.compared]
        if not rows:
            return
        telling = [row for row in rows if row.verdict is not Verdict.INCONCLUSIVE]
        undecided = sum(row.undecided for row in rows)
        if self.first_divergence:
            self.decide(Verdict.DIVERGED, Outside(self.first_divergence, judge.limit))
        elif undecided:
            self.decide(Verdict.INCONCLUSIVE, NoFloor(undecided))
        elif not telling:
            self.decide(Verdict.INCONCLUSIVE, AllVacuous())
        elif self.beyond:
            self.decide(Verdict.DIVERGED, OutsideTogether(self.beyond[0]))
        else:
            verdict = worst(row.verdict for row in telling)
            largest = max(row.largest_z.z for row in telling if row.largest_z)
            self.decide(verdict, SameBits() if verdict is Verdict.IDENTICAL else RoundingExplains(largest, judge.limit))

    def decide(self, verdict: Verdict, *causes: Cause) -> None:
        """Set the verdict, and why."""
        self.verdict, self.causes = verdict, list(causes)

    def to_dict(self) -> dict[str, Any]:
        """The result for JSON, under names that stay."""
        return {
            "mode": self.mode,
            "steps": self.steps,
            "quantities": plain(list(self.quantities.values())),
            "first_divergence": plain(self.first_divergence),
            "location": self.location and plain(self.location.to_dict()),
            "first_site": plain(self.first_site),
            "first_z": plain(self.first_z),
            "wider": self.wider and plain(self.wider.to_dict()),
            "kinks": self.near_gates,
            "kinks_turned": self.turned_gates,
            "steep": self.own_updates,
            "repeatable": self.repeatable,
            "truth": self.truth and plain(vars(self.truth)),
            "evidence": plain([along.to_dict() for along in self.evidence]),
            "verdict": self.verdict.value,
            "reason": self.reason,
            "located": self.location_lines,
            "z_maps": self._z_maps(),
        }

    def _z_maps(self) -> list[dict[str, Any]]:
        """How z spreads over the tensor that diverged first, and over those that the wrong begins at."""
        if self.diverged is None or self.first_divergence is None:
            return []
        origins = self.location.origins if self.location else []
        return z_maps(self.diverged.pairs, [self.first_divergence.key, *(tensor.key for tensor in origins)])


@dataclass
class ProbeResult:
    """What became of a probe; result is None where the subject has another size than it, or cannot be asked."""

    probe: Probe
    result: "Result | None"
    refusal: str = ""
    """Why it cannot be asked, where there is no result."""
    made: bool = False
    """Whether there is such a model though there is no result."""

    @property
    def refused(self) -> bool:
        """Whether the subject has no such model."""
        return not self.made if self.result is None else self.result.unsupported

    @property
    def verdict(self) -> Verdict | None:
        """The verdict that counts; None where nothing was decided.

        That a lock-step answer is outside, and whether rounding explains it was not found, counts. A free-running one
        is beside answers to the same steps that were judged one by one.
        """
        if self.result is None or self.refused:
            return None
        undecided = self.result.verdict is Verdict.INCONCLUSIVE and not self.result.undecided_outside
        return None if undecided else self.result.verdict

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = self.result
        return {
            "probe": self.probe.name,
            "exercises": self.probe.exercises,
            "verdict": None if self.verdict is None else self.verdict.value,
            "reason": (self.refusal or "The subject has no such model.") if found is None else found.reason,
            "largest_z": plain(found and found.largest_z),
        }


@dataclass(frozen=True)
class Weighed:
    """How much of a known mistake was seen over some documents: 0 where it is not made, 1 where it is."""

    alpha: float
    sd: float
    """The standard deviation that rounding gives alpha."""
    shared: float
    """How far from 0 it may be besides, since all elements share numbers that are rounded."""
    limit: float
    """The largest number of standard deviations that rounding explains."""
    documents: int

    @property
    def allowed(self) -> float:
        """The largest alpha that rounding explains."""
        return self.limit * self.sd + self.shared

    @property
    def excluded(self) -> bool:
        """Whether rounding would not take alpha so far from 1."""
        return self.alpha + self.allowed < 1

    @property
    def more_documents(self) -> int | None:
        """How many more would decide, about; None where none would, since they share what is rounded."""
        left = 1 - self.shared - max(0.0, self.alpha)
        needed = self.documents * (self.limit * self.sd / left) ** 2 if left > 0 else math.inf
        return max(1, math.ceil(needed - self.documents)) if needed < _MOST_DOCUMENTS else None

    def __str__(self) -> str:
        more = self.more_documents
        decide = "no number of documents would decide" if more is None else f"some {more:,} more documents would decide"
        return f"alpha {self.alpha:.2g} ± {self.sd:.1g}: {decide}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "excluded": self.excluded, "more_documents": self.more_documents}


@dataclass
class Exclusion:
    """The known mistakes that a pass excludes, of how many, and by name, in sentences, those that it does not."""

    known: int
    undecided: dict[str, str]
    weighed: dict[str, Weighed] = field(default_factory=dict)
    """How much was seen of those that no element decides."""

    def __str__(self) -> str:
        found = f"{self.known - len(self.undecided)} of {self.known} known mistakes"
        return f"{found}; undecided: {in_few(list(self.undecided))}" if self.undecided else found


@dataclass(repr=False)
class Result:
    """The outcome of a check."""

    case: Case
    subject: str
    judge: Judge
    modes: list[ModeResult]
    unchecked: list[str]
    probes: list[ProbeResult] = field(default_factory=list)
    left_out: tuple[str, ...] = ()
    """What the subject itself says that it does not exercise, in the words of `parity.case`."""
    mistakes: dict[str, str] = field(default_factory=dict)
    """By name, the known mistakes that the answer fits, in sentences; `parity.catalogue.naming` looks for them."""
    mistake_lines: dict[str, int] = field(default_factory=dict)
    """By name, the line of `reference/microgpt.py` that a known mistake is in."""
    naming_hint: str = ""
    """How to learn them, where looking for them would have taken too long."""
    excluded: Exclusion | None = None
    """The known mistakes that a pass excludes; `parity.catalogue.exclusion` knows them."""
    said_by_subject: tuple[str, ...] = ()
    """What it says may explain a failure."""
    chain: Chain | None = None
    """What says what is expected, where the scalar graph does not reach."""

    def __repr__(self) -> str:
        # Without the thousands of floats of its case, which drown the message of an assertion.
        return f"<Result of {self.subject}: {self.verdict}: {self.reason}>"

    @property
    def verdict(self) -> Verdict:
        """The worst of all modes and probes."""
        return worst([*(mode.verdict for mode in self.modes), *filter(None, (found.verdict for found in self.probes))])

    @property
    def unsupported(self) -> bool:
        """Whether the subject has no such model, as it says with NotImplementedError when it is made."""
        return any(isinstance(cause, Failed) and cause.unsupported for mode in self.modes for cause in mode.causes)

    @property
    def undecided_outside(self) -> bool:
        """Whether a lock-step answer is outside, and whether rounding explains it was not found."""
        lock_step = [mode for mode in self.modes if mode.mode == "lock-step"]
        return any(isinstance(cause, NoAnswer) and cause.outside for mode in lock_step for cause in mode.causes)

    @property
    def deciding_probe(self) -> ProbeResult | None:
        """The first probe with that verdict, if none of the modes has it."""
        if any(mode.verdict is self.verdict for mode in self.modes):
            return None
        return next(found for found in self.probes if found.verdict is self.verdict)

    @property
    def deciding(self) -> "Result":
        """What decided the verdict: this result, or that of a probe."""
        probe = self.deciding_probe
        return self if probe is None or probe.result is None else probe.result

    @property
    def decisive(self) -> ModeResult:
        """The first mode with that verdict."""
        return next(mode for mode in self.deciding.modes if mode.verdict is self.verdict)

    @property
    def located(self) -> bool:
        """Whether an element was found that rounding does not explain."""
        return any(mode.first_divergence for mode in self.deciding.modes)

    @property
    def failure(self) -> Failed | None:
        """How the subject failed, if it did."""
        causes = [cause for mode in self.deciding.modes for cause in mode.causes]
        return next((cause for cause in causes if isinstance(cause, Failed)), None)

    @property
    def named(self) -> str:
        """The known mistakes that it looks like, in a sentence, or how to learn them; empty where there are none."""
        return behaves_like(list(self.mistakes.values())) or self.naming_hint

    @property
    def last_words(self) -> tuple[str, ...]:
        """The last lines that a subject in a process of its own wrote before it failed."""
        return self.failure.last_words if self.failure else ()

    @property
    def reason(self) -> str:
        """Why, in sentences."""
        probe = self.deciding_probe
        if not self.verdict.passes:
            return self.decisive.reason if probe is None else f"{in_probe(probe.probe)} {self.decisive.reason}"
        decided = worst(mode.verdict for mode in self.modes)
        deciding = [mode for mode in self.modes if mode.verdict is decided]
        return max(deciding, key=lambda mode: magnitude(mode.largest_z or 0.0, "z")).reason

    @property
    def not_exercised(self) -> list[str]:
        """What neither the case nor a probe did that was decided, each with an option that does it, if there is one."""
        left = self.case.not_exercised()
        for found in self.probes:
            if found.result is None or found.verdict is None:
                continue
            missing = [*found.probe.case.not_exercised(), *found.result.left_out]
            left = [phrase for phrase in left if phrase in missing or phrase.startswith("what the preset")]
        left += [phrase for phrase in self.left_out if phrase not in left]
        open_ones = [found for found in self.probes if found.verdict is None and not found.refused]
        undecided = [(found.probe, found.refusal) for found in open_ones]
        by_probes = [
            f"{p.exercises} ({how})" if (how := why.rstrip(".") or p.otherwise) else p.exercises for p, why in undecided
        ]
        if self.probes:
            form = self.judge.form.name
            unreached = out_of_reach(self.case.config, self.case.hyper, form)
            by_probes += [f"{probe.exercises} (out of reach in {form})" for probe in unreached]
        if any(found.refused for found in self.probes):
            by_probes.append("models of other sizes (which the subject does not make)")
        return [*map(how_to_exercise, left), *by_probes, *self._left_out_by_probes(left), *self._unchecked_in_probes()]

    def _left_out_by_probes(self, known: Sequence[str]) -> list[str]:
        """What the subject says that it does not exercise only in probes that were decided."""
        where = defaultdict[str, list[str]](list)
        for found in self.probes:
            if found.result is not None and found.verdict is not None:
                for phrase in found.result.left_out:
                    where[phrase] += [found.probe.name] if phrase not in known else []
        return [f"{what}, in the probe {', '.join(names)}" for what, names in where.items() if names]

    def _unchecked_in_probes(self) -> list[str]:
        """What the subject does not expose in probes that were decided, and exposes in the case, in words."""

        def of_any_layer(what: str) -> str:
            return re.sub(r"layer\d+", "layer", what)

        known, where = set(map(of_any_layer, self.unchecked)), defaultdict[str, list[str]](list)
        for found in self.probes:
            if found.result is not None and found.verdict is not None:
                hidden = [what for what in found.result.unchecked if of_any_layer(what) not in known]
                where[in_short(hidden)] += [found.probe.name] if hidden else []
        parts = ((what, names) for what, names in where.items() if names)
        return [f"{what} (which the subject does not expose in the probe {', '.join(names)})" for what, names in parts]

    @property
    def warnings(self) -> list[str]:
        """What is to be known whatever the verdict is, in sentences."""
        modes = [mode for mode in (*self.modes, *self.deciding.modes) if mode.suspected_sites or mode.sites_failure]
        found = [] if self.verdict.passes else [*self.said_by_subject, *self.deciding.said_by_subject]
        told = (suspicion(site, self.deciding.judge) for mode in modes for site in mode.suspected_sites)
        suspected = list(dict.fromkeys(told))
        found += suspected[:_MOST_SUSPECTED]
        more = len(suspected) - _MOST_SUSPECTED
        found += [f"Suspected as well: {more} more of its entries."] if more > 0 else []
        found += [f"Its sites were not compared: {mode.sites_failure}" for mode in modes if mode.sites_failure]
        return list(dict.fromkeys(found))

    @property
    def largest_z(self) -> float | None:
        """Over all quantities and modes; None where nothing was compared, NaN where of nothing it is known."""
        return _largest(mode.largest_z for mode in self.modes)

    def to_dict(self) -> dict[str, Any]:
        """The result for JSON: NaN and infinities stand as strings."""
        run = {"first_step": self.case.state.step, "steps": self.case.steps, "batch_size": self.case.batch_size}
        fields: dict[str, Any] = plain(
            {
                "parity": __version__,
                "verdict": self.verdict.value,
                "reason": self.reason,
                "named": self.named,
                "subject": self.subject,
                "dtype": self.judge.form.name,
                "storage": self.judge.widest.name if self.judge.storage is None else self.judge.storage.name,
                "false_alarm": self.judge.false_alarm,
                "limit": self.judge.limit,
                "config": vars(self.case.config),
                "hyper": vars(self.case.hyper),
                "run": run,
                "chain": self.chain and self.chain.to_dict(),
                "failure": self.failure and _failure(self.failure),
                "mistakes": list(self.mistakes),
                "mistake_lines": self.mistake_lines,
                "excluded": self.excluded
                and {
                    "known": self.excluded.known,
                    "excluded": self.excluded.known - len(self.excluded.undecided),
                    "undecided": list(self.excluded.undecided),
                    "weighed": {name: found.to_dict() for name, found in self.excluded.weighed.items()},
                },
                "warnings": self.warnings,
                "unchecked": self.unchecked,
                "not_exercised": self.not_exercised,
                "probes": [found.to_dict() for found in self.probes],
                "modes": self._modes(),
                "decided_by_probe": self._decided_by_probe(),
            }
        )
        return fields

    def _decided_by_probe(self) -> dict[str, Any] | None:
        """What the probe found that decided the verdict; None where a mode of the case did."""
        probe, found = self.deciding_probe, self.deciding
        if probe is None or found is self:
            return None
        config = vars(found.case.config)
        return {"probe": probe.probe.name, "limit": found.judge.limit, "config": config, "modes": found._modes()}

    def _modes(self) -> list[dict[str, Any]]:
        """The modes for JSON, each with what follows from the limit: what is allowed where it is outside first."""
        return [
            {
                **mode.to_dict(),
                "allowed": plain(_allowed(mode.first_divergence, (mode.judge or self.judge).limit)),
                "truth_says": mode.truth and mode.truth.sentence(self.judge.limit),
                "site_allowed": plain(_allowed(mode.first_site, (mode.judge or self.judge).limit)),
            }
            for mode in self.modes
        ]


def plain(value: Any) -> Any:
    """What JSON can say of a result or a part of one; NaN and infinities stand as strings."""
    if isinstance(value, QuantityResult):
        return {**plain(vars(value)), "verdict": value.verdict.value, "vacuous": value.vacuous}
    if isinstance(value, TensorPower):
        return plain({"median": value.median, "worst": value.worst, "blind": value.blind})
    if isinstance(value, Difference):
        step, _, *rest = vars(value).items()
        where = {"quantity": value.quantity, "tensor": value.tensor}
        relative = {"relative_error": value.relative_error}
        return plain({**dict([step]), **where, **dict(rest), **relative, "where": value.where})
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _allowed(found: Difference | None, limit: float) -> float | None:
    """The largest error that rounding explains in an element; NaN where that is not known."""
    if found is None:
        return None
    if not math.isfinite(found.error) or not found.z:
        return math.nan
    return limit * found.error / found.z  # 0 where z is infinite


def _failure(failed: Failed) -> dict[str, Any]:
    return {**vars(failed), "asked": failed.asked and vars(failed.asked)}


def _largest(found: Iterable[float | None]) -> float | None:
    return max((z for z in found if z is not None), key=lambda z: magnitude(z, "z"), default=None)
