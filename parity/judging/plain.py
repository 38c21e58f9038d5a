"""What JSON can say of a result or a part of one."""

import math
from typing import Any

from parity.judging.pairs import Difference
from parity.judging.quantity_result import QuantityResult, TensorPower


def plain(value: Any) -> Any:
    """What JSON can say of a result or a part of one; NaN and infinities stand as strings."""
    if isinstance(value, QuantityResult):
        return {**plain(vars(value)), "verdict": value.verdict.value, "vacuous": value.vacuous}
    if isinstance(value, TensorPower):
        return plain({"median": value.median, "worst": value.worst, "blind": value.blind})
    if isinstance(value, Difference):
        step, _, *rest = vars(value).items()
        where = {"quantity": value.quantity, "tensor": value.tensor}
        relative = {"relative_error": value.relative_error}
        return plain({**dict([step]), **where, **dict(rest), **relative, "where": value.where})
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
