"""A failing check names the known mistake that the answer fits."""

import math
from types import SimpleNamespace

import pytest

from parity import Case, Step, Verdict, check
from parity.catalogue import naming
from parity.catalogue.mutants import ALL, MUTANTS
from parity.catalogue.naming import name_mistakes
from parity.catalogue.together import found_together
from parity.cli import main
from parity.cli.check_markdown import check_markdown
from tests.faults import planted

TINY = Case.from_names(steps=2, config={"n_embd": 4, "n_head": 2, "block_size": 3})
NAMED = ["scores_not_scaled", "loss_in_bits", "keys_detached", "betas_of_pytorch"]


@pytest.fixture
def few(monkeypatch):
    """Some of the mistakes, where what is tested is not whether one is told from every other."""
    some = [mutant for number, mutant in enumerate(ALL) if not number % 10 or mutant.name in (*NAMED, "gelu")]
    monkeypatch.setattr(naming, "ALL", some)


def checked(make, case=TINY):
    return check(make, case, modes="lock-step", probes=False)


def named(make, case=TINY, **options):
    result = checked(make, case)
    assert result.verdict is Verdict.DIVERGED
    name_mistakes(result, **options)
    return result


@pytest.mark.parametrize("name", NAMED)
def test_mistake_is_named_by_the_question_at_which_it_shows(name):
    result = named(MUTANTS[name].make)
    assert name in result.mistakes
    assert result.to_dict()["mistakes"] == list(result.mistakes)


def test_mistake_of_other_code_is_named():
    with planted((" / config.head_dim**0.5", "")) as make:
        assert "scores_not_scaled" in named(make).mistakes


def test_mistake_that_nobody_knows_has_no_name():
    with planted(("x = x.relu()", "x = x.relu() * 1.001")) as make:
        result = named(make)
    assert (result.mistakes, result.naming_hint, result.named) == ({}, "", "")


@pytest.mark.usefixtures("few")
def test_mutant_whose_noisy_run_fails_is_not_named(monkeypatch):
    def fail(self, batch):
        raise OverflowError("in a replica")

    monkeypatch.setattr(naming.NoisyMutant, "train_step", fail)
    assert named(MUTANTS["betas_of_pytorch"].make).mistakes == {}


@pytest.mark.usefixtures("few")
def test_large_question_is_replaced_by_a_small_one():
    case = Case.from_names(steps=1)
    asked = []

    def again(small):
        asked.append(small)
        return checked(MUTANTS["gelu"].make, small)

    result = named(MUTANTS["gelu"].make, case, again=again)
    assert list(result.mistakes) == ["gelu"]
    assert len(asked) == 1
    assert asked[0].config.num_params() < 1000


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(("name", "fields"), [("gelu", ["params"]), ("betas_of_pytorch", ["m"]), ("gelu", ["loss"])])
def test_mistake_is_named_by_what_is_exposed(name, fields):
    def make(config, hyper):
        subject = MUTANTS[name].make(config, hyper)
        train_step = subject.train_step
        subject.train_step = lambda batch: Step(**{field: getattr(train_step(batch), field) for field in fields})
        return subject

    assert name in named(make).mistakes


@pytest.mark.usefixtures("few")
def test_very_large_question_is_put_to_no_mutant(monkeypatch):
    monkeypatch.setattr(naming, "_FEW_PRODUCTS", 0)
    monkeypatch.setattr(naming, "_MANY_PRODUCTS", 0)
    assert "parity verify" in named(MUTANTS["gelu"].make).named
    result = named(MUTANTS["gelu"].make, again=lambda small: checked(MUTANTS["gelu"].make, small))
    assert list(result.mistakes) == ["gelu"]


def test_what_takes_too_long_says_what_else_names_it():
    result = named(MUTANTS["gelu"].make, seconds=0)
    assert result.mistakes == {}
    assert "parity verify" in result.named


def test_what_passes_has_no_mistake():
    result = checked("torch_twin.microgpt:make")
    name_mistakes(result)
    assert result.named == ""


def test_command_names_the_mistake_in_terminal_and_markdown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source = "from parity.catalogue.mutants import MUTANTS\nmake = MUTANTS['gelu'].make\n"
    (tmp_path / "port.py").write_text(source, encoding="utf-8")
    small = ["--n-embd", "4", "--n-head", "2", "--block-size", "3", "--steps", "1", "--mode", "lock-step"]
    assert main(["check", "port.py:make", *small, "--only-case", "--markdown", "out.md"]) == 1
    said = f"It behaves like the reference with this mistake: {MUTANTS['gelu'].mistake}"
    assert said in " ".join(capsys.readouterr().out.split())
    assert said in (tmp_path / "out.md").read_text(encoding="utf-8")


def test_markdown_says_nothing_where_nothing_is_named():
    assert "behaves like" not in check_markdown(checked(MUTANTS["gelu"].make), "")


def test_nothing_is_looked_for_where_nothing_is_wrong():
    """An answer whose mistake shows in another question than the one that is asked."""
    question = SimpleNamespace(pairs=SimpleNamespace(keys=["loss", "grad"]), explained=lambda pairs: 2)
    assert found_together(question, math.inf) == []
