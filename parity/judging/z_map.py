"""How z spreads over a tensor that is outside, small enough for a result to keep."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from parity.judging.pairs import Pairs
from parity.quantities import TensorKey

_MOST_CELLS = 64
"""Rows and columns of a map; of a larger tensor each cell is the largest z of a block."""
_MOST_MAPS = 3


def z_maps(pairs: Pairs, keys: Sequence[TensorKey]) -> list[dict[str, Any]]:
    """The maps of the first few of these tensors; one without rows is a row by itself.

    rows: a text for each row of cells, z by z in three digits; block: the rows and columns that a cell stands for.
    """
    by_key = pairs.by_key()
    tensors = ((key, by_key[key]) for key in dict.fromkeys(keys) if key in by_key)
    return [_z_map(key, tensor) for key, tensor in tensors if tensor.z.size > 1][:_MOST_MAPS]


def _z_map(key: TensorKey, tensor: Pairs) -> dict[str, Any]:
    rows, columns = tensor.shape if len(tensor.shape) == 2 else (1, tensor.z.size)
    z = tensor.z.reshape(rows, columns)
    block = [-(-size // _MOST_CELLS) for size in (rows, columns)]
    tall, wide = (-(-size // by) * by for size, by in zip((rows, columns), block, strict=True))
    padded = np.full((tall, wide), -1.0)
    padded[:rows, :columns] = np.where(np.isnan(z), np.inf, z)  # what nobody can judge is not to look like a 0
    cells = padded.reshape(tall // block[0], block[0], wide // block[1], block[1]).max(axis=(1, 3))
    return {
        "quantity": key.quantity,
        "tensor": key.tensor,
        "shape": [rows, columns],
        "block": block,
        "rows": [" ".join(f"{value:.3g}" for value in row) for row in cells],
    }
