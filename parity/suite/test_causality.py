"""Time runs one way."""

from hypothesis import assume, given
from hypothesis import strategies as st

from parity.case import Case
from parity.suite.bound import Bound
from parity.suite.laws import SMALL_MODELS, asking, logits
from parity.testing.strategies import cases


@given(
    case=cases(config=SMALL_MODELS.filter(lambda config: config.block_size > 1), max_steps=1, max_batch=1),
    data=st.data(),
)
def test_later_tokens_cannot_change_earlier_logits(parity_subject: Bound, case: Case, data: st.DataObject) -> None:
    """Two documents that begin alike have the same logits as far as they are alike."""
    bos = case.config.vocab_size - 1
    tokens = st.integers(0, bos - 1)
    prefix = data.draw(st.lists(tokens, max_size=case.config.block_size - 2), label="what both begin with")
    one = data.draw(st.lists(tokens, min_size=1, max_size=3), label="how one goes on")
    other = data.draw(st.lists(tokens, max_size=3), label="how the other goes on")
    assume(one != other)
    with asking(parity_subject, case) as questions:
        answers = [questions.step([[bos, *prefix, *rest, bos]]) for rest in (one, other)]
        alike = [logits(answer, 0, rows=1 + len(prefix)) for answer in answers]
        questions.same("With other tokens after the position", *alike)
