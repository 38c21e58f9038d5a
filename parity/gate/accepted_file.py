"""The file of accepted changes: where it lies, and how it is read and written."""

import base64
import binascii
import json
import math
import re
import struct
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from parity.errors import UsageError
from parity.files import write_whole
from parity.gate.acceptance import AcceptedChange
from parity.gate.fingerprint import SUMS, Sums

FILE_NAME = "parity-accepted.json"
_FORMAT = "microgpt-parity accepted changes 2"
_SUM = struct.Struct("<d")


def accepted_file(folder: Path) -> Path:
    """Where accepted changes stand unless a file is named: beside the nearest pyproject.toml, or at the root."""
    places = [folder, *folder.parents]
    root = next((number for number, place in enumerate(places) if (place / ".git").exists()), 0)
    inside = places[: root + 1]
    return next((place for place in inside if (place / "pyproject.toml").is_file()), inside[-1]) / FILE_NAME


def read_accepted(path: Path) -> list[AcceptedChange]:
    """The changes in a file, none if it does not exist; UsageError where it is something else."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["format"] != _FORMAT:
            raise ValueError(f"its format is not {_FORMAT!r}; delete it, and accept the change again")
        return [_entry(fields) for fields in stored["accepted"]]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"The accepted changes {path} cannot be read: {error.strerror}.") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{path} does not hold accepted changes as `parity gate --accept` writes them: {error}."
        ) from None


def write_accepted(path: Path, changes: Sequence[AcceptedChange]) -> None:
    """Write all changes, a line for each thing that a reviewer looks at; UsageError where that cannot be."""
    entries = [{**asdict(change), "answers": _packed(change.answers)} for change in changes]
    data = {"format": _FORMAT, "accepted": entries}
    text = json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False)
    # Numbers side by side: what stands in quotation marks has no line ends, so that it stays what it is.
    write_whole(path, re.sub(r"\[\n[^][{}]*?\n\s*\]", lambda row: re.sub(r"\n\s+", " ", row[0]), text) + "\n")


def _packed(answers: dict[str, dict[str, Sums]]) -> dict[str, dict[str, str]]:
    """The sums of each side as base64 of float64, little-endian, one quantity after another: a third of the text."""
    packed = {}
    for name, sides in answers.items():
        texts = {
            side: base64.b64encode(b"".join(_SUM.pack(total) for row in sums.values() for total in row)).decode()
            for side, sums in sides.items()
        }
        packed[name] = {"quantities": " ".join(sides["head"]), **texts}
    return packed


def _unpacked(stored: dict[str, dict[str, str]]) -> dict[str, dict[str, Sums]]:
    """What `_packed` made; ValueError for what it did not."""
    answers: dict[str, dict[str, Sums]] = {}
    for name, texts in stored.items():
        quantities, sides = texts["quantities"].split(), {}
        for side in ("base", "head"):
            try:
                packed = base64.b64decode(texts[side], validate=True)
                sums = [total for (total,) in _SUM.iter_unpack(packed)]
            except (binascii.Error, struct.error):
                raise ValueError("its answers are no base64 of numbers") from None
            if len(sums) != SUMS * len(quantities) or not all(map(math.isfinite, sums)):
                raise ValueError(f"its answers are not {SUMS} numbers for each quantity")
            sides[side] = {q: sums[SUMS * place : SUMS * (place + 1)] for place, q in enumerate(quantities)}
        answers[name] = sides
    return answers


def _entry(stored: dict[str, Any]) -> AcceptedChange:
    given = {field.name: stored[field.name] for field in fields(AcceptedChange)}
    change = AcceptedChange(**{**given, "answers": _unpacked(stored["answers"])})
    texts = [
        change.subject,
        change.reason,
        change.verdict,
        change.case,
        change.case_sha256,
        *change.formats,
        *change.no_longer_exposed,
        *change.not_exposed,
    ]
    if len(change.formats) != 2 or not all(isinstance(text, str) for text in texts):
        raise ValueError("formats are two names, and all else is text")
    return change
