"""Tensors between two processes: NumPy's own files, in which nothing is pickled."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parity.errors import SubjectError
from parity.quantities import TensorKey

Parts = Mapping[str, Mapping[TensorKey, Tensor]]
"""By the name of a part, its tensors by quantity and name."""

_KEYS = "keys"


def write_tensors(file: Path, parts: Parts) -> None:
    """Write tensors of floats to a file; when they are read again they are on the CPU, and of float32 at least."""
    entries = [(part, key, tensor) for part, tensors in parts.items() for key, tensor in tensors.items()]
    keys = [[part, key.quantity, key.name] for part, key, _ in entries]
    arrays: dict[str, Any] = {_KEYS: np.array(json.dumps(keys))}
    arrays |= {str(i): _array(tensor) for i, (_, _, tensor) in enumerate(entries)}
    with file.open("wb") as stream:
        np.savez(stream, **arrays)


def read_tensors(file: Path, parts: tuple[str, ...]) -> dict[str, dict[TensorKey, Tensor]]:
    """What `write_tensors` wrote, with all of these parts, and delete it; SubjectError where that is not there."""
    found: dict[str, dict[TensorKey, Tensor]] = {part: {} for part in parts}
    try:
        with np.load(file, allow_pickle=False) as arrays:
            for i, (part, quantity, name) in enumerate(json.loads(str(arrays[_KEYS]))):
                found[part][TensorKey(quantity, name)] = torch.from_numpy(arrays[str(i)])
        file.unlink()
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise SubjectError(f"The subject's tensors cannot be read: {type(error).__name__}: {error}.") from None
    return found


def _array(tensor: Tensor) -> Any:
    """NumPy has no bfloat16."""
    short = tensor.dtype in (torch.bfloat16, torch.float16)
    return (tensor.detach().float() if short else tensor.detach()).cpu().contiguous().numpy()
