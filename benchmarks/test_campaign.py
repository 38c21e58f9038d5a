"""A property test's campaign: small cases as `parity.strategies` draws them, checked in both modes, all quantities.

pytest benchmarks/test_campaign.py --benchmark-only

A case's time is that of `check` with a subject that plays back a recorded answer, which takes next to nothing, or with
the twin. Programs are those of the cases' graphs: to be recorded, as in a campaign of new shapes, or known already.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from parity import Case, State, Step, check
from parity.judging import diagnosis, exchange, judge, result
from parity.oracle import noisy_kernels, oracle, replay
from parity.oracle import noisy_replay as noise
from parity.oracle.replay import Replay
from parity.strategies import cases
from torch_twin.microgpt import make

from .conftest import MEDIANS

CASES = 200
ROUNDS = 5


def draw(number: int = CASES) -> list[Case]:
    drawn: list[Case] = []
    options = settings(
        max_examples=number,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )

    @options
    @given(case=cases())
    def collect(case):
        drawn.append(case)

    collect()
    return drawn


class Recording:
    """The exact replay as a subject, which notes its answers."""

    def __init__(self, case: Case) -> None:
        self.replay, self.answers = Replay(case.config, case.hyper), []

    def load(self, state: State) -> None:
        self.replay.load(state)

    def train_step(self, batch) -> Step | None:
        self.answers.append(self.replay.train_step(batch))
        return self.answers[-1]


class Played:
    """A subject that gives the answers of a recording once more, one after another."""

    def __init__(self, case: Case) -> None:
        self.recording = Recording(case)
        check(self.recording, case)
        self.start()

    def start(self) -> None:
        self.rest = iter(self.recording.answers)

    def load(self, state: State) -> None:
        pass

    def train_step(self, batch) -> Step | None:
        return next(self.rest)


@pytest.fixture(scope="module")
def drawn(few) -> list[Case]:
    return draw(few(6, CASES))


@pytest.fixture(scope="module")
def played(drawn) -> list[tuple[Played, Case]]:
    return [(Played(case), case) for case in drawn]


def forget_programs() -> None:
    replay.program.cache_clear()
    replay._program.cache_clear()


@pytest.mark.benchmark(group="campaign")
@pytest.mark.parametrize("programs", ["to record", "known"])
@pytest.mark.parametrize("who", ["played answers", "twin"])
def test_small_cases(benchmark, request, drawn, played, who, programs):
    subjects = played if who == "played answers" else [(make, case) for case in drawn]
    verdicts = Counter()

    def setup() -> None:
        verdicts.clear()
        for subject, _ in subjects:
            if isinstance(subject, Played):
                subject.start()
        if programs == "to record":
            forget_programs()

    def campaign() -> None:
        for subject, case in subjects:
            verdicts[check(subject, case).verdict.value] += 1

    benchmark.pedantic(campaign, setup=setup, rounds=ROUNDS, warmup_rounds=1)
    assert set(verdicts) <= {"IDENTICAL", "PARITY", "INCONCLUSIVE"}
    benchmark.extra_info |= {
        "cases": len(drawn),
        "verdicts": dict(verdicts),
        "shapes": len({case.config for case in drawn}),
        "median_parameters": sorted(case.config.num_params() for case in drawn)[len(drawn) // 2],
        "steps": sum(case.steps for case in drawn) / len(drawn),
    }
    if benchmark.stats:
        seconds = benchmark.stats.stats.median / len(drawn)
        benchmark.extra_info["cases_per_second"] = 1 / seconds
        request.config.stash.setdefault(MEDIANS, {})[f"a case of {who}", f"programs {programs}"] = seconds


@pytest.mark.benchmark(group="drawing")
def test_drawing_cases(benchmark, request):
    benchmark.pedantic(draw, rounds=ROUNDS, warmup_rounds=1)
    if benchmark.stats:
        seconds = benchmark.stats.stats.median / CASES
        request.config.stash.setdefault(MEDIANS, {})["a case", "drawing"] = seconds


PARTS: dict[str, list[tuple[Any, str]]] = {
    "recording and compiling graphs": [(replay, "_program")],
    "noisy replays": [
        (noisy_kernels, "noisy_forward"),
        (noisy_kernels, "noisy_backward"),
        (noisy_kernels, "noisy_update"),
        (noise.Noise, "step"),
    ],
    "noise floor from them": [(oracle.Oracle, "expect"), (oracle, "deviation"), (oracle, "near_kinks")],
    "exact replay": [(replay.Replay, "outcome")],
    "reading answers": [(exchange, "paired")],
    "comparison and statistics": [
        (result.ModeResult, "add"),
        (judge.Judge, "count_outside"),
        (diagnosis, "same_bits"),
    ],
    "verdict": [(result.ModeResult, "conclude")],
    "states in and out": [(exchange.Run, "load"), (exchange.Run, "rounded"), (oracle.Oracle, "start")],
    "the subject": [(exchange.Run, "answer")],
}
"""What a check's time is spent on, and the functions that do it; what none of them does is the rest."""


@contextmanager
def clocked(seconds: Counter) -> Iterator[Callable[..., Any]]:
    """While it is entered, count the time in each of PARTS, calls to others excluded; yields a check with a clock."""
    inner: list[float] = []

    def timed(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        @wraps(function)
        def clock(*arguments: Any, **options: Any) -> Any:
            inner.append(0.0)
            start = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                took = time.perf_counter() - start
                seconds[part] += took - inner.pop()
                if inner:
                    inner[-1] += took

        return clock

    with pytest.MonkeyPatch.context() as patch:
        for part, places in PARTS.items():
            for owner, name in places:
                patch.setattr(owner, name, timed(getattr(owner, name), part))
        yield timed(check, "the rest")


@pytest.mark.benchmark(group="campaign, split")
@pytest.mark.parametrize("who", ["played answers", "twin"])
def test_where_the_time_goes(benchmark, request, drawn, played, who):
    seconds: Counter = Counter()

    def campaign() -> None:
        for subject, case in subjects:
            clocked_check(subject, case)

    subjects = played if who == "played answers" else [(make, case) for case in drawn]
    for subject, _ in played:
        subject.start()
    forget_programs()
    with clocked(seconds) as clocked_check:
        benchmark.pedantic(campaign, rounds=1)
    milliseconds = {part: 1000 * seconds[part] / len(drawn) for part in [*PARTS, "the rest"]}
    assert all(milliseconds.values()), milliseconds
    benchmark.extra_info["milliseconds_per_case"] = milliseconds
    if benchmark.stats:
        kept = request.config.stash.setdefault(MEDIANS, {})
        kept.update({(f"a case of {who}", part): took / 1000 for part, took in milliseconds.items()})
