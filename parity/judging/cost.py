"""What a case costs, estimated before it starts: what does not fit this machine is not begun."""

from dataclasses import dataclass

import psutil

from parity.case import Case
from parity.errors import UsageError
from parity.judging.judge import positions
from parity.oracle.noisy_replay import REPLICAS
from reference.config import Config

_RECORDING = 400
"""Bytes that recording takes for each scalar operation (benchmarks/results/oracle.json)."""

_EXACT, _NOISY = 3e-9, 2e-7
"""Seconds that a scalar operation takes in the exact replay, and in all noisy ones together."""

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


def require_that_it_fits(case: Case, modes: int) -> None:
    """UsageError, in one sentence, where this machine has not the memory, or it would take longer than a day."""
    cost, free = estimated(case, modes), psutil.virtual_memory().available
    if cost.memory > free or cost.seconds > _LONGEST:
        raise UsageError(
            f"This case would take about {cost.memory / 2**30:.2g} GiB of memory ({free / 2**30:.2g} are free) and "
            f"{cost.seconds / 60:,.0f} minutes, so it is not begun: its model, its documents or its batches are too "
            "large for the scalar graph."
        )
