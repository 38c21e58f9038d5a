"""Base is another function than the reference: then rounding is told from change by a floor of that function's own."""

import pytest

from parity import Case, check
from parity.gate import floor
from parity.gate.judgement import change_of
from parity.gate.revisions import Revisions
from parity.judging.causes import LawBroken
from parity.judging.judge import Judge, offered_elements
from parity.judging.mode_result import ModeResult
from parity.judging.probes import probes
from parity.judging.result import Result
from parity.number_formats import FORMATS
from parity.verdict import FALSE_ALARM, Verdict
from tests.gate.refactors import FLOAT32, MODEL, REORDERING, UNSTABLE
from tests.served import Served

SCALE = "return ((x * x).mean(axis=-1, keepdims=True) + 1e-5) ** -0.5"
INVERSE_ROOT = "return 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5)"
LEAKY = [
    ("relu = np.maximum(pre, 0)", "relu = np.where(pre > 0, pre, 0.01 * pre)"),
    ("else tape.pre > 0", "else np.where(tape.pre > 0, 1, 0.01)"),
]
STEEP = [("grads[name] += grad", "grads[name] += 100 * grad")]


def with_eps(eps: str) -> tuple[str, str]:
    return SCALE, SCALE.replace("1e-5", eps)


@pytest.fixture
def side(tmp_path):
    """The worked example after some edits."""

    def made(name: str, *edits: tuple[str, str]) -> Served:
        text = MODEL
        for old, new in edits:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        return Served(f"{tmp_path / name}.py:make")

    return made


def asked(
    head: Served,
    base: Served,
    probe: str,
    form: str = "float64",
    fingerprints: bool = False,
    verdict: Verdict = Verdict.DIVERGED,
) -> Revisions:
    """Both on the case of a probe, head as if its check had given that verdict."""
    case = next(found.case for found in probes() if found.name == probe)
    mode = ModeResult("lock-step")
    mode.decide(verdict, LawBroken("It is another function."))
    judge = Judge.of_elements(offered_elements(case, 2), FALSE_ALARM, FORMATS[form])
    found = Revisions(Result(case, "port", judge, [mode], []), fingerprints)
    found.compare(head, base, {}, probes=False)
    assert not found.failure
    return found


def judged(head: Served, base: Served, probe: str) -> tuple[Verdict, str, Revisions]:
    found = asked(head, base, probe)
    return *change_of(found, found.head, found.head), found


# In the probe `vanishing`, gradients grow with 1 / sqrt(eps), and v with 1 / eps.
ANOTHER_EPS = [
    ([with_eps("1e-6")], [(SCALE, INVERSE_ROOT.replace("1e-5", "1e-6"))]),
    ([with_eps("1e-6")], [with_eps("1e-6"), REORDERING]),
    ([with_eps("1e-12")], [with_eps("1e-12"), REORDERING]),
]


@pytest.mark.parametrize(("base", "head"), ANOTHER_EPS)
def test_other_rounding_of_another_function_is_parity(side, base, head):
    verdict, reason, found = judged(side("head", *head), side("base", *base), "vanishing")
    assert verdict is Verdict.PARITY, reason
    assert "Both differ from the reference in the same way" in reason
    assert sum(row.different for row in found.rows) > 0
    assert not any(row.outside for row in found.rows)


@pytest.mark.parametrize(("base", "head"), ANOTHER_EPS[1:])
def test_by_the_floor_of_the_reference_it_would_be_a_false_alarm(side, base, head, monkeypatch):
    monkeypatch.setattr(floor, "_growth", lambda *_: 1.0)
    verdict, reason, _ = judged(side("head", *head), side("base", *base), "vanishing")
    assert verdict is Verdict.DIVERGED
    assert "e-16, z" in reason


@pytest.mark.parametrize("edits", [LEAKY, STEEP], ids=["leaky", "steep"])
@pytest.mark.parametrize("probe", ["two-layers", "vanishing"])
def test_values_where_the_reference_has_none_and_larger_ones_round_as_they_are_large(side, edits, probe):
    verdict, reason, _ = judged(side("head", *edits, REORDERING), side("base", *edits), probe)
    assert verdict is Verdict.PARITY, reason


def test_precision_that_base_had_lost_before_is_not_lost_again(side):
    moment = "hyper.beta1 * self.m[name] + (1 - hyper.beta1) * grad"
    rounded = (moment, "grad + hyper.beta1 * (self.m[name] - grad)")
    found = asked(side("head", UNSTABLE, rounded), side("base", UNSTABLE), "two-layers", verdict=Verdict.PRECISION_LOSS)
    assert any(row.different for row in found.rows)
    assert change_of(found, found.head, found.head)[0] is Verdict.PARITY


@pytest.mark.parametrize(
    "again",
    [
        [with_eps("1e-7")],
        [with_eps("1.00000001e-6")],
        [with_eps("1e-6"), ("+ hyper.eps_adam)", "+ 1.01 * hyper.eps_adam)")],
        [with_eps("1e-6"), ('grads["wpe"][: len(tape.tokens)] = d', 'grads["wpe"][: len(tape.tokens)] = 1.00001 * d')],
    ],
)
def test_another_change_of_another_function_stays_one(side, again):
    verdict, reason, found = judged(side("head", *again), side("base", with_eps("1e-6")), "vanishing")
    assert verdict is Verdict.DIVERGED
    assert found.first
    assert reason.startswith("First at head against base, step 124: ")
    assert reason.endswith("Base does not agree with the reference either.")


@pytest.mark.parametrize("narrow", [False, True])
def test_fingerprint_of_another_function_has_room_for_its_rounding(side, monkeypatch, narrow):
    """Accepted where base is the reference, and then computed in another order."""
    if narrow:
        monkeypatch.setattr(floor, "_growth", lambda *_: 1.0)
    here, there = (
        asked(side(f"head{number}", FLOAT32, *edits), side("base", FLOAT32), "vanishing", "float32", fingerprints=True)
        for number, edits in enumerate(ANOTHER_EPS[2])
    )
    accepted, found = here.fingerprints["case"], there.fingerprints["case"]
    assert accepted.tells_head_from_base
    assert found.is_base(accepted.base)
    assert found.is_head(accepted.head) is not narrow


def test_element_of_a_probe_is_named_with_it_and_placed(side):
    forward = 'return linear(x, params["lm_head"]), Tape'
    wrong = (forward, forward.replace("linear(x,", "linear(x * (1 + (config.n_layer == 2)),"))
    case = Case.from_names(steps=1, config={"n_embd": 4, "n_head": 2, "block_size": 4})
    head, base = side("head", wrong), side("base")
    found = Revisions(check(head, case, probes=False))
    found.compare(head, base, {}, probes=True)
    wrong_head = asked(head, base, "two-layers").head
    _, reason = change_of(found, wrong_head, check(base, case, probes=False))
    assert reason.startswith("First at head against base, in the probe two-layers (two layers, three heads of size 2,")
    assert found.first
    assert found.first.location
    assert found.first.location.origins[0].key.quantity == "logits"
    assert {row.largest_in for row in found.rows} == {"two-layers"}
