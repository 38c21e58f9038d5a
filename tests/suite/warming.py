"""What a run of pytest within a test must find done, so that it neither imports nor compiles anything itself."""

from functools import cache

from parity import Case, check
from tests.faults import planted


@cache
def warm_up() -> None:
    import scipy.stats  # noqa: F401

    import parity.strategies
    import parity.subjects.command
    import parity.testing.assertions  # noqa: F401

    with planted(("hyper.beta2 * state.v[name]", "state.v[name]")) as make:
        check(make, Case.from_names(steps=1, config={"n_embd": 4, "n_head": 2}), sites=True)
