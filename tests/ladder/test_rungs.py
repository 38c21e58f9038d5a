"""The table of rungs says what the rungs' own classes and docstrings say."""

import ast
import importlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import torch_twin
from parity.errors import UsageError
from parity.ladder import RUNGS, Rung, chosen, parallel

TWIN = Path(torch_twin.__file__).parent
MODULES = {path.stem for path in TWIN.glob("*.py")} - {"__init__"}
BELOW_WITHOUT_ITS_CLASS = {"positions": "twin"}
"""It uses the functions of the rung below."""


def module(rung: Rung) -> str:
    """The name of its file in torch_twin, or nothing for a rung that has none."""
    package, _, name = rung.factory.partition(":")[0].rpartition(".")
    return name if package == "torch_twin" else ""


def class_of(rung: Rung) -> type:
    """Whose methods train; a rung of ranks says which rung each of them runs."""
    made = importlib.import_module(rung.factory.partition(":")[0]).make
    return getattr(made, "rung", made)


def faults(ladder: Sequence[Rung]) -> list[str]:
    """Where the table names another rung below than the classes do."""
    found = []
    twins = {rung.name: class_of(rung) for rung in ladder if module(rung)}
    for number, rung in enumerate(ladder):
        below = next((other for other in ladder[:number] if other.name == rung.below), None)
        if rung.below and below is None:
            found.append(f"{rung.name}: no rung {rung.below} comes before it")
        elif not module(rung) or rung.name in BELOW_WITHOUT_ITS_CLASS:
            if rung.below != BELOW_WITHOUT_ITS_CLASS.get(rung.name):
                found.append(f"{rung.name} builds on {rung.below} in the table")
        else:
            # A class that the table has had before is a format of its own; otherwise the class extends the one below.
            own = class_of(rung)
            again = any(twins[other.name] is own for other in ladder[:number] if other.name in twins)
            bases = [kind for kind in own.__mro__[0 if again else 1 :] if kind in twins.values()]
            expected = bases[0] if bases else None
            actual = twins.get(rung.below) if rung.below else None
            if actual is not expected:
                found.append(f"{rung.name} extends {expected}, and the table says {rung.below}")
    return found


def test_rung_below_is_the_one_whose_class_a_rung_extends():
    assert faults(RUNGS) == []


@pytest.mark.parametrize(
    ("name", "below", "expected"),
    [
        ("compiled", "fused_adam", "compiled extends .*Padded.*, and the table says fused_adam"),
        ("decoding", "fused_adam", "decoding extends .*Padded.*, and the table says fused_adam"),
        ("data_parallel", "padded", "data_parallel extends .*FusedAdam.*, and the table says padded"),
        ("float32", "compiled", "float32 extends .*WholeStep.*, and the table says compiled"),
        ("padded", None, "padded extends .*Positions.*, and the table says None"),
        ("positions", None, "positions builds on None in the table"),
        ("scalar", "twin", "scalar builds on twin in the table"),
        ("twin", "positions", "twin: no rung positions comes before it"),
        ("packed", "nonesuch", "packed: no rung nonesuch comes before it"),
    ],
)
def test_planted_rung_below_is_caught(name, below, expected):
    (fault,) = faults([replace(rung, below=below) if rung.name == name else rung for rung in RUNGS])
    assert re.fullmatch(expected, fault), fault


@pytest.mark.parametrize("rung", [rung for rung in RUNGS if rung.below and not rung.title], ids=lambda rung: rung.name)
def test_docstring_says_which_rung_it_builds_on(rung):
    below = next(other for other in RUNGS if other.name == rung.below)
    docstring = ast.get_docstring(ast.parse((TWIN / f"{module(rung)}.py").read_text(encoding="utf-8")))
    assert docstring.split("\n\n")[1].startswith(f"Builds on `{module(below)}`")


def test_every_module_beside_the_twin_is_a_rung():
    assert {module(rung) for rung in RUNGS} - {""} == MODULES


def test_every_technique_over_ranks_is_a_rung_held_to_one_process():
    files = {path.stem for path in Path(parallel.__file__).parent.glob("*.py")} - {"__init__", "single"}
    over_ranks = [rung for rung in RUNGS if rung.single]
    assert {rung.factory for rung in over_ranks} == {f"parity.ladder.parallel.{name}:make" for name in files}
    assert {rung.name for rung in over_ranks} == files


def test_every_rung_says_what_it_changed():
    for rung in RUNGS:
        technique, changed = rung.words
        assert technique, rung.name
        assert changed.endswith("."), rung.name
    assert len({rung.name for rung in RUNGS}) == len(RUNGS)


def test_rungs_are_chosen_by_name():
    assert [rung.name for rung in chosen("positions, twin")] == ["twin", "positions"]
    assert chosen(None) == list(RUNGS)
    for names in ("nonesuch", "twin,nonesuch", ","):
        with pytest.raises(UsageError, match=r"^There is no rung .*; there are twin, positions"):
            chosen(names)
