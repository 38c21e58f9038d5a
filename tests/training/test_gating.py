"""The gate of a training: prepared refactors in a repository, most of them with both sides in this process."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from parity import Verdict
from parity.cli import main
from parity.cli.gate_report import annotations
from parity.cli.training_gate_report import training_gate_markdown, training_gate_report
from parity.errors import SubjectError, UsageError
from parity.gate.git import environment_of
from parity.gate.training_gate import gate_training
from parity.subjects.process import Limits
from parity.training.checking import TrainingOptions
from parity.training.remote import Elsewhere
from tests.training.sides import TRAINING, InThisProcess, edited, git

QUICK = TrainingOptions(steps=1, replicas=4, modes=("lock-step",))
WITHOUT_SITES = replace(QUICK, sites=False)
TWO_STEPS = replace(WITHOUT_SITES, steps=2, replicas=2)
REORDERED = (
    "return self.head(torch.tanh(x))",
    "w, x = self.head.weight, torch.tanh(x)\n"
    "        return sum((x[..., i : i + 1] @ w[:, i : i + 1].T for i in range(6)), self.head.bias)",
)
OWN_STEP = ("loss=loss, batches", "step=step, batches")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    git("init", "--quiet", "--initial-branch=main")
    return folder


@pytest.fixture
def in_this_process(monkeypatch):
    monkeypatch.setattr("parity.training.remote.serving", InThisProcess)


def commit(text: str) -> None:
    Path("training.py").write_text(text, encoding="utf-8")
    git("add", ".")
    git("commit", "--quiet", "-m", "Start")


def gated(head: str, base: str = TRAINING, options: TrainingOptions = QUICK, **more):
    commit(base)
    Path("training.py").write_text(head, encoding="utf-8")
    return gate_training("training.py:make", options=options, **{"rounds": 0, **more})


def printed(result, width: int = 118) -> str:
    terminal = Console(file=io.StringIO(), width=width)
    terminal.print(training_gate_report(result))
    return terminal.file.getvalue()


def assert_fits(result) -> None:
    for width in (60, 80, 118):
        lines = printed(result, width).splitlines()
        assert max(map(len, lines)) <= width
        assert not any("…" in line for line in lines)
    text = training_gate_markdown(result)
    assert text.startswith(f"### {result.verdict}: {result.change}\n")
    assert "- head: " in text
    json.dumps(result.to_dict(), allow_nan=False)


@pytest.mark.usefixtures("repository", "in_this_process")
class TestInThisProcess:
    def test_unchanged_is_bitwise_the_same(self):
        result = gated(TRAINING + "\n# a comment\n", rounds=2)
        assert result.verdict is Verdict.IDENTICAL
        assert result.change == "bitwise the same"
        assert result.bits.rows["param"].compared > 0
        assert result.bits.rows["exp_avg_sq"].different == 0
        assert result.speed.pairs == 2
        assert annotations(result) == []
        assert_fits(result)

    def test_other_order_of_a_sum_changes_only_rounding(self):
        result = gated(edited(TRAINING, REORDERED))
        assert result.verdict is Verdict.PARITY
        assert "elements have other bits" in result.reason
        assert not result.bits.identical
        assert result.found.link.wrong == []

    def test_module_that_is_called_once_more_is_no_other_function(self):
        twice = (
            "self.hidden(self.embedding(tokens))",
            "sum(self.embedding(tokens)[..., i::2] @ self.hidden.weight[:, i::2].T for i in (1, 0)) + self.hidden.bias",
        )
        result = gated(edited(TRAINING, twice))
        assert result.verdict.passes
        assert any("only one of the two has" in said and "embedding" in said for said in result.found.not_exercised)

    def test_autocast_loses_precision(self):
        result = gated(
            edited(TRAINING, ("batches=batches)", 'batches=batches, autocast="bfloat16")')), options=WITHOUT_SITES
        )
        assert result.verdict is Verdict.PRECISION_LOSS
        assert result.exit_status == 1
        assert "the noise floor of" in result.reason

    @pytest.mark.parametrize(
        ("edit", "first"),
        [
            (("eps=1e-5", "eps=1.01e-5"), "site norm (LayerNorm)"),
            (("self.head(torch", "0.999 * self.head(torch"), "output output"),
            (("lr=1e-2", "lr=1.001e-2"), "param embedding.weight"),
        ],
    )
    def test_other_function_is_located(self, edit, first):
        result = gated(edited(TRAINING, edit))
        assert result.verdict is Verdict.DIVERGED
        assert result.found.located[0].startswith(first)
        assert "In exact arithmetic it is another function than HEAD" in result.reason
        assert result.lines.keys() == {"training.py"}
        assert_fits(result)

    def test_change_that_float32_hides_altogether_is_found(self):
        result = gated(edited(TRAINING, ("eps=1e-5", "eps=1.0000001e-5")))
        assert result.bits.identical
        assert result.verdict is Verdict.DIVERGED
        assert "every bit is the same: rounding hides it" in result.reason

    def test_gradients_that_are_not_zeroed_show_in_the_second_step(self):
        base = edited(TRAINING, OWN_STEP)
        head = edited(base, ("    optimizer.zero_grad()\n", ""))
        result = gated(head, base, TWO_STEPS)
        assert result.verdict is Verdict.DIVERGED
        assert result.found.link.first_divergence.step == 1
        assert result.found.located[0].startswith("grad ")

    @pytest.mark.parametrize("later", ["head", "base"])
    def test_gradients_zeroed_after_the_step_are_the_same_function(self, later):
        before = edited(TRAINING, OWN_STEP)
        after = edited(before, ("    optimizer.zero_grad()\n", ""), ("step()\n", "step()\n    optimizer.zero_grad()\n"))
        head, base = (after, before) if later == "head" else (before, after)
        result = gated(head, base, TWO_STEPS)
        assert result.verdict is Verdict.IDENTICAL

    def test_neither_the_order_of_random_draws_nor_a_map_of_a_change_that_is_merged_matters(self):
        lines = "        self.embedding = nn.Embedding(5, 4)\n", "        self.hidden = nn.Linear(4, 6)\n"
        head = edited(TRAINING, ("".join(lines), "".join(reversed(lines))))
        result = gated(head + "\n\nNAMES = {'head.weight': 'out.weight'}\n", options=WITHOUT_SITES)
        assert result.verdict is Verdict.IDENTICAL

    def test_renamed_and_transposed_parameters_are_mapped(self):
        head = edited(
            TRAINING,
            ("self.head = nn.Linear(6, 5)", "self.out = nn.Linear(6, 5)"),
            ("self.head(", "self.out("),
            (
                "self.hidden = nn.Linear(4, 6)",
                "self.w = nn.Parameter(torch.zeros(4, 6)); self.b = nn.Parameter(torch.zeros(6))",
            ),
            ("self.hidden(self.embedding(tokens))", "self.embedding(tokens) @ self.w + self.b"),
        )
        names = {"out.weight": "head.weight", "out.bias": "head.bias", "w": "hidden.weight.T", "b": "hidden.bias"}
        result = gated(f"{head}\n\nNAMES = {names}\n")
        assert result.verdict.passes
        assert "site hidden" in " ".join(result.found.not_exercised)
        with pytest.raises(UsageError, match=r"no parameter 'b' for b, and 2 more; map it"):
            gate_training("training.py:make", options=QUICK, rounds=0, names={"w": "hidden.weight"})

    def test_compiled_model_has_the_same_names(self):
        compiled = ("    optimizer = torch", "    model = torch.compile(model, backend='eager')\n    optimizer = torch")
        result = gated(edited(TRAINING, compiled))
        assert result.verdict.passes
        assert not any("_orig_mod" in name for name in result.bits.alone)

    def test_other_batches_are_refused(self):
        with pytest.raises(UsageError, match=r"The batches of step 0 are not those of HEAD \(\w{7}\)"):
            gated(edited(TRAINING, ("manual_seed(3)", "manual_seed(4)")))

    def test_base_that_cannot_be_imported_decides_nothing(self):
        result = gated(TRAINING, base="raise RuntimeError('no such machine')\n")
        assert result.verdict is Verdict.INCONCLUSIVE
        assert result.reason.startswith("At HEAD: The subject raised RuntimeError: no such machine")
        assert result.exit_status == 3

    def test_head_that_fails_is_an_error(self):
        result = gated(edited(TRAINING, ("torch.tanh(x)", "torch.tahn(x)")))
        assert result.verdict is Verdict.ERROR
        assert "has no attribute 'tahn'" in result.reason
        assert "ERROR: the subject fails." in printed(result)

    def test_base_without_the_factory_has_nothing_to_compare(self):
        old = edited(TRAINING, ("def make", "def build"))
        with pytest.raises(UsageError, match=r"At HEAD: training\.py has no 'make'.* --allow-new holds it"):
            gated(TRAINING, old)
        result = gated(TRAINING + "\n", TRAINING + "\n\ndel make\n", allow_new=True)
        assert result.verdict is Verdict.PARITY
        assert result.change == "the training is new"
        assert "no such training" in printed(result)

    def test_both_wrong_alike_is_said_and_passes(self):
        # What a broken kernel does: something else with numbers as they are than with shadows.
        broken = (
            "embedding(tokens)))",
            "embedding(tokens))) * (1.01 if type(self.embedding(tokens)) is torch.Tensor else 1)",
        )
        base = edited(TRAINING, broken)
        result = gated(edited(base, REORDERED), base, WITHOUT_SITES)
        assert result.found.verdict is Verdict.DIVERGED
        assert result.base["verdict"] == "DIVERGED"
        assert result.verdict is Verdict.PARITY
        assert result.wrong_alike
        assert "Both wrong alike" in printed(result)
        assert "Both wrong alike" in training_gate_markdown(result)


def test_command_line_in_processes_of_their_own(repository, monkeypatch, capsys):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    commit(TRAINING)
    line = next(i for i, text in enumerate(TRAINING.splitlines(), 1) if "eps=" in text)
    Path("training.py").write_text(edited(TRAINING, ("eps=1e-5", "eps=1e-4")), encoding="utf-8")
    options = ["--steps", "1", "--replicas", "4", "--rounds", "6", "--fail-slower", "50"]
    assert (
        main(
            [
                "gate",
                "training.py:make",
                *options,
                "--json",
                "result.json",
                "--markdown",
                "result.md",
                "--html",
                "page.html",
            ]
        )
        == 1
    )
    out = capsys.readouterr().out
    assert out.startswith("DIVERGED: the function changed. In exact arithmetic")
    assert "begins at  site norm (LayerNorm)" in out
    (annotation,) = [text for text in out.splitlines() if text.startswith("::")]
    assert annotation.startswith(
        f"::error file=training.py,line={line},title=parity gate::DIVERGED: the function changed"
    )
    found = json.loads(Path("result.json").read_text(encoding="utf-8"))
    assert found["verdict"] == "DIVERGED"
    assert found["speed"]["pairs"] == 6
    assert found["training"]["link"]["wrong"][0]["tensor"] == "site norm"
    assert found["lines"] == {"training.py": [[line, line]]}
    assert "Changed: training.py" in Path("result.md").read_text(encoding="utf-8")
    page = Path("page.html").read_text(encoding="utf-8")
    assert f"training.py: {line}<" in page
    assert ">norm (LayerNorm)<" in page


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--n-layer", "2"], "--n-layer is for a subject that is held to the reference"),
        (["--accept", "why"], "--accept is not for trainings"),
        (["--steps", "9"], "The batches last for 3 steps, and --steps asks for 9."),
        (["--names-map", "missing.json"], "The map of names missing.json cannot be read"),
    ],
)
@pytest.mark.usefixtures("repository", "in_this_process")
def test_options_that_do_not_fit_are_refused_in_a_sentence(options, said, capsys):
    commit(TRAINING)
    assert main(["gate", "training.py:make", *options]) == 2
    assert said in capsys.readouterr().err


def test_options_of_trainings_are_refused_for_a_subject(repository, capsys):
    assert main(["gate", "port.py:make", "--replicas", "4"]) == 2
    assert "--names-map and --replicas are for trainings, and port.py:make is none." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "seconds", "said"),
    [
        ("import time; time.sleep(60)", 0.5, r"At main: The subject did not answer within 0\.5 s in its description"),
        ("import os; print('so long'); os.kill(os.getpid(), 9)", 60, r"killed by SIGKILL in .*last words: so long"),
    ],
)
def test_process_that_hangs_or_dies_is_ended(repository, tmp_path, body, seconds, said):
    Path("training.py").write_text(body, encoding="utf-8")
    side = Elsewhere(
        "training.py:make",
        {},
        folder=repository,
        moved=(repository, repository),
        environment=environment_of(repository, repository),
        limits=Limits(seconds),
        exchange=tmp_path,
        where="main",
    )
    with pytest.raises(SubjectError, match=said):
        side.describe(1)
    assert side.command.process is None
