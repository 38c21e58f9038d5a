"""Whole cases at the sizes that people use: every quantity, in lock-step and free-running."""

from dataclasses import replace

import pytest

from parity.case import Case
from parity.errors import SubjectError, UnsupportedModel
from parity.suite.bound import Bound
from parity.testing.assertions import assert_parity


def whole(subject: Bound, case: Case) -> None:
    """Check everything; skip what the factory refuses."""
    try:
        subject(case.config, case.hyper)
    except UnsupportedModel as error:
        pytest.skip(str(error))
    except SubjectError:  # which the check says
        pass
    assert_parity(subject, case)


def test_case(parity_subject: Bound, parity_case: Case) -> None:
    """Both presets of the reference on names, and every case of --parity-cases."""
    whole(parity_subject, parity_case)


def test_batch_of_32_documents(parity_subject: Bound) -> None:
    """A batch as large as one in real training, of documents of unlike length."""
    whole(parity_subject, Case.from_names(steps=1, batch_size=32))


def test_documents_longer_than_the_block(parity_subject: Bound) -> None:
    """Only the first block_size tokens of a document count, and their mean is the loss."""
    whole(parity_subject, Case.from_names(steps=3, batch_size=2, config={"block_size": 4}))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_documents_of_one_token(parity_subject: Bound, batch_size: int) -> None:
    """An empty document is BOS after BOS, a single position; one of a single character has two."""
    case = Case.from_names(steps=1)
    bos = case.config.vocab_size - 1
    documents = [[bos, bos], [bos, 0, bos], [bos, bos]]
    whole(parity_subject, replace(case, documents=documents, batch_size=batch_size, steps=3))
