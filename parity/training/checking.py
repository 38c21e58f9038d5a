"""The check of a training: against its own exact arithmetic, and another training's."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from parity.errors import SubjectError, UsageError
from parity.number_formats import FORMATS
from parity.options import MODES
from parity.progress import work
from parity.training.comparison import TrainingJudge, TrainingMode
from parity.training.link import Link
from parity.training.other import Other
from parity.training.result import TrainingResult
from parity.training.running import Factory, Runs, Step, parameters_of
from parity.training.state import named_parameters
from parity.verdict import FALSE_ALARM, Verdict, worst
from parity.words import counted

REPLICAS = 16
"""Runs with every operation's rounding, over which the noise floor is taken, if nobody says otherwise."""
STEPS = 3


@dataclass(frozen=True)
class TrainingOptions:
    """What the check of a training can be told."""

    steps: int | None = None
    modes: Sequence[str] = MODES
    sites: bool = True
    replicas: int | None = None
    false_alarm: float = FALSE_ALARM


@dataclass(frozen=True)
class Against:
    """Another training that one is held to: its name, how to have it, and the subject's names for its own."""

    name: str
    make: Callable[[int, bool], Other]
    """(replicas, sites) -> the other training."""
    names: dict[str, Any] = field(default_factory=dict)


def check_training(
    name: str,
    factory: Factory,
    options: TrainingOptions,
    *,
    against: Against | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> TrainingResult:
    """Hold a training to its own exact arithmetic, and that to another training's where one is given.

    against: its name, and how it and the map of names are to be had once it is known how many replicas there are.

    UsageError where it cannot be run on shadows or the two do not fit each other, SubjectError where it fails.
    """
    began = time.monotonic()
    if against is not None and "lock-step" not in options.modes:
        raise UsageError("Another training is compared in lock-step, so --mode free-running would leave it out.")
    replicas = options.replicas or REPLICAS
    runs = Runs(factory, replicas, sites=options.sites)
    number = steps_of(runs.native.steps, options.steps)
    start, other = runs.start, None
    if against is not None:
        other = Link(runs, against.name, against.make(replicas, options.sites), against.names, number)
        start = other.start
    modes = []
    link = TrainingMode("exact arithmetic") if other else None
    judge = TrainingJudge.of_replicas(1, replicas, options.false_alarm)
    for mode in options.modes:
        found = TrainingMode(mode)
        wide = other is not None and mode == "lock-step"
        parts = replicas * (1 + wide) * (number if mode == "lock-step" else 1)
        with work(f"{mode}: replicas", parts) as part_is_done:

            def tick(mode: str = mode, part_is_done: Callable[[], None] = part_is_done) -> None:
                part_is_done()
                progress(f"{mode}: replicas")

            for step in runs.steps(number, mode, start=start, wide=other is not None, progress=tick):
                judge = TrainingJudge.of_replicas(
                    _elements(step) * number * len(options.modes), replicas, options.false_alarm
                )
                found.take(step.number, step.actual, step.expected.tensors, step.floor, judge)
                if other is not None and mode == "lock-step":
                    assert link is not None
                    other.compare(link, step, judge)
        modes.append(found)
    for found in (*modes, *([link] if link else [])):
        found.conclude(judge)
    runs.gates.settle()
    result = TrainingResult(
        subject=name,
        verdict=Verdict.INCONCLUSIVE,
        reason="",
        model=type(runs.native.model).__name__,
        optimizer=type(runs.native.optimizer).__name__,
        parameters=sum(p.numel() for p in runs.native.model.parameters()),
        formats=_formats(runs),
        device=str(runs.native.device),
        replicas=replicas,
        limit=judge.limit,
        modes=modes,
        against=against.name if against else "",
        link=link,
        link_limit=judge.limit,
        gates_turned=runs.gates.turned,
    )
    _decide(result, runs, other)
    _remark(result, runs, other, number)
    result.seconds = time.monotonic() - began
    return result


def steps_of(available: int, asked: int | None) -> int:
    """How many steps are compared; UsageError where the batches do not last for those that were asked for."""
    if available < 1:
        raise UsageError("The batches do not last for one step: give at least as many as are accumulated.")
    if asked is not None and asked > available:
        raise UsageError(f"The batches last for {counted(available, 'step')}, and --steps asks for {asked}.")
    return asked or min(available, STEPS)


def _elements(step: Step) -> int:
    return sum(tensor.numel() for tensor in step.expected.tensors.values())


def _formats(runs: Runs) -> list[str]:
    names = {str(p.dtype).removeprefix("torch.") for p in runs.native.model.parameters()}
    autocast = runs.native.autocast_dtype()
    return sorted(names) + ([f"autocast {str(autocast).removeprefix('torch.')}"] if autocast else [])


def _decide(result: TrainingResult, runs: Runs, other: Link | None) -> None:
    """Set the verdict: of another function first, then of what is lost in its own."""
    if result.link is not None and result.link.wrong:
        first = result.link.first_divergence
        assert first is not None
        result.verdict = Verdict.DIVERGED
        result.reason = (
            f"In exact arithmetic it is another function than {result.against}: {first.beside(result.link_limit)}."
        )
        return
    outside = next((mode.first_divergence for mode in result.modes if mode.first_divergence), None)
    if outside is not None:
        loses = _loses_precision(runs, outside.z, result.limit)
        result.verdict = Verdict.PRECISION_LOSS if loses else Verdict.DIVERGED
        if runs.gates.near and not runs.observable:
            result.verdict = Verdict.INCONCLUSIVE
            result.reason = (
                f"Outside is {outside.beside(result.limit)}; but ReLU inputs lie within the noise floor of zero, and "
                "compiled code does not show how it decided them."
            )
            return
        said = "it loses more than its formats must" if loses else "it is not what its own operations compute"
        result.reason = f"Beside its own exact arithmetic {said}: {outside.beside(result.limit)}."
    elif runs.gates.largest_z > result.limit:
        result.verdict = Verdict.DIVERGED
        result.reason = (
            "A ReLU let pass what exact arithmetic holds back, or the other way round, at an input that lies "
            f"{runs.gates.largest_z:.2g} noise floors from zero (limit {result.limit:.1f})."
        )
    elif other is not None and (losses := other.losses()):
        quantity, times = max(losses.items(), key=lambda item: item[1])
        result.verdict = Verdict.PRECISION_LOSS
        result.reason = (
            f"It is the same function as {result.against} in exact arithmetic, but its formats round more: the noise "
            f"floor of {quantity} is {times:.2g} times as wide."
        )
    else:
        parts = [*result.modes, *([result.link] if result.link else [])]
        result.verdict = worst(part.verdict for part in parts)
        decisive = (part for part in parts if part.verdict is result.verdict)
        result.reason = max(decisive, key=lambda part: part.largest_z or 0.0).reason


def _loses_precision(runs: Runs, z: float, most: float) -> bool:
    """Whether the same training in float64 is right: then its function is, and its formats' arithmetic is at fault."""
    factory = runs.factory
    if "dtype" not in parameters_of(factory.make) or not any(
        p.dtype is not torch.float64 for p in runs.native.model.parameters()
    ):
        return False
    try:
        wide = Runs(Factory(factory.make, "float64", factory.options.get("device")), 8, sites=False)
        (step,) = wide.steps(1, "lock-step", start=wide.start, wide=False, progress=lambda: None)
    except (UsageError, SubjectError):
        return False
    found = TrainingMode("float64")
    found.take(
        0, step.actual, step.expected.tensors, step.floor, TrainingJudge.of_replicas(_elements(step), 8, FALSE_ALARM)
    )
    largest = max((row.largest_z.z for row in found.quantities.values() if row.largest_z), default=0.0)
    # Of a wrong function, z grows as the noise floor shrinks; of an unstable one, about the same digits are lost.
    dtypes = [p.dtype for p in runs.native.model.parameters()] + [runs.native.autocast_dtype() or torch.float64]
    digits = min(FORMATS[str(dtype).removeprefix("torch.")].digits for dtype in dtypes)
    return bool(largest <= max(most, z * 2.0 ** ((FORMATS["float64"].digits - digits) / 2)))


def _idle(runs: Runs, result: TrainingResult) -> Iterator[str]:
    """What the training has, and what nothing came of in the steps that were compared."""
    training, largest = runs.native, runs.native.largest_norm
    if training.clip_grad_norm is not None and largest <= training.clip_grad_norm:
        yield f"clipping: the norm of the gradients never exceeded {training.clip_grad_norm:g} (at most {largest:.3g})"
    if training.schedule is not None:
        steps = max((mode.steps for mode in result.modes), default=0)
        yield f"the schedule after {counted(steps, 'step')}"
    with_gradient = {name for mode in result.modes for name in mode.quantities["grad"].power} if result.modes else set()
    trained = [name for name, p in named_parameters(training).items() if p.requires_grad]
    idle = [name for name in trained if name not in with_gradient]
    if idle and with_gradient:
        yield f"parameters that get no gradient: {_shown(set(idle))}"


def _remark(result: TrainingResult, runs: Runs, other: Link | None, steps: int) -> None:
    if runs.gates.turned:
        result.remarks.append(f"{runs.gates.turned} ReLU inputs within the noise floor of zero decided the other way")
    if runs.elementwise:
        names = ", ".join(sorted(runs.elementwise))
        result.remarks.append(f"no model of how these round, so taken as elementwise: {names}")
    if runs.decomposed:
        result.remarks.append(f"rounded as what they decompose to: {', '.join(sorted(runs.decomposed))}")
    if runs.random:
        names = ", ".join(sorted(runs.random))
        result.remarks.append(
            f"draws random numbers ({names}): the same on both sides only while the order of draws is"
        )
    if not runs.observable:
        result.not_exercised.append(
            "what modules give: with hooks the run has other bits (compiled code, or kernels that vary)"
        )
    result.not_exercised += list(_idle(runs, result))
    if runs.native.steps > steps:
        result.not_exercised.append(f"steps beyond {counted(steps, 'step')} of {runs.native.steps} (--steps)")
    result.not_exercised += [f"{mode} (--mode both)" for mode in MODES if mode not in {m.mode for m in result.modes}]
    if other is not None:
        if other.moved:
            result.remarks.append(
                f"differ, and nothing else does, as where work moves from one module to another: {_shown(other.moved)}"
            )
        if other.only_here or other.only_there:
            alone = other.only_here | other.only_there
            result.not_exercised.append(f"what only one of the two has, or in another shape: {_shown(alone)}")
    else:
        result.not_exercised.append("whether it is the right function: it is held to itself (--against, parity gate)")


def _shown(tensors: set[str]) -> str:
    """The first of many, in words."""
    ordered = sorted(tensors)
    return ", ".join(ordered[:5]) + (f" and {len(ordered) - 5} more" if len(ordered) > 5 else "")
