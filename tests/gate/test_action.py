"""The action's script in every event, on local repositories; and what its files say of themselves."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import parity.cli
from tests.gate.hub import checked_out
from tests.gate.refactors import MODEL, REORDERING, WRONG, git

ROOT = Path(__file__).parents[2]
CI_PAGE = "parity/cli/help/ci.md"
ACTION = ROOT / ".github" / "actions" / "gate"
DESCRIPTION = (ACTION / "action.yml").read_text(encoding="utf-8")
INPUTS = re.findall(r"^  ([\w-]+):$", DESCRIPTION.partition("outputs:")[0], flags=re.MULTILINE)
SHORT = "--steps 1 --n-embd 4 --n-head 2 --only-case --rounds 0"


@pytest.fixture
def run(own_environment, tmp_path, monkeypatch):
    """The script, as a module, in a workflow's environment."""
    for name, value in workflow(tmp_path).items():
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("run", ACTION / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def workflow(folder: Path) -> dict[str, str]:
    names = ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_EVENT_PATH")
    files = {name: str(folder / name.lower()) for name in names}
    return {
        **files,
        "RUNNER_TEMP": str(folder),
        "GITHUB_ACTIONS": "true",
        "SUBJECT": "port.py:make",
        "ARGUMENTS": SHORT,
    }


def outputs() -> dict[str, str]:
    lines = Path(os.environ["GITHUB_OUTPUT"]).read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines)


def event(monkeypatch, name: str, payload: dict) -> None:
    monkeypatch.setenv("GITHUB_EVENT_NAME", name)
    Path(os.environ["GITHUB_EVENT_PATH"]).write_text(json.dumps(payload), encoding="utf-8")


MAIN = {"repository": {"default_branch": "main"}}
EVENTS = {
    "pull request": ("pull_request", "merge", {}, "main"),
    "push": ("push", "main", {"before": "{start}", "ref": "refs/heads/main"}, "start"),
    "new branch": ("push", "topic", {"before": "0" * 40, "ref": "refs/heads/topic"}, "start"),
    "forced push": ("push", "main", {"before": "f" * 40, "forced": True, "ref": "refs/heads/main"}, "intended"),
    "merge group": ("merge_group", "merge", {"merge_group": {"base_sha": "{main}"}}, "main"),
    "by hand": ("workflow_dispatch", "topic", {}, "start"),
}


@pytest.mark.parametrize("what", EVENTS)
def test_script_compares_with_the_base_of_the_event(run, hub, tmp_path, monkeypatch, what):
    name, head, payload, base = EVENTS[what]
    filled = re.sub(r"{(\w+)}", lambda found: getattr(hub, found[1]), json.dumps(payload).replace("{}", "{ }"))
    event(monkeypatch, name, {**MAIN, **hub.pull_request(stale_base=hub.start), **json.loads(filled)})
    monkeypatch.chdir(checked_out(hub, getattr(hub, head), tmp_path / "clone", depth=1))
    given: list[list[str]] = []
    monkeypatch.setattr(parity.cli, "main", lambda words: given.append(words) or 0)
    assert run.gate() == 2  # since nothing was compared
    options = SHORT.split()
    assert given[0][: len(options) + 3] == ["gate", *options, "--base", getattr(hub, base)]
    assert given[0][len(options) + 9 :] == ["port.py:make"]


def test_documentation_after_an_intended_change_on_main_is_identical(hub, tmp_path):
    """The whole script, in a process of its own, on a shallow clone."""
    clone = checked_out(hub, hub.merge, tmp_path / "clone", depth=1)
    environment = {**os.environ, **workflow(tmp_path), "GITHUB_EVENT_NAME": "pull_request", "PYTHONPATH": str(ROOT)}
    Path(environment["GITHUB_EVENT_PATH"]).write_text(json.dumps(hub.pull_request(hub.start)), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, ACTION / "run.py", "gate"], cwd=clone, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "::" not in done.stdout
    assert f"Comparing with {hub.main}, the first parent of the pull request's merge commit." in done.stdout
    told = dict(line.split("=", 1) for line in (tmp_path / "github_output").read_text().splitlines())
    assert (told["verdict"], told["accepted"], told["base"]) == ("IDENTICAL", "", hub.main)
    assert json.loads(Path(told["json"]).read_text(encoding="utf-8"))["verdict"] == "IDENTICAL"
    summary = (tmp_path / "github_step_summary").read_text(encoding="utf-8")
    assert summary == Path(told["markdown"]).read_text(encoding="utf-8")
    assert "IDENTICAL" in Path(told["html"]).read_text(encoding="utf-8")
    assert summary.startswith("### IDENTICAL")


def test_a_fault_is_annotated_once_and_handed_on(run, repository, monkeypatch, capsys):
    event(monkeypatch, "push", MAIN)
    edited = MODEL.replace(*WRONG).replace(*REORDERING)
    Path("model.py").write_text(edited, encoding="utf-8")
    monkeypatch.setenv("BASE", "main")
    monkeypatch.setenv("ARGUMENTS", SHORT.replace("--rounds 0", "--rounds 6"))
    assert run.gate() == 1
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("::")]
    assert len(notes) == 1
    assert notes[0].startswith("::error file=model.py,line=")
    assert outputs()["verdict"] == "DIVERGED"
    assert float(outputs()["speed-ratio"]) > 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"BASE": "nonesuch"}, "There is no revision 'nonesuch' to compare with; check out with fetch-depth: 0."),
        ({"SUBJECT": "gone.py:make"}, "There is no file gone.py."),
        (
            {"ARGUMENTS": "--stepz=3"},
            "parity gate: there is no option --stepz=3 (did you mean '--steps'?). See parity gate --help.",
        ),
        ({"ARGUMENTS": "--names 'a b"}, "No closing quotation"),
        (
            {"ARGUMENTS": "--accept=All"},
            "--accept is for the command line: in a workflow it would let every change pass.",
        ),
        (
            {"ARGUMENTS": "-- true"},
            'A command is given as the input subject, after "-- ", and not among the arguments.',
        ),
    ],
)
def test_bad_usage_is_one_annotation(run, repository, monkeypatch, capsys, settings, said):
    event(monkeypatch, "push", MAIN)
    for name, value in {"BASE": "main", **settings}.items():
        monkeypatch.setenv(name, value)
    assert run.gate() == 2
    printed = capsys.readouterr()
    assert [line for line in printed.out.splitlines() if "::" in line] == [f"::error title=parity gate::{said}"]
    assert printed.err == ""
    assert not Path(os.environ["GITHUB_OUTPUT"]).exists()


def test_arguments_cannot_switch_the_gate_off(run, repository, tmp_path, monkeypatch, capsys):
    event(monkeypatch, "push", MAIN)
    monkeypatch.setenv("BASE", "main")
    monkeypatch.setenv("ARGUMENTS", "--help")
    assert run.gate() == 2
    said = "::error title=parity gate::Nothing was compared: the input arguments is for options of a gate that runs."
    assert said in capsys.readouterr().out.splitlines()
    Path("model.py").write_text(MODEL.replace(*WRONG), encoding="utf-8")
    git("commit", "--quiet", "-am", "Break")
    monkeypatch.setenv("BASE", "HEAD~1")
    monkeypatch.setenv("ARGUMENTS", f"{SHORT} --base HEAD --json {tmp_path / 'own.json'} --markdown own.md")
    assert run.gate() == 1
    assert outputs()["verdict"] == "DIVERGED"
    assert not (tmp_path / "own.json").exists()


def test_first_commit_is_a_notice(run, repository, monkeypatch, capsys):
    event(monkeypatch, "workflow_dispatch", {})
    assert run.gate() == 0
    said = "::notice title=parity gate::This is the first commit: there is nothing to compare it with.\n"
    assert capsys.readouterr().out == said


def test_pages_of_two_jobs_or_subjects_have_two_names(run, monkeypatch):
    names = set()
    for page in ("parity-check-0", "parity-check-1"):
        monkeypatch.setenv("PAGE", page)
        for subject in ("port.py:make", "other/port.py:make", "-- ./port 'a b' *"):
            monkeypatch.setenv("SUBJECT", subject)
            names.add(run.page_name())
    assert len(names) == 6
    assert all(re.fullmatch(r"parity-check-[01]-[\w.-]+", name) for name in names)


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ("a b.py:make", ["a b.py:make"]),
        ("-- ./my_port --flag 'two words'", ["--", "./my_port", "--flag", "two words"]),
    ],
)
def test_subject_is_passed_on_in_words(run, monkeypatch, subject, words):
    monkeypatch.setenv("SUBJECT", subject)
    assert run.subject() == words


def test_plan_keeps_packages_until_something_changes(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def planned(**settings: str) -> dict[str, str]:
        Path(os.environ["GITHUB_OUTPUT"]).unlink(missing_ok=True)
        with monkeypatch.context() as context:
            for name, value in settings.items():
                context.setenv(name, value)
            assert run.plan() == 0
        return outputs()

    Path("requirements.txt").write_text("numpy\n", encoding="utf-8")
    once = planned(REQUIREMENTS="requirements.txt")
    assert planned(REQUIREMENTS="requirements.txt") == once
    others = [planned(), planned(REQUIREMENTS="requirements.txt", TORCH_CPU_INDEX="somewhere")]
    Path("requirements.txt").write_text("numpy>=2\n", encoding="utf-8")
    others.append(planned(REQUIREMENTS="requirements.txt"))
    keys = [plan["packages-key"] for plan in (once, *others)]
    assert len(set(keys)) == 4
    Path("requirements.txt").write_text("numpy>=2\n -r more/some.txt # more\n--constraint=pins.txt\n", encoding="utf-8")
    Path("more").mkdir()
    Path("more/some.txt").write_text("-c ../pins.txt\n-r some.txt\n", encoding="utf-8")
    Path("pins.txt").write_text("scipy<2\n", encoding="utf-8")
    nested = planned(REQUIREMENTS="requirements.txt")["packages-key"]
    Path("more/some.txt").write_text("-c ../pins.txt\nrich\n", encoding="utf-8")
    added = planned(REQUIREMENTS="requirements.txt")["packages-key"]
    Path("pins.txt").write_text("scipy<3\n", encoding="utf-8")
    others.append(planned(REQUIREMENTS="requirements.txt"))
    with monkeypatch.context() as context:
        context.setattr(run, "week", lambda: "another one")
        later = planned(REQUIREMENTS="requirements.txt")["packages-key"]
    keys += [nested, added, later, others[-1]["packages-key"]]
    assert len(set(keys)) == 8
    monkeypatch.setattr(run, "processor", lambda: ["another one"])
    another = planned(REQUIREMENTS="requirements.txt")
    assert another["packages-key"] == keys[-1]
    assert another["oracle-key"] != others[-1]["oracle-key"]


def test_torch_for_the_cpu_is_installed_where_there_is_no_gpu(run, monkeypatch):
    monkeypatch.setenv("TORCH_CPU_INDEX", "an-index")
    monkeypatch.setenv("REQUIREMENTS", "a.txt 'b c.txt'")
    files = [str(ROOT), "--requirement", "a.txt", "--requirement", "b c.txt"]
    assert run.install_command(gpu=False)[3:] == ["install", "--extra-index-url", "an-index", *files]
    assert run.install_command(gpu=True)[3:] == ["install", *files]
    monkeypatch.setenv("OWN_PYTHON", "true")
    assert run.install_command(gpu=True)[0] == sys.executable


def test_steps_name_inputs_and_outputs_that_exist(run):
    assert set(re.findall(r"inputs\.([\w-]+)", DESCRIPTION)) == set(INPUTS)
    given = set(re.findall(r"steps\.gate\.outputs\.([\w-]+)", DESCRIPTION))
    assert given == {"verdict", "accepted", "speed-ratio", "base", "json", "markdown", "html"}
    (kept,) = re.findall(r"actions/upload-artifact@.*?with:\n(.*?)\n    - ", DESCRIPTION, flags=re.DOTALL)
    assert {line.strip() for line in kept.splitlines()} == {
        *("path: ${{ steps.gate.outputs.html }}", "archive: false", "overwrite: true"),
    }
    assert "PAGE: ${{ steps.page.outputs.artifact-url }}" in DESCRIPTION
    planned = set(re.findall(r"steps\.plan\.outputs\.([\w-]+)", DESCRIPTION))
    run.plan()
    assert planned == outputs().keys()


@pytest.mark.parametrize("name", [".github/actions/gate/action.yml", ".github/workflows/ci.yml", CI_PAGE])
def test_actions_of_others_are_pinned_by_commit(name):
    used = re.findall(r"uses: (\S+)(.*)", (ROOT / name).read_text(encoding="utf-8"))
    others = [(action, version) for action, version in used if action.startswith("actions/")]
    assert others
    for action, version in others:
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action), action
        assert re.match(r" # v\d+\.\d+\.\d+", version), action


def test_workflow_of_the_page_gives_inputs_that_exist():
    page = (ROOT / CI_PAGE).read_text(encoding="utf-8")
    workflow = next(block for block in re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL) if "on:" in block)
    given = re.findall(r"([\w-]+): ", workflow.partition("with:")[2])
    assert given
    assert set(given) <= set(INPUTS)
    for part in ("pull_request", "merge_group", "push", "workflow_dispatch", "permissions:", "contents: read"):
        assert part in workflow
