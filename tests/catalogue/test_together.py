"""Two or three known mistakes at once are named where no single one fits."""

import time

import pytest

from parity import Case, Verdict, check
from parity.catalogue import naming
from parity.catalogue.mutants import MUTANTS, SOURCE
from parity.catalogue.naming import name_mistakes
from parity.catalogue.together import combined
from tests.faults import planted

TINY = Case.from_names(steps=2, config={"n_embd": 4, "n_head": 2, "block_size": 3})
FEW = (
    "norm_eps_smaller",
    "scores_not_scaled",
    "gelu",
    "loss_in_bits",
    "keys_detached",
    "betas_of_pytorch",
    "weight_decay",
)


@pytest.fixture(autouse=True)
def few_mutants(monkeypatch):
    monkeypatch.setattr(naming, "ALL", tuple(MUTANTS[name] for name in FEW))


def named(make):
    result = check(make, TINY, modes="lock-step", probes=False)
    assert result.verdict is Verdict.DIVERGED
    name_mistakes(result, seconds=60)
    return result


@pytest.mark.parametrize(
    "names",
    [
        ("scores_not_scaled", "betas_of_pytorch"),
        ("norm_eps_smaller", "gelu"),
        ("gelu", "loss_in_bits", "weight_decay"),
    ],
)
def test_mistakes_together_are_named(names):
    result = named(combined([MUTANTS[name] for name in names]).make)
    assert [set(name.split(" + ")) for name in result.mistakes] == [set(names)]
    assert all(MUTANTS[name].mistake in result.named for name in names)
    assert result.mistake_lines == {name: MUTANTS[name].line[0] for name in names}


def test_one_that_nobody_knows_beside_a_known_one_has_no_name():
    with planted(("x = x.relu()", "x = x.relu() * 1.001")) as make:
        assert named(make).mistakes == {}


def test_mistakes_that_edit_the_same_text_cannot_be_together():
    with pytest.raises(ValueError, match="exactly once"):
        combined([MUTANTS["scores_not_scaled"], MUTANTS["scores_scaled_by_n_embd"]]).module  # noqa: B018


def test_search_ends_when_its_time_is_over():
    make = combined([MUTANTS["norm_eps_smaller"], MUTANTS["gelu"]]).make
    result = check(make, TINY, modes="lock-step", probes=False)
    start = time.thread_time()
    name_mistakes(result, seconds=0)
    assert result.mistakes == {}
    assert time.thread_time() - start < 5


def test_every_mistake_has_its_line_in_the_reference():
    lines = SOURCE.splitlines()
    found = [mutant.line for mutant in MUTANTS.values() if mutant.line]
    assert all(lines[number - 1].strip() == text for number, text in found)
    assert len(found) > 200
