"""What a rank's step shows: whole tensors, with the shards of all ranks put together, under the model's own names."""

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from typing_extensions import override

from parity.quantities import TensorKey
from parity.training.observation import Observed
from parity.training.state import named_buffers, named_parameters, written_name
from parity.training.training import Training


class Whole(Observed):
    """Takes in a step's tensors; all ranks are to come to the same ones in the same order, for shards are exchanged."""

    def __init__(self, training: Training) -> None:
        super().__init__(modules_are_seen=False)
        self.names = _Names(training.model)

    @override
    def take(self, key: TensorKey, tensor: Tensor, dtype: torch.dtype) -> None:
        """Keep a tensor's numbers, put together where it is a DTensor."""
        super().take(key._replace(name=self.names(key.name)), whole(tensor), dtype)

    def add_state(self, training: Training) -> None:
        """Take in parameters, buffers and what the optimizer keeps, as they stand."""
        params = named_parameters(training)
        for name, param in params.items():
            self.add("param", name, param)
        for name, buffer in named_buffers(training).items():
            self.add("buffer", name, buffer)
        for optimizer in optimizers(training):
            for name, param in params.items():
                for kept, value in optimizer.state.get(param, {}).items():
                    if isinstance(value, Tensor):
                        self.add(kept, name, value)

    def digests(self) -> list[list[str]]:
        """Of every tensor its quantity, name and format, and a digest of its bits."""
        return [[key.quantity, key.name, str(self.dtypes[key]), digest(x)] for key, x in self.tensors.items()]


def whole(tensor: Tensor) -> Tensor:
    """A tensor with the shards of all ranks, which are to ask for it together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def optimizers(training: Training) -> Iterator[torch.optim.Optimizer]:
    """The training's optimizer, and the one within that ZeroRedundancyOptimizer has for this rank's share."""
    yield training.optimizer
    inner = getattr(training.optimizer, "optim", None)
    if isinstance(inner, torch.optim.Optimizer):
        yield inner


def shards(training: Training) -> dict[str, Tensor]:
    """By the name of a sharded parameter, where in the whole one the elements of this rank's shard lie, flattened."""
    names, found = _Names(training.model), {}
    for name, param in named_parameters(training).items():
        if isinstance(param, DTensor):
            places = torch.arange(param.numel(), device=param.device).view(param.shape)
            mine = distribute_tensor(places, param.device_mesh, param.placements, src_data_rank=None)
            found[names(name)] = mine.to_local().flatten()
    return found


class _Names:
    """The model's own name of a parameter, without what wraps modules for ranks or checkpoints."""

    def __init__(self, model: nn.Module) -> None:
        wrapped = [name for name, module in model.named_modules() if isinstance(module, DistributedDataParallel)]
        self.wrappers = sorted((_unwrapped(written_name(name)) for name in wrapped), key=len, reverse=True)

    def __call__(self, name: str) -> str:
        name = _unwrapped(name)
        for wrapper in self.wrappers:
            outside = f"{wrapper}." if wrapper else ""
            if name.startswith(f"{outside}module."):
                name = outside + name.removeprefix(f"{outside}module.")
        return name


def _unwrapped(name: str) -> str:
    """A name without what torch's checkpoint_wrapper puts into it."""
    return ".".join(part for part in name.split(".") if part != "_checkpoint_wrapped_module")


def digest(tensor: Tensor) -> str:
    """Of a tensor's bits, its format and its shape."""
    found = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    if tensor.numel():
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
