"""Every rung of the ladder beside the reference, and what part of the machine's arithmetic it uses.

    pytest benchmarks/test_rungs.py --benchmark-only

A round is, in turns, steps of the reference, some of the rung, and a product of large matrices in the rung's number
format, whose floating-point operations a second are the limit. Times are those of a document.
"""

import os

import pytest

from parity import Case
from parity.ladder import missing
from parity.subjects.timing import batch_of, typical
from reference.config import Config

from .conftest import PRODUCT
from .rungs import CORES, PORT, RUNGS, flops, product, reference_training, subject_of, training

ONE_BY_ONE = ("twin", "positions", "scalar", PORT.name)
"""What goes through a batch document by document, for which a few make a batch."""
FEW, MANY = 10, 4096

every_rung = pytest.mark.parametrize(
    "rung",
    [
        pytest.param(
            rung,
            id=rung.name,
            marks=pytest.mark.skipif(bool(lacking := missing(rung)), reason=lacking),
        )
        for rung in (*RUNGS, PORT)
        if not rung.single  # ranks are not timed
    ],
)


@pytest.fixture(scope="module")
def case() -> Case:
    return Case.from_names(os.environ.get("MICROGPT_NAMES"), steps=1000)


def measured(benchmark, measure_in_turn, note_share, rung, case, batches, slow_batches, cores) -> None:
    subject = subject_of(rung, case, cores)
    forward_only = getattr(subject, "forward_only", False)
    benchmark.extra_info["threads"] = cores
    seconds = measure_in_turn(
        {
            "reference": reference_training(case, slow_batches, forward_only),
            rung.name: training(subject, case, batches, cores),
            PRODUCT: product(subject, cores),
        },
        rounds=10,
    )
    lengths = [min(case.config.block_size, len(tokens) - 1) for batch in batches for tokens in batch]
    mean = sum(flops(case.config, n, forward_only) for n in lengths) / len(lengths)
    note_share(mean / seconds[rung.name], 1 / seconds[PRODUCT])


@every_rung
@pytest.mark.benchmark(group="step of one document")
def test_step(benchmark, measure_in_turn, note_share, rung, case, few):
    batches = [[tokens] for tokens in typical(case.documents, few(2, FEW))]
    measured(benchmark, measure_in_turn, note_share, rung, case, batches, batches, 1)


@every_rung
@pytest.mark.benchmark(group="document in a batch")
def test_batch(benchmark, measure_in_turn, note_share, rung, case, few):
    size = few(2, FEW) if rung.name in ONE_BY_ONE else few(64, MANY)
    batch, slow_batch = batch_of(case.documents, size), typical(case.documents, few(2, FEW))
    measured(benchmark, measure_in_turn, note_share, rung, case, [batch], [slow_batch], CORES)


def test_flops_are_those_of_matrix_products():
    config, n = Config(), 7
    weights = sum(rows * columns for name, (rows, columns) in config.shapes().items() if name not in ("wte", "wpe"))
    attention = 2 * n * n * config.n_embd  # scores, and what they gather; hiding half of them saves nothing
    forward = 2 * (n * weights + attention)
    assert flops(config, n, forward_only=True) == forward
    assert flops(config, n) == 3 * forward
