"""A step in exact arithmetic and its noise floor: the rung once, and then in replicas, none of which is kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from parity.errors import NoExpectation
from parity.judging.chain.gates import Gates, explained, natural, near, reach, with_own
from parity.judging.chain.rung import Forward, ReluInputs, Rung
from parity.judging.judge import Judge
from parity.number_formats import Floats
from parity.oracle.shadows.noise import Noise
from parity.subjects.command import CommandSubject
from parity.subjects.subject import Subject, train_step
from reference.config import Config, State, Step

Batch = list[list[int]]


@dataclass
class Expected:
    """A step in exact arithmetic, and the squared distances of the replicas from it, summed up."""

    forward: Forward
    grads: dict[str, Tensor]
    loss_squares: Tensor
    logits_squares: list[Tensor]
    grads_squares: dict[str, Tensor]
    replicas: int = 0

    @classmethod
    def around(cls, forward: Forward, grads: dict[str, Tensor]) -> "Expected":
        """Before there is a replica."""
        logits = [torch.zeros_like(rows) for rows in forward.logits]
        squares = {name: torch.zeros_like(grad) for name, grad in grads.items()}
        return cls(forward, grads, torch.zeros_like(forward.loss), logits, squares)

    def add(self, replica: Forward) -> None:
        """Take in what a replica gave forward."""
        self.loss_squares += _away(replica.loss, self.forward.loss)
        for squares, rows, exact in zip(self.logits_squares, replica.logits, self.forward.logits, strict=True):
            squares += _away(rows, exact)
        self.replicas += 1

    def add_gradient(self, name: str, gradient: Tensor) -> None:
        """Take in a gradient of a replica."""
        self.grads_squares[name] += _away(gradient, self.grads[name])

    def sides_forward(self) -> tuple[Step, Step]:
        """Loss and logits, and their noise floor."""
        exact = Step(float(self.forward.loss), [rows.numpy() for rows in self.forward.logits])
        return exact, Step(float(self._floor(self.loss_squares)), [self._floor(x) for x in self.logits_squares])

    def sides_of(self, name: str) -> tuple[Step, Step]:
        """The gradient of a matrix, and its noise floor."""
        floor = self._floor(self.grads_squares[name])
        return Step(grads={name: self.grads[name].numpy()}), Step(grads={name: floor})

    def _floor(self, squares: Tensor) -> Floats:
        floor: Floats = (squares / self.replicas).sqrt().numpy()
        return floor


def _away(replica: Tensor, exact: Tensor) -> Tensor:
    """Squared distances; infinite where one of both is not finite."""
    return (replica - exact).square_().nan_to_num_(nan=torch.inf)


class Expectations:
    """What is expected of a model whose arithmetic has a format, by the rung and so many replicas of it."""

    def __init__(self, config: Config, rung: Rung, judge: Judge, replicas: int) -> None:
        self.config, self.judge, self.replicas = config, judge, replicas
        self._rung = rung

    def of(self, state: State, batch: Batch, gates: Gates | None) -> tuple[Expected, Gates | None]:
        """A step from a state, and its gates as far as rounding explains them; None where a ReLU has no jump.

        NoExpectation where it computes something other than finite numbers.
        """
        expected = self._with(state, batch, gates)
        if gates is None or explained(gates, self.replicas, self.judge.limit, self.judge.false_alarm):
            return expected, gates
        gates = natural(partial(self._forward, state, batch))
        gates.known = [torch.ones_like(known) for known in gates.known]  # that they are others is no rounding
        return self._with(state, batch, gates), gates

    def gates(self, subject: Subject, state: State, batch: Batch, load: Callable[[], None]) -> Gates | None:
        """The gates of a step: a subject's own where rounding may decide them and they can be observed.

        load: sets the subject to the state, from which it takes a step where it has to be observed. None where a ReLU
        has no jump.
        """
        if self.config.activation == "relu2":
            return None
        forward = partial(self._forward, state, batch)
        gates = natural(forward)
        reached = reach(gates, forward, self.judge.limit)
        if not near(gates, reached) or isinstance(subject, CommandSubject):
            return gates
        from parity.subjects.observed_relus import ReluObserver

        load()
        with ReluObserver(4 * self.config.n_embd) as observer:
            train_step(subject, batch, f"step {state.step}")
        seen = observer.inputs
        return gates if seen is None or not np.isfinite(seen).all() else with_own(gates, forward, reached, seen)

    def _forward(self, state: State, batch: Batch, noise: Noise | None, relus: ReluInputs) -> Forward:
        return self._rung.forward(state.params, batch, noise, relus)

    def _with(self, state: State, batch: Batch, gates: Gates | None) -> Expected:
        passes = None if gates is None else gates.passes
        grads: dict[str, Tensor] = {}
        forward = self._rung.step(state.params, batch, None, _relus(passes), grads.__setitem__)
        if not all(bool(torch.isfinite(x).all()) for x in (forward.loss, *forward.logits, *grads.values())):
            raise NoExpectation(f"Infinities or NaN are expected at step {state.step}.")
        expected = Expected.around(forward, grads)
        for replica in range(self.replicas):
            relus, noise = _relus(passes), Noise(1_000_003 * (replica + 1) + state.step)
            expected.add(self._rung.step(state.params, batch, noise, relus, expected.add_gradient))
            if gates is not None and relus is not None:
                gates.add(relus)
        return expected


def _relus(passes: Sequence[Tensor] | None) -> ReluInputs | None:
    return None if passes is None else ReluInputs(passes)
