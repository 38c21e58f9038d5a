"""What a case costs, estimated before it starts: what does not fit this machine is not begun."""

from dataclasses import dataclass

import psutil

from parity.case import Case
from parity.errors import UsageError
from parity.judging.check_options import CheckOptions
from parity.judging.judge import positions
from parity.oracle.noisy_replay import REPLICAS
from reference.config import Config

_RECORDING = 400
"""Bytes that recording takes for each scalar operation (benchmarks/results/oracle.json)."""

_EXACT, _NOISY = 3e-9, 2e-7
"""Seconds that a scalar operation takes in the exact replay, and in all noisy ones together."""

_CHAIN_BYTES, _CHAIN_SECONDS, _PRODUCT_SECONDS = 125, 3.3e-6, 4e-9
"""Of the chain of trust, for each parameter: bytes, seconds a step, and seconds a position in all replicas together."""

_LONGEST = 24 * 3600.0
"""Seconds that a case may take by this estimate."""


@dataclass(frozen=True)
class Cost:
    """What checking a case takes by estimate: bytes at a time, and seconds of one core."""

    memory: float
    seconds: float


def operations(config: Config, n: int) -> float:
    """About how many scalar operations the reference does in a document of n positions, backward not counted."""
    width, layer = config.n_embd, 24.0 * config.n_embd**2
    attention = 5.0 * width * (n + 1) / 2
    return n * (config.n_layer * (layer + attention + 20 * width) + 2.0 * config.vocab_size * width + 10 * width)


def estimated(case: Case, modes: int) -> Cost:
    """The cost of a case in so many modes."""
    batches = [[operations(case.config, positions(case, tokens)) for tokens in batch] for batch in case.batches()]
    # The longest document's graph is recorded, and its values and gradients are held once, and for some replicas; those
    # of all documents of a batch are held exactly; and every parameter and its moments in every replica.
    largest = max(max(batch) for batch in batches)
    memory = _RECORDING * largest + 16 * max(map(sum, batches)) + 16 * largest
    memory += 8 * case.config.num_params() * 4 * 2 * REPLICAS
    return Cost(memory, modes * (_EXACT + _NOISY) * sum(map(sum, batches)))


def reached(case: Case, modes: int) -> bool:
    """Whether the scalar graph reaches a case on this machine: in its memory, and within a day."""
    cost = estimated(case, modes)
    return cost.memory <= psutil.virtual_memory().available and cost.seconds <= _LONGEST


def require_that_it_fits(case: Case, modes: int) -> None:
    """UsageError, in one sentence, where the scalar graph does not reach a case."""
    if not reached(case, modes):
        raise _too_much(estimated(case, modes), "the scalar graph")


def estimated_by_chain(case: Case) -> Cost:
    """The cost of a case that all positions at once are to answer for, in lock-step (`parity.judging.chain`)."""
    parameters, config = case.config.num_params(), case.config
    lengths = [[positions(case, tokens) for tokens in batch] for batch in case.batches()]
    widest = max(map(sum, lengths))
    of_position = config.n_layer * (40 * config.n_embd + 8 * config.n_head * config.block_size) + 8 * config.vocab_size
    memory = _CHAIN_BYTES * parameters + 8.0 * widest * of_position
    seconds = _CHAIN_SECONDS * parameters * case.steps + _PRODUCT_SECONDS * parameters * sum(map(sum, lengths))
    return Cost(memory, seconds)


def require_that_the_chain_fits(case: Case) -> None:
    """UsageError, in one sentence, where not even all positions at once can answer for a case on this machine."""
    cost = estimated_by_chain(case)
    if cost.memory > psutil.virtual_memory().available or cost.seconds > _LONGEST:
        raise _too_much(cost, "the scalar graph and for the chain of trust")


def require_that_the_chain_answers(options: CheckOptions, own_process: bool) -> None:
    """UsageError for what only the scalar graph can answer."""
    if options.sites or options.truth:
        raise UsageError(
            "The scalar graph does not reach this case, and without it there are no sites and no truth: leave out "
            "--sites and --truth."
        )
    if "lock-step" not in options.modes:
        raise UsageError("The scalar graph does not reach this case, and without it there is lock-step alone.")
    if own_process:
        raise UsageError(
            "The scalar graph does not reach this case, and in a process of its own a subject would be sent its "
            "weights as text: name a factory in Python, without --isolate."
        )


def _too_much(cost: Cost, what: str) -> UsageError:
    free = psutil.virtual_memory().available
    return UsageError(
        f"This case would take about {cost.memory / 2**30:.2g} GiB of memory ({free / 2**30:.2g} are free) and "
        f"{cost.seconds / 60:,.0f} minutes, so it is not begun: its model, its documents or its batches are too "
        f"large for {what}."
    )
