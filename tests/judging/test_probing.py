"""Probes run besides the case, where they should, and what they do not exercise is said."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from parity import Case, Verdict, check
from parity.catalogue.mutants import MUTANTS
from parity.cli import main
from parity.errors import UndecidedAnswer, UsageError
from parity.judging import probing
from parity.judging.cost import estimated, operations, require_that_it_fits
from parity.judging.probes import CHOSEN, WEIGHTS, probes_for, probes_of_given_size
from parity.judging.result import Result
from parity.judging.trial import Trial
from parity.number_formats import FORMATS
from parity.oracle.replay import program
from parity.testing import assert_parity
from reference.config import PRESETS, Config, Hyper
from torch_twin.microgpt import Twin, make

SHORT = Case.from_names(steps=2)
HIDDEN_BY_THE_DEFAULTS = (
    "scores_scaled_by_n_head",
    "head_sizes_swapped",
    "relu6",
    "window_of_12",
    "layers_share_weights",
)


class OneSize(Twin):
    """A port whose sizes are written into it."""

    def __init__(self, config, hyper, dtype="float64"):
        if config.n_embd != 16:
            raise NotImplementedError("n_embd is 16 here")
        super().__init__(config, hyper, dtype)


@pytest.mark.parametrize("name", HIDDEN_BY_THE_DEFAULTS)
def test_mistake_that_the_default_sizes_hide_is_refused(name):
    result = check(MUTANTS[name].make, replace(SHORT, steps=1), probes=True, modes="lock-step")
    assert all(mode.verdict.passes for mode in result.modes)
    assert result.verdict is Verdict.DIVERGED
    assert result.reason.startswith(f"In the probe {result.deciding_probe.probe.name} (")
    assert result.to_dict()["verdict"] == "DIVERGED"


@pytest.fixture(scope="module")
def probed() -> Result:
    return check(make, SHORT, probes=True)


def test_probes_belong_to_a_check_without_a_case(probed, monkeypatch):
    assert check(make, SHORT).probes == []
    assert [found.verdict for found in probed.probes] == [Verdict.PARITY] * len(CHOSEN)
    monkeypatch.setattr(Case, "from_names", lambda: SHORT)
    assert check(make, probes=False).probes == []
    assert len(check(make).probes) == len(CHOSEN)


def test_what_probes_do_is_exercised(probed):
    assert "a second layer (--n-layer 2)" in check(make, SHORT).not_exercised
    assert probed.not_exercised == ["what the preset microgpt_early does otherwise (--preset microgpt_early)"]


def test_probes_keep_to_activation_and_schedule_of_the_case():
    for config, hyper in PRESETS.values():
        for probe in probes_for(config, hyper, "float64"):
            assert (probe.case.config.activation, probe.case.hyper.lr_schedule) == (
                config.activation,
                hyper.lr_schedule,
            )


@pytest.mark.parametrize("subject", [OneSize, Twin(SHORT.config, SHORT.hyper)], ids=["a factory", "an object"])
def test_subject_of_one_size_keeps_what_is_left(subject):
    result = check(subject, SHORT, probes=True, modes="lock-step")
    assert result.verdict is Verdict.PARITY
    assert {found.verdict for found in result.probes if found.probe.name.startswith("given-size")} == {Verdict.PARITY}
    assert "models of other sizes (which the subject does not make)" in result.not_exercised
    assert "a second layer (--n-layer 2)" in result.not_exercised
    assert not any("batches" in phrase or "longer than the block" in phrase for phrase in result.not_exercised)


def test_probes_of_a_given_size_are_those_to_which_a_format_has_an_answer():
    weights = {name.replace(" ", "-") for name in WEIGHTS}
    out_of_reach = {"float64": set(), "float32": {"repelled-attention"}}
    out_of_reach["bfloat16"] = {"repelled-attention", "saturated-attention"}
    out_of_reach["float16"] = {*out_of_reach["bfloat16"], "saturated-output", "vanishing"}
    for form, without in out_of_reach.items():
        found = probes_of_given_size(SHORT.config, SHORT.hyper, form)
        assert {probe.name.removeprefix("given-size-") for probe in found} == weights - without
    squared = replace(SHORT.config, activation="relu2")
    assert not any("large" in probe.name for probe in probes_of_given_size(squared, Hyper(), "float16"))


def test_subject_that_says_that_its_sizes_are_given_is_asked_for_no_other():
    class Given(Twin):
        sizes = "given"

    result = check(Given, SHORT, probes=True, modes="lock-step")
    assert result.verdict is Verdict.PARITY
    assert [found.result for found in result.probes[: len(CHOSEN)]] == [None] * len(CHOSEN)


def test_batch_mistake_of_a_subject_of_one_size_is_refused():
    class FirstOnly(OneSize):
        def train_step(self, batch):
            return super().train_step(batch[:1])

    assert check(FirstOnly, SHORT).verdict.passes
    result = check(FirstOnly, SHORT, probes=True, modes="lock-step")
    assert result.verdict is Verdict.ERROR  # logits of one document, not of three


def test_error_in_a_probe_is_an_error():
    class Narrow(Twin):
        def __init__(self, config, hyper, dtype="float64"):
            assert config.n_layer == 1, "one layer only"
            super().__init__(config, hyper, dtype)

    result = check(Narrow, SHORT, probes=True, modes="lock-step")
    assert result.verdict is Verdict.ERROR
    assert "In the probe two-layers" in result.reason
    assert "one layer only" in result.reason


def test_failing_probe_is_what_a_failed_assertion_stores(tmp_path):
    with pytest.raises(AssertionError, match="In the probe") as caught:
        assert_parity(MUTANTS["relu6"].make, SHORT, probes=True, store=tmp_path)
    (file,) = tmp_path.iterdir()
    assert Case.load(file) == caught.value.result.deciding.case


def test_command_line_leaves_probes_out_where_asked(capsys):
    command = ["check", "--steps", "1", "--json", "-"]
    assert main(command) == 0
    assert len(json.loads(capsys.readouterr().out)["probes"]) == len(CHOSEN)
    assert main([*command, "--only-case"]) == 0
    assert json.loads(capsys.readouterr().out)["probes"] == []


def test_other_revision_is_named_where_it_diverges():
    def ignores_activation(config, hyper):
        return Twin(Config(**{**vars(config), "activation": "relu"}), hyper)

    reason = check(ignores_activation, Case.from_names(steps=1, preset="microgpt_early")).reason
    assert "the activation relu2 and the schedule cosine, which the preset microgpt_200 has not" in reason
    assert "microgpt_200" not in check(MUTANTS["gelu"].make, SHORT).reason


@pytest.mark.parametrize(
    ("config", "n"),
    [
        (Config(), 8),
        (Config(n_layer=2, n_embd=32), 6),
        (Config(n_embd=4, n_head=2, block_size=4, vocab_size=5), 4),
        (Config(n_layer=3, n_embd=8, n_head=1), 12),
    ],
)
def test_cost_is_that_of_the_recorded_graph(config, n):
    assert operations(config, n) == pytest.approx(program(config, n).nodes, rel=0.05)


def test_case_that_does_not_fit_is_refused_before_it_starts(monkeypatch):
    case = Case.from_names(steps=1, batch_size=64, config={"n_embd": 128, "n_layer": 6})
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=2**26))
    with pytest.raises(UsageError, match=r"GiB of memory .* so it is not begun"):
        check(make, case)
    monkeypatch.undo()
    assert estimated(SHORT, 2).memory < 2**30
    require_that_it_fits(SHORT, 2)


def test_case_that_would_take_days_is_refused():
    require_that_it_fits(
        Case.from_names(steps=50_000, hyper={"num_steps": 50_000}, config={"n_embd": 4, "n_head": 2}), 1
    )
    config = {"n_embd": 64, "n_layer": 2}
    with pytest.raises(UsageError, match="minutes"):
        require_that_it_fits(
            Case.from_names(steps=10_000, batch_size=16, config=config, hyper={"num_steps": 10_000}), 2
        )


def test_model_that_cannot_be_made_in_another_size_leaves_it_unexercised():
    class Fixed(Twin):
        def __init__(self, config, hyper, dtype="float64"):
            if config.n_layer > 1:
                raise UsageError("The name map does not fit.")
            super().__init__(config, hyper, dtype)

    result = check(Fixed, SHORT, probes=True, modes="lock-step")
    assert result.verdict.passes
    assert any(phrase.startswith("models of other sizes") for phrase in result.not_exercised)


def test_probe_that_cannot_be_asked_so_says_why():
    class NoUpdateWhenSmall(Twin):
        @property
        def without_update(self):
            return self.config.n_embd != 16

    result = check(NoUpdateWhenSmall, SHORT, probes=True, modes="free-running")
    assert result.verdict.passes
    assert not any("models of other sizes" in phrase for phrase in result.not_exercised)
    refusal = "The subject says without_update = True; it can be checked in lock-step alone"
    assert any(phrase.endswith(f" ({refusal})") for phrase in result.not_exercised)
    assert f"{refusal}." in {found["reason"] for found in result.to_dict()["probes"]}


def test_what_a_subject_leaves_out_of_a_probe_alone_is_said():
    class LeavesOut(Twin):
        @property
        def not_exercised(self):
            return ["a fast path"] if self.config.n_layer == 2 else []

    result = check(LeavesOut, SHORT, probes=True, modes="lock-step")
    (said,) = [phrase for phrase in result.not_exercised if phrase.startswith("a fast path")]
    assert said.startswith("a fast path, in the probe two-layers")


@pytest.mark.parametrize("said", ["batches of several documents", ["batches of several documents"]])
def test_what_a_subject_says_only_in_a_probe_is_not_exercised(said):
    class OneByOne(Twin):
        not_exercised = ()

        def train_step(self, batch):
            if len(batch) > 1:
                self.not_exercised = said
            return super().train_step(batch)

    result = check(OneByOne, SHORT, probes=True, modes="lock-step")
    assert "batches of several documents (--batch-size 3)" in result.not_exercised


@pytest.mark.parametrize("said", [None, 3, [3]])
def test_what_is_said_not_to_be_exercised_is_text(said):
    class Muddled(Twin):
        not_exercised = said

    result = check(Muddled, SHORT)
    assert result.verdict is Verdict.ERROR
    assert "is to be a list of strings" in result.reason


@pytest.mark.parametrize("said", ["Given", "all", ""])
def test_sizes_that_are_another_word_are_an_error(said):
    class Misspelled(Twin):
        sizes = said

    result = check(Misspelled, SHORT)
    assert result.verdict is Verdict.ERROR
    assert 'it is to be "given"' in result.reason


def test_sizes_of_a_subject_s_own_say_nothing():
    class Listed(Twin):
        sizes = (16, 64)

    result = check(Listed, SHORT, probes=True, modes="lock-step")
    assert result.verdict.passes
    assert not any(found.refused for found in result.probes)


@pytest.mark.parametrize(("mode", "verdict"), [("lock-step", Verdict.INCONCLUSIVE), ("free-running", Verdict.PARITY)])
def test_answer_to_a_probe_that_is_outside_and_undecided_is_not_passed_over(mode, verdict, monkeypatch):
    go = Trial.go

    def undecided(trial, **options):
        if trial.result.mode == mode and trial.run.case.config.n_layer == 2:
            raise UndecidedAnswer("Rounding may turn any of 99 ReLUs.")
        go(trial, **options)

    monkeypatch.setattr(Trial, "go", undecided)
    result = check(make, SHORT, probes=True)
    assert result.verdict is verdict
    if verdict is Verdict.INCONCLUSIVE:
        assert "In the probe two-layers" in result.reason
        assert "any of 99 ReLUs" in result.reason
    else:
        assert any("two layers, three heads" in phrase for phrase in result.not_exercised)


def test_large_model_of_given_sizes_says_that_it_runs_no_probes(monkeypatch):
    monkeypatch.setattr(probing, "_MOST_PARAMETERS", 10)
    result = check(Twin(SHORT.config, SHORT.hyper), SHORT, probes=True, modes="lock-step")
    assert result.verdict is Verdict.PARITY
    assert "other weights and documents in a model of more than 10 parameters" in result.not_exercised


def test_what_a_short_format_does_not_reach_is_not_exercised(probed):
    wide, narrow = (replace(probed, judge=replace(probed.judge, form=FORMATS[f])) for f in ("bfloat16", "float16"))
    assert "attention scores below -10,000 (out of reach in bfloat16)" in wide.not_exercised
    assert sum("out of reach in bfloat16" in phrase for phrase in wide.not_exercised) == 1
    assert sum("out of reach in float16" in phrase for phrase in narrow.not_exercised) == 3
