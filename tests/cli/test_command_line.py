"""What the command line offers beside its commands: a version, help, completion, examples, and a case by options."""

import builtins
import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from parity import Config, Hyper, __version__
from parity.cli import main
from parity.cli.command_line import _COMMANDS
from parity.cli.new_subject import EXAMPLES
from parity.options import CONFIG_OPTIONS, HYPER_OPTIONS, options_of

TINY = ["--steps", "1", "--n-embd", "2", "--n-head", "1", "--block-size", "2", "--only-case"]
EXAMPLE_FILES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def without(monkeypatch):
    """Have a package be one that is not installed."""

    def absent(package: str) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        real = builtins.__import__

        def importing(name, *arguments, **options):
            if name.partition(".")[0] == package:
                raise ModuleNotFoundError(f"No module named {package!r}", name=package)
            return real(name, *arguments, **options)

        monkeypatch.setattr(builtins, "__import__", importing)

    return absent


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"parity {__version__}\n"


def test_no_command_prints_help_and_is_no_success(capsys):
    assert main([]) == 2
    out, error = capsys.readouterr()
    assert error == ""
    assert all(command.name.split()[0] in out for command in _COMMANDS)


@pytest.mark.parametrize("command", [command.name for command in _COMMANDS])
def test_help_of_every_command_shows_example_and_exit_status(capsys, command):
    with pytest.raises(SystemExit, match="0"):
        main([*command.split(), "--help"])
    out = capsys.readouterr().out
    assert f"example:\n  parity {command}" in out
    assert "exit status:" in out


def test_help_says_beforehand_what_only_isolation_survives(capsys):
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert "without it, code that is not Python's (a panic, exit() in C) ends the check as well" in out


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_completion_of_bash_knows_commands_options_and_choices(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--completion", "bash"])
    script = capsys.readouterr().out
    complete = 'COMP_WORDS=(parity check --preset ""); COMP_CWORD=3; _shtab_parity; echo "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", f"{script}\n{complete}"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["microgpt_200", "microgpt_early"]


def test_completion_without_shtab_says_what_to_install(without, capsys):
    without("shtab")
    assert main(["--completion", "bash"]) == 2
    assert capsys.readouterr().err == "Completion needs shtab: pip install 'microgpt-parity[completion]'.\n"


def test_truth_without_flint_says_what_to_install(without, monkeypatch, capsys):
    without("flint")
    for name in ("parity.judging.true_exchange", "parity.oracle.truth"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert main(["check", *TINY, "--truth"]) == 2
    assert capsys.readouterr().err == "The truth needs python-flint: pip install 'microgpt-parity[truth]'.\n"


def test_start_of_the_command_line_imports_no_shtab():
    program = "import sys, parity.cli; print('shtab' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment()
    )
    assert done.stdout == "False\n"


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_is_written_as_it_is_tested(tmp_path, monkeypatch, capsys, example):
    monkeypatch.chdir(tmp_path)
    name = EXAMPLES[example][0]
    assert main(["new-subject", name, "--example", example]) == 0
    assert capsys.readouterr().out.startswith(f"Wrote {name}. Run: ")
    assert Path(name).read_text(encoding="utf-8") == (EXAMPLE_FILES / name).read_text(encoding="utf-8")


def test_case_is_what_the_options_say(capsys):
    said = {"learning_rate": 0.5, "beta1": 0.25, "beta2": 0.75, "num_steps": 7, "lr_schedule": "cosine"}
    words = [word for name, value in said.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    assert main(["check", *TINY, *words, "--activation", "relu2", "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {name: result["hyper"][name] for name in said} == said
    assert result["config"]["activation"] == "relu2"


def test_fields_of_a_case_that_are_options_are_options():
    assert set(CONFIG_OPTIONS) <= {field.name for field in fields(Config)}
    assert set(HYPER_OPTIONS) <= {field.name for field in fields(Hyper)}
    for command in ("check", "gate"):
        assert {f"--{name.replace('_', '-')}" for name in CONFIG_OPTIONS + HYPER_OPTIONS} <= options_of(command).keys()
