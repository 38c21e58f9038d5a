"""The options of a check: the same as keywords, as one whole, and as words of a command; and what is refused."""

import re
from dataclasses import fields, replace
from typing import get_type_hints

import pytest

import parity.judging.check_options
from parity import check
from parity.cli.command_line import _parsed
from parity.errors import UsageError
from parity.gate import gate
from parity.judging.check_options import CheckKeywords, CheckOptions, GateKeywords, check_keywords
from parity.subjects.process import Limits
from parity.testing import assert_parity

OTHER = {
    "dtype": "bfloat16",
    "device": "cuda:1",
    "sites": True,
    "truth": True,
    "modes": ("free-running",),
    "false_alarm": 1.5e-7,
    "oracle": "python",
    "isolate": True,
    "limits": Limits(0.1, 3 << 20),
}
"""For every option of `parity replay`, what nobody gets who does not ask for it."""


def as_read_by_the_command_line(options: CheckOptions) -> CheckOptions:
    arguments = _parsed(["replay", "case.json", *options.words, "my_port.py:make"])
    return CheckOptions.of(check_keywords(vars(arguments)))


def test_options_are_the_same_as_keywords_and_as_one_whole(monkeypatch):
    monkeypatch.setattr(parity.judging.check_options, "Limits", Limits, raising=False)
    assert get_type_hints(CheckKeywords) == get_type_hints(CheckOptions)
    assert get_type_hints(GateKeywords).items() <= get_type_hints(CheckOptions).items()


def test_options_that_nobody_asked_for_need_no_words():
    assert CheckOptions().words == []
    assert as_read_by_the_command_line(CheckOptions()) == CheckOptions(limits=Limits())


@pytest.mark.parametrize("name", [option.name for option in fields(CheckOptions) if option.name in OTHER])
def test_command_line_gives_back_what_an_options_words_say(name):
    options = CheckOptions(**{name: OTHER[name]})
    assert options != CheckOptions()
    assert options.words
    assert as_read_by_the_command_line(options) == replace(options, limits=options.limits or Limits())


def test_words_of_all_options_at_once():
    everything = CheckOptions(**{name: value for name, value in OTHER.items() if name != "truth"})
    assert as_read_by_the_command_line(everything) == everything


def test_option_that_is_lost_on_its_way_to_the_command_line_is_noticed(monkeypatch):
    words = CheckOptions.words.fget
    monkeypatch.setattr(CheckOptions, "words", property(lambda options: words(options)[2:]))
    assert as_read_by_the_command_line(CheckOptions(dtype="float32")) != CheckOptions(dtype="float32", limits=Limits())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modes": ()}, "The modes are lock-step and free-running, not none."),
        ({"modes": ("lock-step", "lockstep")}, "The modes are lock-step and free-running, not lock-step, lockstep."),
        ({"modes": "freely"}, "The modes are lock-step and free-running, not freely."),
        ({"truth": True, "sites": True}, "The truth judges what comes out of single steps: in lock-step, and without"),
        ({"truth": True, "modes": ("free-running",)}, "The truth judges what comes out of single steps"),
        ({"false_alarm": 0.0}, "The false-alarm rate must lie between 0 and 1, not 0.0."),
        ({"false_alarm": float("nan")}, "The false-alarm rate must lie between 0 and 1, not nan."),
        ({"oracle": "delphi"}, "There is no oracle 'delphi'; there are replay and python."),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_sentence(options, message):
    for function in (check, assert_parity, CheckOptions):
        with pytest.raises(UsageError, match=f"^{re.escape(message)}"):
            function(**options)


def test_modes_are_named_once_and_truth_needs_one():
    assert CheckOptions(modes="lock-step").modes == ("lock-step",)
    assert CheckOptions(modes=["free-running", "free-running"]).modes == ("free-running",)
    assert CheckOptions(truth=True).modes == ("lock-step",)


@pytest.mark.parametrize("function", [check, assert_parity])
def test_unknown_option_is_a_type_error_that_names_those_there_are(function):
    with pytest.raises(TypeError, match=r"^There is no option site; there are dtype, device, sites, truth, modes, "):
        function(site=True)


def test_option_that_a_gate_does_not_take_is_a_type_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # refused before anybody looks for a repository
    message = r"^There is no option sites; there are dtype, device, false_alarm, probes, limits\."
    with pytest.raises(TypeError, match=message):
        gate("my_port.py:make", sites=True)
    with pytest.raises(UsageError, match="false-alarm rate"):
        gate("my_port.py:make", false_alarm=2.0)


def test_help_of_check_says_what_every_option_means():
    for option in fields(CheckOptions):
        assert re.search(rf"^    - (\w+, )*{option.name}\b.*: ", check.__doc__, re.MULTILINE), option.name
