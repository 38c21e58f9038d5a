"""What becomes of an accepted change: it is recognised, or it says why it does not count, until base has it."""

import json
from pathlib import Path

import pytest

from parity.cli import main
from parity.gate.acceptance import spelled
from tests.gate.refactors import NEUTRAL, PORT, REORDERING, WRONG, git, refactor

SHORT = ["--steps", "1", "--n-embd", "4", "--n-head", "2", "--only-case", "--rounds", "0"]
HINT = 'If that is meant, the same command with --accept "why" accepts this change; see parity help accept.'


@pytest.fixture
def gated(repository, capsys):
    """The exit status of a gate, and what it prints, in one line."""

    def run(subject: str = "port.py:make", *options: str) -> tuple[int, str]:
        status = main(["gate", subject, *SHORT, *options])
        return status, " ".join(capsys.readouterr().out.split())

    return run


def test_entry_is_found_by_any_spelling_and_says_why_it_does_not_count(gated, repository, monkeypatch):
    refactor(WRONG)
    status, printed = gated()
    assert status == 1
    assert HINT in printed
    assert gated("./port.py:make", "--accept", "On purpose")[0] == 0
    (entry,) = json.loads(Path("parity-accepted.json").read_text(encoding="utf-8"))["accepted"]
    assert entry["subject"] == "port.py:make"
    status, printed = gated()
    assert status == 0
    assert HINT not in printed
    does_not = 'The accepted change "On purpose" does not count here: it is of'
    status, printed = gated("port.py:make", "--steps", "2", "--n-embd", "6")
    assert status == 1
    assert f"{does_not} n_embd 4, steps 1, and this gate of n_embd 6, steps 2." in printed
    assert f"{does_not} other documents, weights or hyper-parameters" in gated("port.py:make", "--seed", "1")[1]
    assert f"{does_not} the subject port.py:make, and this one is called port:make." in gated("port:make")[1]
    assert "does not count" not in gated("port.py:make", "--base", "HEAD", "--dtype", "float64")[1]


def test_spelling_of_a_file_is_that_from_the_root():
    root = Path("/work")
    for folder, name in [("/work", "a/b.py:make"), ("/work", "./a/../a/b.py:make"), ("/work/a", "b.py:make")]:
        assert spelled(name, Path(folder), root) == "a/b.py:make"
    for name in ("a.b:make", "-- ./b.py:make", "/elsewhere/b.py:make"):
        assert spelled(name, root, root) == name


def test_merged_change_is_a_quiet_line(gated, monkeypatch, capsys):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    refactor(WRONG)
    assert gated("port.py:make", "--accept", "On purpose")[0] == 0
    git("add", ".")
    git("commit", "--quiet", "-m", "Merge")
    refactor(REORDERING)
    status, printed = gated("port.py:make", "--markdown", "../gate.md")
    assert status == 0
    assert printed.startswith("PARITY: only rounding changed.")
    quiet = (
        'ccepted before: "On purpose", which base has already, so that both differ from the reference in the same way'
    )
    assert printed.endswith(quiet)
    assert "::" not in printed
    summary = Path("../gate.md").read_text(encoding="utf-8")
    assert f"\nA{quiet}.\n" in summary
    assert "Both wrong alike" not in summary
    Path("parity-accepted.json").unlink()
    assert gated()[1].startswith(
        "Both wrong alike: base and head differ from the reference in the same way (DIVERGED)."
    )


def test_accepted_change_takes_little_space(repository, capsys):
    """Case and probes, both sides."""
    refactor(WRONG)
    assert main(["gate", "port.py:make", "--steps", "1", "--n-embd", "8", "--rounds", "0", "--accept", "Small"]) == 0
    assert Path("parity-accepted.json").stat().st_size < 7_500
    printed = capsys.readouterr().out
    assert "head beside base in step 0, in the order of computation" in printed
    assert "begins at    logits" in printed
    left_out = " ".join(printed.split()).partition("not exercised: ")[2]
    assert left_out.startswith("what the preset microgpt_early does otherwise")


def test_new_subject_is_held_against_the_reference_if_that_is_allowed(gated, capsys):
    Path("new.py").write_text(PORT, encoding="utf-8")
    assert main(["gate", "new.py:make", *SHORT]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "At HEAD: There is no file new.py. If new.py:make is new, there is nothing to compare it with:"
    )
    status, printed = gated(
        "new.py:make", "--allow-new", "--json", "../new.json", "--fail-slower", "2", "--rounds", "6"
    )
    assert status == 0
    assert printed.startswith("PARITY: the subject is new. At base: There is no file new.py. Against the reference: ")
    data = json.loads(Path("../new.json").read_text(encoding="utf-8"))
    assert (data["is_new"], data["base"], data["speed"]) == (True, None, None)
    Path("new.py").write_text(f"{PORT}\nother = make\n", encoding="utf-8")
    git("add", ".")
    git("commit", "--quiet", "-m", "New")
    Path("new.py").write_text(f"{PORT}\nanother = make\n", encoding="utf-8")
    assert "At base: new.py has no 'another'" in gated("new.py:another", "--allow-new")[1]
    refactor(NEUTRAL)
    assert gated("new.py:make", "--allow-new")[1].startswith("IDENTICAL: bitwise the same.")
    refactor((NEUTRAL[1], NEUTRAL[0]), WRONG)
    assert gated("new.py:another", "--allow-new")[0] == 1
