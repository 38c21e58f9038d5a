"""What the oracle keeps of a step that it was asked for before, and where its noise comes from."""

import numpy as np
import pytest

from parity import Case, check
from parity.number_formats import FORMATS
from parity.oracle.noisy_kernels import random_bits
from parity.oracle.oracle import Oracle
from torch_twin.microgpt import make

LIMIT = 8.0

CASE = Case.from_names(steps=2, config={"n_embd": 4, "n_head": 2, "block_size": 4})


def test_random_source_is_xorshift32():
    """Marsaglia's triple 13, 17, 5 from 1 on; a shift that is done in 64 bits gives other numbers."""
    state, drawn = np.uint32(1), []
    for _ in range(4):
        state = np.uint32(random_bits(state))
        drawn.append(int(state))
    assert drawn == [270369, 67634689, 2647435461, 307599695]


def test_what_is_loaded_decides_the_noise():
    """A step has the same floor alone and after others, in one mode and in both."""
    for mode in check(make, CASE).modes:
        (alone,) = check(make, CASE, modes=mode.mode).modes
        for quantity, row in mode.quantities.items():
            assert row.largest_z == alone.quantities[quantity].largest_z


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_known_step_is_the_one_that_was_asked_for(dtype):
    batch = next(CASE.batches())
    oracle = Oracle(CASE.config, CASE.hyper, FORMATS[dtype], LIMIT)

    def asked(state, tokens):
        first = oracle.expect(oracle.start(state), tokens)
        second = oracle.expect(first.after, tokens)
        return first, (first.sigma.grads.vector.tobytes(), second.sigma.grads.vector.tobytes(), sorted(first.near))

    first, found = asked(CASE.state, batch)
    again, same = asked(CASE.state, batch)
    assert (again is first, same) == (True, found)
    other = Case.from_names(steps=2, config={"n_embd": 4, "n_head": 2, "block_size": 4}, seed=1).state
    assert asked(other, batch)[1][0] != found[0]
    assert asked(CASE.state, [[26, 3, 26]])[1][0] != found[0]
    assert asked(CASE.state, batch) == (first, found)
