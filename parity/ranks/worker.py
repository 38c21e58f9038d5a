"""One rank of a training, a process with torchrun's environment: `python -m parity.ranks.worker ranks FOLDER`.

It answers messages of the harness as lines of JSON, and gives tensors as files that a message names. FOLDER is where
the ranks meet. What the training prints goes to standard error.
"""

import faulthandler
import os
import shutil
import signal
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from parity.quantities import TensorKey
from parity.ranks.dealing import computes_a_part, inputs_of
from parity.ranks.observation import Whole, shards
from parity.subjects.calls import guarded
from parity.subjects.imports import imported
from parity.subjects.server import private_output, serve
from parity.training.exchange import read_tensors, write_tensors
from parity.training.observation import Observed, observed_step
from parity.training.other import Numbered, with_numbers
from parity.training.running import Factory, step_seed
from parity.training.state import load_state, state_of
from parity.training.training import Training

_DAYS = 30
"""For one rank to wait for another: who leads the ranks has limits, and sees where each of them stands."""


_LOSS = TensorKey("loss", "loss")
_DOING = {
    "make": "making the training",
    "step": "a step",
    "tensors": "giving its tensors",
    "shards": "telling its shards",
    "own": "its own batches",
}


class Worker:
    """The training of one rank, message by message."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.training: Any = None
        self.seen: Any = None
        """What it showed last."""

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """The answer to one message of the harness."""
        kind = message.pop("type")
        found: dict[str, Any] = guarded(_DOING[kind], getattr(self, f"on_{kind}"), **message)
        return found

    def on_make(self, factory: str, options: dict[str, str]) -> dict[str, Any]:
        """Make the training; its tensors at the start are those shown last."""
        _join(self.folder, options.get("device", "cpu"))
        self.training = training = Factory(imported(factory), **options)()
        self.seen = Whole(training)
        self.seen.add_state(training)
        autocast = training.autocast_dtype()
        return {
            "type": "made",
            "model": type(getattr(training.model, "module", training.model)).__name__,
            "optimizer": type(training.optimizer).__name__,
            "formats": sorted({str(p.dtype).removeprefix("torch.") for p in training.model.parameters()}),
            "autocast": str(autocast).removeprefix("torch.") if autocast else "",
            "device": str(training.device),
            "steps": training.steps,
            "ranks_loss": "weighted mean" if callable(training.ranks_loss) else training.ranks_loss or "",
            "reduces_in": training.reduces_in or "",
            "digests": self.seen.digests(),
        }

    def on_step(self, number: int) -> dict[str, Any]:
        """The step as it is, from where the training stands. loss: what it is on this rank, if it gives one.

        inputs: a digest of what the model was given; empty where ranks compute parts of it, or it was not called.
        """
        self.seen = Whole(self.training)
        with step_seed(number), inputs_of(self.training) as given:
            guarded(f"step {number}", observed_step, self.training, number, sites=False, seen=self.seen)
        self.seen.add_state(self.training)
        loss = self.seen.tensors.pop(_LOSS, None)
        dtype = str(self.seen.dtypes.get(_LOSS)).removeprefix("torch.")
        of_loss = {} if loss is None else {"loss": loss.item(), "loss_dtype": dtype, "weight": self._weight(number)}
        return {
            "type": "step",
            **of_loss,
            "inputs": "" if computes_a_part(self.training) else given.digest,
            "updates": self.seen.updates,
            "digests": self.seen.digests(),
        }

    def _weight(self, number: int) -> float:
        """What this rank's loss counts in the mean over ranks."""
        weigh = self.training.ranks_loss
        if not callable(weigh):
            return 1.0
        return float(sum(guarded("ranks_loss", weigh, batch) for batch in self.training.batches_of(number)))

    def on_tensors(self, keys: list[list[str]], file: str) -> dict[str, Any]:
        """Of what it showed last, these tensors."""
        chosen = [TensorKey(quantity, name) for quantity, name in keys]
        write_tensors(Path(file), {"seen": {key: self.seen.tensors[key] for key in chosen}})
        return {"type": "tensors"}

    def on_shards(self, file: str) -> dict[str, Any]:
        """Where the elements of its shards lie in the whole parameters."""
        write_tensors(
            Path(file), {"shards": {TensorKey("shard", name): x for name, x in shards(self.training).items()}}
        )
        return {"type": "shards"}

    def on_own(self, number: int, factory: str, options: dict[str, str], given: str, file: str) -> dict[str, Any]:
        """What the single training's gradient is for the batches of this rank alone, from a state given.

        parts: how many there are, one for each batch that the step accumulates; none where it cannot take them.
        """
        start = read_tensors(Path(given), ("start",))["start"]
        batches = self.training.batches_of(number)
        try:
            single = Factory(imported(factory), **options)()
            parts = _gradients(single, start, batches, number)
        except Exception:  # it may ask for another kind of batch; then there is nothing to explain by
            parts = []
        found = {str(i): {TensorKey("grad", name): x for name, x in part.items()} for i, part in enumerate(parts)}
        write_tensors(Path(file), found)
        return {"type": "own", "parts": len(parts)}


def _gradients(single: Training, start: Numbered, batches: Any, number: int) -> list[dict[str, Tensor]]:
    """Of every batch, or where the single training does not take it as it is, of those of its parts that it takes."""
    begin = with_numbers(state_of(single), start).rounded()
    single.accumulation, single.clip_grad_norm = 1, None

    def gradient(batch: Any) -> dict[str, Tensor]:
        load_state(single, begin)
        single.batches = [batch]
        with step_seed(number):
            return observed_step(single, 0, sites=False, seen=Observed(modules_are_seen=False)).gradients()

    def parts(batch: Any) -> list[dict[str, Tensor]]:
        try:
            return [gradient(batch)]
        except Exception:
            return [found for part in batch for found in parts(part)] if isinstance(batch, (list, tuple)) else []

    return [found for batch in batches for found in parts(batch)]


def _join(folder: Path, device: str) -> None:
    """Make the process group, unless it is there."""
    if distributed.is_initialized():
        return
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if device.startswith("cuda"):
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    # nccl wants a device for each rank; gloo takes tensors of a device that ranks share as well.
    enough = device.startswith("cuda") and torch.cuda.device_count() >= count
    backend = "cpu:gloo,cuda:nccl" if enough else "gloo"
    store = f"file://{folder / 'store'}"
    distributed.init_process_group(
        backend, init_method=store, rank=rank, world_size=count, timeout=timedelta(days=_DAYS)
    )


def _end_with_leader(leader: int, folder: Path) -> None:
    """Even if it was killed, and while this rank waits for another one."""
    while os.getppid() == leader:
        time.sleep(1)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def main() -> None:
    """Serve on standard input and output, which the training itself must not write to."""
    private = private_output()
    folder = Path(sys.argv[2])
    threading.Thread(target=_end_with_leader, args=(os.getppid(), folder), daemon=True).start()
    torch.set_num_threads(1)
    file = folder / f"stack{os.environ['RANK']}"
    with file.with_suffix(".new").open("wb") as stack:
        if hasattr(signal, "SIGUSR1"):
            faulthandler.register(signal.SIGUSR1, stack, all_threads=True)
            file.with_suffix(".new").rename(file)  # there once the signal can be sent
        serve(Worker(folder), sys.stdin.buffer, private)


if __name__ == "__main__":
    main()
