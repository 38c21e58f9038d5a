"""What is known of operations that do more than move or round, by name.

A model gives what the operation gives in float64, moved by the partial results that are rounded on the way; the
rounding of what it returns to its format is added by the execution. Formulas are those of torch's own kernels.
"""

from collections.abc import Callable
from typing import Any

from parity.oracle.shadows import activations, attention, casts, gated, losses, norms, optimizers, randomness, sums
from parity.oracle.shadows.noise import Arithmetic

Model = Callable[[Arithmetic, Any, Any, Any], Any]
"""Of an operation on float64: (arithmetic, operation, its arguments, keyword arguments) -> what it gives."""

MODELS: dict[str, Model] = {**sums.MODELS, **activations.MODELS, **norms.MODELS, **losses.MODELS}
"""By name, of operations whose results are then rounded to their formats."""

SPECIAL: dict[str, Any] = {
    **casts.SPECIAL,
    **gated.SPECIAL,
    **randomness.SPECIAL,
    **attention.SPECIAL,
    **optimizers.SPECIAL,
}
"""By name, of operations that look at formats: (execution, operation, arguments, keyword arguments) -> results."""
