"""The gate on prepared refactors in a repository of its own: neutral, reordering, wrong, and less precise."""

import io
import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from parity import Verdict
from parity.catalogue.mutants import MUTANTS
from parity.cli import main
from parity.cli.gate_report import annotations, gate_markdown, gate_report, places
from parity.errors import UsageError
from parity.gate import gate
from parity.gate.git import changed_lines, checked_out
from tests.gate.refactors import (
    BROKEN,
    FLOAT32,
    MODEL,
    NEUTRAL,
    PORT,
    REORDERING,
    SILENT,
    UNSTABLE,
    WRONG,
    WRONG_LINE,
    git,
    refactor,
)


def printed(result) -> str:
    terminal = Console(file=io.StringIO(), width=200)
    terminal.print(gate_report(result))
    return terminal.file.getvalue()


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file of the working tree with its content and time, and the state that git sees."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts]
    found = {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    found["git"] = ((git("status", "--porcelain") + git("worktree", "list") + git("branch", "-a")).encode(), 0)
    found["index"] = ((folder / ".git" / "index").read_bytes(), 0)
    return found


def test_neutral_refactor_is_bitwise_the_same(repository, case, monkeypatch):
    refactor(NEUTRAL)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    before = snapshot(repository)
    result = gate("port.py:make", case=case, rounds=4)
    assert result.verdict is Verdict.IDENTICAL
    assert result.change == "bitwise the same"
    assert result.base is None
    assert result.head.subject == "port.py:make"
    assert all(row.compared and not row.different for row in result.changed)
    assert result.files == {"model.py": result.files["model.py"]}
    assert result.speed is not None
    assert 0 < result.speed.low <= result.speed.ratio <= result.speed.high
    assert annotations(result) == []
    assert snapshot(repository) == before


def test_reordering_refactor_changes_only_rounding(repository, case):
    refactor(REORDERING)
    git("commit", "--quiet", "-am", "Reorder")
    result = gate("port.py:make", "HEAD~1", case, rounds=0)
    assert result.verdict is Verdict.PARITY
    assert result.change == "only rounding changed"
    assert "Both agree with the reference." in result.reason
    assert any(row.different for row in result.changed)
    assert not any(row.outside for row in result.changed)
    assert result.head.verdict is result.base.verdict is Verdict.PARITY
    assert result.speed is None


def test_bits_that_differ_in_free_running_alone_are_said_to(repository, case):
    refactor(
        ("self.step = state.step", "self.step = self.loaded = state.step"),
        ("loss, all_logits = 0.0, []", "loss, all_logits = 2.0**-50 * (self.step != self.loaded), []"),
    )
    result = gate("port.py:make", case=case, rounds=0, probes=False)
    assert result.verdict is Verdict.PARITY
    assert result.reason.startswith("In lock-step every bit is the same; in free-running 1 element has other bits.")
    assert {row.quantity: row.free_running for row in result.changed}["loss"] == 1
    assert not any(row.different for row in result.changed)


def test_wrong_refactor_is_placed_in_its_file(repository, case):
    refactor(WRONG)
    result = gate("port.py:make", "main", case, rounds=0, probes=False)
    assert result.verdict is Verdict.DIVERGED
    assert result.change == "the function changed"
    assert result.reason.startswith("First at head against base, step 0: logits document 0[1,")
    assert result.reason.endswith("Base agrees with the reference.")
    assert result.files == {"model.py": WRONG_LINE}
    assert "head beside base in step 0, in the order of computation" in printed(result)
    assert "\n- grad right: lm_head" not in gate_markdown(result)
    assert "\n- begins at logits" in gate_markdown(result)
    (annotation,) = annotations(result)
    assert annotation.startswith(f"::error file=model.py,line={WRONG_LINE},title=parity gate::DIVERGED: the function")
    assert "### DIVERGED: the function changed" in gate_markdown(result)


@pytest.mark.parametrize("edit", [UNSTABLE, FLOAT32])
def test_refactor_that_loses_precision_is_told_apart_from_a_wrong_one(repository, case, edit):
    refactor(edit)
    result = gate("port.py:make", case=case, rounds=0, probes=False)
    assert result.verdict is Verdict.PRECISION_LOSS
    assert result.change == "precision lost"
    if edit is FLOAT32:
        assert result.reason == "It computes in float32, and did so in float64 at base."


def test_mended_subject_has_changed_its_function(repository, case):
    refactor(WRONG)
    git("commit", "--quiet", "-am", "Break")
    refactor((WRONG[1], WRONG[0]))
    result = gate("port.py:make", case=case, rounds=0, probes=False)
    assert result.verdict is Verdict.DIVERGED
    assert result.reason.startswith("Base differs from the reference, and head agrees with it. Base: step 0: logits")


@pytest.mark.parametrize(("edit", "verdict"), [(NEUTRAL, "IDENTICAL"), (REORDERING, "PARITY")])
def test_subject_that_is_no_microgpt_can_still_be_refactored(repository, case, edit, verdict):
    refactor(WRONG)
    git("commit", "--quiet", "-am", "Have it my way")
    refactor(edit)
    result = gate("port.py:make", case=case, rounds=0, probes=False)
    assert result.verdict.value == verdict
    assert "reference" in result.reason
    said = "Both wrong alike: base and head differ from the reference in the same way (DIVERGED)."
    assert printed(result).startswith(said)
    assert gate_markdown(result).split("\n\n")[1] == f"**{said}**"


def test_subject_that_exposes_less_than_before_decides_nothing(repository, case):
    refactor(SILENT)
    result = gate("port.py:make", case=case, rounds=0, probes=False)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reason == "The subject no longer exposes grad, which it did at base."


def test_broken_head_is_an_error_and_broken_base_decides_nothing(repository, case):
    refactor(BROKEN)
    result = gate("port.py:make", case=case, rounds=0, probes=False)
    assert result.verdict is Verdict.ERROR
    assert "NameError" in result.reason
    assert "model.py" in result.files
    git("commit", "--quiet", "-am", "Break")
    refactor((BROKEN[1], BROKEN[0]))
    result = gate("port.py:make", case=case, rounds=0, probes=False)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reason.startswith("At base: The subject raised NameError")
    (annotation,) = annotations(result)
    assert annotation.startswith("::warning file=model.py,")


def test_subject_in_a_subfolder_and_as_a_module_is_found_at_base(repository, case, monkeypatch):
    Path("src/pkg").mkdir(parents=True)
    for name in ("model.py", "port.py"):
        git("mv", name, f"src/pkg/{name}")
    refactor(("from model", "from pkg.model"), file="src/pkg/port.py")
    git("commit", "--quiet", "-am", "Move")
    refactor(WRONG, file="src/pkg/model.py")
    monkeypatch.chdir("src")
    result = gate("pkg.port:make", case=case, rounds=0, probes=False)
    assert result.verdict is Verdict.DIVERGED
    assert result.files == {"src/pkg/model.py": WRONG_LINE}


def test_base_that_loads_the_working_tree_as_an_editable_install_does_is_refused(repository, case):
    hook = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("model", {str(repository / "model.py")!r})
sys.modules["model"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["model"])
"""
    Path("port.py").write_text(hook + PORT, encoding="utf-8")
    git("commit", "--quiet", "-am", "Hook")
    refactor(WRONG)
    with pytest.raises(UsageError, match=r"The other revision's subject loads model\.py from the working tree"):
        gate("port.py:make", case=case, rounds=0, probes=False)


def test_search_path_into_the_working_tree_is_moved(repository, case, monkeypatch):
    Path("src").mkdir()
    git("mv", "model.py", "src/model.py")
    git("commit", "--quiet", "-am", "Move")
    refactor(WRONG, file="src/model.py")
    monkeypatch.setenv("PYTHONPATH", str(repository / "src"))
    assert gate("port.py:make", case=case, rounds=0, probes=False).verdict is Verdict.DIVERGED


def test_command_is_run_in_both_folders(repository, case, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    refactor(REORDERING)
    result = gate([sys.executable, "-m", "parity.serve", "port.py:make"], case=case, rounds=2, probes=False)
    assert result.verdict is Verdict.PARITY
    assert result.speed.pairs == 2
    assert result.subject == f"-- {sys.executable} -m parity.serve port.py:make"
    assert result.head.subject == result.base.subject == result.subject


def test_bad_usage_is_a_sentence(repository, case, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"^There is no revision 'nonesuch' in project; has it been fetched\?$"):
        gate("port.py:make", "nonesuch", case)
    with pytest.raises(UsageError, match=r"^There is no revision '--help' in project"):
        gate("port.py:make", "--help", case)
    Path("new.py").write_text(PORT, encoding="utf-8")
    with pytest.raises(
        UsageError, match=r"^At HEAD: There is no file new\.py\. If new\.py:make is new, .* --allow-new "
    ):
        gate("new.py:make", case=case)
    with pytest.raises(UsageError, match=r"^There is no file gone\.py\.$"):
        gate("gone.py:make", case=case)
    with pytest.raises(UsageError, match="needs a subject with a name"):
        gate(lambda config, hyper: None, case=case)
    assert len(git("worktree", "list").splitlines()) == 1
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="is not in a git repository"):
        gate("port.py:make", case=case)


def test_what_git_says_is_not_read(repository, case, tmp_path, monkeypatch):
    """It may speak another language, and says of a broken repository what it says where there is none."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "git").write_text("#!/bin/sh\necho 'fatal: not a git repository' >&2\nexit 128\n", encoding="utf-8")
    (programs / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    with pytest.raises(UsageError, match=r"^git rev-parse failed: fatal: not a git repository$"):
        gate("port.py:make", case=case)
    (programs / "git").write_text("#!/bin/sh\necho 'Schwerwiegend: kein Repository' >&2\nexit 128\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="is not in a git repository"):
        gate("port.py:make", case=case)


def test_worktree_is_removed_whatever_happens(repository):
    def interrupted() -> None:
        with checked_out(repository, "HEAD") as revision:
            folders.append(revision.folder)
            assert (revision.folder / "model.py").read_text(encoding="utf-8") == MODEL
            raise KeyboardInterrupt

    folders: list[Path] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not folders[0].exists()
    assert len(git("worktree", "list").splitlines()) == 1


def test_changed_lines_are_those_of_the_working_tree(repository):
    refactor(WRONG)
    git("add", ".")
    Path("port.py").unlink()
    Path("new ü.py").write_text("1\n", encoding="utf-8")
    assert changed_lines(repository, "HEAD") == {"model.py": [(WRONG_LINE, WRONG_LINE)], "new ü.py": [(1, 1)]}


def test_every_run_of_changed_lines_is_named(repository):
    Path("port.py").write_text("".join(f"{number}\n" for number in range(1, 41)), encoding="utf-8")
    git("commit", "--quiet", "-am", "Count")
    lines = [str(number) for number in range(1, 41) if number not in (5, 6)]
    lines[9:12] = ["x", "y", "z"]
    Path("port.py").write_text("\n".join(["new", *lines, "last"]) + "\n", encoding="utf-8")
    assert changed_lines(repository, "HEAD") == {"port.py": [(1, 1), (5, 5), (11, 13), (40, 40)]}
    Path("port.py").write_text("".join(f"{n}{'' if n % 2 else '!'}\n" for n in range(1, 41)), encoding="utf-8")
    result = SimpleNamespace(lines=changed_lines(repository, "HEAD"))
    assert places(result) == "port.py:2, 4, 6, 8, 10, 12, 14, 16, and 12 more places"


def test_repository_without_a_commit_is_named(tmp_path, case, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet", "--initial-branch=main", "empty")
    monkeypatch.chdir("empty")
    Path("port.py").write_text(PORT, encoding="utf-8")
    with pytest.raises(UsageError, match=r"^The repository empty has no commit yet; a gate compares two revisions"):
        gate("port.py:make", case=case)


def test_command_line_serves_a_pull_request(repository, monkeypatch, capsys):
    refactor(WRONG)
    summary = repository.parent / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    arguments = ["gate", "port.py:make", "--steps", "1", "--n-embd", "8", "--rounds", "2"]
    assert main([*arguments, "--json", "../gate.json"]) == 1
    printed = capsys.readouterr().out
    assert "DIVERGED: the function changed. First at head against base, step 0: logits" in " ".join(printed.split())
    assert f"::error file=model.py,line={WRONG_LINE}," in printed
    assert "speed: a step at head takes " in printed
    assert summary.read_text(encoding="utf-8").startswith("### DIVERGED: the function changed\n")
    data = json.loads(Path("../gate.json").read_text(encoding="utf-8"))
    assert (data["verdict"], data["change"]) == ("DIVERGED", "the function changed")
    assert data["head"]["verdict"] == "DIVERGED"
    assert data["first"]["quantity"] == "logits"
    assert data["speed"]["pairs"] == 2
    assert main([*arguments, "--only-case", "--json", "-", "--markdown", "../other.md", "--html", "../other.html"]) == 1
    assert json.loads(capsys.readouterr().out)["files"] == {"model.py": WRONG_LINE}
    assert Path("../other.md").is_file()
    assert "head (actual) against base (expected)" in Path("../other.html").read_text(encoding="utf-8")


def test_change_that_is_a_known_mistake_is_named(repository, naming, capsys):
    refactor(("(np.sqrt(v_hat) + hyper.eps_adam)", "np.sqrt(v_hat + hyper.eps_adam)"))
    small = ["--steps", "1", "--n-embd", "4", "--n-head", "2", "--block-size", "3", "--rounds", "0", "--only-case"]
    assert main(["gate", "port.py:make", *small]) == 1
    assert MUTANTS["eps_inside_root"].mistake in " ".join(capsys.readouterr().out.split())


def test_summary_that_cannot_be_written_changes_no_verdict(repository, monkeypatch, capsys):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(repository))
    refactor(WRONG)
    arguments = ["gate", "port.py:make", "--steps", "1", "--n-embd", "8", "--rounds", "0", "--only-case"]
    assert main(arguments) == 1
    said = f"The summary is not shown with the workflow's run: {repository} cannot be written: Is a directory.\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("accept", ["On purpose", None])
def test_closed_standard_error_leaves_json_alone(repository, monkeypatch, capsys, accept):
    refactor(WRONG if accept else NEUTRAL)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setattr(sys, "stderr", None)
    arguments = ["gate", "port.py:make", "--steps", "1", "--n-embd", "8", "--rounds", "0", "--only-case", "--json", "-"]
    assert main([*arguments, "--accept", accept or "Nothing"]) == 0
    assert json.loads(capsys.readouterr().out)["subject"] == "port.py:make"


def test_command_line_reports_bad_usage(repository, capsys):
    assert main(["gate", "port.py:make", "--base", "v1"]) == 2
    assert capsys.readouterr().err == "There is no revision 'v1' in project; has it been fetched?\n"


def test_gate_in_a_commit_hook_leaves_the_commit_alone(repository):
    Path("staged.txt").write_text("staged", encoding="utf-8")
    refactor(NEUTRAL)
    git("add", ".")
    git("commit", "--quiet", "-m", "Second")
    home = Path(__file__).parents[2]
    hook = repository / ".git" / "hooks" / "pre-commit"
    command = f"PYTHONPATH={home} {sys.executable} -m parity gate port.py:make --base HEAD~1 --steps 1 --n-embd 4"
    hook.write_text(f"#!/bin/sh\n{command} --rounds 0 > ../hook.txt 2>&1\n", encoding="utf-8")
    hook.chmod(0o755)
    refactor(("product = x @ w.T", "product = x @ w.T  # once"))
    git("commit", "--quiet", "-am", "Third")
    assert "IDENTICAL: bitwise the same" in Path("../hook.txt").read_text(encoding="utf-8")
    assert git("ls-files").split() == ["model.py", "port.py", "staged.txt"]
    assert "# once" in git("show", "HEAD:model.py")
    assert git("status", "--porcelain") == ""


def test_installed_copy_is_no_revision(repository, case, tmp_path, monkeypatch):
    package = tmp_path / "venv" / "site-packages" / "pkg"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copy("model.py", package / "model.py")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    Path("src/pkg").mkdir(parents=True)
    Path("src/pkg/__init__.py").touch()
    git("mv", "model.py", "src/pkg/model.py")
    git("add", ".")
    git("commit", "--quiet", "-m", "Move")
    refactor(WRONG, file="src/pkg/model.py")
    with pytest.raises(UsageError, match=r"loads pkg from an installed copy, which is the same at both revisions"):
        gate("pkg.model:make", case=case, rounds=0, probes=False)


def test_command_by_an_absolute_path_into_the_repository_is_refused(repository, case):
    with pytest.raises(UsageError, match="the same file at both revisions; give it as a relative path"):
        gate([str(repository / "port")], case=case)


def test_bug_that_shows_only_in_free_running_is_no_rounding(repository, case):
    refactor(WRONG)
    git("commit", "--quiet", "-am", "Have it my way")
    refactor(REORDERING, ("self.params, self.m, self.v = after", "self.kept = after"))
    refactor(
        ("Step(loss, all_logits, grads, self.params, self.m, self.v)", "Step(loss, all_logits, grads, *self.kept)")
    )
    assert gate("port.py:make", case=case, rounds=0, probes=False).verdict is Verdict.DIVERGED


@pytest.mark.parametrize("seconds", ["0", "None", "float('nan')", "-1", "'soon'"])
def test_odd_times_are_replaced_by_the_clock(repository, case, seconds):
    server = "import json, sys\nfrom parity import serve\n"
    server += "old = serve.Server.on_train_step\n"
    server += "def step(self, **message):\n    answer = old(self, **message)\n"
    server += f"    answer['seconds'] = {seconds}\n    return answer\n"
    server += "serve.Server.on_train_step = step\nserve.main()\n"
    Path("server.py").write_text(server, encoding="utf-8")
    git("add", ".")
    git("commit", "--quiet", "-m", "Serve")
    home = Path(__file__).parents[2]
    result = gate(
        ["env", f"PYTHONPATH={home}", sys.executable, "server.py", "port.py:make"], case=case, rounds=2, probes=False
    )
    assert result.speed.ratio > 0


def test_subject_that_dies_while_it_is_timed_keeps_its_verdict(repository, case):
    steps = "self.seen = getattr(self, 'seen', 0) + 1\n        assert self.seen < 6\n        loss, all_logits = 0.0, []"
    refactor(("loss, all_logits = 0.0, []", steps))
    git("commit", "--quiet", "-am", "Tire")
    result = gate("port.py:make", case=case, rounds=9, probes=False)
    assert result.verdict is Verdict.IDENTICAL
    assert result.speed is None


def test_what_a_subject_says_that_it_does_not_exercise_stands_in_text_and_summary(repository, case):
    refactor(
        ("return Step(loss, all_logits,", "self.not_exercised = ['a moon']\n        return Step(loss, all_logits,")
    )
    result = gate("port.py:make", case=case, rounds=0)
    assert "a moon" in result.not_exercised
    for text in (printed(result), gate_markdown(result).replace("\n", " ")):
        left_out = text.lower().partition("not exercised: ")[2]
        assert "a moon" in left_out
        assert "what the preset microgpt_early does otherwise" in left_out
        assert "decode and sample (which no gate compares: pytest --pyargs parity.suite)" in left_out
