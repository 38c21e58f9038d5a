"""Measuring: one torch thread, a description of the machine without its name, and ratios after the run."""

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
import torch

TORCH_THREADS = 1
"""Of its tensors of 16 numbers, more threads make none faster; one makes runs comparable."""

MEDIANS = pytest.StashKey[dict[tuple[str, str], float]]()
"""Seconds by group and side."""

ROUNDS = 40

Measure = Callable[..., None]


@pytest.fixture(scope="session", autouse=True)
def _torch_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(TORCH_THREADS)
    yield
    torch.set_num_threads(before)


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
def measure_in_turn(benchmark, request) -> Callable[[dict[str, tuple[Callable[[], Any], Callable, int]]], None]:
    """measure_in_turn({side: (target, context, calls)}): a round is some calls of each, so a slow minute slows all.

    What takes microseconds is called often enough that a round finds its data in the cache, as a training run does.
    """

    def measured(targets: dict[str, tuple[Callable[[], Any], Callable, int]], rounds: int = ROUNDS) -> None:
        seconds = {side: [] for side in targets}

        def one_round() -> None:
            for side, (target, context, calls) in targets.items():
                with context():
                    start = time.perf_counter()
                    for _ in range(calls):
                        target()
                    seconds[side].append((time.perf_counter() - start) / calls)

        one_round()  # warm
        for times in seconds.values():
            times.clear()
        benchmark.pedantic(one_round, rounds=rounds)
        if benchmark.stats:
            medians = {side: statistics.median(times) for side, times in seconds.items()}
            benchmark.extra_info["median_seconds"] = medians
            kept = request.config.stash.setdefault(MEDIANS, {})
            group = request.node.callspec.id if hasattr(request.node, "callspec") else benchmark.group
            kept.update({(group, side): median for side, median in medians.items()})

    return measured


@contextmanager
def frozen_garbage() -> Iterator[None]:
    """Leave the garbage collector what is made from here on, as in a bare process, and nothing that torch holds."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@pytest.fixture(scope="session")
def frozen() -> Callable[[], AbstractContextManager[None]]:
    """The context of `frozen_garbage`."""
    return frozen_garbage


def pytest_terminal_summary(terminalreporter, config) -> None:
    """The medians, and their ratios."""
    medians = config.stash.get(MEDIANS, {})
    if medians:
        terminalreporter.section(f"medians of {ROUNDS} rounds, torch with {TORCH_THREADS} thread")
    for (group, side), median in medians.items():
        terminalreporter.write_line(f"{group}, {side}: {1000 * median:.3g} ms")
    for what, ratio in ratios(medians).items():
        terminalreporter.write_line(f"ratio of {what}: {ratio:.2f}")


def ratios(medians: dict[tuple[str, str], float]) -> dict[str, float]:
    """What the reference takes over what the others take, and the reference with gc over those that pause it."""
    found = {}
    for (group, side), median in medians.items():
        if side.startswith("reference"):
            with_gc = side.startswith("reference with gc")
            for other in ("reference", "twin", "exact replay") if with_gc else ("twin", "exact replay"):
                if (group, other) in medians:
                    found[f"{group}, {side} to {other}"] = median / medians[group, other]
    return found


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config, machine_info) -> None:
    """What the figures depend on, and nothing that names the machine."""
    described = {
        "cpu": machine_info["cpu"].get("brand_raw", platform.machine()),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "torch": torch.__version__,
        "torch_threads": TORCH_THREADS,
    }
    machine_info.clear()
    machine_info.update(described)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config, benchmarks, output_json) -> None:
    """Without the single measurements, and with the ratios."""
    for entry in output_json["benchmarks"]:
        entry["stats"].pop("data", None)
    output_json["ratios"] = ratios(config.stash.get(MEDIANS, {}))
    output_json["growth"] = growth([entry["extra_info"] for entry in output_json["benchmarks"]])


def growth(infos: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Per recorded operation, fitted over all sizes: nanoseconds and bytes; and the exponent of a power law.

    An exponent of 1 is linear growth.
    """
    sizes = [info for info in infos if "operations" in info]
    found = {}
    for name, unit in (
        ("exact", 1e9),
        ("noisy", 1e9),
        ("program_bytes", 1),
        ("recording_peak_bytes", 1),
        ("noisy_bytes", 1),
    ):
        x = np.array([info["operations"] for info in sizes], dtype=float)
        y = np.array([unit * info["median_seconds"].get(name, info.get(name, 0)) for info in sizes], dtype=float)
        if len(x) > 1:
            exponent = np.polyfit(np.log(x), np.log(y), 1)[0]
            found[name] = {"per_operation": float((x * y).sum() / (x * x).sum()), "exponent": float(exponent)}
    return found
