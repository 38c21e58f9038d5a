"""The check of a training over ranks, held to the training of one process, step by step from where the ranks stand."""

import math
import time
from collections.abc import Callable

from parity.errors import UsageError
from parity.ranks.processes import Ranks
from parity.ranks.result import RanksResult
from parity.ranks.running import Run
from parity.ranks.sides import Sides
from parity.training.checking import REPLICAS, TrainingOptions
from parity.verdict import Verdict, worst
from parity.words import counted


def check_ranks(
    sides: Sides, options: TrainingOptions, ranks: Ranks, progress: Callable[[str], None] = lambda text: None
) -> RanksResult:
    """Hold the ranks, as they are, to the single training's exact arithmetic: in float64, then in their own format.

    UsageError where the two do not fit each other, SubjectError where a rank fails.
    """
    began = time.monotonic()
    if "lock-step" not in options.modes:
        raise UsageError("Ranks are compared step by step, so --mode free-running would leave nothing.")
    replicas = options.replicas or REPLICAS
    done: list[Run] = []
    formats = sides.formats()
    for dtype in formats:
        own = Run(sides, dtype, replicas, ranks, options, progress)
        done.append(own)
        own.take(len(formats))
        if own.mode.wrong:
            break
    result = RanksResult(
        subject=sides.name,
        verdict=Verdict.INCONCLUSIVE,
        reason="",
        model=own.made["model"],
        optimizer=own.made["optimizer"],
        parameters=sum(math.prod(shape) for shape in own.begin.shapes().values()),
        formats=own.formats,
        device=own.made["device"],
        replicas=replicas,
        limit=own.judge.limit,
        modes=[run.mode for run in done],
        against=sides.single_name,
        ranks=ranks.count,
        explanation=own.explanation,
        explained=own.explained,
    )
    _decide(result, done)
    _remark(result, done)
    result.seconds = time.monotonic() - began
    return result


def _decide(result: RanksResult, runs: list[Run]) -> None:
    """Set the verdict: of another function first, then of what is lost in the ranks' own format."""
    last = runs[-1]
    first = last.mode.first_divergence
    if first is None:
        result.verdict = worst(mode.verdict for mode in result.modes)
        decisive = (mode for mode in result.modes if mode.verdict is result.verdict)
        result.reason = max(decisive, key=lambda mode: mode.largest_z or 0.0).reason
        return
    loses = len(runs) > 1
    result.verdict = Verdict.PRECISION_LOSS if loses else Verdict.DIVERGED
    beside = first.beside(last.judge.limit)
    said = (
        f"The same function as {result.against} in float64; in {last.mode.mode} the ranks lose more than they must"
        if loses
        else f"Over {result.ranks} ranks it is another function than {result.against}"
    )
    result.reason = f"{said}: {beside}. {last.explanation}".strip()


def _remark(result: RanksResult, runs: list[Run]) -> None:
    last = runs[-1]
    apart = set() if last.mode.wrong else last.apart
    if apart:
        result.remarks.append(f"ranks differ in bits, within the noise floor: {_few(apart)}")
    random = {name for run in runs for name in run.single.runs.random}
    if random:
        result.remarks.append(f"draws random numbers ({', '.join(sorted(random))}), which every rank draws for itself")
    if not last.mode.wrong and not any(run.dealt_out for run in runs):
        result.remarks.append(
            "nothing is dealt out: every rank's model was given all documents, and computed them unless it splits them "
            "itself"
        )
    if not all(run.losses_fit for run in runs):
        result.not_exercised.append(
            "the loss: that of the whole batch is neither the mean nor the sum of the ranks' (Training's ranks_loss "
            "declares what is)"
        )
    elif not any("loss" in run.mode.quantities for run in runs):
        result.not_exercised.append("the loss: no rank gives one, or the other training has none")
    if len(runs) == 1 and last.dtype != "float64":
        result.not_exercised.append(
            "the ranks in float64, where rounding hides nothing: let both factories take a dtype"
        )
        if last.single.clips:
            result.not_exercised.append(
                "the scale of gradients before they are clipped, as of a sum for the mean: float64 alone would show it"
            )
    result.not_exercised.append("what modules give: every rank has documents or shards of its own")
    if last.single.idle_clipping:
        result.not_exercised.append(last.single.idle_clipping)
    left = last.only_here | last.only_there
    if left:
        result.not_exercised.append(f"what only one of the two has, or in another shape: {_few(left)}")
    if not last.mode.wrong and last.steps < last.available:
        result.not_exercised.append(f"steps beyond {counted(last.steps, 'step')} of {last.available} (--steps)")


def _few(names: set[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:5]) + (f" and {len(ordered) - 5} more" if len(ordered) > 5 else "")
