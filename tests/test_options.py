"""The table of options: who takes which, and what each accepts."""

import argparse

import pytest

from parity.number_formats import FORMATS
from parity.options import OPTIONS, STEPS, option_groups, options_of
from reference.config import PRESETS

COMMANDS = (
    *("check", "replay", "gate", "ladder", "mutants", "vectors", "verify", "pytest"),
    *(f"campaign {action}" for action in ("check", "calibrate", "mutants", "show", "merge")),
)


def test_every_option_is_somebodys():
    assert {flag for command in COMMANDS for flag in options_of(command)} == OPTIONS.keys()


def test_option_is_the_same_to_all_but_those_that_deviate():
    check, gate, ladder = (options_of(command) for command in ("check", "gate", "ladder"))
    assert {flag for flag in gate.keys() & check.keys() if gate[flag] != check[flag]} == {"--time-limit", "--markdown"}
    assert {flag for flag in ladder.keys() & check.keys() if ladder[flag] != check[flag]} == {"--steps", "--json"}
    assert (check["--steps"]["default"], STEPS, ladder["--steps"]["default"]) == (None, 20, 5)
    assert ladder["--steps"]["type"] is check["--steps"]["type"]


def test_choices_are_those_that_there_are():
    check = options_of("check")
    assert check["--dtype"]["choices"] == list(FORMATS)
    assert check["--preset"]["choices"] == list(PRESETS)
    assert "choices" not in options_of("pytest")["--dtype"]


def test_command_without_options_has_no_headings():
    assert option_groups("new-subject") == {}


@pytest.mark.parametrize(
    ("flag", "text", "number"),
    [("--steps", "1", 1), ("--rounds", "0", 0), ("--time-limit", "0.5", 0.5), ("--false-alarm", "1e-6", 1e-6)],
)
def test_number_that_fits_is_taken(flag, text, number):
    assert OPTIONS[flag]["type"](text) == number


@pytest.mark.parametrize(
    ("flag", "texts"),
    [
        ("--steps", ["0", "-1", "+1", "1_0", " 1", "1.0", "²", "", "1" * 5000]),
        ("--rounds", ["-1", "half"]),
        ("--time-limit", ["0", "-1", "inf", "nan", "soon"]),
        ("--false-alarm", ["0", "1", "nan", "rarely"]),
    ],
)
def test_number_that_does_not_fit_is_refused_with_what_would(flag, texts):
    for text in texts:
        with pytest.raises(argparse.ArgumentTypeError, match=r"^it must be a .*number .*, not '"):
            OPTIONS[flag]["type"](text)
