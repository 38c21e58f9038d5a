"""The README's commands run, and print what it says they print."""

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import parity.plugin
from parity import check
from parity.case import Case
from parity.catalogue.mutants import MUTANTS
from parity.cli import main
from parity.cli.check_report import check_report
from parity.cli.ladder_table import markdown
from parity.cli.terminal import console
from parity.ladder import RUNGS
from parity.ladder.comparison import compared
from tests.faults import FAULTS, planted

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)


def shape(text: str) -> str:
    """A text without its numbers and layout: rounding differs from processor to processor."""
    text = re.sub(r"(layer\d\.\w+|lm_head|wte|wpe|document \d+|loss)(\[[\d,]+\])?, step \d+", "PLACE", text)
    return " ".join(re.sub(r"-?\d[\d.,]*(e[-+]\d+)?", "N", text).replace("─", "").split())


def words(text: str) -> str:
    """A text's shape, whatever the revision's name."""
    text = text.replace("no difference can be told", "").replace(";", "")  # which depends on the machine's mood
    return re.sub(r"\b[0-9a-f]{7}\b", "REVISION", shape(re.sub(r"\b[0-9a-f]{7}\b", "REVISION", text)))


def block_that_starts_with(beginning: str) -> str:
    found = [block for _, block in BLOCKS if block.startswith(beginning)]
    assert len(found) == 1, f"{len(found)} blocks of the README start with {beginning!r}"
    return found[0]


def printed_by(result, source: str) -> str:
    terminal = console()
    terminal.file = io.StringIO()
    terminal.print(check_report(result, source))
    return terminal.file.getvalue()


def test_readme_is_a_front_page():
    assert len(README.splitlines()) <= 200


@pytest.mark.parametrize("command", ["parity check", "pytest"])
def test_both_commands_are_single_lines(command):
    line = next(block for _, block in BLOCKS if block.rstrip().endswith(f"&& .venv/bin/{command}"))
    assert line.count("\n") == 1
    assert line.startswith("python3 -m venv .venv && .venv/bin/pip install ")


def test_check_prints_what_the_readme_shows(capsys):
    assert main(["check"]) == 0
    whole = capsys.readouterr().out
    printed = shape(whole)
    parts = [shape(part) for part in block_that_starts_with("PARITY: Rounding explains").split("…")]
    assert printed.startswith(parts[0])
    assert printed.endswith(parts[-1])
    excluded = re.search(r"excludes +((\d+) of \2 known mistakes)", whole)
    assert f"excludes  {excluded[1]}\n" in README
    assert f"all {excluded[2]} that such a model can make" in " ".join(README.split())


def test_known_mistakes_are_counted():
    with_source = sum(bool(mutant.sources) for mutant in MUTANTS.values())
    counted = f"Of the {len(MUTANTS)} known mistakes in `parity/catalogue/`, {with_source} of them with the issue"
    assert f"{counted} or port where somebody made it" in " ".join(README.split())


def test_a_planted_fault_prints_what_the_readme_shows():
    fault = next(fault for fault in FAULTS if fault.name == "no gradient flows through the keys")
    with planted(*fault.edits) as make:
        result = check(make, Case.from_names(steps=3), modes=("lock-step",))
    shown = block_that_starts_with("step 0, in the order of computation")
    assert shape(shown) in shape(printed_by(result, "embedded names"))


def test_example_subject_has_the_shape_of_the_protocol():
    source = next(block for language, block in BLOCKS if language == "python" and "class MyPort" in block)
    namespace: dict = {}
    exec(source, namespace)
    assert {"load", "train_step"} <= vars(namespace["MyPort"]).keys()


def test_options_that_the_readme_names_exist(capsys):
    text = "--pyargs --junitxml --benchmark-only --ranges --fast " + " ".join(parity.plugin.PYTEST_OPTIONS)
    for command in ("check", "gate", "ladder", "mutants", "new-subject", "campaign check"):
        with pytest.raises(SystemExit):
            main([*command.split(), "--help"])
        text += capsys.readouterr().out
    for option in set(re.findall(r"--[a-z][\w-]+", README)):
        assert option in text, option
    for command in set(re.findall(r"`parity ([a-z-]+)", README)):
        assert main(["help", command] if command != "help" else ["help"]) == 0


def test_links_of_the_readme_lead_to_files():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("https://github.com/")]
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_pictures_of_the_readme_are_there_and_small():
    pictures = re.findall(r'(?:src|srcset)="([^"]+)"', README)
    assert len(pictures) == 4
    for picture in pictures:
        assert (ROOT / picture).stat().st_size < 150_000
    folder = ROOT / "benchmarks" / "results" / "pictures"
    assert {file.name for file in folder.iterdir()} == {Path(picture).name for picture in pictures}


def test_picture_of_the_ladder_is_what_was_measured(tmp_path):
    subprocess.run([sys.executable, "-m", "benchmarks.pictures", str(tmp_path)], cwd=ROOT, check=True)
    pictures = ROOT / "benchmarks" / "results" / "pictures"
    for name in ("ladder-light.svg", "ladder-dark.svg"):
        assert (tmp_path / name).read_text(encoding="utf-8") == (pictures / name).read_text(encoding="utf-8")


def test_parts_are_what_the_results_print(tmp_path):
    evidence = Path("parity", "cli", "help", "evidence.md")
    (tmp_path / evidence).parent.mkdir(parents=True)
    text = (ROOT / evidence).read_text(encoding="utf-8")
    (tmp_path / "README.md").write_text(README.replace("PARITY float64", "PARITY float63"), encoding="utf-8")
    (tmp_path / evidence).write_text(text.replace("| float64 | ", "| float63 | "), encoding="utf-8")
    fill = [sys.executable, "-m", "benchmarks.readme", str(tmp_path)]
    subprocess.run(fill, cwd=ROOT, check=True)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == README
    assert (tmp_path / evidence).read_text(encoding="utf-8") == text
    (tmp_path / evidence).write_text(text.replace("<!-- calibration -->", ""), encoding="utf-8")
    refused = subprocess.run(fill, cwd=ROOT, capture_output=True, text=True)
    assert "parity/cli/help/evidence.md has no part <!-- calibration -->" in refused.stderr
    assert refused.returncode == 1


def test_ports_are_those_that_were_judged():
    results = ROOT / "benchmarks" / "results"
    stored = json.loads((results / "ports.json").read_text(encoding="utf-8"))["ports"]
    _, _, *whole = (results / "ports.md").read_text(encoding="utf-8").splitlines()
    in_parity, _, _, _, *shown = README.partition("<!-- ports -->\n")[2].partition("\n<!-- end -->")[0].splitlines()
    right = [port for port in stored if port["verdict"] in ("PARITY", "IDENTICAL")]
    assert len(whole) == len(stored)
    assert len(right) + len(shown) == len(stored)
    for of_all in whole:
        port, _, verdict, deviates, *_ = of_all[2:-2].split(" | ")
        if verdict.startswith(("PARITY", "IDENTICAL")):
            assert f"{port} (" in in_parity
        else:
            assert any(
                told.startswith(f"| {port} (") and told.endswith(f") | {verdict} | {deviates} |") for told in shown
            )
        repository = port[1:].partition("]")[0]
        assert any((of["port"], f"{of['verdict']} {of['dtype']}") == (repository, verdict) for of in stored), of_all


def test_campaign_is_told_as_it_was_measured():
    (found,) = json.loads((ROOT / "benchmarks/results/campaign_calibration.json").read_text(encoding="utf-8"))[
        "campaigns"
    ]
    told = f"refused {found['refused']} of {found['comparisons']:,} comparisons of right implementations"
    assert told in " ".join(README.split())


def test_calibration_is_told_as_it_was_measured():
    found = json.loads((ROOT / "benchmarks" / "results" / "calibration.json").read_text(encoding="utf-8"))
    text, by_hand = " ".join(README.split()), found["false_alarms"]["absolute 2e-2"]["bfloat16"]
    assert not any(found["false_alarms"]["noise floor"].values())
    assert f"no false alarm in {sum(found['comparisons'].values()):,} comparisons" in text
    assert f"in five formats, and left {sum(found['inconclusive'].values())} undecided" in text
    assert len(found["comparisons"]) == 5
    caught = [{f: tools[f]["noise floor"] for f in ("float64", "bfloat16")} for tools in found["caught"].values()]
    assert (
        f"of {len(caught)} planted mistakes it showed {sum(each['float64'] for each in caught)} in float64 and "
        f"{sum(each['bfloat16'] for each in caught)} in bfloat16"
    ) in text
    assert round(found["comparisons"]["bfloat16"] / 2 / by_hand) == 7  # single steps: half of the comparisons
    missed = sum(not tools["float64"]["absolute 2e-2"] for tools in found["caught"].values())
    assert f"refuses one correct bfloat16 step in seven and passes {missed} of the {len(caught)} in float64" in text


def test_ladder_and_claims_are_those_that_were_measured():
    results = ROOT / "benchmarks" / "results"
    assert (results / "claims.md").read_text(encoding="utf-8").splitlines()[-1] in " ".join(README.split())
    rungs = json.loads((results / "ladder.json").read_text(encoding="utf-8"))["rungs"]
    assert [rung["rung"] for rung in rungs] == [rung.name for rung in RUNGS]
    assert compared(rungs, RUNGS) == rungs
    assert markdown(rungs) == (results / "ladder.md").read_text(encoding="utf-8")
    assert f"Of {len(rungs)} rungs {sum(rung['verdict'] != 'skipped' for rung in rungs)} ran" in " ".join(
        README.split()
    )


def test_ladder_shows_the_rungs_that_train_faster_than_all_above():
    rungs = json.loads((ROOT / "benchmarks" / "results" / "ladder.json").read_text(encoding="utf-8"))["rungs"]
    part = README.partition("<!-- ladder -->")[2].partition("<!-- end -->")[0]
    shown = re.findall(r"^\| \*\*(.+?)\*\*: ", part, flags=re.MULTILINE)
    trained = [rung for rung in rungs if rung["timing"] and not rung["timing"]["forward_only"]]
    steps = [rung["timing"]["step"] for rung in trained]
    documents = [min(rung["timing"]["batches"].values()) for rung in trained]
    assert shown == [
        rung["technique"]
        for number, rung in enumerate(trained)
        if any(times[number] == min(times[: number + 1]) for times in (steps, documents))
    ]
    assert 3 < len(shown) < len(trained)
    head, _, *rows = (row[2:-2].split(" | ") for row in part.strip().splitlines())
    by_step, by_document = (number for number, column in enumerate(head) if column == "× ref.")
    fastest = [
        max((row[place] for row in rows), key=lambda cell: int(cell.replace(",", "")))
        for place in (by_step, by_document)
    ]
    assert "So {} times the speed a step and {} times the speed a document".format(*fastest) in " ".join(README.split())


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_gate_prints_what_the_readme_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source = (ROOT / "tests" / "examples" / "numpy_port.py").read_text(encoding="utf-8")
    Path("model.py").write_text(source, encoding="utf-8")
    Path("my_port.py").write_text("from model import make\n", encoding="utf-8")
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-qb", "main"], ["add", "."], [*identity, "commit", "-qm", "Start"]):
        subprocess.run(["git", *arguments], check=True)
    Path("model.py").write_text(source.replace("swapaxes(1, 2) / config.head_dim**0.5\n", "swapaxes(1, 2)\n", 1))
    assert main(["gate", "my_port.py:make", "--base", "main", "--steps", "3", "--rounds", "30"]) == 1
    printed = words(capsys.readouterr().out)
    for part in block_that_starts_with("DIVERGED: the function changed.").split("…"):
        assert words(part) in printed


def test_training_that_changed_prints_what_the_readme_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new-subject", "training.py", "--example", "training"]) == 0
    text = Path("training.py").read_text()
    Path("changed.py").write_text(text.replace("eps: float = 1e-5", "eps: float = 1.1e-5"))
    capsys.readouterr()
    few = ["--steps", "1", "--mode", "lock-step"]
    assert main(["check", "changed.py:make", "--against", "training.py:make", *few]) == 1
    printed = shape(capsys.readouterr().out)
    for part in block_that_starts_with("DIVERGED: In exact arithmetic").split("…"):
        assert shape(part) in printed


def test_front_page_says_what_the_matrix_holds():
    found = json.loads((ROOT / "benchmarks" / "results" / "mutants.json").read_text(encoding="utf-8"))
    formats, located = found["summary"]["formats"], found["summary"]["located"]
    caught = [formats[dtype]["caught"] for dtype in ("float64", "float32", "bfloat16")]
    missed = formats["float64"]["missed_by"]
    said = (
        f"of {formats['float64']['mistakes']} known mistakes the default check catches {caught[0]} in float64, "
        f"{caught[1]} in float32 and {caught[2]} in bfloat16, and places {located['right']}. On the same default run, "
        f"loss curves that agree to 1e-2 miss {missed['losses 1e-2']}, cosines above 0.99 miss {missed['cosine']}, "
        f"torch.testing's defaults {missed['close']}, PyTorch's own `same()` {missed['same']}; in bfloat16 six of seven"
    )
    assert said in " ".join(README.split())
    assert (len(found["rules_refusing_the_twin"]["bfloat16"]), len(found["rules"])) == (6, 7)


def test_front_page_says_what_the_scores_are():
    one, several, unknown = json.loads((ROOT / "benchmarks" / "results" / "scores.json").read_text())["summary"]
    every = [one, several, unknown]
    checks, placed, wrong = (sum(kind[key] for kind in every) for key in ("checks", "located", "wrong"))
    assert checks == sum(kind["refused"] for kind in every)
    named = [f"{kind['right'] + kind['first']} of {kind['checks']}" for kind in (one, several)]
    said = f"{placed} of {checks} checks place the mistake, {wrong} name a wrong one; named are {named[0]} single ones"
    assert f"{said}, {named[1]} pairs" in " ".join(README.split())
