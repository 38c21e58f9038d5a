"""What a check found, as data: tables, JSON and assertions are views of it."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from parity import __version__
from parity.case import Case, how_to_exercise
from parity.judging.causes import (
    Failed,
    NoAnswer,
)
from parity.judging.chain.evidence import Chain
from parity.judging.excluded import Exclusion
from parity.judging.judge import Judge
from parity.judging.mode_result import ModeResult, largest_of
from parity.judging.pairs import Difference
from parity.judging.plain import plain
from parity.judging.probes import Probe, out_of_reach
from parity.judging.quantity_result import magnitude
from parity.judging.sentences import behaves_like, in_probe, suspicion
from parity.judging.smallest_case import smallest_case
from parity.quantities import in_short
from parity.verdict import Verdict, worst

_MOST_SUSPECTED = 3
"""Entries of a map of sites that are named one by one."""


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
        return largest_of(mode.largest_z for mode in self.modes)

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
                "smallest_case": smallest.to_json() if (smallest := smallest_case(self)) else None,
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


def _allowed(found: Difference | None, limit: float) -> float | None:
    """The largest error that rounding explains in an element; NaN where that is not known."""
    if found is None:
        return None
    if not math.isfinite(found.error) or not found.z:
        return math.nan
    return limit * found.error / found.z  # 0 where z is infinite


def _failure(failed: Failed) -> dict[str, Any]:
    return {**vars(failed), "asked": failed.asked and vars(failed.asked)}
