"""Numbers and names in sentences."""

import pytest

from parity.words import counted, did_you_mean


@pytest.mark.parametrize(("number", "said"), [(0, "0 steps"), (1, "1 step"), (2, "2 steps"), (1234, "1,234 steps")])
def test_number_of_things_in_words(number, said):
    assert counted(number, "step") == said


@pytest.mark.parametrize(
    ("word", "said"), [("twni", " (did you mean 'twin'?)"), ("twin", " (did you mean 'twin'?)"), ("cuda", ""), ("", "")]
)
def test_name_that_is_near_is_offered(word, said):
    assert did_you_mean(word, ["positions", "twin"]) == said
