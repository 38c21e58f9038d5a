"""Tensors that head no longer exposes, and those that base did not: the first are named, the others not compared."""

import numpy as np
import pytest

from parity import Case, check
from parity.cli.gate_report import gate_markdown, gate_report
from parity.cli.terminal import console
from parity.gate import GateResult
from parity.gate.judgement import change_of
from parity.gate.revisions import Revisions
from parity.gate.speed import measured
from parity.subjects.timing import timed
from parity.verdict import Verdict
from tests.served import Served

PORT = """
from torch_twin.microgpt import Twin

class Port(Twin):
    {attributes}
    def train_step(self, batch):
        step = super().train_step(batch)
        {change}
        return step

def make(config, hyper):
    return Port(config, hyper)
"""
WHOLE = "pass"
PARTIAL = "del step.grads['wpe']; step.params = {n: p for n, p in step.params.items() if n != 'lm_head'}"


@pytest.fixture
def side(tmp_path):
    """A served port, whose step goes through a line of Python."""

    def made(name: str, change: str, attributes: str = "", more: str = "") -> Served:
        text = PORT.replace("{change}", change).replace("{attributes}", attributes)
        (tmp_path / f"{name}.py").write_text(text + more)
        return Served(f"{tmp_path / name}.py:make")

    return made


def revisions_of(head, base, probes: bool = False) -> Revisions:
    case = Case.from_names(steps=2, config={"n_embd": 4, "n_head": 2, "block_size": 4})
    found = Revisions(check(head, case, probes=probes))
    found.compare(head, base, {}, probes=probes)
    assert not found.failure
    return found


def test_tensor_that_head_no_longer_exposes_is_named(side):
    found = revisions_of(side("head", PARTIAL), side("base", WHOLE))
    assert found.exposure.dropped == ["grad wpe", "param lm_head"]
    verdict, reason = change_of(found, found.head, found.head)
    assert verdict is Verdict.INCONCLUSIVE
    assert reason == "The subject no longer exposes grad wpe, param lm_head, which it did at base."


def test_tensor_that_base_did_not_expose_is_not_compared(side):
    found = revisions_of(side("head", WHOLE), side("base", PARTIAL))
    assert found.exposure.dropped == []
    assert found.identical
    sizes = {row.quantity: row.compared for row in found.rows}
    assert sizes["m"] - sizes["grad"] == 2 * np.prod(found.head.case.config.shapes()["wpe"])  # of two steps


def judged(head, base, probes: bool = False) -> tuple[Verdict, str, Revisions]:
    found = revisions_of(head, base, probes)
    verdict, reason = change_of(found, found.head, check(base, found.head.case, probes=probes))
    return verdict, reason, found


WITHOUT_GRADIENTS = "step.grads = None"
WRONG_GRADIENTS = "step.grads['wpe'] = step.grads['wpe'] * 2"
WRONG_LOSS = "step.loss = step.loss * 2"


def test_newly_exposed_tensor_that_is_wrong_is_no_identity(side):
    verdict, reason, found = judged(side("head", WRONG_GRADIENTS), side("base", WITHOUT_GRADIENTS))
    assert found.identical
    assert verdict is Verdict.DIVERGED
    assert reason.endswith("Base agrees with the reference.")


def test_newly_exposed_tensor_that_is_wrong_is_not_wrong_alike(side):
    """Base is wrong in what both expose, and head in something else besides."""
    wrong = side("head", f"{WRONG_LOSS}; {WRONG_GRADIENTS}")
    verdict, reason, _ = judged(wrong, side("base", f"{WRONG_LOSS}; {WITHOUT_GRADIENTS}"))
    assert verdict is Verdict.DIVERGED
    assert reason.startswith("What head exposes and base does not differs from the reference: step 0: grad wpe")
    assert reason.endswith("Base does not agree with the reference either.")
    right = side("head", WRONG_LOSS)
    verdict, reason, _ = judged(right, side("base", f"{WRONG_LOSS}; {WITHOUT_GRADIENTS}"))
    assert verdict is Verdict.IDENTICAL


CLAIMS = {
    "forward_only": ("step.grads = step.params = step.m = step.v = None", "updates (it says forward_only = True)"),
    "without_update": ("step.params = step.m = step.v = None", "updates (it says without_update = True)"),
    "tied_head": (
        "drop = lambda d: {n: p for n, p in d.items() if n not in ('wte', 'lm_head')}; "
        "step.grads, step.params, step.m, step.v = map(drop, (step.grads, step.params, step.m, step.v))",
        "lm_head and wte apart (it says tied_head = True)",
    ),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_new_claim_is_a_drop(side, claim):
    """Also where base left as much out, without saying why."""
    hidden, said = CLAIMS[claim]
    verdict, reason, found = judged(side("head", hidden, f"{claim} = True"), side("base", hidden))
    assert found.exposure.dropped == [said]
    assert verdict is Verdict.INCONCLUSIVE
    assert reason == f"The subject no longer exposes {said}, which it did at base."


def test_claim_of_base_alone_is_another_function(side):
    """Each agrees with its own reference, in states that the other is never in."""
    hidden, said = CLAIMS["tied_head"]
    tie = "    def load(self, state):\n        state.params['lm_head'] = state.params['wte']; super().load(state)"
    verdict, reason, found = judged(side("head", WHOLE), side("base", hidden, f"tied_head = True\n{tie}"))
    assert not found.identical
    assert verdict is Verdict.DIVERGED
    assert reason == f"At base the subject is without {said}, and at head it is not: two functions."


GIVEN = "sizes = 'given'"
SEVERAL = "step.loss = 5.0 if len(batch) > 1 else step.loss"
ONE_SIZE = """
quick = make
def make(config, hyper):
    from parity.errors import UsageError
    if config.n_embd != 4:
        raise UsageError("One size alone.")
    return quick(config, hyper)
"""


@pytest.mark.parametrize("refuse", ["by attribute", "by an error"])
def test_subject_of_one_size_is_compared_in_probes_of_that_size(side, refuse):
    how = (GIVEN, "") if refuse == "by attribute" else ("", ONE_SIZE)
    verdict, reason, found = judged(side("head", SEVERAL, *how), side("base", WHOLE, *how), probes=True)
    assert not found.identical
    assert found.first.difference.key.quantity == "loss"
    assert verdict is Verdict.DIVERGED
    assert reason.endswith("Base agrees with the reference.")


def test_sizes_that_head_alone_refuses_are_a_drop(side):
    _, _, found = judged(side("head", WHOLE, GIVEN), side("base", WHOLE))
    assert found.exposure.dropped == ['other sizes (it says sizes = "given")']


def test_tied_subject_is_timed_from_states_that_it_can_hold(side):
    """One that asserts it would otherwise never be timed."""
    load = "    def load(self, state):\n        assert state.params['wte'] == state.params['lm_head']"
    load += "; super().load(state)"
    hidden = CLAIMS["tied_head"][0]
    tied = side("tied", hidden, f"tied_head = True\n{load}")
    case = Case.from_names(steps=1, config={"n_embd": 4, "n_head": 2, "block_size": 4})
    assert measured(tied, tied, case, {}, 2) is not None
    subject = tied(case.config, case.hyper)
    assert timed(subject, case.config, case.hyper, case.state, case.documents[:20], (1,), 1, 0.0).step > 0


def test_what_neither_exposes_is_said_in_terminal_and_markdown(side):
    head = check(side("head", PARTIAL), Case.from_names(steps=1, config={"n_embd": 4, "n_head": 2}))
    result = GateResult("port", "head", "base", Verdict.IDENTICAL, "Same.", head, None, [], None, None)
    terminal = console()
    with terminal.capture() as printed:
        terminal.print(gate_report(result))
    assert "not exposed by the subject, so not checked: grad of wpe; param of lm_head" in " ".join(
        printed.get().split()
    )
    assert "Not exposed by the subject, so not checked: grad of wpe; param of lm_head.\n" in gate_markdown(result)
