"""What a subject answers depends on the state that it was set to last and on the batch, and on nothing else."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from parity.case import Case
from parity.subjects.subject import Subject
from parity.suite.bound import Bound
from parity.suite.laws import SMALL_MODELS, asking
from parity.testing.strategies import cases
from reference.config import State, Step


def drawn_beside(case: Case, data: st.DataObject) -> Case:
    """Another state and batch for the same model and hyper-parameters."""
    other = data.draw(cases(config=st.just(case.config), max_steps=1), label="what came before")
    step = min(other.state.step, case.hyper.num_steps - 1)
    return replace(other, hyper=case.hyper, state=replace(other.state, step=step))


@given(case=cases(config=SMALL_MODELS, max_steps=1), data=st.data())
def test_load_replaces_everything(parity_subject: Bound, case: Case, data: st.DataObject) -> None:
    """After training from another state, load leaves no trace of it: weights, moments, step number, caches."""
    earlier = drawn_beside(case, data)
    with asking(parity_subject, case) as questions:
        fresh = questions.step(next(case.batches()))
        questions.step(next(earlier.batches()), earlier.state)
        used = questions.step(next(case.batches()))
        questions.same("After training from another state", used, fresh)


@given(case=cases(config=SMALL_MODELS, max_steps=1))
def test_same_question_same_answer(parity_subject: Bound, case: Case) -> None:
    """Asked twice from the same state, the subject says the same but for rounding: no dropout, nothing random."""
    with asking(parity_subject, case) as questions:
        first, second = (questions.step(next(case.batches())) for _ in range(2))
        questions.same("Asked a second time", second, first)


@given(case=cases(config=SMALL_MODELS, max_steps=1), data=st.data())
def test_contents_of_lists_count(parity_subject: Bound, case: Case, data: st.DataObject) -> None:
    """The very lists of an earlier question, with other numbers in them, are another question."""
    earlier = drawn_beside(case, data)
    with asking(parity_subject, case) as questions:
        fresh = questions.step(next(case.batches()))
        questions.run.subject = SameLists(questions.subject)
        questions.step(next(earlier.batches()), earlier.state)
        questions.same("Given the same lists with other contents", questions.step(next(case.batches())), fresh)


class SameLists(Subject):
    """A subject that is always given the same lists, with what they hold replaced."""

    def __init__(self, subject: Subject) -> None:
        self.subject, self.state = subject, State({}, {}, {})
        self.batch: list[list[int]] = []

    @override
    def load(self, state: State) -> None:
        """Set the subject to this state."""
        for own, given_part in zip((self.state.params, self.state.m, self.state.v), (state.params, state.m, state.v)):
            for name, matrix in given_part.items():
                for row, numbers in zip(own.setdefault(name, [[] for _ in matrix]), matrix):
                    row[:] = numbers
        self.state.step = state.step
        self.subject.load(self.state)

    @override
    def train_step(self, batch: list[list[int]]) -> Step:
        """One step of the subject."""
        self.batch[len(batch) :] = [[] for _ in batch[len(self.batch) :]]
        for own, tokens in zip(self.batch, batch):
            own[:] = tokens
        return self.subject.train_step(self.batch)
