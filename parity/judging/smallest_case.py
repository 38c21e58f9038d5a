"""The smallest case that shows a failure: the question that was answered wrongly, from the state that it was put in."""

from dataclasses import replace
from typing import TYPE_CHECKING

from parity.case import Case
from parity.errors import UsageError
from parity.tensors import listed_state

if TYPE_CHECKING:
    from parity.judging.result import Result

_MOST_PARAMETERS = 50_000
"""Of a model whose weights and moments are stored with a result; of a larger one that is a file of its own."""


def smallest_case(result: "Result") -> Case | None:
    """One step, where lock-step diverged; the fewest steps from the start, where free-running alone did.

    None where nothing diverged, and for large models.
    """
    deciding = result.deciding
    config = deciding.case.config
    if config.num_params() > _MOST_PARAMETERS or deciding.case.in_arrays:
        return None
    found = [(mode.mode != "lock-step", mode.diverged) for mode in deciding.modes if mode.diverged]
    if not found:
        return None
    from_start, asked = min(found, key=lambda pair: pair[0])
    try:
        if from_start and asked.number > deciding.case.state.step:
            return replace(deciding.case, steps=asked.number - deciding.case.state.step + 1)
        state = listed_state(config, asked.expectation.before.state(config))
        return Case(config, deciding.case.hyper, state, asked.batch, len(asked.batch), 1)
    except UsageError:  # a state that the reference itself cannot go on from
        return None
