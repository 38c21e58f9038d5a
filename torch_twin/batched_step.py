"""Chunks on all cores: a thread for each, whose graphs run side by side, and one update of what they add up to.

Builds on `chunks`, whose chunks do not depend on each other. The graph is C++ and lets go of Python's lock while it
runs, so threads are enough, and weights and results need no copies. Each runs whole chunks: to share a single
operation among cores would take longer than the operation.
"""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from typing_extensions import override

from reference.config import Config, Hyper
from torch_twin.chunks import Chunk, Chunks
from torch_twin.compiled import allow_many_graphs


def keep_to_itself() -> None:
    """Have torch start no threads from this one, in which it may compile."""
    allow_many_graphs()
    torch.get_num_threads()  # makes torch look up its default now; later, that would undo the next line
    torch.set_num_threads(1)


class BatchedStep(Chunks):
    """There are as many threads as torch uses when the subject is made."""

    def __init__(self, config: Config, hyper: Hyper, dtype: str | None = None, device: str = "cpu") -> None:
        super().__init__(config, hyper, dtype, device)
        self.threads = torch.get_num_threads()
        self.pool = ThreadPoolExecutor(self.threads, initializer=keep_to_itself)
        self.widths: set[int] = set()

    @override
    def chunk_width(self, documents: int) -> int:
        """Small batches are cut up, too, so that every thread has a chunk."""
        return super().chunk_width(-(-documents // self.threads))

    @override
    def run(self, chunks: list[Chunk]) -> list[tuple[Tensor, ...]]:
        vector, width = self.flat[1], chunks[0][0].shape[1]
        if width not in self.widths:
            self.pool.submit(self.graph, vector, chunks[0]).result()  # or all threads would compile the same
            self.widths.add(width)
        return list(self.pool.map(lambda chunk: self.graph(vector, chunk), chunks))


make = BatchedStep
