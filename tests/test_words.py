"""Numbers in sentences."""

import pytest

from parity.words import counted


@pytest.mark.parametrize(("number", "said"), [(0, "0 steps"), (1, "1 step"), (2, "2 steps"), (1234, "1,234 steps")])
def test_number_of_things_in_words(number, said):
    assert counted(number, "step") == said
