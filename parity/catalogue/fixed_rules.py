"""What people compare training code by otherwise: rules whose tolerance is fixed, each put to the same run.

Every rule sees two runs of the same documents from the same weights, both as numbers of one format, and says whether it
takes the one for the other. None is written here where PyTorch has it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from parity.case import Case
from parity.number_formats import FORMATS, Floats
from parity.tensors import listed_state
from parity.trees import mapped
from reference.config import State, Step

_COSINE = 0.99
_SUM = 1e-5

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Trace:
    """What a run gave: of every step the loss, the logits (positions of the batch, vocab_size) and the gradients, and
    the weights at the end; all of them float64, or numbers of a format as tensors of it."""

    losses: Any
    logits: Sequence[Any]
    grads: Sequence[dict[str, Any]]
    weights: dict[str, Any]

    @classmethod
    def of_steps(cls, steps: Sequence[Step]) -> "Trace":
        """The same of what a subject answered, as arrays of float64."""
        grads = [{name: _array(matrix) for name, matrix in step.grads.items()} for step in steps]
        weights = {name: _array(matrix) for name, matrix in steps[-1].params.items()}
        losses = np.array([float(step.loss) for step in steps])
        logits = [np.concatenate([_array(rows) for rows in step.logits]) for step in steps]
        return cls(losses, logits, grads, weights)

    def rounded(self, dtype: str) -> "Trace":
        """The same, rounded to a format, as tensors of it."""
        form, kind = FORMATS[dtype], getattr(torch, dtype)

        def tensor(array: Floats) -> torch.Tensor:
            return torch.tensor(form.rounded(array)).to(kind)

        return Trace(*mapped(tensor, [self.losses, list(self.logits), list(self.grads), self.weights]))

    def steps(self) -> Iterator[dict[str, Any]]:
        """Loss, logits and gradients, step by step."""
        for loss, logits, grads in zip(self.losses, self.logits, self.grads, strict=True):
            yield {"loss": loss, "logits": logits, **{f"grad {name}": grad for name, grad in grads.items()}}


def _array(matrix: Any) -> Floats:
    if isinstance(matrix, torch.Tensor):
        matrix = matrix.detach().double().numpy()
    return np.asarray(matrix, dtype=np.float64)


@dataclass(frozen=True)
class Sides:
    """Two runs in a format, and what a rule may know besides.

    exactly: the expected run in float64. twin: the steps of a correct PyTorch program in the format, each from the
    reference's weights.
    """

    actual: Trace
    expected: Trace
    exactly: Trace
    twin: Trace


@dataclass(frozen=True)
class Rule:
    """A rule; accepts: whether it takes a run for the expected one."""

    name: str
    sentence: str
    accepts: Callable[[Sides], bool]


def _loss_curve(rtol: float) -> Callable[[Sides], bool]:
    def accepts(sides: Sides) -> bool:
        actual, expected = sides.actual.losses.double(), sides.expected.losses.double()
        return bool(torch.all((actual - expected).abs() <= rtol * expected.abs()))

    return accepts


def _weights(sides: Sides) -> bool:
    return _close(sides.actual.weights, sides.expected.weights)


def _sum_of_weights(sides: Sides) -> bool:
    actual, expected = (
        sum(float(matrix.double().sum()) for matrix in trace.weights.values())
        for trace in (sides.actual, sides.expected)
    )
    return abs(actual - expected) <= _SUM * abs(expected)


def _cosine(sides: Sides) -> bool:
    pairs = zip(sides.actual.grads, sides.expected.grads, strict=True)
    return all(_alike(mine[name], other[name]) for mine, other in pairs for name in other)


def _alike(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    actual, expected = actual.double().flatten(), expected.double().flatten()
    if not actual.any() and not expected.any():
        return True
    return bool(torch.nn.functional.cosine_similarity(actual, expected, dim=0) > _COSINE)


def _assert_close(sides: Sides) -> bool:
    return all(map(_close, sides.actual.steps(), sides.expected.steps()))


def _close(actual: Tensors, expected: Tensors) -> bool:
    """By the tolerances that torch.testing has for the format."""
    try:
        torch.testing.assert_close(actual, expected)
    except AssertionError:
        return False
    return True


def _same(sides: Sides) -> bool:
    from torch._dynamo.utils import same  # it takes seconds to import

    runs = zip(sides.twin.steps(), sides.actual.steps(), sides.exactly.steps(), strict=True)
    return all(same(ref, res, exact, log_error=lambda *said: None) for ref, res, exact in runs)


RULES = (
    Rule("losses 1e-2", "the losses of all steps agree to 1e-2", _loss_curve(1e-2)),
    Rule("losses 1e-3", "the losses of all steps agree to 1e-3", _loss_curve(1e-3)),
    Rule("weights", "torch.testing.assert_close, as it is, on the weights after the last step", _weights),
    Rule("sum", "the sum of all weights after the last step agrees to 1e-5", _sum_of_weights),
    Rule("cosine", "the cosine between the gradients of every tensor is above 0.99 in every step", _cosine),
    Rule("close", "torch.testing.assert_close, as it is, on loss, logits and gradients of every step", _assert_close),
    Rule("same", "torch._dynamo.utils.same, as it is, on loss, logits and gradients of every step", _same),
)
"""By the name that stands in tables; same: PyTorch's own rule for compiled code, which compares root mean squares of
what is off from float64, here with those of the line-for-line twin in the format."""


class FixedRules:
    """All rules, put to runs of one case: free-running, from the case's weights.

    Both sides run in float64; their numbers are rounded to a format where the rules look at them, so that what a rule
    sees is a mistake and no more rounding than it must allow.
    """

    def __init__(self, case: Case, expected: Sequence[Step]) -> None:
        self.case, self.expected = case, expected
        self.exactly = Trace.of_steps(expected)
        self._in_float64 = self.exactly.rounded("float64")
        self._sides: dict[str, tuple[Trace, Trace]] = {}

    def accepting(self, answers: Sequence[Step] | None, dtype: str) -> list[str]:
        """The names of the rules that take a run for the expected one; none where it has no answer to a step."""
        if answers is None:
            return []
        actual = Trace.of_steps(answers)
        if [rows.shape for rows in actual.logits] != [rows.shape for rows in self.exactly.logits]:
            compared = [rule for rule in RULES if rule.name not in ("close", "same")]  # which look at logits
        else:
            compared = list(RULES)
        expected, twin = self._expected(dtype)
        sides = Sides(actual.rounded(dtype), expected, self._in_float64, twin)
        return [rule.name for rule in compared if rule.accepts(sides)]

    def refusing_the_twin(self, dtype: str) -> list[str]:
        """The names of the rules that refuse the twin in a format, a correct program, in steps from right weights."""
        expected, twin = self._expected(dtype)
        return [rule.name for rule in RULES if not rule.accepts(Sides(twin, expected, self._in_float64, twin))]

    def _expected(self, dtype: str) -> tuple[Trace, Trace]:
        """The expected run in a format, and the twin's steps."""
        if dtype not in self._sides:
            self._sides[dtype] = self.exactly.rounded(dtype), self._twin(dtype)
        return self._sides[dtype]

    def _twin(self, dtype: str) -> Trace:
        from torch_twin.microgpt import Twin

        twin, state, steps = Twin(self.case.config, self.case.hyper, dtype), self.case.state, list[Step]()
        for batch, step in zip(self.case.batches(), self.expected, strict=True):
            twin.load(listed_state(self.case.config, state))
            steps.append(twin.train_step(batch))
            state = State(step.params, step.m, step.v, state.step + 1)
        return Trace.of_steps(steps).rounded(dtype)
