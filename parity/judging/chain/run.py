"""A subject beside the rung, in lock-step; tensors are compared one by one, so that few are held at a time."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from parity.answers import numbers, tensors_of
from parity.case import Case, unknown_names
from parity.errors import NoExpectation, SubjectError
from parity.judging.chain.expected import Batch, Expectations, Expected
from parity.judging.chain.gates import Gates
from parity.judging.chain.rung import Rung
from parity.judging.chain.updates import Updates
from parity.judging.computation_order import in_order_of_computation
from parity.judging.element_errors import Z
from parity.judging.exchange import asked_at, require_what_it_says
from parity.judging.judge import Judge, positions
from parity.judging.location import LocatedTensor, Location
from parity.judging.mode_result import ModeResult
from parity.judging.moderation import moderated
from parity.judging.pairing import paired
from parity.judging.pairs import Difference, Pairs
from parity.judging.quantity_result import QuantityResult
from parity.number_formats import Floats, Format
from parity.progress import each
from parity.quantities import STATE, TensorKey
from parity.subjects.attributes import tied_head
from parity.subjects.calls import guarded
from parity.subjects.subject import Subject, train_step
from parity.tensors import TIED
from reference.config import State, Step

REPLICAS = 16
"""Runs with rounding over which the noise floor is taken, each moderated by its tensor's others."""

_UPDATE = {"m": "m", "v": "v", "params": "param"}
"""The fields that an update makes, in the order in which they are compared, and their quantities."""


@dataclass
class _Compared:
    """What the comparison of a step found, tensor by tensor."""

    located: list[LocatedTensor] = field(default_factory=list)
    firsts: dict[TensorKey, Difference] = field(default_factory=dict)
    """Of the tensors that are outside, the first element that is."""
    largest_z: dict[TensorKey, float] = field(default_factory=dict)
    exposed: set[tuple[str, str]] = field(default_factory=set)
    after: dict[str, dict[str, Floats]] = field(default_factory=lambda: {quantity: {} for quantity in STATE})
    """Where the reference's Adam goes from there, by quantity and name, where that is kept."""


class ChainRun:
    """One subject beside the rung on one case."""

    def __init__(self, case: Case, subject: Subject, judge: Judge) -> None:
        self.case, self.subject, self.judge, self.replicas = case, subject, judge, REPLICAS
        self.result = ModeResult("lock-step")
        self.exposed: frozenset[tuple[str, str]] = frozenset()
        """Quantities and names of the tensors that the subject exposes."""
        self.undecided_gates = 0
        """In the step that diverged: ReLUs within the noise floor of zero of which nobody saw what the subject did."""
        self.changes = False
        """Whether a second answer to the same question was outside where the first was not."""
        self.largest_z: dict[TensorKey, float] = {}
        """Of each tensor of the latest step."""
        rung = Rung(case.config, case.hyper, judge.form, judge.storage)
        self._expectations = Expectations(case.config, rung, judge, self.replicas)
        self._updates = Updates(case.config, case.hyper, judge.form, judge.storage, self.replicas)
        self._tied = tied_head(subject)

    def go(self, progress: Callable[[str, int], None] = lambda mode, steps: None, *, again: bool = True) -> None:
        """All steps of the case; NoExpectation and SubjectError leave what was found before.

        again: ask about the first step a second time.
        """
        state = self.case.state
        for number, batch in enumerate(each("steps", list(self.case.batches()))):
            try:
                state = self._step(state, batch, again=again and not number, last=number == self.case.steps - 1)
            except SubjectError as error:
                error.asked = asked_at(self.case, state.step, batch)
                raise
            progress(self.result.mode, self.result.steps)
        self.result.conclude(self.judge)

    def _step(self, given: State, batch: Batch, *, again: bool, last: bool) -> State:
        """One step, compared; where the reference's Adam goes from there, if that is still needed."""
        state = self._rounded(given)
        gates = self._expectations.gates(self.subject, state, batch, partial(self._load, state))
        answer = self._answer(state, batch)
        expected, gates = self._expectations.of(state, batch, gates)
        compared = self._compared(state, batch, expected, answer, into=self.result, keep=not last)
        bits = _digest(answer) if again else b""
        del answer  # the subject may give another one in its room
        self._note(compared, state.step, gates)
        self.largest_z = compared.largest_z
        if again:
            self._ask_again(state, batch, expected, bits, right=not compared.firsts)
        after = compared.after
        return state if last else State(after["param"], after["m"], after["v"], state.step + 1)

    def _note(self, compared: _Compared, number: int, gates: Gates | None) -> None:
        """Take over where a step is outside, in the order of computation, and what became of its ReLUs."""
        self.exposed = frozenset(compared.exposed)
        require_what_it_says(self.subject, self.exposed)
        result, keys = self.result, [tensor.key for tensor in compared.located]
        in_order = [compared.located[place] for place in in_order_of_computation(keys)]
        outside = [tensor for tensor in in_order if not tensor.right]
        for tensor in outside:
            row = result.quantities[tensor.key.quantity]
            row.first_outside = row.first_outside or compared.firsts[tensor.key]
        undecided = 0
        if gates is not None:
            near = [distance <= self.judge.limit for distance in gates.distances(self.replicas)]
            result.near_gates += sum(int(of_relu.sum()) for of_relu in near)
            result.turned_gates += sum(int(turned.sum()) for turned in gates.turned)
            undecided = sum(int((of_relu & ~known).sum()) for of_relu, known in zip(near, gates.known, strict=True))
        result.steps += 1
        if outside and result.first_divergence is None:
            result.first_divergence = compared.firsts[outside[0].key]
            result.first_z = compared.largest_z[outside[0].key]
            result.location = Location(number, tuple(in_order), self.case.config.n_layer, self.judge.form.name)
            self.undecided_gates = undecided

    def _ask_again(self, state: State, batch: Batch, expected: Expected, bits: bytes, *, right: bool) -> None:
        """Ask the same question a second time, and note whether the bits are the same, or what rounding explains.

        bits: a digest of those of the first answer. right: whether that was inside.
        """
        answer = self._answer(state, batch)
        self.result.repeatable = _digest(answer) == bits
        if right and not self.result.repeatable:
            second = self._compared(state, batch, expected, answer, into=ModeResult("lock-step"), keep=False)
            self.changes = bool(second.firsts)

    def _rounded(self, state: State) -> State:
        """The state in numbers that both sides can represent; NoExpectation where it has no such numbers."""
        storage = self.judge.storage or self.judge.form

        def rounded(tensors: Mapping[str, Any]) -> dict[str, Floats]:
            part = {name: _rounded(storage, np.asarray(matrix, dtype=np.float64)) for name, matrix in tensors.items()}
            if self._tied:
                part[TIED[1]] = part[TIED[0]]
            if not all(np.isfinite(matrix).all() for matrix in part.values()):
                raise NoExpectation(f"The weights of step {state.step} are too large for {storage.name}.")
            return part

        return State(rounded(state.params), rounded(state.m), rounded(state.v), state.step)

    def _load(self, state: State) -> None:
        """Set the subject to a state of its own: in lists, or in arrays where these would take too much room."""

        def own(tensors: Mapping[str, Floats]) -> dict[str, Any]:
            if not self.case.in_arrays:
                return {name: x.tolist() for name, x in tensors.items()}
            # Zeros that nobody has written to take no room.
            return {name: x.copy() if x.any() else np.zeros(x.shape) for name, x in tensors.items()}

        given = State(own(state.params), own(state.m), own(state.v), state.step)
        guarded(f"load before step {state.step}", self.subject.load, given)

    def _answer(self, state: State, batch: Batch) -> Step:
        self._load(state)
        return train_step(self.subject, batch, f"step {state.step}")

    def _compared(
        self, state: State, batch: Batch, expected: Expected, answer: Step, *, into: ModeResult, keep: bool
    ) -> _Compared:
        """An answer beside what is expected, into a result. keep: also where the reference's Adam goes from there."""
        found = _Compared()
        lengths = [positions(self.case, tokens) for tokens in batch]
        try:
            self._add(
                found, into, paired(state.step, Step(answer.loss, answer.logits), *expected.sides_forward(), lengths)
            )
            fields = {name: _by_name(name, answer, expected.grads) for name in ("grads", *_UPDATE)}
            for name in expected.grads:
                for parts in self._of_matrix(state, expected, fields, name, found.after if keep else None):
                    self._add(found, into, paired(state.step, *parts, lengths))
        except (TypeError, ValueError, AttributeError) as error:
            message = f"The subject's answer at step {state.step} cannot be read as a Step: {error}."
            raise SubjectError(message) from error
        return found

    def _of_matrix(
        self,
        state: State,
        expected: Expected,
        fields: Mapping[str, Mapping[str, Any]],
        name: str,
        after: dict[str, dict[str, Floats]] | None,
    ) -> Iterator[tuple[Step, Step, Step]]:
        """Of one matrix what was answered, what is expected and the noise floor: its gradient, then its update.

        An update is that of the subject's own gradient; where it shows none, it is not compared.
        """
        gradient, exposed = expected.grads[name].numpy(), []
        if name in fields["grads"]:
            yield Step(grads={name: fields["grads"][name]}), *expected.sides_of(name)
            gradient = numbers(fields["grads"][name], "subject", "grads", name)
            exposed = [part for part in _UPDATE if name in fields[part]]
        if not exposed and after is None:
            return
        before = np.array([part[name].ravel() for part in (state.params, state.m, state.v)])
        with np.errstate(all="ignore"):
            exact = self._updates.after(state.step, before, gradient.ravel())
            floor = self._updates.floor(state.step, before, gradient.ravel()) if exposed else exact
        for part in exposed:
            row = STATE.index(_UPDATE[part])
            right, sigma = (Step(**{part: {name: side[row].reshape(gradient.shape)}}) for side in (exact, floor))
            yield Step(**{part: {name: fields[part][name]}}), right, sigma
        if after is not None:
            for row, quantity in enumerate(STATE):
                after[quantity][name] = exact[row].reshape(gradient.shape)

    def _add(self, found: _Compared, into: ModeResult, pairs: Pairs) -> None:
        """Take in tensors of a step."""
        judge = self.judge
        for tensor in pairs:
            key = tensor.keys[0]
            found.exposed.add((key.quantity, key.name))
            judged = tensor.with_sides(actual=_rounded(judge.widest, tensor.actual), sigma=self._wide(tensor))
            measures = judge.measures(judged)
            row = into.quantities.setdefault(key.quantity, QuantityResult(key.quantity))
            row.add(judged, 0, measures, judge.form)
            outside = measures.outside[0]
            found.largest_z[key] = measures.sizes[0][Z]
            found.located.append(LocatedTensor(key, measures.elements[0], outside, _relative_error(judged)))
            if outside:
                found.firsts[key] = judged.at(measures.first_outside[0], judge.form)

    def _wide(self, tensor: Pairs) -> Floats:
        """The floor of few replicas, so wide that the limit fits it."""
        form, sigma = self.judge.storage or self.judge.form, tensor.sigma.copy()
        # Where a format underflows, a result is off by half its smallest number, though all of few replicas be 0.
        exact = np.flatnonzero(sigma == 0)
        inexact = exact[_rounded(form, tensor.expected[exact]) != tensor.expected[exact]]
        moved = sigma > 0
        moved[inexact] = True
        sigma[moved] = np.hypot(sigma[moved], self.judge.form.tiny)
        elements = 4 * self.case.config.num_params() * self.case.steps
        return moderated(sigma, tensor.expected, self.replicas, self.judge.false_alarm, elements)


def _digest(answer: Step) -> bytes:
    """Of the bits of all tensors of an answer that could be read."""
    found = hashlib.blake2b(digest_size=16)
    for number, rows in enumerate(() if answer.logits is None else answer.logits):
        found.update(numbers(rows, "subject", "logits", str(number)).tobytes())
    found.update(repr(None if answer.loss is None else numbers(answer.loss, "subject", "loss", "loss")).encode())
    for name in ("grads", *_UPDATE):
        for matrix, x in (getattr(answer, name) or {}).items():
            found.update(f"{name} {matrix}".encode() + numbers(x, "subject", name, matrix).tobytes())
    return found.digest()


def _rounded(form: Format, array: Floats) -> Floats:
    if form.name == "float64":
        return array
    if form.name == "float32":
        with np.errstate(over="ignore"):
            return array.astype(np.float32).astype(np.float64)
    return form.rounded(array)


def _by_name(field: str, answer: Step, known: Mapping[str, Any]) -> Mapping[str, Any]:
    """The matrices that a field exposes; SubjectError for one that is not known."""
    given = getattr(answer, field)
    if given is None:
        return {}
    tensors = tensors_of(field, given, ())
    unknown = unknown_names(tensors, known)
    if unknown:
        raise SubjectError(f"The subject's {field} {unknown[0]}.")
    if not tensors:
        raise SubjectError(f"The subject's {field} hold no tensor; a field of which nothing is exposed is left out.")
    return tensors


def _relative_error(pairs: Pairs) -> float:
    with np.errstate(all="ignore"):
        error, size = np.linalg.norm(pairs.error), np.linalg.norm(pairs.expected)
        return float(error / size) if error else 0.0
