"""What a result says of its parts."""

from dataclasses import replace
from math import inf, isnan, nan

import pytest

from parity import Case, Verdict, check
from parity.errors import UnsupportedModel
from parity.judging.causes import Failed


@pytest.fixture(scope="module")
def result():
    return check(case=Case.from_names(steps=1, config={"n_embd": 4, "n_head": 2, "block_size": 3}))


def with_z(result, mode: int, quantity: str, z: float | None):
    """The result with another largest z of one quantity in one mode."""
    row = result.modes[mode].quantities[quantity]
    row = replace(row, largest_z=None if z is None else replace(row.largest_z, z=z))
    modes = list(result.modes)
    modes[mode] = replace(modes[mode], quantities={**modes[mode].quantities, quantity: row})
    return replace(result, modes=modes)


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("quantity", ["logits", "param"])
@pytest.mark.parametrize("z", [1e6, inf])
def test_largest_z_is_over_all_quantities_of_all_modes(result, mode, quantity, z):
    assert 0 < result.largest_z < 20
    assert with_z(result, mode, quantity, z).largest_z == z


def test_z_that_nobody_knows_hides_no_other(result):
    changed = with_z(with_z(result, 0, "logits", nan), 1, "m", 1e6)
    assert changed.largest_z == 1e6


def test_largest_z_of_nothing_is_none(result):
    assert replace(result, modes=[]).largest_z is None
    nothing = result
    for mode in range(2):
        for quantity in result.modes[mode].quantities:
            nothing = with_z(nothing, mode, quantity, None)
    assert nothing.largest_z is None
    assert isnan(with_z(nothing_but_one(result), 0, "loss", nan).largest_z)


def nothing_but_one(result):
    modes = [replace(result.modes[0], quantities={"loss": result.modes[0].quantities["loss"]})]
    return replace(result, modes=modes)


def test_json_of_what_does_not_diverge_has_no_z_of_a_divergence(result):
    assert [mode.to_dict()["first_z"] for mode in result.modes] == [0, 0]
    assert [mode.to_dict()["first_divergence"] for mode in result.modes] == [None, None]


def test_failure_is_none_of_an_unsupported_model_by_itself(result):
    failed = replace(result.modes[0], verdict=Verdict.ERROR, causes=[Failed("It fails.")])
    assert not replace(result, modes=[failed]).unsupported
    failed = replace(failed, causes=[Failed.of(UnsupportedModel("There is no such model."))])
    assert replace(result, modes=[failed]).unsupported
