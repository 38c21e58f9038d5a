"""The first link: the rung on shadows beside the reference, through the same check as any subject."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from parity.case import Case
from parity.judging.chain.evidence import Link
from parity.judging.chain.rung import Rung
from parity.judging.chain.updates import Updates
from parity.judging.check_options import CheckOptions
from parity.judging.cost import operations
from parity.judging.judge import positions
from parity.judging.result import Result
from parity.number_formats import FORMATS
from parity.subjects.subject import Subject
from parity.tensors import flat, named_state
from reference.config import Config, State, Step

Check = Callable[[Callable[[Case], Subject], Case, CheckOptions], Result]
"""Checks a subject beside the scalar graph."""

_STEPS = 20
"""At the default size, in both modes."""
_LARGEST = 2e6
"""Scalar operations of a document at most, of a model with as many layers and heads as the one in question."""


class ExactRung:
    """The rung in exact arithmetic as a subject, with the update that the chain makes."""

    dtype = "float64"

    def __init__(self, case: Case) -> None:
        self._config = case.config
        self._rung = Rung(case.config, case.hyper, FORMATS["float64"])
        self._updates = Updates(case.config, case.hyper, FORMATS["float64"], None, 2)

    def load(self, state: State) -> None:
        """Take these weights, m, v and step number."""
        import numpy as np

        self._tensors = np.array([flat(self._config, part) for part in (state.params, state.m, state.v)])
        self._number = state.step

    def train_step(self, batch: list[list[int]]) -> Step:
        """Forward, backward and Adam on these documents."""
        grads: dict[str, object] = {}
        params = dict(named_state(self._config, self._tensors, self._number).params)
        found = self._rung.step(params, batch, None, None, lambda name, grad: grads.update({name: grad.numpy()}))
        self._tensors = self._updates.after(self._number, self._tensors, flat(self._config, grads))
        self._number += 1
        after = named_state(self._config, self._tensors, self._number)
        return Step(float(found.loss), [rows.numpy() for rows in found.logits], grads, after.params, after.m, after.v)


def links(case: Case, check: Check, options: CheckOptions) -> list[Link]:
    """What becomes of the rung beside the reference at sizes that both reach, one after another until one fails."""
    found: list[Link] = []
    for size in sizes(case):
        result = check(ExactRung, size, CheckOptions(false_alarm=options.false_alarm))
        found.append(Link(size, result.verdict, result.largest_z or 0.0, result.reason))
        if not result.verdict.passes:
            break
    return found


def sizes(case: Case) -> list[Case]:
    """The cases that the rung is held to: of default size, and with as many layers and heads and the same documents.

    Both have the activation, the schedule and the vocabulary of the case in question.
    """
    usual = Config()
    default = replace(case.config, n_layer=usual.n_layer, n_embd=usual.n_embd, n_head=usual.n_head, block_size=16)
    small = partial(_case, case, seed=42)
    many = [small(default, case.documents, steps=min(_STEPS, case.hyper.num_steps), batch_size=1)]
    per_head = 2 if case.config.head_dim > 1 else 1
    deep = replace(case.config, n_embd=per_head * case.config.n_head)
    first = next(case.batches())
    batch = first if sum(operations(deep, positions(case, tokens)) for tokens in first) <= _LARGEST else first[:1]
    if operations(deep, positions(case, batch[0])) <= _LARGEST:
        many.append(small(deep, batch, steps=1, batch_size=len(batch)))
    return many


def _case(of: Case, config: Config, documents: Sequence[list[int]], *, seed: int, steps: int, batch_size: int) -> Case:
    from random import Random

    from reference.microgpt import init_params, init_state

    state = init_state(init_params(replace(config, zero_init_projections=False), Random(seed)))
    state.step = min(of.state.step, of.hyper.num_steps - steps)
    return Case(config, of.hyper, state, [list(tokens) for tokens in documents], batch_size, steps)
