"""What the messages are made of, on both sides; `parity help protocol` describes them."""

import json
import math
from typing import Any

from parity.answers import as_array, begins_with_a_number
from parity.errors import SubjectError
from parity.quantities import FIELDS
from parity.trees import mapped
from reference.config import Step

PROTOCOL = "microgpt-parity 1"

_WORDS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}


def encoded(message: dict[str, Any]) -> bytes:
    """A message as a line; NaN and infinities, which JSON lacks, as null and words."""
    try:
        text = json.dumps(message, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(mapped(_in_words, message), separators=(",", ":"))
    return text.encode() + b"\n"


def decoded(line: bytes) -> Any:
    """What stands in a line, NaN and infinities as floats. Raises ValueError where it is not JSON."""
    # An int has no negative zero, and a C program prints one as -0.
    message = json.loads(line, parse_int=lambda digits: -0.0 if digits == "-0" else int(digits))
    # Nearly no line has one of them, and a walk through all numbers takes longer than the rest.
    if not (b"null" in line or b'Infinity"' in line or b'"NaN"' in line):
        return message
    prose = {"message": message["message"]} if isinstance(message, dict) and "message" in message else {}
    floats = mapped(_as_float, message)
    return {**floats, **prose} if prose else floats


def step_message(step: Step) -> dict[str, Any]:
    """A Step of lists, arrays or tensors as the message of type "step"; SubjectError where it holds no numbers."""
    fields = {name: value for name in FIELDS if (value := getattr(step, name, None)) is not None}
    return {"type": "step", **{name: _plain(value, f"The subject's {name}") for name, value in fields.items()}}


def _plain(value: Any, what: str) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(entry, f"{what}, {name},") for name, entry in value.items()}
    return mapped(lambda tensor: as_array(tensor, what).tolist(), value, leaf=begins_with_a_number)


def _in_words(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _as_float(value: Any) -> Any:
    return math.nan if value is None else _WORDS.get(value, value) if isinstance(value, str) else value


def is_null(value: Any) -> bool:
    """Whether a decoded value was null, which many languages' JSON says of what is not there."""
    return isinstance(value, float) and math.isnan(value)


def step_of(message: dict[str, Any]) -> Step:
    """The Step in a message of type "step"; SubjectError for fields that a Step does not have."""
    unknown = sorted(message.keys() - {"type"} - vars(Step()).keys())
    if unknown:
        known = ", ".join(vars(Step()))
        raise SubjectError(f"The subject's step has the unknown field {unknown[0]!r}; the fields are {known}.")
    # For a number on its own null is NaN.
    fields = {name: value for name, value in message.items() if name == "loss" or not is_null(value)}
    del fields["type"]
    return Step(**fields)
