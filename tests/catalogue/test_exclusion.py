"""A pass excludes the known mistakes that would have shown in what it compared, and no others."""

import json
from dataclasses import replace

import pytest

from parity import Case, Verdict, check
from parity.catalogue import exclusion
from parity.catalogue.detection import CLEARLY, NOWHERE, USUAL_LIMIT, AskedCase, Shown
from parity.catalogue.exclusion import _table, note_exclusion
from parity.catalogue.mutants import MUTANTS
from parity.cli.check_report import check_report
from parity.cli.check_tables import heading
from parity.cli.terminal import console
from parity.judging.probes import CHOSEN, EVERY_FORMAT, probes_for
from torch_twin.microgpt import Twin
from torch_twin.positions import Positions, make

TINY = Case.from_names(steps=1, config={"n_embd": 4, "n_head": 2})
CELLS = (
    ("norm_eps_smaller", "two-layers", "float64"),
    ("schedule_always_linear", "three-layers", "float64"),
    ("weight_decay", "vanishing", "bfloat16"),
    ("norm_eps_smaller", "saturated-output", "bfloat16"),
    ("rate_not_decayed", "learned", "float32"),
    ("moments_kept", "three-layers", "float64"),
)
OF_THE_OTHER = [
    *("activation_never_squared", "square_without_relu", "square_gradient_halved"),
    *("schedule_always_linear", "cosine_of_quarter"),
]
"""What a model with ReLUs and a linear schedule does right with these mistakes, too."""


def excluded(subject, **options):
    """What a pass with probes excludes."""
    result = check(subject, TINY, probes=True, **options)
    assert result.verdict is Verdict.PARITY, result.reason
    note_exclusion(result)
    return result


class FirstWords(Positions):
    """Shows its logits, and nothing else."""

    forward_only = True

    def train_step(self, batch):
        return replace(super().train_step(batch), loss=None, grads=None, m=None, v=None, params=None)


def test_table_knows_every_mistake_in_every_probe_and_format():
    assert list(_table()["probes"]) == list(CHOSEN)
    assert list(_table()["mutants"]) == list(MUTANTS)
    for texts in _table()["mutants"].values():
        assert list(texts) == list(EVERY_FORMAT)
        assert {len(text) for text in texts.values()} == {3 * len(CHOSEN)}


@pytest.mark.parametrize(("name", "probe", "dtype"), [cell for cell in CELLS if cell[0] in MUTANTS])
def test_table_is_what_the_mutants_show(name, probe, dtype):
    (case,) = (found.case for found in probes_for(TINY.config, TINY.hyper, dtype) if found.name == probe)
    place = 3 * list(CHOSEN).index(probe)
    stored = Shown.of_text(_table()["mutants"][name][dtype][place : place + 3])
    assert AskedCase(case, dtype).shown(MUTANTS[name]) == stored


def test_text_says_what_it_is_made_of():
    shown = Shown(frozenset({"grad"}), frozenset({"grad", "param"}), frozenset())
    assert Shown.of_text(shown.text) == shown
    assert Shown.of_text(NOWHERE.text) == NOWHERE
    assert len(shown.text) == 3


def test_pass_in_float64_excludes_every_mistake_that_such_a_model_can_make():
    result, number = excluded(make), len(MUTANTS) - len(OF_THE_OTHER)
    assert str(result.excluded) == f"{number} of {number} known mistakes"
    assert ("excludes", str(result.excluded)) in heading(result, "names")
    found = json.loads(json.dumps(result.to_dict()))["excluded"]
    assert found == {"known": number, "excluded": number, "undecided": [], "weighed": {}}


def test_exact_arithmetic_excludes_in_bfloat16_what_rounding_hides(monkeypatch):
    by_both = excluded(make, dtype="bfloat16").excluded
    monkeypatch.setattr("parity.judging.checking._may_run_exactly", lambda result, options: False)
    by_its_run = excluded(make, dtype="bfloat16").excluded
    assert len(by_both.undecided) < len(by_its_run.undecided)
    assert by_both.undecided.keys() < by_its_run.undecided.keys()


def test_what_is_not_compared_excludes_nothing():
    result = excluded(FirstWords)
    assert {MUTANTS[name].stage for name in result.excluded.undecided} >= {"Adam", "schedule", "backward"}
    assert not {"targets_not_shifted", "eps_missing"} - result.excluded.undecided.keys()
    assert "norm_without_eps" not in result.excluded.undecided
    terminal = console()
    with terminal.capture() as captured:
        terminal.print(check_report(result, "names", verbose=True))
    assert "known mistakes that this does not exclude:" in captured.get()
    assert MUTANTS["targets_not_shifted"].mistake[:40] in captured.get()


@pytest.mark.parametrize("name", ["norm_eps_smaller", "targets_shifted_twice", "nesterov"])
def test_mistake_itself_is_never_excluded(name):
    result = check(MUTANTS[name].make, TINY, probes=True)
    note_exclusion(result)
    assert result.verdict is Verdict.DIVERGED
    assert result.excluded is None


def test_mistake_that_a_model_cannot_make_is_not_counted():
    result = check(MUTANTS["schedule_always_linear"].make, TINY, probes=True)
    note_exclusion(result)
    assert result.verdict is Verdict.IDENTICAL
    assert result.excluded.known == len(MUTANTS) - len(OF_THE_OTHER)


def test_probe_that_was_refused_excludes_nothing():
    class OneSize(Twin):
        sizes = "given"

        def __init__(self, config, hyper):
            if config != TINY.config:
                raise NotImplementedError("another size")
            super().__init__(config, hyper)

    assert excluded(OneSize).excluded is None


def test_probes_of_another_revision_exclude_nothing():
    case = Case.from_names(preset="microgpt_early", steps=1, config={"n_embd": 4, "n_head": 2})
    result = check(make, case, probes=True)
    assert result.verdict is Verdict.PARITY
    note_exclusion(result)
    assert result.excluded is None


def test_wider_limit_excludes_less(monkeypatch):
    monkeypatch.setattr(exclusion, "weigh", lambda result, left: {})
    result = excluded(make, false_alarm=1e-9)
    assert not result.excluded.undecided
    for probe in result.probes:
        probe.result.judge = replace(probe.result.judge, limit=CLEARLY * USUAL_LIMIT)
    note_exclusion(result)
    assert len(result.excluded.undecided) == result.excluded.known


def test_expectation_that_was_moved_to_the_subjects_own_gates_excludes_nothing(monkeypatch):
    monkeypatch.setattr(exclusion, "weigh", lambda result, left: {})
    result = excluded(make)
    for probe in result.probes:
        for mode in probe.result.modes:
            mode.turned_gates = 1
    note_exclusion(result)
    assert len(result.excluded.undecided) == result.excluded.known


def test_update_behind_a_shorter_format_is_no_sharper_than_float32(monkeypatch):
    """Rates and betas may be numbers of float32 there: what shows in float64 alone is not excluded."""
    result = excluded(make, dtype="bfloat16")
    name = next(name for name in MUTANTS if MUTANTS[name].stage == "Adam" and name not in result.excluded.undecided)
    texts = _table()["mutants"][name]
    monkeypatch.setitem(texts, "float32", "." * len(texts["float32"]))
    monkeypatch.setitem(texts, "bfloat16", "." * len(texts["float32"]))
    note_exclusion(result)
    assert name in result.excluded.undecided
