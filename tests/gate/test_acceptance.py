"""Intended changes pass once they are accepted, wherever they are computed, and no other change does."""

import base64
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from parity.cli import main
from parity.cli.gate_report import annotations, gate_markdown, gate_report
from parity.errors import UsageError
from parity.gate import gate
from parity.gate.acceptance import AcceptedChange, with_change
from parity.gate.accepted_file import accepted_file, read_accepted, write_accepted
from parity.gate.fingerprint import SUMS, Fingerprint
from parity.judging.pairs import Pairs
from parity.quantities import TensorKey
from parity.verdict import Verdict
from tests.gate.refactors import BROKEN, FLOAT32, NEUTRAL, REORDERING, SILENT, WRONG, git, refactor

EPSILON = ("keepdims=True) + 1e-5)", "keepdims=True) + 1.00001e-5)")
SHORT = ["--steps", "1", "--n-embd", "8", "--n-head", "2", "--only-case", "--rounds", "0"]
GATE = ["gate", "port.py:make", *SHORT]


def packed(sums: list[float]) -> str:
    return base64.b64encode(np.array(sums, dtype="<f8").tobytes()).decode()


def step(head: np.ndarray, base: np.ndarray, u: float) -> Fingerprint:
    """The fingerprint of a step with two tensors of very different sizes, and a noise floor of u of each."""
    entries = [(TensorKey("grad", "wte"), (head.shape[1],)), (TensorKey("grad", "wpe"), (head.shape[1],))]
    reference = Pairs.of(0, entries, [*base], [*base], [np.abs(row) * u for row in base])
    found = Fingerprint()
    found.add(Pairs.of(0, entries, [*head], [*base], [np.abs(row) * u for row in base]), reference, 10.0)
    return found


@pytest.fixture
def accepted(base) -> AcceptedChange:
    """An entry for a change of gradients alone."""
    found = step(base * 1.5, base, 2.0**-53)
    texts = {"reason": "On purpose", "verdict": "DIVERGED", "found": "First", "base": "a", "head": "b", "case": "small"}
    formats = ["float64", "float64"]
    answers = {"case": {"base": found.base, "head": found.head}}
    return AcceptedChange(
        "port.py:make", **texts, formats=formats, no_longer_exposed=[], not_exposed=[], case_sha256="", answers=answers
    )


@pytest.fixture
def base():
    return np.random.default_rng(1).normal(size=(2, 400)) * np.array([[1.0], [1e-6]])


@pytest.mark.parametrize("u", [2.0**-53, 2.0**-24])
def test_fingerprint_moves_with_rounding_no_further_than_it_may(base, u):
    rng = np.random.default_rng(2)
    accepted = step(base * 1.5, base, u)
    for _ in range(50):
        rounding = rng.normal(size=(2, 2, 1)) * u + rng.normal(size=(2, *base.shape)) * u  # alike, and each by itself
        elsewhere = step(base * 1.5 * (1 + rounding[0]), base * (1 + rounding[1]), u)
        assert elsewhere.is_base(accepted.base)
        assert elsewhere.is_head(accepted.head)
        assert elsewhere.tells_head_from_base


@pytest.mark.parametrize("u", [2.0**-53, 2.0**-24])
@pytest.mark.parametrize("row", [0, 1])
def test_fingerprint_tells_other_changes(base, u, row):
    """Of one tensor or one element, however small the tensor's numbers are."""
    accepted, edited = step(base * 1.5, base, u), base * 1.5
    edited[row] *= 1 + 200 * u
    assert not step(edited, base, u).is_head(accepted.head)
    edited = base * 1.5
    edited[row, 7] += 2000 * u * np.abs(base[row]).max()
    assert not step(edited, base, u).is_head(accepted.head)
    assert not step(base * 1.5, base * (1 + 200 * u), u).is_base(accepted.base)
    edited[row, 7] = np.nan
    assert not step(edited, base, u).is_head(accepted.head)
    assert not step(edited, base, u).is_finite


def test_fingerprint_holds_what_base_does_not_expose(base):
    def exposing(head: np.ndarray) -> Fingerprint:
        entries = [(TensorKey("grad", name), (head.shape[1],)) for name in ("wte", "wpe")]
        floor = [np.abs(row) * 2.0**-53 for row in base]
        shared = Pairs.of(0, entries[:1], [head[0]], [base[0]], floor[:1])
        found = Fingerprint()
        found.add(shared, Pairs.of(0, entries, [*head], [*base], floor), 10.0)
        return found

    accepted, other, right = base * 1.5, base * 1.5, base.copy()
    other[1] *= 1.001
    right[1] = base[1] * 2
    assert exposing(accepted).is_head(exposing(accepted).head)
    assert not exposing(other).is_head(exposing(accepted).head)
    assert exposing(other).is_base(exposing(accepted).base)
    assert exposing(right).tells_head_from_base


def test_fingerprint_that_rounding_hides_tells_nothing(base):
    assert not step(base * 1.5, base, 2.0**-8).tells_head_from_base


def test_accepted_change_passes_however_it_rounds_and_no_other_does(repository, capsys):
    refactor(WRONG)
    assert main(GATE) == 1
    assert main([*GATE, "--accept", "Scores are scaled elsewhere"]) == 0
    file = repository / "parity-accepted.json"
    capsys.readouterr()
    git("add", ".")
    git("commit", "--quiet", "-m", "Scale elsewhere")
    refactor(REORDERING)
    assert main([*GATE, "--base", "HEAD~1", "--json", "../gate.json", "--markdown", "../gate.md"]) == 0
    said = 'DIVERGED: the function changed, accepted as intended: "Scores are scaled elsewhere". First at head'
    assert " ".join(capsys.readouterr().out.split()).startswith(said)
    data = json.loads(Path("../gate.json").read_text(encoding="utf-8"))
    assert data["accepted"] == {"reason": "Scores are scaled elsewhere", "verdict": "DIVERGED"}
    assert data["verdict"] == "DIVERGED"
    assert "accepted as intended\n\n> Scores are scaled elsewhere\n" in Path("../gate.md").read_text(encoding="utf-8")

    stale = 'The accepted change "Scores are scaled elsewhere" no longer applies:'
    refactor(EPSILON)
    before = file.read_text(encoding="utf-8")
    assert main([*GATE, "--base", "HEAD~1"]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.startswith("DIVERGED: the function changed. First at head")
    beside = "head computes something else than what was accepted: beside that, off in the case: logits, loss, grad"
    assert f"{stale} {beside}" in printed
    assert main([*GATE, "--base", "HEAD"]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "no longer applies" not in printed
    assert printed.endswith('accepted before: "Scores are scaled elsewhere", which base has already')
    assert file.read_text(encoding="utf-8") == before


def test_change_that_base_made_meanwhile_is_not_accepted_along(repository, case):
    refactor(WRONG)
    result = gate("port.py:make", case=case, rounds=0, fingerprints=True, probes=False)
    result.accept("On [b] purpose")
    git("stash", "--quiet")
    refactor(EPSILON)
    git("commit", "--quiet", "-am", "Another function")
    git("stash", "pop", "--quiet")
    again = gate("port.py:make", case=case, rounds=0, accepted=[result.accepted], probes=False)
    assert again.accepted is None
    assert again.stale == [
        'The accepted change "On [b] purpose" no longer applies: base computes something else than it did then.'
    ]
    kind, _, _ = annotations(again)[1].partition(" ")
    assert kind == "::warning"
    assert again.stale[0] in gate_markdown(again)
    terminal = Console(file=io.StringIO(), width=200)
    terminal.print(gate_report(again))
    assert again.stale[0] in terminal.file.getvalue()


def test_another_change_that_shows_only_in_free_running_is_not_accepted_along(repository, case):
    refactor(WRONG)
    result = gate("port.py:make", case=case, rounds=0, fingerprints=True, probes=False)
    result.accept("On purpose")
    refactor(("self.params, self.m, self.v = after", "self.kept = after"))
    refactor(
        ("Step(loss, all_logits, grads, self.params, self.m, self.v)", "Step(loss, all_logits, grads, *self.kept)")
    )
    again = gate("port.py:make", case=case, rounds=0, accepted=[result.accepted], probes=False)
    assert again.accepted is None
    assert "head computes something else than what was accepted" in again.stale[0]


def test_change_in_what_only_head_exposes_is_not_accepted_along(repository, case):
    refactor(SILENT)
    git("commit", "--quiet", "-am", "Keep gradients")
    refactor((SILENT[1], SILENT[0]), WRONG)
    result = gate("port.py:make", case=case, rounds=0, fingerprints=True, probes=False)
    result.accept("On purpose")
    refactor((SILENT[0], SILENT[0].replace("grads", "{**grads, 'wpe': 2 * grads['wpe']}")))
    again = gate("port.py:make", case=case, rounds=0, accepted=[result.accepted], probes=False)
    assert again.accepted is None
    assert "head computes something else than what was accepted" in again.stale[0]


def test_accepted_claim_is_accepted_and_none_besides(repository, case):
    whole, hidden = "grads, self.params, self.m, self.v)", "grads, None, None, None)"
    refactor((whole, hidden))
    git("commit", "--quiet", "-am", "Hide the update")
    base = Path("port.py").read_text(encoding="utf-8")
    Path("port.py").write_text(f"{base}import model\nmodel.NumpyPort.without_update = True\n", encoding="utf-8")
    result = gate("port.py:make", case=case, rounds=0, fingerprints=True, probes=False)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.not_acceptable == ""
    result.accept("Another optimizer")
    again = gate("port.py:make", case=case, rounds=0, accepted=[result.accepted], probes=False)
    assert (again.accepted, again.exit_status) == (result.accepted, 0)
    Path("port.py").write_text(base, encoding="utf-8")
    refactor((hidden, whole))
    assert gate("port.py:make", case=case, rounds=0, accepted=[result.accepted], probes=False).accepted is None


def test_change_of_the_number_format_is_recognised_by_the_formats(repository, case):
    refactor(FLOAT32)
    result = gate("port.py:make", case=case, rounds=0, fingerprints=True, probes=False)
    assert result.not_acceptable == ""
    result.accept("Half the memory")
    again = gate("port.py:make", case=case, rounds=0, accepted=[result.accepted], probes=False)
    assert (again.accepted, again.exit_status) == (result.accepted, 0)
    git("commit", "--quiet", "-am", "Merge")
    refactor(NEUTRAL)
    after = gate("port.py:make", case=case, rounds=0, accepted=[result.accepted], probes=False)
    assert (after.merged, after.stale, after.exit_status) == (result.accepted, [], 0)


def test_what_cannot_be_accepted_is_not_written(repository, capsys):
    refactor(NEUTRAL)
    assert main([*GATE, "--accept", "Nothing"]) == 0
    assert "There is no change to accept: the verdict is IDENTICAL." in capsys.readouterr().err
    refactor((BROKEN[0].replace("return", "product ="), "product = x @ y.T"))
    assert main([*GATE, "--accept", "Broken"]) == 1
    assert "The change cannot be accepted: The subject raised NameError" in capsys.readouterr().err
    assert main([*GATE, "--accept", " "]) == 2
    assert not (repository / "parity-accepted.json").exists()


def test_entries_are_kept_apart_by_subject_and_format_and_read_back(tmp_path, accepted):
    one = replace(accepted, reason='Because of [ 1,\n 2 ] and "ü"')
    other, narrow = replace(one, subject="other.py:make"), replace(one, formats=["float32", "float32"])
    changes = with_change([other, one, narrow], replace(one, reason="Better"))
    assert changes == [other, narrow, replace(one, reason="Better")]
    write_accepted(tmp_path / "accepted.json", [one, other])
    assert read_accepted(tmp_path / "accepted.json") == [one, other]
    text = (tmp_path / "accepted.json").read_text(encoding="utf-8")
    assert text.count('"quantities": "grad"') == 2
    assert len(text.splitlines()) == 45
    assert read_accepted(tmp_path / "none.json") == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": "other"}',
        '{"format": "microgpt-parity accepted changes 1", "accepted": [{}]}',
        "\xff",
    ],
)
def test_file_that_is_something_else_is_refused_in_a_sentence(repository, capsys, text):
    (repository / "parity-accepted.json").write_bytes(text.encode("latin-1"))
    assert main(GATE) == 2
    said = capsys.readouterr().err
    assert "parity-accepted.json does not hold accepted changes as `parity gate --accept` writes them: " in said
    assert said.count("\n") == 1


def test_tampered_answers_are_refused(tmp_path, accepted):
    write_accepted(tmp_path / "accepted.json", [accepted])
    text = (tmp_path / "accepted.json").read_text(encoding="utf-8")
    edits = [('"base": "', '"base": "x'), ('"quantities": "grad"', '"quantities": "grad m"'), ('"case":', '"x":')]
    edits += [(packed(accepted.answers["case"]["head"]["grad"]), packed([float("nan")] * SUMS))]
    edits += [('"formats": [ "float64", "float64" ]', '"formats": []'), ('"On purpose"', "7")]
    for edit in edits:
        assert edit[0] in text
        (tmp_path / "accepted.json").write_text(text.replace(*edit), encoding="utf-8")
        with pytest.raises(UsageError, match="does not hold accepted changes"):
            read_accepted(tmp_path / "accepted.json")


def test_accepted_changes_stand_beside_the_nearest_project_file(repository):
    (repository / "sub" / "deep").mkdir(parents=True)
    (repository.parent / "pyproject.toml").touch()  # which is another repository's
    assert accepted_file(repository / "sub" / "deep") == repository / "parity-accepted.json"
    (repository / "sub" / "pyproject.toml").touch()
    assert accepted_file(repository / "sub" / "deep") == repository / "sub" / "parity-accepted.json"
    assert accepted_file(repository) == repository / "parity-accepted.json"
