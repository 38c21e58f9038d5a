"""Campaigns: items are done once, whoever dies; what failed is made small; ledgers merge and stay as they are."""

import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest

from parity.campaign import item as items
from parity.campaign.drawing import DRAWS, exercised
from parity.campaign.item import CALIBRATE, CHECK, MUTANTS, Item, Plan
from parity.campaign.ledger import Ledger, case_digest
from parity.campaign.outcome import CaseOutcome, Comparison, Outcome
from parity.campaign.running import run
from parity.campaign.summary import Summary, rate_below
from parity.campaign.workers import LocalWorkers
from parity.campaign.working import Task, do
from parity.case import Case
from parity.cli import main
from parity.errors import UsageError
from parity.options import OPTIONS
from parity.progress import watched

TWIN = "torch_twin.microgpt:make"
WRONG = """
import os
from torch_twin.microgpt import Twin

class Wrong(Twin):
    def train_step(self, batch):
        step = super().train_step(batch)
        if self.config.block_size > 1 and not os.path.exists("mended"):
            step.loss = step.loss * 1.01
        return step

class Deadly(Twin):
    def train_step(self, batch):
        if len(batch) > 1:
            os.kill(os.getpid(), 9)
        return super().train_step(batch)

def wrong(config, hyper, dtype="float64"):
    return Wrong(config, hyper, dtype=dtype)

def deadly(config, hyper, dtype="float64"):
    return Deadly(config, hyper, dtype=dtype)
"""


class Here:
    """Workers in this process, which may be told how to die: after so many tasks, or all of them."""

    number = 2

    def __init__(self, survives: int | None = None) -> None:
        self.survives, self.done = survives, []

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def submit(self, task):
        future: Future[Outcome] = Future()
        if self.survives is not None and len(self.done) >= self.survives:
            future.set_exception(KeyboardInterrupt())
        else:
            self.done.append(task)
            future.set_result(do(task))
        return future

    def died(self, error):
        return ""


def plan(subjects=(TWIN,), kind=CALIBRATE, dtypes=("float64",), seeds=range(2), **options) -> Plan:
    return Plan(kind, subjects, dtypes, ("edges",), seeds, 60.0, **options)


def run_here(plan: Plan, path: Path, workers: Here | None = None) -> Summary:
    with Ledger(path) as ledger:
        items = run(plan, ledger, workers or Here())
        return Summary(ledger, plan.kind, items=items)


@pytest.fixture(autouse=True)
def _few_cases(monkeypatch):
    monkeypatch.setattr(items, "CASES_OF_AN_ITEM", 6)


@pytest.fixture
def wrong(tmp_path, monkeypatch):
    """A file of subjects, in the current folder: one that is wrong in some cases, one that kills its process."""
    monkeypatch.chdir(tmp_path)
    Path("wrong.py").write_text(WRONG, encoding="utf-8")
    return "wrong.py:wrong"


def outcome(verdict="PARITY", z=1.0, case="{}", **options) -> Outcome:
    comparison = Comparison("lock-step", verdict, z, 10.0, 100)
    return Outcome(
        [CaseOutcome(case_digest(case), (1, 2, 1, 4, 3), ("one head",), (comparison,), **options)], 2.0, 1.0, "w"
    )


def item(**options) -> Item:
    return replace(Item(CALIBRATE, "s", "", "edges", 0, 20, False, 60.0, "", "r"), **options)


def real_item(**options) -> Item:
    """One that can be done."""
    found = item(**{"subject": TWIN, "cases": 6, "revision": items.revision(), **options})
    return replace(found, code=items.code_of(found.kind, found.subject))


def test_an_item_is_done_once_and_an_interrupted_campaign_goes_on(tmp_path):
    asked, ledger = plan(), tmp_path / "ledger.db"
    first = Here(survives=1)
    with pytest.raises(KeyboardInterrupt):
        run_here(asked, ledger, first)
    second, third = Here(), Here()
    summary = run_here(asked, ledger, second)
    assert [len(workers.done) for workers in (first, second)] == [1, 1]
    assert summary.items == 2
    assert summary.exit_status == 0
    assert run_here(asked, ledger, third).to_dict() == summary.to_dict()
    assert not third.done


def test_the_cases_of_a_seed_are_the_same_again():
    asked = Task(plan(seeds=range(1)).items()[0])
    first, second = do(asked), do(asked)
    assert first.cases == second.cases
    assert len(first.cases) == asked.item.cases


def test_the_cases_of_a_seed_are_the_same_whatever_else_is_imported(tmp_path):
    """Hypothesis draws constants of modules that are not installed, once they are imported."""
    asked = Task(real_item(subject="parity.scalar:make", draw="training", cases=12))
    (tmp_path / "port.py").write_text(f"NUMBERS = {[n / 70 for n in range(60)]}\n", encoding="utf-8")
    program = (
        "import sys; from parity.campaign.item import Item; from parity.campaign.working import Task, do\n"
        f"if sys.argv[1:]: import port\n"
        f"print(*(case.digest for case in do({asked!r}).cases))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    drawn = [
        subprocess.run(
            [sys.executable, "-c", program, *words], env=environment, capture_output=True, text=True, check=True
        )
        for words in ([], ["with the port"])
    ]
    assert drawn[0].stdout == drawn[1].stdout
    assert len(set(drawn[0].stdout.split())) > 5


def test_other_code_is_another_item(wrong):
    before = plan([wrong], CHECK).items()[0]
    Path("wrong.py").write_text(WRONG + "\n", encoding="utf-8")
    after = plan([wrong], CHECK).items()[0]
    assert before.key != after.key
    assert before.question == after.question
    assert plan(["-- ./port --fast"], CHECK).items()[0].code


def test_a_wrong_subject_is_refused_and_its_case_made_small_once(wrong):
    summary = run_here(plan([wrong], CHECK), Path("ledger.db"))
    found = summary.to_dict()
    (failure,) = found["failures"]  # several cases, one signature
    assert summary.exit_status == 1
    assert failure["cases"] > 1
    assert failure["smallest"]
    assert failure["signature"].startswith("DIVERGED, lock-step, loss")
    with Ledger(Path("ledger.db")) as ledger:
        small = Case.from_json(ledger.case_text(failure["case"][:8]))
    assert (small.config.n_layer, small.config.block_size, small.batch_size, small.steps) == (1, 2, 1, 1)
    again = Here()
    assert run_here(plan([wrong], CHECK), Path("ledger.db"), again).to_dict()["failures"] == [failure]
    assert not again.done  # neither items nor shrinking


def test_the_command_that_repeats_a_failure_does(wrong, capsys):
    failure = run_here(plan([wrong], CHECK), Path("ledger.db")).to_dict()["failures"][0]
    parity, *words = shlex.split(failure["replay"])
    assert parity == "parity"
    assert main(words) == 1
    assert "DIVERGED" in capsys.readouterr().out
    assert main(["replay", "ledger.db#000000", wrong]) == 2
    assert main(["replay", "none.db#000000", wrong]) == 2
    assert "There is no ledger none.db" in capsys.readouterr().err
    assert main(["replay", "ledger.db", wrong]) == 2
    assert "name one" in capsys.readouterr().err


def test_what_failed_before_comes_first_when_the_code_has_changed(wrong):
    run_here(plan([wrong], CHECK, seeds=range(5, 6)), Path("ledger.db"))
    Path("wrong.py").write_text(f"{WRONG}\n", encoding="utf-8")  # another address,
    Path("mended").touch()  # and a module that is imported already
    workers = Here()
    summary = run_here(plan([wrong], CHECK, seeds=range(1)), Path("ledger.db"), workers)
    assert [task.item.seed for task in workers.done] == [5, 0]
    assert summary.exit_status == 0


def test_workers_that_are_killed_lose_the_item_in_hand_alone(wrong):
    """Two processes; one kills itself over a subject's answer, another is killed from outside."""
    asked = Plan(CHECK, ("wrong.py:deadly", TWIN), ("",), ("edges",), range(2), 60.0)
    killed: deque[int] = deque()

    class Watcher:
        def begin(self, what, parts):
            return 0

        def part_is_done(self, number):
            if not killed:
                killed.append(min(workers.pool._pool_manager.worker_manager.workers))  # there is no public way
                os.kill(killed[0], signal.SIGKILL)

        def end(self, number):
            pass

    with Ledger(Path("ledger.db")) as ledger:
        with LocalWorkers(2) as workers, watched(Watcher()):
            items = run(asked, ledger, workers)
        summary = Summary(ledger, CHECK, items=items)
    found = summary.to_dict()
    assert killed
    assert {died["item"] for died in found["died"]} == {f"wrong.py:deadly, edges, seed {seed}" for seed in (0, 1)}
    assert all("2 times, by SIGKILL" in died["why"] for died in found["died"])
    assert found["items"] == 4
    assert (found["formats"][0]["refused"], found["refused"]) == (0, 2)
    assert found["formats"][0]["comparisons"] > 0  # the other subject's, all of them
    assert summary.exit_status == 1


def test_a_ray_cluster_of_two_nodes_does_the_same(tmp_path, capsys):
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    ledger = tmp_path / "ledger.db"
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        words = [
            "campaign",
            "calibrate",
            TWIN,
            "--cases",
            "12",
            "--draw",
            "edges",
            "--dtype",
            "float64",
        ]
        assert main([*words, "--ledger", str(ledger), "--ray", cluster.address]) == 0
    finally:
        cluster.shutdown()
    assert main([*words, "--ledger", str(tmp_path / "local.db"), "--workers", "1"]) == 0

    def compared(path: Path):
        with Ledger(path, read_only=True) as found:
            return {item.key: outcome.cases for item, outcome, _ in found.entries()}

    assert compared(ledger) == compared(tmp_path / "local.db")
    assert len(compared(ledger)) == 2


def test_no_ray_cluster_is_one_sentence(tmp_path, capsys):
    pytest.importorskip("ray")
    words = ["campaign", "calibrate", "--cases", "20", "--ledger", str(tmp_path / "ledger.db"), "--ray", "nonsense"]
    assert main(words) == 2
    assert "There is no Ray cluster at nonsense" in capsys.readouterr().err


def test_known_mistakes_show_in_drawn_cases(tmp_path):
    summary = run_here(plan(("gelu", "weight_decay"), MUTANTS, seeds=range(1)), tmp_path / "ledger.db")
    by_name = {found["mistake"]: found for found in summary.to_dict()["mistakes"]}
    assert summary.exit_status == 0
    assert 0 < by_name["weight_decay"]["caught"] <= by_name["weight_decay"]["comparisons"]
    assert by_name["gelu"]["caught"]
    assert by_name["weight_decay"]["smallest_z_caught"] > by_name["weight_decay"]["limit"]


def test_a_mistake_that_shows_nowhere_is_a_failure(tmp_path):
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.append(item(kind=MUTANTS, subject="gelu", dtype="float64"), outcome("MISSED"))
        assert Summary(ledger, MUTANTS).exit_status == 1


def test_guided_drawing_keeps_the_case_at_the_top(tmp_path):
    asked = replace(plan(seeds=range(1), dtypes=("float32",)).items()[0], guided=True)
    found = do(Task(asked))
    (top,) = [case for case in found.cases if case.extreme]
    assert top.closeness == max(case.closeness for case in found.cases)
    assert Case.from_json(top.case)
    assert not any(case.case for case in found.cases if case is not top)
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.append(asked, found)
        (extreme,) = Summary(ledger, CALIBRATE, True).to_dict()["extremes"]
        assert extreme["case"] == top.digest
        assert ledger.case_text(extreme["case"]) == top.case
    folder = tmp_path / "cases"
    assert main(["campaign", "show", str(tmp_path / "ledger.db"), "--cases", str(folder)]) == 0
    assert [Case.load(file) for file in folder.iterdir()] == [Case.from_json(top.case)]


def test_code_that_is_not_the_items_is_refused():
    """As on another machine of a cluster, whose outcome would be noted under this one's address."""
    for other in (replace(real_item(), revision="other"), replace(real_item(), code="other")):
        with pytest.raises(UsageError, match="has another version of"):
            do(Task(other))


def test_a_program_that_is_edited_is_another_item(tmp_path, monkeypatch):
    program = tmp_path / "my port"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for command in ("-- 'my port' --fast", f"-- sh '{program}'"):
        before = items.code_of(CHECK, command)
        program.write_text(program.read_text(encoding="utf-8") + "\n", encoding="utf-8")
        assert items.code_of(CHECK, command) != before


NAN = """
from torch_twin.microgpt import Twin

class Nan(Twin):
    def train_step(self, batch):
        step = super().train_step(batch)
        if batch[0][1] != batch[0][0]:
            step.loss = float("nan")
        return step

def make(config, hyper, dtype="float64"):
    if config.activation == "relu2":
        raise NotImplementedError("no squares")
    return Nan(config, hyper, dtype=dtype)
"""


def test_a_subject_that_answers_nan_is_refused_and_a_model_that_it_has_not_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("nan.py").write_text(NAN, encoding="utf-8")
    for dtype in ("float64", "float32"):
        found = do(Task(real_item(subject="nan.py:make", dtype=dtype, cases=8)))
        verdicts = {one.verdict for case in found.cases for one in case.comparisons}
        assert "NOT FINITE" not in verdicts
        assert any(case.signature for case in found.cases)
        assert all(bool(case.comparisons) != ("squared ReLU" in case.exercised) for case in found.cases)


def test_a_failure_hides_behind_no_newer_subject_and_no_earlier_pass(tmp_path):
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.append(item(subject="a", revision="1"), outcome())
        ledger.append(item(subject="b", revision="1"), outcome())
        wrong = outcome("DIVERGED", signature="s", reason="because")
        ledger.append(item(subject="a", revision="2"), wrong)
        summary = Summary(ledger, CALIBRATE)
        assert (summary.exit_status, summary.items, summary.refused) == (1, 2, 1)
        assert Summary(ledger, CALIBRATE, items=[item(subject="a", revision="1")]).items == 1
        ledger.append(item(subject="b", revision="1", seed=1), wrong)  # the same case once more
        assert Summary(ledger, CALIBRATE).refused == 2


def test_code_that_was_before_is_the_newest_again(wrong):
    """As where a mistake is put back: its items are done already."""
    run_here(plan([wrong], CHECK, seeds=range(1)), Path("ledger.db"))
    Path("wrong.py").write_text(f"{WRONG}\n", encoding="utf-8")
    Path("mended").touch()
    assert run_here(plan([wrong], CHECK, seeds=range(1)), Path("ledger.db")).exit_status == 0
    Path("wrong.py").write_text(WRONG, encoding="utf-8")
    assert run_here(plan([wrong], CHECK, seeds=range(1)), Path("ledger.db")).exit_status == 1
    with Ledger(Path("ledger.db")) as ledger:
        assert Summary(ledger, CHECK).exit_status == 1


def test_infinities_are_written_as_json(tmp_path, capsys):
    path = tmp_path / "ledger.db"
    with Ledger(path) as ledger:
        ledger.append(item(), outcome("INCONCLUSIVE", float("inf")))
        ledger.append(item(kind=MUTANTS, subject="gelu", dtype="float64"), outcome("CAUGHT", float("inf")))
    assert main(["campaign", "show", str(path)]) == 3
    assert "0 false alarms in 1 comparison of 1 case, 1 undecided." in capsys.readouterr().out


def test_a_ledger_is_one_file_and_is_not_merged_into_itself(tmp_path, capsys):
    path = tmp_path / "ledger.db"
    with Ledger(path) as ledger:
        ledger.append(item(), outcome())
        assert [file.name for file in tmp_path.iterdir()] == ["ledger.db"]
    assert main(["campaign", "merge", str(path), str(path)]) == 2
    with sqlite3.connect(path) as other:
        other.execute("INSERT INTO items VALUES ('k', '{}', '{}', 0)")
    other.close()
    assert main(["campaign", "show", str(path)]) == 2
    assert "holds something that no campaign wrote" in capsys.readouterr().err


def test_ledgers_merge_and_each_comparison_counts_once(tmp_path, capsys):
    paths = [tmp_path / name for name in ("all.db", "first.db", "second.db")]
    for path, seeds in zip(paths[1:], ((0, 1), (1, 2))):
        with Ledger(path) as ledger:
            for seed in seeds:
                ledger.append(item(seed=seed), outcome(case=f'"{seed}"'))
    assert main(["campaign", "merge", *map(str, paths)]) == 0
    assert [line.rpartition(": ")[2] for line in capsys.readouterr().out.splitlines()] == ["2 new items", "1 new item"]
    with Ledger(paths[0]) as ledger:
        found = Summary(ledger, CALIBRATE).to_dict()
    assert (found["items"], found["comparisons"]) == (3, 3)
    assert main(["campaign", "show", str(paths[0]), "--json", "-"]) == 0
    assert [campaign["items"] for campaign in json.loads(capsys.readouterr().out)["campaigns"]] == [3]
    assert main(["campaign", "merge", str(paths[0]), str(tmp_path / "none.db")]) == 2


def test_what_is_of_older_code_is_not_counted_nor_kinds_together(tmp_path, capsys):
    path = tmp_path / "ledger.db"
    with Ledger(path) as ledger:
        ledger.append(item(code="old"), outcome("DIVERGED", case="1", signature="s", reason="because"))
        ledger.append(item(code="new"), outcome("PARITY", case="2"))
        ledger.append(item(kind=MUTANTS, subject="gelu", dtype="float64"), outcome("CAUGHT"))
        ledger.append(item(guided=True), outcome("PARITY", 9.0))
    assert main(["campaign", "show", str(path), "--json", "-"]) == 0
    calibrated, mistakes, guided = json.loads(capsys.readouterr().out)["campaigns"]
    assert (calibrated["comparisons"], calibrated["other_items"], calibrated["failures"]) == (1, 3, [])
    assert [found["mistake"] for found in mistakes["mistakes"]] == ["gelu"]
    assert guided["guided"]
    assert calibrated["formats"][0]["largest_z"] == 1.0
    assert main(["campaign", "show", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "0 false alarms in 1 comparison of 1 case." in printed
    assert "1 of 1 mistakes" in printed
    assert "drawn towards the largest z" in printed


def test_a_ledger_stays_as_it_is(tmp_path):
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.append(item(), outcome("PARITY"))
        ledger.append(item(), outcome("DIVERGED"))  # of the same address
        assert [found.cases[0].comparisons[0].verdict for _, found, _ in ledger.entries()] == ["PARITY"]
        for verb in ("UPDATE items SET outcome = ''", "DELETE FROM items", "DELETE FROM cases", "DELETE FROM shrunk"):
            if "items" in verb:
                with pytest.raises(sqlite3.Error, match="append-only"):
                    ledger.connection.execute(verb)


@pytest.mark.parametrize("text", ["", "no database", "SQLite format 3\0" + "x" * 200])
def test_a_file_that_is_no_ledger_is_refused_in_one_sentence(tmp_path, capsys, text):
    path = tmp_path / "ledger.db"
    path.write_text(text, encoding="utf-8")
    assert main(["campaign", "show", str(path)]) == 2
    assert str(path) in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == text


def test_another_database_is_refused(tmp_path, capsys):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE t (x)")
    other.close()
    for words in (["show", str(path)], ["calibrate", "--ledger", str(path)]):
        assert main(["campaign", *words]) == 2
        assert "is no ledger of a campaign" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["check"], "Name a subject to check"),
        (["check", "no_such_module:make"], "no_such_module"),
        (["check", TWIN, "--seeds", "3:1"], "end after it begins"),
        (["check", TWIN, "--seeds", "0:9", "--cases", "20"], "say the same"),
        (["check", TWIN, "--ray", "auto", "--workers", "2"], "--workers"),
        (["check", TWIN, "--ledger", "no/such/folder/ledger.db"], "no/such/folder"),
        (["mutants", "--mutant", "gelo"], "did you mean 'gelu'"),
        (["show", "none.db"], "There is no ledger none.db"),
        (["walk"], "there is no 'walk'"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(["campaign", *words])
    except SystemExit as left:
        status = left.code
    assert status == 2
    message = capsys.readouterr().err
    assert said in message
    assert "Traceback" not in message
    assert not list(tmp_path.glob("no*"))


def test_refusals_bound_the_rate():
    """Of n comparisons without an alarm, about 3 / n; with one, about 4.7 / n."""
    assert rate_below(0, 1000) == pytest.approx(3e-3, rel=0.01)
    assert rate_below(1, 1000) == pytest.approx(4.74e-3, rel=0.01)
    assert rate_below(0, 0) is None


def test_refusals_are_counted_and_undecided_alone_are_nothing(tmp_path):
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.append(item(), outcome("INCONCLUSIVE"))
        assert Summary(ledger, CALIBRATE).exit_status == 3
        ledger.append(item(seed=1), outcome("PARITY", 3.0, "1"))
        assert Summary(ledger, CALIBRATE).exit_status == 0
        ledger.append(item(seed=2), outcome("NOT FINITE", float("inf"), "2"))
        found = Summary(ledger, CALIBRATE).to_dict()["formats"][0]
        assert (found["comparisons"], found["undecided"], found["not_finite_in_the_format"]) == (2, 1, 1)
        ledger.append(item(seed=3), outcome("DIVERGED", float("inf"), "3", signature="DIVERGED", reason="because"))
        summary = Summary(ledger, CALIBRATE)
        assert summary.exit_status == 1
        assert summary.to_dict()["formats"][0]["largest_z"] == 3.0  # of what passed
        json.dumps(summary.to_dict(), allow_nan=False)


def test_every_way_of_drawing_is_an_option():
    assert list(DRAWS) == OPTIONS["--draw"]["choices"] == OPTIONS["--draw"]["default"]


@pytest.mark.parametrize("draw", DRAWS)
def test_drawn_cases_exercise_much(draw):
    found = do(Task(real_item(draw=draw, cases=20)))
    done = {words for case in found.cases for words in case.exercised}
    wanted = {"several layers", "batches of several documents", "documents longer than the block", "mid-training"}
    assert wanted <= done


def test_what_a_case_exercises_is_said():
    plain = set(exercised(Case.from_names(steps=1)))
    assert "mid-training" not in plain
    assert "batches of several documents" in set(exercised(Case.from_names(steps=1, batch_size=2)))


def test_the_time_of_work_is_noted(tmp_path):
    started = time.perf_counter()
    found = do(Task(plan(seeds=range(1)).items()[0]))
    assert 0 < found.checking <= found.seconds <= time.perf_counter() - started
