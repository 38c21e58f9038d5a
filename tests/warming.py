"""What some tests must find done: everything imported, and the oracle compiled."""

from functools import cache

from parity import Case, check
from tests.faults import planted


@cache
def warm_up() -> None:
    """Import what a run of pytest within a test would forget again, and compile what every check may need.

    Else a first check says on standard error how long compiling took, as it does where nothing is on disk yet.
    """
    import numba
    import numpy as np
    import scipy.stats  # noqa: F401

    import parity.strategies
    import parity.subjects.command
    import parity.testing.assertions  # noqa: F401

    # Numba imports much of itself only to compile, which it need not do for what is on disk, and can do that only once.
    numba.njit(lambda array: array.sum())(np.ones(2))
    with planted(("hyper.beta2 * state.v[name]", "state.v[name]")) as make:
        check(make, Case.from_names(steps=1, config={"n_embd": 4, "n_head": 2}), sites=True)
