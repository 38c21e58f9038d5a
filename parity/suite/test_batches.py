"""A batch is the mean of its documents, and nothing more."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from parity.case import Case
from parity.suite.bound import Bound
from parity.suite.laws import SMALL_MODELS, Answer, asking, logits, of
from parity.testing.strategies import cases, documents


@st.composite
def batches(draw: st.DrawFn) -> Case:
    """A case of one step on two or three unlike documents."""
    case = draw(cases(config=SMALL_MODELS, max_steps=1, max_batch=1))
    unlike = st.lists(documents(case.config), min_size=2, max_size=3, unique_by=tuple)
    batch = draw(unlike, label="documents of the batch")
    return replace(case, documents=batch, batch_size=len(batch))


@given(case=batches(), data=st.data())
def test_order_of_documents(parity_subject: Bound, case: Case, data: st.DataObject) -> None:
    """In another order, the documents keep their logits, and the batch its loss and gradients."""
    batch = next(case.batches())
    order = list(range(case.batch_size))
    other = data.draw(st.permutations(order).filter(lambda drawn: drawn != order), label="order")
    with asking(parity_subject, case) as questions:
        before, after = questions.step(batch), questions.step([batch[number] for number in other])
        moved: Answer = {}
        for place, number in enumerate(other):
            moved |= logits(after, place, place=number)
        questions.same("In another order", {**moved, **of(after, "loss", "grad")}, before)


@given(case=cases(config=SMALL_MODELS, max_steps=1, max_batch=1))
def test_one_document_twice(parity_subject: Bound, case: Case) -> None:
    """A batch that holds one document twice is that document once."""
    (tokens,) = next(case.batches())
    with asking(parity_subject, case) as questions:
        once, twice = questions.step([tokens]), questions.step([tokens, tokens])
        for number in range(2):
            questions.same("Of a document given twice", {**logits(twice, number), **of(twice, "loss", "grad")}, once)


@given(case=batches())
def test_mean_of_documents(parity_subject: Bound, case: Case) -> None:
    """Every document has the logits that it has alone; loss and gradients are the means of those of each alone."""
    batch = next(case.batches())
    with asking(parity_subject, case) as questions:
        together = of(questions.step(batch), "logits", "loss", "grad")
        alone = [questions.step([tokens]) for tokens in batch]
        expected: Answer = {}
        for number, answer in enumerate(alone):
            expected |= logits(answer, 0, place=number)
        for key, t in of(together, "loss", "grad").items():
            parts = [answer[key] for answer in alone]
            mean = sum(part.actual for part in parts) / len(batch)
            sigma = np.sqrt(sum(part.sigma**2 for part in parts)) / len(batch)
            expected[key] = t.with_sides(actual=np.asarray(mean), sigma=sigma)
        questions.same("In a batch", together, expected)
