"""Whether the work is dealt out at all: what a rank's model was given, and whether it computes a part of it alone."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from parity.ranks.observation import digest
from parity.training.state import named_parameters
from parity.training.training import Training


class Inputs:
    """A digest of what a model was given, call by call; empty until then."""

    def __init__(self) -> None:
        self.digest = ""

    def take(self, given: Any) -> None:
        """Take in the tensors of one call, and what else there is."""
        found = hashlib.sha256(self.digest.encode())
        for part in _parts(given):
            found.update((digest(part.detach()) if isinstance(part, Tensor) else repr(part)).encode())
        self.digest = found.hexdigest()


@contextmanager
def inputs_of(training: Training) -> Iterator[Inputs]:
    """Note what the model is given meanwhile."""
    found = Inputs()

    def note(module: Any, args: Any, kwargs: Any) -> None:
        if not torch.compiler.is_compiling():  # what is compiled shows nothing, and stays in one piece
            found.take((args, kwargs))

    handle = training.model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield found
    finally:
        handle.remove()


def computes_a_part(training: Training) -> bool:
    """Whether ranks compute parts of what they are given: parameters are sharded, and not to be put together for it."""
    gathered = any(isinstance(module, FSDPModule) for module in training.model.modules())
    shards = (
        sum(not placement.is_replicate() for placement in param.placements)
        for param in named_parameters(training).values()
        if isinstance(param, DTensor)
    )
    return max(shards, default=0) > gathered


def _parts(given: Any) -> Iterator[Any]:
    if isinstance(given, Mapping):
        given = [x for pair in sorted(given.items(), key=lambda pair: str(pair[0])) for x in pair]
    if isinstance(given, (list, tuple)):
        for part in given:
            yield from _parts(part)
    elif isinstance(given, (Tensor, int, float, str)):
        yield given.to_local() if isinstance(given, DTensor) else given
