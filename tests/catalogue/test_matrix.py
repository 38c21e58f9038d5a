"""The detection matrix: what a check catches of each known mistake, and what rules with fixed tolerances miss."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from parity import Case
from parity.catalogue import matrix as matrix_module
from parity.catalogue.detection import AskedCase
from parity.catalogue.fixed_rules import RULES, FixedRules
from parity.catalogue.matrix import Matrix
from parity.catalogue.matrix_result import COLUMNS, summary
from parity.catalogue.mutants import ALL, EQUIVALENT, MUTANTS, Mutant
from parity.catalogue.placing import placed
from parity.catalogue.remembering import RememberingMutant, site_shapes
from parity.cli.mutants_table import matrix_markdown
from parity.judging.probes import DOUBLE, EVERY_FORMAT, probes, probes_for
from parity.oracle.python_reference import Reference
from parity.trees import mapped

ROOT = Path(__file__).parents[2]
STORED = json.loads((ROOT / "benchmarks/results/mutants.json").read_text(encoding="utf-8"))
ROWS = [(entry, row) for entry in STORED["mutants"] for row in entry["formats"]]
TINY = {"n_embd": 4, "n_head": 2, "block_size": 5}
NOT_IN_FLOAT32 = {"mask_of_minus_10000"}
"""It shows in scores of many thousands alone, where correct attention has no digits left in float32."""
HARMLESS = Mutant("harmless", "Nothing is wrong.", stage="MLP", place="site layer0.mlp.post")


@pytest.fixture
def tiny(monkeypatch):
    """A matrix of tiny cases of two steps, and of one probe."""
    cases = Case.from_names(steps=2, config=TINY), Case.from_names(preset="microgpt_early", steps=2, config=TINY)
    monkeypatch.setattr(matrix_module, "usual_cases", lambda steps: cases)
    monkeypatch.setattr(matrix_module, "probes_for", lambda *model: probes_for(*model)[:1])
    usual = matrix_module.shows_in_usual_models
    monkeypatch.setattr(matrix_module, "shows_in_usual_models", lambda name: name == HARMLESS.name or usual(name))
    return Matrix


def only_row(entry):
    (row,) = entry.rows
    return row


# What is stored.


def test_every_mistake_is_caught_in_float64_and_float32_by_the_default_check():
    for dtype, allowed in (("float64", set()), ("float32", NOT_IN_FLOAT32)):
        missed = {e["name"] for e, row in ROWS if row["dtype"] == dtype and not (row["caught"] or e["equivalent"])}
        assert missed == allowed
        assert set(STORED["summary"]["formats"][dtype]["missed"]) == allowed
    shows = {row["where"] for e, row in ROWS if e["name"] in NOT_IN_FLOAT32 and row["dtype"] == "float64"}
    assert {probe.formats for probe in probes() if probe.name in shows} == {DOUBLE}


def test_no_equivalent_mutant_is_refused_in_any_format():
    equal = [row for entry, row in ROWS if entry["equivalent"]]
    assert len(equal) == len(EQUIVALENT) * len(EVERY_FORMAT)
    assert not [row for row in equal if row["caught"]]
    assert all(row["missed_by"] == [rule.name for rule in RULES] for row in equal)


def test_stored_matrix_is_of_these_mutants_rules_and_formats():
    assert [entry["name"] for entry in STORED["mutants"]] == [mutant.name for mutant in (*ALL, *EQUIVALENT)]
    assert [entry["place"] for entry in STORED["mutants"]] == [mutant.place for mutant in (*ALL, *EQUIVALENT)]
    assert STORED["dtypes"] == list(EVERY_FORMAT)
    assert STORED["rules"] == {rule.name: rule.sentence for rule in RULES}
    for entry in STORED["mutants"]:
        assert [row["dtype"] for row in entry["formats"]] == STORED["dtypes"]


def test_rules_that_see_most_in_a_short_format_refuse_a_correct_program_in_it():
    refusing = STORED["rules_refusing_the_twin"]
    assert refusing["float64"] == refusing["float32"] == []
    assert "close" in refusing["bfloat16"]
    assert "close" in refusing["float16"]


def test_stored_summary_counts_what_is_stored():
    for dtype, found in STORED["summary"]["formats"].items():
        rows = [row for entry, row in ROWS if row["dtype"] == dtype and not entry["equivalent"]]
        assert found["mistakes"] == len(rows) == len(ALL)
        assert found["caught"] == sum(row["caught"] for row in rows)
        for rule, missed in found["missed_by"].items():
            assert missed == sum(rule in row["missed_by"] for row in rows)


def test_stored_table_is_what_the_result_prints():
    assert matrix_markdown(STORED) == (ROOT / "benchmarks/results/mutants.md").read_text(encoding="utf-8")


def test_nineteen_of_twenty_mistakes_are_placed_where_they_are():
    located = STORED["summary"]["located"]
    assert located["asked"] == len(ALL)
    assert located["right"] / located["asked"] >= 0.95
    assert located["right"] == sum(bool(entry["located"] and entry["located"]["right"]) for entry in STORED["mutants"])


def test_every_mutant_says_where_it_is():
    order = list(site_shapes(Case.from_names(config={"n_layer": 3}).config, (1,)))
    tensors = {"wte", "wpe", "lm_head", "attn_wo", "attn_wv", "attn_wk", "attn_wq", "mlp_fc1", "mlp_fc2"}
    known = {"loss", "m", "v", "param", "grad", "shape of logits"}
    known |= {f"site {site}" for site in order} | {f"grad {name}" for name in tensors}
    assert {mutant.place for mutant in (*ALL, *EQUIVALENT)} <= known


# How it is measured.


def test_mistake_is_caught_by_the_case_or_else_by_a_probe(tiny):
    found = tiny(["float64"])
    by_case, by_probe = (only_row(found.entry(MUTANTS[name])) for name in ("gelu", "loss_summed_over_batch"))
    assert (by_case.detection.where, by_case.detection.first, by_case.detection.step) == ("case", "logits", 0)
    assert by_case.detection.z > 1e6
    assert (by_probe.detection.where, by_probe.detection.first) == ("two-layers", "loss")
    assert by_probe.missed_by == tuple(rule.name for rule in RULES)  # there is no batch in the case


def test_what_computes_the_same_is_caught_by_nothing_and_is_told_as_missed(tiny):
    entry = tiny(["float64", "bfloat16"]).entry(HARMLESS)
    assert not any(row.detection.caught for row in entry.rows)
    assert all(row.missed_by == tuple(rule.name for rule in RULES) for row in entry.rows)
    assert entry.place is None
    counted = summary([entry])["formats"]["bfloat16"]
    assert counted["missed"] == ["harmless"]
    assert counted["missed_by"] == {rule.name: 1 for rule in RULES}


def test_equivalent_mutant_that_is_caught_is_told_as_refused(tiny):
    entry = tiny(["float64"], rules=False, places=False).entry(replace(MUTANTS["gelu"], equivalent="It is not."))
    counted = summary([entry])["formats"]["float64"]
    assert (counted["mistakes"], counted["refused"], counted["missed_by"]) == (0, ["gelu"], None)


def test_mistake_of_the_other_revision_is_asked_there(tiny):
    found = tiny(["float64"], rules=False)
    assert found.check_of(MUTANTS["schedule_always_linear"]) is found.early
    assert found.check_of(MUTANTS["schedule_confused"]) is found.usual
    assert only_row(found.entry(MUTANTS["schedule_always_linear"])).detection.first == "param"


def test_mutant_without_an_answer_is_caught_by_that(tiny):
    raising = replace(MUTANTS["gelu"], edits=(("return tap(", "raise ValueError; return tap("),))
    row = only_row(tiny(["float64"], places=False).entry(raising))
    assert (row.detection.first, row.detection.z, row.missed_by) == ("no answer", np.inf, ())
    assert row.to_dict()["z"] == "inf"


def test_what_else_is_measured_becomes_part_of_the_row(tiny, monkeypatch):
    monkeypatch.setattr(matrix_module, "MEASURES", (lambda check, mutant, dtype: {"length": len(mutant.mutant.name)},))
    row = only_row(tiny(["float64"], rules=False, places=False).entry(MUTANTS["gelu"])).to_dict()
    assert row["length"] == 4
    assert [column.text(row) for column in COLUMNS][:3] == ["gelu", "MLP", "logits"]


@pytest.mark.parametrize("name", ["gelu", "weight_decay", "last_gradient_leaks", "targets_not_shifted"])
def test_remembered_answer_is_the_mutants_own(name):
    case, factory = Case.from_names(steps=3, config=TINY), RememberingMutant(MUTANTS[name])
    subjects = MUTANTS[name].make(case.config, case.hyper), *(factory.make(case.config, case.hyper) for _ in range(2))
    for subject in subjects:
        subject.load(case.state)
    for batch in case.batches():
        own, first, second = (mapped(float, subject.train_step(batch)) for subject in subjects)
        assert own == first == second


def test_sites_are_shown_as_far_as_they_have_the_references_shapes():
    case = Case.from_names(steps=1, config=TINY)
    answers = {}
    for mutant in (HARMLESS, MUTANTS["current_position_hidden"]):
        subject = RememberingMutant(mutant).make(case.config, case.hyper)
        subject.expose_sites = True
        subject.load(case.state)
        answers[mutant.name] = subject.train_step(case.documents[:1])
    reference = Reference(case.config, case.hyper)
    reference.expose_sites = True
    reference.load(case.state)
    expected = reference.train_step(case.documents[:1])
    assert answers["harmless"].sites == expected.sites
    assert answers["harmless"].site_grads == expected.site_grads
    hidden = {"layer0.attn.scores", "layer0.attn.weights"}
    assert expected.sites.keys() - answers["current_position_hidden"].sites.keys() == hidden


def test_place_that_is_another_is_told():
    case = Case.from_names(steps=1, config=TINY)
    found = [
        placed(RememberingMutant(replace(MUTANTS[name], place=place)), case, 0, "lock-step")
        for name, place in (
            ("gelu", "site layer0.mlp.post"),
            ("gelu", "site layer0.mlp.pre"),
            ("keys_detached", "grad attn_wk"),
            ("keys_detached", "grad attn_wv"),
            ("current_position_hidden", "site layer0.attn.scores"),
            ("weight_decay", "param"),
            ("weight_decay", "m"),
        )
    ]
    assert [place.right for place in found] == [True, False, True, False, True, True, False]
    assert found[0].begins_at == ("site layer0.mlp.post",)
    assert found[2].expected == "grad layer0.attn_wk"
    assert found[4].expected == "site layer0.attn.heads"  # whose inputs have other shapes, and are not shown


def test_case_is_asked_as_far_as_the_reference_has_an_answer():
    case = Case.from_names(steps=5)
    asked = AskedCase(case, "float16", as_far=True)
    assert 0 < len(asked.modes["lock-step"]) < 5


# The rules with fixed tolerances.


@pytest.fixture(scope="module")
def run():
    """A case, and the reference's own answers to it."""
    case = Case.from_names(steps=2, config=TINY)
    reference = Reference(case.config, case.hyper)
    reference.load(case.state)
    return case, [reference.train_step(batch) for batch in case.batches()]


def changed(steps, **parts):
    """The steps with functions of some parts of each."""
    return [replace(step, **{name: of(getattr(step, name)) for name, of in parts.items()}) for step in steps]


def times(factor):
    return lambda tree: mapped(lambda x: factor * x, tree)


@pytest.mark.parametrize("dtype", EVERY_FORMAT)
def test_rules_accept_the_reference_and_refuse_what_is_no_number(run, dtype):
    rules = FixedRules(*run)
    assert rules.accepting(run[1], dtype) == [rule.name for rule in RULES]
    wrong = changed(run[1], loss=times(np.nan), grads=times(np.nan), params=times(np.nan), logits=times(np.nan))
    assert rules.accepting(wrong, dtype) == []
    assert rules.accepting(None, dtype) == []
    assert dtype not in ("float64", "float32") or not rules.refusing_the_twin(dtype)


@pytest.mark.parametrize(
    ("parts", "refusing"),
    [
        ({"loss": times(1.005)}, {"losses 1e-3", "close", "same"}),
        ({"loss": times(1.5)}, {"losses 1e-2", "losses 1e-3", "close", "same"}),
        ({"params": times(1.0001)}, {"weights", "sum"}),
        ({"grads": times(-1)}, {"cosine", "close", "same"}),
        ({"grads": times(3)}, {"close", "same"}),
        ({"logits": times(1.0001)}, {"close"}),
        ({"logits": lambda logits: [rows[:-1] for rows in logits]}, {"close", "same"}),
    ],
)
def test_rule_refuses_what_it_looks_at(run, parts, refusing):
    accepting = FixedRules(*run).accepting(changed(run[1], **parts), "float64")
    assert {rule.name for rule in RULES} - set(accepting) == refusing
