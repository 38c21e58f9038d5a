"""Climbing: every rung is checked, and timed if its verdict allows it, in a process of its own."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from parity.case import Case
from parity.errors import SubjectError, UsageError
from parity.judging.checking import check
from parity.judging.plain import plain
from parity.judging.result import Result
from parity.ladder.rungs import Rung
from parity.ladder.this_machine import missing
from parity.subjects.command import Command, serving
from parity.subjects.imports import imported
from parity.subjects.process import Limits
from parity.subjects.timing import SECONDS, Timing, batch_of
from parity.verdict import Verdict, worst

if TYPE_CHECKING:
    from parity.ranks.processes import Ranks
    from parity.ranks.result import RanksResult

BATCH_SIZES = (1, 4, 16, 64, 256, 1024, 4096, 16384)
"""Batch sizes among which the best one is looked for."""
_LARGEST_CHECKED = 256
"""Documents in a batch; the noise floor of 1,024 would take 8 GiB."""
_SLOW = Limits(seconds=900.0, memory=64 << 30)
"""Compiling takes minutes on a slow machine."""


@dataclass
class RungResult:
    """What the ladder found on one rung.

    results: the checks, of single documents and of batches, or the one over ranks. timing: None where the verdict
    allows none, and of ranks, which on the cores of one machine would time their processes. failure: why there is no
    timing, if not for the verdict. skipped: the rung cannot run here, and the failure says why.
    """

    rung: Rung
    verdict: Verdict
    results: Sequence["Result | RanksResult"]
    timing: Timing | None = None
    failure: str = ""
    skipped: bool = False

    @property
    def largest_z(self) -> float | None:
        """Over all quantities of all checks."""
        largest = [result.largest_z for result in self.results if result.largest_z is not None]
        return max(largest, default=None)

    @property
    def power(self) -> float | None:
        """The smallest relative error that the checks would have caught in the median element of the median tensor."""
        medians = [
            tensor.median
            for result in self.results
            for mode in (result.modes if isinstance(result, Result) else result.modes[-1:])
            for row in mode.quantities.values()
            for tensor in row.power.values()
            if tensor.medians
        ]
        return median(medians) if medians else None

    @property
    def dtype(self) -> str:
        """The number format that the rung computes in: of ranks their own, beside which they ran in float64."""
        if not self.results:
            return self.rung.dtype or ""
        first = self.results[0]
        return first.judge.form.name if isinstance(first, Result) else first.modes[-1].mode

    @property
    def reason(self) -> str:
        """Of the verdict, in the check whose z is the largest."""
        if self.failure:
            return self.failure
        found = max((r for r in self.results if r.verdict is self.verdict), key=lambda r: r.largest_z or 0)
        if isinstance(found, Result):
            return found.reason
        modes = " and ".join(mode.mode for mode in found.modes)
        return f"{found.ranks} ranks in {modes}, held to {self.rung.single} of one process: {found.reason}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON: infinities stand as strings. `compared` adds what needs the other rungs."""
        technique, changed = self.rung.words
        fields: dict[str, Any] = plain(
            {
                "rung": self.rung.name,
                "subject": self.rung.factory,
                **({"against": self.rung.single, "ranks": self.rung.ranks} if self.rung.single else {}),
                "dtype": self.dtype,
                "technique": technique,
                "changed": changed,
                "verdict": "skipped" if self.skipped else self.verdict.value,
                "reason": self.reason,
                "largest_z": self.largest_z,
                "power": self.power,
                "speed_up_over_reference": self.timing and [self.timing.speed_up, self.timing.batch_speed_up],
                "timing": self.timing and self.timing.to_dict(),
            }
        )
        return fields


def climb(
    rungs: Iterable[Rung],
    case: Case,
    *,
    sizes: Sequence[int] | None = None,
    threads: int | None = None,
    round_seconds: float = SECONDS,
    started: Callable[[Rung], None] = lambda rung: None,
) -> Iterator[RungResult]:
    """Check and time rung after rung, each in a process of its own, or over ranks; a result as soon as it is there.

    case: the run to check, document by document. It is checked in batches of three, too, and one step in a batch of
    the size that turned out to be the best, up to _LARGEST_CHECKED.
    """
    with closing(_Started()) as ranks:
        for rung in rungs:
            started(rung)
            if reason := missing(rung):
                yield RungResult(rung, Verdict.INCONCLUSIVE, [], failure=reason, skipped=True)
            elif rung.single:
                yield _over_ranks(rung, rung.single, ranks)
            else:
                yield _climbed(rung, case, sizes or BATCH_SIZES, threads or os.cpu_count() or 1, round_seconds)


def _climbed(rung: Rung, case: Case, sizes: Sequence[int], threads: int, round_seconds: float) -> RungResult:
    options = {"dtype": rung.dtype, "device": "cuda" if rung.cuda else None}
    sizes = [size for size in sizes if size <= _LARGEST_CHECKED or not rung.static]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with closing(serving(rung.factory, _SLOW, environment=environment)) as command:

        def checked(case: Case) -> Verdict:
            results.append(check(command, case, oracle=rung.oracle, **options))  # type: ignore[arg-type]
            return worst(result.verdict for result in results)

        results: list[Result] = []
        checked(case)
        verdict = checked(replace(case, batch_size=3))
        if not verdict.passes:
            return RungResult(rung, verdict, results)
        command.close()  # the process that is timed has done nothing else
        try:
            command(case.config, case.hyper, **options)
            timing = _timing(command, case, sizes=sizes, threads=threads, round_seconds=round_seconds)
        except (SubjectError, UsageError) as error:
            return RungResult(rung, Verdict.ERROR, results, failure=str(error))
        if timing.best > 1:
            size = min(timing.best, _LARGEST_CHECKED)
            verdict = checked(replace(case, documents=batch_of(case.documents, size), batch_size=size, steps=1))
    return RungResult(rung, verdict, results, timing if verdict.passes else None)


class _Started:
    """The ranks of the rung before, for the next one that has so many; others take seconds to start."""

    def __init__(self) -> None:
        self.ranks: Ranks | None = None

    def of(self, count: int) -> "Ranks":
        from parity.ranks import processes

        if self.ranks is None or self.ranks.count != count or not self.ranks.alive:
            self.close()
            self.ranks = processes.Ranks(count, _SLOW)
        return self.ranks

    def close(self) -> None:
        if self.ranks is not None:
            self.ranks.close()


def _over_ranks(rung: Rung, single: str, ranks: _Started) -> RungResult:
    from parity.ranks.checking import check_ranks
    from parity.ranks.sides import Sides
    from parity.training.checking import TrainingOptions

    try:
        sides = Sides(rung.factory, imported(rung.factory), single, imported(single))
        result = check_ranks(sides, TrainingOptions(), ranks.of(rung.ranks))
    except (SubjectError, UsageError) as error:
        return RungResult(rung, Verdict.ERROR, [], failure=str(error))
    return RungResult(rung, result.verdict, [result])


def _timing(command: Command, case: Case, **options: Any) -> Timing:
    message = {"type": "time", "state": vars(case.state), "documents": case.documents, **options}
    return Timing.from_dict(command.ask(message, "time", "timing")["timing"])
