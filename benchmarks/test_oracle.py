"""The oracle's cost: an exact replay beside the reference, noisy replays, the truth, and how all grow with the graph.

pytest benchmarks/test_oracle.py --benchmark-only
"""

import os
import subprocess
import sys
import tracemalloc
from functools import partial
from itertools import product

import pytest

import reference.microgpt
from parity import Case
from parity.number_formats import FORMATS
from parity.oracle.graph import record
from parity.oracle.noisy_replay import REPLICAS, Noise
from parity.oracle.program import compile_graph
from parity.oracle.replay import Replay
from parity.oracle.truth import Truth
from parity.subjects.timing import frozen_garbage
from parity.tensors import vectors

from .conftest import Timed

SIZES = [{"n_embd": n_embd, "n_layer": n_layer} for n_embd, n_layer in product((8, 16, 32, 64), (1, 2, 4))]


def case_of(**config: int) -> Case:
    return Case.from_names(os.environ.get("MICROGPT_NAMES"), steps=1, config=config)


@pytest.fixture(scope="module")
def case() -> Case:
    return case_of()


@pytest.mark.benchmark(group="oracle in turn")
def test_exact_replay_beside_the_reference(measure_in_turn, case):
    batch = next(case.batches())
    step = partial(reference.microgpt.train_step, case.state, batch, case.config, case.hyper)
    with_gc = partial(reference.microgpt.train_step.__wrapped__, case.state, batch, case.config, case.hyper)
    replay, noise = (
        Replay(case.config, case.hyper),
        Noise(case.config, case.hyper, FORMATS["float32"]),
    )
    replay.load(case.state)
    start = noise.repeated(vectors(case.config, case.state))
    truth = Truth(case.config, case.hyper)
    measure_in_turn(
        {
            "exact replay": Timed(partial(replay.outcome, batch), calls=100),
            f"{REPLICAS} noisy replays": Timed(partial(noise.step, 0, start, noise.seeds, batch, None)),
            "truth": Timed(partial(truth.enclosure, case.state, batch, None)),
            "reference": Timed(step, frozen_garbage),
            "reference with gc": Timed(with_gc, frozen_garbage),
        }
    )


@pytest.mark.benchmark(group="oracle by size")
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "embd {n_embd}, layers {n_layer}".format(**size))
def test_exact_and_noisy_replay_by_size(measure_in_turn, benchmark, size):
    case = case_of(**size)
    batch = next(case.batches())
    n = min(case.config.block_size, len(batch[0]) - 1)
    replay, noise = Replay(case.config, case.hyper), Noise(case.config, case.hyper, FORMATS["float32"])
    replay.load(case.state)
    start = noise.repeated(vectors(case.config, case.state))
    tracemalloc.start()
    program = compile_graph(record(case.config, n))
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    benchmark.extra_info |= {
        **size,
        "positions": n,
        "operations": program.nodes + case.config.num_params(),
        "slots": program.slots,
        "instructions": len(program.forward) + len(program.backward),
        "program_bytes": kept,
        "recording_peak_bytes": peak,
        "noisy_bytes": 2 * program.slots * REPLICAS * 8,
    }
    measure_in_turn(
        {
            "exact": Timed(partial(replay.outcome, batch), calls=100),
            "noisy": Timed(partial(noise.step, 0, start, noise.seeds, batch, None)),
        },
        rounds=10,
    )


@pytest.mark.benchmark(group="recording")
def test_recording_and_compiling_a_graph(benchmark, case):
    n = min(case.config.block_size, len(next(case.batches())[0]) - 1)
    benchmark.pedantic(lambda: compile_graph(record(case.config, n)), rounds=5)


FIRST_USE = """
from parity import Case
from parity.number_formats import FORMATS
from parity.oracle.oracle import Oracle

case = Case.from_names(steps=1)
oracle = Oracle(case.config, case.hyper, FORMATS["float32"], limit=10.0)
oracle.expect(oracle.start(case.state), next(case.batches()))
"""


@pytest.mark.benchmark(group="first use")
@pytest.mark.parametrize("cache", ["empty", "filled"])
def test_first_use_in_a_process(benchmark, tmp_path_factory, cache):
    """A process's first exact and noisy step: with machine code to make, and with machine code from disk."""
    folder = tmp_path_factory.mktemp("numba")
    run = partial(
        subprocess.run,
        [sys.executable, "-c", FIRST_USE],
        check=True,
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder)},
    )
    if cache == "filled":
        run()
    benchmark.pedantic(run, rounds=1 if cache == "empty" else 3)
