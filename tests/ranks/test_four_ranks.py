"""Two techniques at once, over four ranks: right, and where documents count as if every rank had its own."""

import pytest

from parity.ladder import chosen
from parity.ranks.checking import check_ranks
from parity.ranks.processes import Ranks
from parity.ranks.sides import Sides
from parity.subjects.imports import imported
from parity.subjects.process import Limits
from parity.training.checking import TrainingOptions
from parity.verdict import Verdict
from tests.ranks import TECHNIQUES

TECHNIQUE = TECHNIQUES / "sharded_tensor_parallel.py"
SPLIT_BY_DOCUMENTS = "uneven_data_parallel,no_sync,bfloat16_reduction,zero,fully_sharded"


@pytest.fixture(scope="module")
def four():
    ranks = Ranks(4, Limits(300.0))  # to import torch four times, on a busy machine
    yield ranks
    ranks.close()


def checked(ranks, file, single="unclipped"):
    names = f"{file}:make", f"{TECHNIQUES}/single.py:{single}"
    sides = Sides(names[0], imported(names[0]), names[1], imported(names[1]), dtype="float64")
    return check_ranks(sides, TrainingOptions(steps=1, replicas=4), ranks)


def test_sharded_tensor_parallel_is_the_same_function(four):
    result = checked(four, TECHNIQUE)
    assert result.verdict is Verdict.PARITY, result.reason
    assert {result.modes[0].quantities[name].compared for name in ("grad", "param", "exp_avg")} == {1080}


@pytest.mark.filterwarnings("ignore:`torch.jit.* is deprecated:DeprecationWarning")  # torch's own, of ZeRO
@pytest.mark.parametrize("rung", chosen(SPLIT_BY_DOCUMENTS), ids=lambda rung: rung.name)
def test_technique_of_two_ranks_is_the_same_function_over_four(rung, four):
    result = checked(four, TECHNIQUES / f"{rung.name}.py", rung.single.partition(":")[2])
    assert result.verdict is Verdict.PARITY, result.reason
    assert {result.modes[0].quantities[name].compared for name in ("grad", "param", "exp_avg")} == {1080}


def test_documents_counted_as_if_every_rank_had_its_own_are_caught(four, tmp_path):
    text = TECHNIQUE.read_text()
    assert text.count("* pairs / len(d)") == 1
    file = tmp_path / "shares.py"
    file.write_text(text.replace("* pairs / len(d)", "* 4 / len(d)"))
    result = checked(four, file)
    assert result.verdict is Verdict.DIVERGED
    assert "On every rank the gradient is 2 times as large" in result.explanation
