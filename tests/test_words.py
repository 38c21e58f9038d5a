"""Numbers and names in sentences."""

import pytest

from parity.words import beside_limit, counted, did_you_mean, told_apart


@pytest.mark.parametrize(("number", "said"), [(0, "0 steps"), (1, "1 step"), (2, "2 steps"), (1234, "1,234 steps")])
def test_number_of_things_in_words(number, said):
    assert counted(number, "step") == said


@pytest.mark.parametrize(
    ("word", "said"), [("twni", " (did you mean 'twin'?)"), ("twin", " (did you mean 'twin'?)"), ("cuda", ""), ("", "")]
)
def test_name_that_is_near_is_offered(word, said):
    assert did_you_mean(word, ["positions", "twin"]) == said


@pytest.mark.parametrize(
    ("z", "limit", "said"),
    [
        (11.24, 11.16, "11.24"),
        (11.3, 11.2, "11.3"),
        (11.1, 11.2, "11"),
        (9.96, 10.0, "9.96"),
        (10.04, 9.96, "10.04"),
        (1.7, 10.0, "1.7"),
        (2.6e13, 10.0, "2.6e+13"),
        (float("inf"), 10.0, "inf"),
        (float("nan"), 10.0, "nan"),
    ],
)
def test_z_has_the_digits_that_tell_it_from_the_limit(z, limit, said):
    assert beside_limit(z, limit) == said


@pytest.mark.parametrize(
    ("actual", "expected", "said"),
    [
        (5.0, 3.0, ("5", "3")),
        (0.3359592992354129, 0.33850072660252761, ("0.33596", "0.3385")),
        (0.05277636265, 0.05277636873, ("0.0527763626", "0.0527763687")),
        (1.0, 1.0 + 2**-52, ("1", "1.0000000000000002")),
        (float("nan"), 0.1, ("nan", "0.1")),
        (0.0, -0.0, ("0", "-0")),
    ],
)
def test_two_numbers_have_the_digits_that_tell_them_apart(actual, expected, said):
    assert told_apart(actual, expected) == said
