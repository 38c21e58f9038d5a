"""Decoding: one token at a time, with a key/value cache. For subjects with decode(tokens)."""

from hypothesis import given
from hypothesis import strategies as st

from parity.answers import as_array
from parity.case import Case
from parity.errors import SubjectError
from parity.judging.judge import positions
from parity.subjects.calls import guarded
from parity.suite.bound import Bound
from parity.suite.laws import SMALL_MODELS, Answer, Questions, asking, logits, with_actual
from parity.testing.strategies import cases, documents


@given(case=cases(config=SMALL_MODELS, max_steps=1, max_batch=1), data=st.data())
def test_cached_decoding_equals_full_forward(parity_subject: Bound, case: Case, data: st.DataObject) -> None:
    """Token by token, the logits are those of the whole document at once, and so for another document after it."""
    after = data.draw(documents(case.config), label="the document after it")
    with asking(parity_subject, case) as questions:
        questions.method("decode")
        for tokens in (next(case.batches())[0], after):
            answer = questions.step([tokens])
            full = logits(answer, 0) or questions.reference_logits()
            questions.load()
            questions.same("Decoded with a cache", decoded_logits(questions, tokens, full), full)


def decoded_logits(questions: Questions, tokens: list[int], like: Answer) -> Answer:
    """The logits that decode gives, one row for each token that counts."""
    (t,) = like.values()
    inputs = tokens[: positions(questions.case, tokens)]
    rows = as_array(guarded("decode", questions.method("decode"), inputs), "The rows that decode gave")
    if rows.shape != t.shape:
        raise SubjectError(f"decode gave logits of shape {rows.shape} for {len(inputs)} tokens, not {t.shape}.")
    return with_actual(like, rows)
