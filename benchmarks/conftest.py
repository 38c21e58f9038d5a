"""Measuring: one torch thread, a description of the machine without its name, and ratios after the run."""

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from parity.ladder import machine
from parity.subjects.timing import Stopwatch
from parity.subjects.turns import in_turns
from torch_twin.tools.threads import threads

TORCH_THREADS = 1
"""Of its tensors of 16 numbers, more threads make none faster; one makes runs comparable."""

MEDIANS = pytest.StashKey[dict[tuple[str, str], float]]()
"""Seconds by group and side."""
SHARES = pytest.StashKey[dict[str, float]]()
"""Of the operations a second of a product of large matrices, by group."""

PRODUCT = "product of large matrices"
"""The side that is no training step but the limit of all."""
ROUNDS = 40

Measure = Callable[..., None]


@dataclass(frozen=True)
class Timed:
    """A side of a comparison: some calls within a context make a round, and a call does so many units of work."""

    target: Callable[[], Any]
    context: Callable[[], AbstractContextManager[None]] = nullcontext
    calls: int = 1
    units: int = 1
    finish: Callable[[], None] = lambda: None

    def seconds(self) -> float:
        """For a unit, in one round."""
        with self.context():
            start = time.perf_counter()
            for _ in range(self.calls):
                self.target()
            self.finish()
            return (time.perf_counter() - start) / (self.calls * self.units)


@pytest.fixture(scope="session", autouse=True)
def _torch_threads():
    with threads(TORCH_THREADS):
        yield


@pytest.fixture(scope="session", autouse=True)
def _eager(request):
    """Compile nothing that is not to be timed."""
    with torch.compiler.set_stance("force_eager" if request.config.getoption("benchmark_disable") else "default"):
        yield


@pytest.fixture(scope="session")
def few(request) -> Callable[[int, int], int]:
    """few(least, number): the number, or the least that shows that it runs, where nothing is to be timed."""
    disabled = request.config.getoption("benchmark_disable")
    return lambda least, number: least if disabled else number


@pytest.fixture(scope="session", autouse=True)
def _one_pass(few):
    """No more passes than that make a round where nothing is to be timed."""
    with pytest.MonkeyPatch.context() as patch:
        passes = Stopwatch.repeats
        patch.setattr(Stopwatch, "repeats", lambda watch, inputs: few(1, 0) or passes(watch, inputs))
        yield


def described(benchmark, request) -> str:
    """The test's group, and its parameter, if it has one."""
    return ", ".join([benchmark.group, *([request.node.callspec.id] if hasattr(request.node, "callspec") else [])])


@pytest.fixture
def measure(benchmark, request) -> Measure:
    """measure(side, target, setup): time target for the group of the test, and keep the median for the summary."""

    def measured(side: str, target: Callable[..., Any], setup: Callable[[], Any] | None = None) -> None:
        benchmark.pedantic(target, setup=setup, rounds=ROUNDS, warmup_rounds=5)
        if benchmark.stats:  # not with --benchmark-disable
            medians = request.config.stash.setdefault(MEDIANS, {})
            medians[benchmark.group, side] = benchmark.stats.stats.median

    return measured


@pytest.fixture
def measure_in_turn(benchmark, request, few) -> Callable[..., dict[str, float]]:
    """measure_in_turn({side: Timed}): a round is some calls of each, so a slow minute slows all; returns the medians.

    What takes microseconds is called often enough that a round finds its data in the cache, as a training run does.
    """

    def measured(targets: dict[str, Timed], rounds: int = ROUNDS) -> dict[str, float]:
        turns = in_turns([timed.seconds for timed in targets.values()])
        if few(1, rounds) > 1:
            next(turns)  # warm
        taken: list[list[float]] = []
        benchmark.pedantic(lambda: taken.append(next(turns)), rounds=rounds)
        seconds = dict(zip(targets, zip(*taken), strict=True))
        medians = {side: statistics.median(times) for side, times in seconds.items()}
        if benchmark.stats:
            benchmark.extra_info["median_seconds"] = medians
            benchmark.extra_info["quartile_seconds"] = {
                side: np.quantile(times, [0.25, 0.75]).tolist() for side, times in seconds.items()
            }
            kept = request.config.stash.setdefault(MEDIANS, {})
            kept.update({(described(benchmark, request), side): median for side, median in medians.items()})
        return medians

    return measured


@pytest.fixture
def note_share(benchmark, request) -> Callable[[float, float], None]:
    """note_share(flops a second, those of a product): keep what part of the limit was reached, for summary and JSON."""

    def noted(rate: float, limit: float) -> None:
        benchmark.extra_info |= {
            "flops_per_second": rate,
            "limit_flops_per_second": limit,
            "share_of_limit": rate / limit,
        }
        if benchmark.stats:
            request.config.stash.setdefault(SHARES, {})[described(benchmark, request)] = rate / limit

    return noted


def pytest_terminal_summary(terminalreporter, config) -> None:
    """The medians, and their ratios."""
    medians = config.stash.get(MEDIANS, {})
    if medians:
        terminalreporter.section("medians")
    for (group, side), median in medians.items():
        terminalreporter.write_line(f"{group}, {side}: {1000 * median:.3g} ms")
    for what, ratio in ratios(medians).items():
        terminalreporter.write_line(f"ratio of {what}: {ratio:.2f}")
    for what, share in config.stash.get(SHARES, {}).items():
        terminalreporter.write_line(f"share of the limit by matrix products, {what}: {share:.2%}")


def ratios(medians: dict[tuple[str, str], float]) -> dict[str, float]:
    """What the reference takes over what the others take, and the reference with gc over those that pause it."""
    found = {}
    for (group, side), median in medians.items():
        if side.startswith("reference"):
            for (same, other), faster in medians.items():
                if same == group and other not in (side, PRODUCT) and not other.startswith("reference with"):
                    found[f"{group}, {side} to {other}"] = median / faster
    return found


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config, machine_info) -> None:
    """What the figures depend on, and nothing that names the machine."""
    machine_info.clear()
    machine_info.update({**machine(), "torch_threads_unless_noted": TORCH_THREADS})


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config, benchmarks, output_json) -> None:
    """Without the single measurements, and with the ratios."""
    for entry in output_json["benchmarks"]:
        entry["stats"].pop("data", None)
    output_json["ratios"] = ratios(config.stash.get(MEDIANS, {}))
    by_size = [entry["extra_info"] for entry in output_json["benchmarks"] if entry["group"] == "oracle by size"]
    output_json["growth"] = growth(by_size)


def growth(infos: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Per recorded operation, fitted over all sizes: nanoseconds and bytes; and the exponent of a power law.

    An exponent of 1 is linear growth.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    for info in infos:
        nanoseconds = {side: 1e9 * seconds for side, seconds in info.get("median_seconds", {}).items()}
        sizes = {name: info[name] for name in info if name.endswith("bytes")}
        for name, value in {**nanoseconds, **sizes}.items():
            points.setdefault(name, []).append((info["operations"], value))
    found = {}
    for name, pairs in points.items():
        x, y = np.array(pairs, dtype=float).T
        if len(x) > 1:
            exponent = np.polyfit(np.log(x), np.log(y), 1)[0]
            found[name] = {"per_operation": float((x * y).sum() / (x * x).sum()), "exponent": float(exponent)}
    return found
