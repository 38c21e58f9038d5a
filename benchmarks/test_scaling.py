"""How a step grows: with width, depth, block, batch and threads; the reference, and three rungs in float32.

    pytest benchmarks/test_scaling.py --benchmark-only

Where the reference would take too long, it is extrapolated from its time for each scalar operation in smaller models
and from the number of operations, and marked as such. Times are those of a document.
"""

import os
import random
import statistics
from dataclasses import replace

import pytest

from parity import Case
from parity.subjects.timing import batch_of
from reference.config import Config

from .rungs import CORES, operations, recorded, reference_training, rung_named, subject_of, training

EAGER = replace(rung_named("fused_adam"), dtype="float32")
WHOLE, BATCHED = rung_named("float32"), rung_named("batched_step")

MEASURED = 64
"""The largest n_embd at which the reference is measured, once above it excepted."""
SHAPES = [
    *({"n_embd": n_embd} for n_embd in (16, 32, 64, 128, 256)),
    *({"n_layer": n_layer} for n_layer in (2, 4, 8)),
    *({"block_size": block_size} for block_size in (64, 256)),
]


def case_of(**config: int) -> Case:
    case = Case.from_names(os.environ.get("MICROGPT_NAMES"), steps=1000, config=config)
    if "block_size" in config:
        rng = random.Random(0)  # no name fills such a block
        bos = case.config.vocab_size - 1
        return replace(case, documents=[[bos, *rng.choices(range(bos), k=case.config.block_size - 1), bos]])
    return case


def positions(case: Case) -> int:
    return min(case.config.block_size, len(case.documents[0]) - 1)


def described(shape: dict[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in shape.items())


@pytest.fixture(scope="module")
def seconds_an_operation(request) -> float:
    """Of the reference: the median over models up to the largest one that is measured."""
    found = []
    for n_embd in (16,) if request.config.getoption("benchmark_disable") else (16, 32, MEASURED):
        case = case_of(n_embd=n_embd)
        timed = reference_training(case, [case.documents[:1]])
        seconds = statistics.median(timed.seconds() for _ in range(5))
        found.append(seconds / operations(case.config, positions(case)))
    return statistics.median(found)


def predicted(benchmark, case: Case, seconds_an_operation: float) -> float:
    count = operations(case.config, positions(case))
    benchmark.extra_info |= {"positions": positions(case), "operations": count}
    return count * seconds_an_operation


@pytest.mark.benchmark(group="step by shape")
@pytest.mark.parametrize("shape", SHAPES, ids=described)
def test_shape(measure_in_turn, benchmark, seconds_an_operation, shape):
    case = case_of(**shape)
    batch = case.documents[:1]
    seconds = predicted(benchmark, case, seconds_an_operation)
    base = case_of()
    largest = operations(replace(base.config, n_embd=MEASURED), positions(base))
    sides = {rung.name: training(subject_of(rung, case), case, [batch] * 10) for rung in (EAGER, WHOLE, BATCHED)}
    if benchmark.extra_info["operations"] <= 1.1 * largest:
        sides["reference"] = reference_training(case, [batch])
    else:
        benchmark.extra_info["reference_extrapolated_seconds"] = seconds
    measure_in_turn(sides, rounds=10)


@pytest.mark.benchmark(group="extrapolation")
def test_extrapolation_beside_one_measured_point(measure_in_turn, benchmark, seconds_an_operation):
    case = case_of(n_embd=2 * MEASURED)
    seconds = predicted(benchmark, case, seconds_an_operation)
    measured = measure_in_turn({"reference": reference_training(case, [case.documents[:1]])}, rounds=3)["reference"]
    benchmark.extra_info |= {
        "reference_extrapolated_seconds": seconds,
        "extrapolated_over_measured": seconds / measured,
    }


@pytest.mark.benchmark(group="document by batch size")
@pytest.mark.parametrize("size", [1, 16, 256, 4096])
def test_batch_size(benchmark, measure_in_turn, size):
    batches_of(size, CORES, benchmark, measure_in_turn)


@pytest.mark.benchmark(group="document by threads")
@pytest.mark.parametrize("threads", sorted({1, CORES}))
def test_threads(benchmark, measure_in_turn, threads, few):
    batches_of(few(64, 1024), threads, benchmark, measure_in_turn, (EAGER, BATCHED))


def batches_of(size: int, threads: int, benchmark, measure_in_turn, rungs=(EAGER, WHOLE, BATCHED)) -> None:
    case = case_of()
    batch = batch_of(case.documents, size)
    benchmark.extra_info["threads"] = threads
    sides = {rung.name: training(subject_of(rung, case, threads), case, [batch], threads) for rung in rungs}
    measure_in_turn(sides, rounds=10)


@pytest.mark.parametrize(
    ("shape", "n"), [({}, 7), ({"n_embd": 20, "n_layer": 3}, 6), ({"n_embd": 12, "n_head": 2}, 9), ({"n_embd": 24}, 1)]
)
def test_operations_are_those_that_recording_would_count(shape, n):
    config = Config(**shape)
    assert operations(config, n) == recorded(config, n)
