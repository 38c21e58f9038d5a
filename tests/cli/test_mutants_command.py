"""`parity mutants`: the catalogue, and the detection matrix of some of it."""

import json

import pytest

from parity import Case
from parity.catalogue import matrix as matrix_module
from parity.catalogue.fixed_rules import RULES
from parity.catalogue.mutants import ALL, EQUIVALENT, MUTANTS, Mutant
from parity.cli import main
from parity.judging.probes import probes_for

TINY = {"n_embd": 4, "n_head": 2, "block_size": 5}


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path):
    """A default case of a tiny model and one step, and one probe."""
    cases = Case.from_names(steps=1, config=TINY), Case.from_names(preset="microgpt_early", steps=1, config=TINY)
    monkeypatch.setattr(matrix_module, "usual_cases", lambda steps: cases)
    monkeypatch.setattr(matrix_module, "probes_for", lambda *model: probes_for(*model)[:1])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_catalogue_is_listed_with_places_and_sources(capsys):
    assert main(["mutants", "--list", "--stage", "cache", "--mutant", "gelu"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for name in ("keys_detached", "gelu"):
        assert name in out
        assert MUTANTS[name].place in out
    assert "paiml/aprender#2203" in out
    assert "weight_decay" not in out


def test_whole_catalogue_is_json(capsys):
    assert main(["mutants", "--list", "--json", "-"]) == 0
    listed = json.loads(capsys.readouterr().out)["mutants"]
    assert [mutant["name"] for mutant in listed] == [mutant.name for mutant in (*ALL, *EQUIVALENT)]
    assert listed[-1].keys() == {"name", "stage", "place", "mistake", "sources", "equivalent"}


def test_mistakes_are_shown_and_stored_with_what_would_miss_them(tiny, capsys):
    names = ["gelu", "loss_summed_over_batch", "complements_rounded"]
    written = ["--json", "out.json", "--markdown", "out.md"]
    assert main(["mutants", "--mutant", *names, "--dtype", "float64", "bfloat16", *written]) == 0
    out, error = capsys.readouterr()
    assert error == ""
    said = " ".join(out.split())
    assert "Located: of 2 mistakes that show in float64 a check places 2 (100.0%) where they are." in said
    stored = json.loads((tiny / "out.json").read_text(encoding="utf-8"))
    assert stored["dtypes"] == ["float64", "bfloat16"]
    rows = {entry["name"]: entry["formats"] for entry in stored["mutants"]}
    assert [row["where"] for row in rows["loss_summed_over_batch"]] == ["two-layers"] * 2
    assert [row["caught"] for row in rows["complements_rounded"]] == [False, False]
    assert stored["summary"]["formats"]["float64"]["caught"] == 2
    markdown = (tiny / "out.md").read_text(encoding="utf-8")
    for rule in RULES:
        assert f"- {rule.name}: {rule.sentence}" in markdown
        assert rule.sentence.split(",")[0] in said
    assert "| caught by a check | 2 | 2 |" in markdown
    assert f"| missed by {RULES[0].name} | " in markdown
    assert "| gelu | MLP | logits |" in markdown


def test_quick_one_asks_neither_rules_nor_places(capsys):
    assert main(["mutants", "--mutant", "gelu", "--quick", "--json", "-"]) == 0
    stored = json.loads(capsys.readouterr().out)
    assert (stored["rules"], stored["summary"]["located"]) == ({}, None)
    assert stored["mutants"][0]["formats"][0]["missed_by"] is None


def test_quick_one_shows_no_column_of_what_was_not_asked_and_says_what_is_no_mistake(tiny, capsys):
    names = ["gelu", "complements_rounded"]
    assert main(["mutants", "--mutant", *names, "--quick", "--markdown", "out.md"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Caught: 1 of 1 known mistake in float64; 1 more that computes the same is let pass.\n")
    assert "missed by" not in out + (tiny / "out.md").read_text(encoding="utf-8")
    assert " equivalent, and so no mistakes        1\n" in out


def test_mistake_that_a_check_misses_is_no_success(monkeypatch, capsys):
    harmless = Mutant("harmless", "Nothing is wrong.", stage="MLP")
    monkeypatch.setattr("parity.catalogue.mutants.ALL", (harmless,))
    monkeypatch.setattr(matrix_module, "shows_in_usual_models", lambda name: True)
    assert main(["mutants", "--mutant", "harmless", "--quick"]) == 1
    assert "Missed in float64: harmless." in capsys.readouterr().out


def test_what_is_finished_is_shown_when_it_is_interrupted(monkeypatch, capsys):
    entry = matrix_module.Matrix.entry

    def interrupted(self, mutant):
        if mutant.name == "gelu":
            raise KeyboardInterrupt
        return entry(self, mutant)

    monkeypatch.setattr(matrix_module.Matrix, "entry", interrupted)
    assert main(["mutants", "--mutant", "keys_detached", "gelu", "--quick"]) == 130
    out, error = capsys.readouterr()
    assert "keys_detached" in out
    assert error == "Interrupted.\n"
