"""Tensors that head no longer exposes, and those that base did not: the first are named, the others not compared."""

import numpy as np
import pytest

from parity import Case, check
from parity.cli.gate_report import gate_markdown, gate_report
from parity.cli.terminal import console
from parity.gate import GateResult
from parity.gate.judgement import change_of
from parity.gate.revisions import Revisions
from parity.verdict import Verdict
from tests.served import Served

PORT = """
from torch_twin.microgpt import Twin

class Port(Twin):
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

    def made(name: str, change: str) -> Served:
        (tmp_path / f"{name}.py").write_text(PORT.replace("{change}", change))
        return Served(f"{tmp_path / name}.py:make")

    return made


def revisions_of(head, base) -> Revisions:
    case = Case.from_names(steps=2, config={"n_embd": 4, "n_head": 2, "block_size": 4})
    found = Revisions(check(head, case))
    found.compare(head, base, {}, probes=False)
    assert not found.failure
    return found


def test_tensor_that_head_no_longer_exposes_is_named(side):
    found = revisions_of(side("head", PARTIAL), side("base", WHOLE))
    assert found.dropped == ["grad wpe", "param lm_head"]
    verdict, reason = change_of(found, found.head, found.head)
    assert verdict is Verdict.INCONCLUSIVE
    assert reason == "The subject no longer exposes grad wpe, param lm_head, which it did at base."


def test_tensor_that_base_did_not_expose_is_not_compared(side):
    found = revisions_of(side("head", WHOLE), side("base", PARTIAL))
    assert found.dropped == []
    assert found.identical
    sizes = {row.quantity: row.compared for row in found.rows}
    assert sizes["m"] - sizes["grad"] == 2 * 2 * np.prod(found.head.case.config.shapes()["wpe"])  # steps, modes


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
