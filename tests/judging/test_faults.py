"""A check is worth what it catches: every planted fault must fail, and be placed where it was planted."""

import random
from dataclasses import replace
from functools import cache

import pytest

from parity import Case, Config, Hyper, Verdict, check
from reference.microgpt import init_params, init_state
from tests.faults import ADAM, BACKWARD, FAULTS, FORWARD, NEUTRAL, Fault, planted


@cache
def case() -> Case:
    """Two layers and heads, weights that make every mistake visible, and a document with a repeated token."""
    config = Config(n_layer=2, n_embd=8, n_head=2, block_size=4, vocab_size=5, init_std=0.4)
    state = init_state(init_params(config, random.Random(3)))
    return Case(config, Hyper(num_steps=50), state, [[4, 1, 1, 2, 4], [4, 3, 0, 3, 4], [4, 0, 4]], steps=3)


@cache
def checked(fault: Fault):
    """As far as the step in which it shows first."""
    with planted(*fault.edits) as make:
        return check(make, replace(case(), steps=fault.step + 1))


def names(faults: tuple[Fault, ...]) -> list[str]:
    return [fault.name for fault in faults]


@pytest.mark.parametrize("fault", FAULTS, ids=names(FAULTS))
def test_planted_fault_is_caught_and_placed(fault):
    result = checked(fault)
    assert result.verdict is Verdict.DIVERGED
    first = result.modes[0].first_divergence
    assert (first.step, first.quantity, first.tensor) == (fault.step, fault.quantity, fault.tensor)
    if fault.index is not None:
        assert first.index == fault.index


@pytest.mark.parametrize("fault", FAULTS, ids=names(FAULTS))
def test_both_modes_place_a_fault_alike(fault):
    lock_step, free_running = (mode.first_divergence for mode in checked(fault).modes)
    expected = (lock_step.step, lock_step.quantity, lock_step.tensor, lock_step.index)
    assert (free_running.step, free_running.quantity, free_running.tensor, free_running.index) == expected


@pytest.mark.parametrize("fault", FORWARD + BACKWARD, ids=names(FORWARD + BACKWARD))
def test_first_site_is_where_the_fault_was_planted(fault):
    first_site = checked(fault).modes[0].first_site
    if fault.site is None:
        assert first_site is None
    else:
        assert (first_site.quantity, first_site.tensor) == (fault.site_quantity, fault.site)


@pytest.mark.parametrize("fault", ADAM, ids=names(ADAM))
def test_fault_in_adam_leaves_every_site_in_place(fault):
    assert checked(fault).modes[0].first_site is None


def test_unnormalised_head_is_named_by_its_index():
    fault = next(fault for fault in FORWARD if "head's softmax" in fault.name)
    assert checked(fault).modes[0].first_site.index[0] == case().config.n_head - 1


@pytest.mark.parametrize("edits", NEUTRAL.values(), ids=NEUTRAL)
def test_change_of_rounding_alone_is_parity(edits):
    with planted(*edits) as make:
        result = check(make, case())
    assert result.verdict is Verdict.PARITY
    assert all(mode.first_divergence is None for mode in result.modes)


def test_fault_whose_text_the_twin_does_not_hold_is_refused():
    with pytest.raises(ValueError, match="exactly once"), planted(("no such text", "")):
        pass
