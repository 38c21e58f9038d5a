"""A subject made of ranks: every rank runs the same rung on the same batch and picks out its own part of the work."""

import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed import get_rank

from reference.config import Config, Hyper, State, Step
from torch_twin.ranks.processes import SECONDS, ranks_for


class Batch:
    """A batch that every rank has prepared under this number, until nobody holds it here."""

    def __init__(self, number: int) -> None:
        self.number = number


class Led:
    """The leader's side. Every method raises RuntimeError where a rank fails, and so does the next one.

    rung(config, hyper, dtype, device): what each rank makes, a class as `torch_twin.positions.Positions`. What it calls
    the loss is averaged over the ranks. Call `close` to end the processes; they end with the leader anyway.
    """

    rung: Callable[..., Any]
    count = 2
    seconds = SECONDS

    def __init__(self, config: Config, hyper: Hyper, dtype: str | None = None, device: str = "cpu") -> None:
        self.dtype, self.device = self.rung(config, hyper, dtype, device).dtype, device  # what it refuses, it does here
        self.ranks = ranks_for(self, self.count)
        self.ranks.make(Member, self.rung, config, hyper, dtype, device)
        self.ranks.seconds = self.seconds  # from now on: at first the processes import torch
        self.numbers = itertools.count()
        self.dropped: list[int] = []

    def load(self, state: State) -> None:
        """Have every rank take these weights, m, v and step number."""
        self.all("load", state)

    def prepare(self, batch: Sequence[Sequence[int]]) -> Batch:
        """Have every rank make tensors of its part of the documents, on its part of this process's threads."""
        prepared = Batch(next(self.numbers))
        gone = [self.dropped.pop() for _ in range(len(self.dropped))]
        self.all("prepare", prepared.number, batch, max(1, torch.get_num_threads() // self.count), gone)
        weakref.finalize(prepared, self.dropped.append, prepared.number).atexit = False
        return prepared

    def update(self, inputs: Batch) -> Tensor:
        """Forward, backward and Adam; the loss."""
        return torch.tensor(self.all("update", inputs.number), dtype=torch.float64).mean()

    def train_step(self, batch: Sequence[Sequence[int]]) -> Step:
        """Forward, backward and Adam on these documents, and all that the ranks computed."""
        steps = self.all("train_step", batch)
        first = steps[0]
        loss = sum(step.loss for step in steps) / self.count
        return Step(loss, self.logits([step.logits for step in steps]), first.grads, first.params, first.m, first.v)

    def logits(self, parts: Sequence[list[Any]]) -> list[Any]:
        """The logits of the documents in their order, of every rank's: they are dealt out like cards."""
        return [parts[i % self.count][i // self.count] for i in range(sum(map(len, parts)))]

    def all(self, method: str, *arguments: Any) -> list[Any]:
        """What every rank answers to the same question."""
        return self.ranks.ask(method, *[arguments] * self.count)

    def close(self) -> None:
        """End the processes."""
        self.ranks.end()


class Member:
    """A rank's side: its rung, and what that has prepared."""

    def __init__(self, rung: Callable[..., Any], *arguments: Any) -> None:
        self.rung = rung(*arguments)
        self.prepared: dict[int, Any] = {}

    def load(self, state: State) -> None:
        """Take these weights, m, v and step number."""
        self.rung.load(state)

    def prepare(self, number: int, batch: Sequence[Sequence[int]], threads: int, dropped: Sequence[int]) -> None:
        """Keep a batch under a number, and forget those dropped."""
        torch.set_num_threads(threads)
        for gone in dropped:
            del self.prepared[gone]
        self.prepared[number] = self.rung.prepare(batch)

    def update(self, number: int) -> float:
        """Forward, backward and Adam; what this rank calls the loss."""
        return self.rung.update(self.prepared[number]).item()

    def train_step(self, batch: Sequence[Sequence[int]]) -> Step:
        """The step, in arrays, which travel well; what all ranks have alike travels from the first alone."""
        step = self.rung.train_step(batch)
        logits = [rows.double().numpy(force=True) for rows in step.logits]
        if get_rank():
            return Step(step.loss, logits)
        alike: Any = (step.grads, step.params, step.m, step.v)
        return Step(
            step.loss,
            logits,
            *({name: tensor.double().numpy(force=True) for name, tensor in tensors.items()} for tensors in alike),
        )
