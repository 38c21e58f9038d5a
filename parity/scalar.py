"""The scalar graph compiled: the reference's own operations in its order, replayed by machine code; no tensors."""

from parity.oracle.scalar import Scalar, make

__all__ = ["Scalar", "make"]
