"""What a check prints: the verdict first, a table that fits a narrow screen, and a failure that explains itself."""

import io
import json
import re
import sys
from dataclasses import replace
from functools import cache

import pytest
from rich.console import Console

from parity import Case, Step, Verdict, check
from parity.catalogue.mutants import MUTANTS
from parity.cli import main
from parity.cli.check_markdown import check_markdown
from parity.cli.check_report import check_report
from parity.judging.mode_result import TruthResult
from parity.judging.probes import probes
from parity.judging.result import ProbeResult
from parity.testing import ParityError, assert_parity
from torch_twin.bfloat16 import make as master_weights
from torch_twin.microgpt import Twin

SOURCE = "embedded names"
ONLY_LOCK_STEP = {"modes": ["lock-step"]}


@cache
def short(batch_size: int = 1) -> Case:
    return Case.from_names(steps=1, batch_size=batch_size, config={"n_embd": 4, "n_head": 2, "block_size": 3})


class Raises(Twin):
    """One that fails at its second step."""

    def train_step(self, batch) -> Step:
        """A step, or none."""
        if self.state.step == 1:
            raise ValueError("no such row")
        return super().train_step(batch)


def shown(result, width: int = 80, verbose: bool = False) -> str:
    terminal = Console(file=io.StringIO(), width=width, highlight=False)
    terminal.print(check_report(result, SOURCE, verbose))
    return terminal.file.getvalue()


@cache
def passing():
    return check(Twin, short())


@cache
def failing():
    return check(MUTANTS["score_gradient_not_scaled"].make, short(), probes=False)


@pytest.mark.parametrize("width", [60, 80, 118])
def test_pass_is_one_table_of_six_rows_whatever_the_width(width):
    lines = shown(passing(), width).splitlines()
    assert lines[0].startswith("PARITY: Rounding explains every difference")
    assert max(map(len, lines)) <= width
    rows = [line.split()[0] for line in lines if re.match(r" (loss|logits|grad|m|v|param) +\d", line)]
    assert rows == ["logits", "loss", "grad", "m", "v", "param"]
    assert "…" not in "".join(lines)
    assert len(lines) <= (28 if width == 60 else 22)


def test_pass_names_what_was_not_exercised_and_the_option_that_does_it():
    text = shown(passing())
    assert text.index("PARITY") < text.index("quantity") < text.index("not exercised:")
    assert "-  a second layer (--n-layer 2)" in text


def test_power_of_every_tensor_is_for_who_asks_for_it():
    assert "layer0.attn_wq" not in shown(passing())
    text = shown(passing(), 118, verbose=True)
    for tensor in short().config.shapes():
        assert re.search(rf"^ {re.escape(tensor)} +\de-\d+, \de-\d+ ", text, re.MULTILINE)


@pytest.mark.parametrize("width", [60, 80, 118])
def test_failure_says_how_much_is_outside_and_what_is_right(width):
    lines = shown(failing(), width).splitlines()
    text = " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= width
    assert "…" not in text
    assert text.startswith("DIVERGED: step 0: grad layer0.attn_wk[0,0]: ")
    grad = failing().modes[0].quantities["grad"]
    assert re.search(rf" grad {grad.outside} {grad.compared} 0, layer0.attn", text)
    assert "right: lm_head, layer0.mlp_fc2, layer0.mlp_fc1, layer0.attn_wo, layer0.attn_wv" in text
    assert "wrong: layer0.attn_wk (" in text
    assert "m, v, param as Adam makes them of these gradients" in text
    assert "begins at grad layer0.attn_wk, layer0.attn_wq: what it is computed from is not seen to be wrong" in text
    assert "free-running, 1 step: DIVERGED, from the same element on" in text


def test_error_of_a_row_is_that_of_the_element_it_names():
    row = failing().modes[0].quantities["grad"]
    (line,) = [line for line in shown(failing()).splitlines() if line.startswith(" grad ")]
    first = row.first_outside
    assert line.split()[-4:] == [
        "layer0.attn_wk[0,0]",
        f"{first.error:.1e}",
        f"{first.relative_error:.2g}",
        f"{first.z:.2g}",
    ]
    assert first.relative_error == first.error / abs(first.expected)


def test_failure_in_a_probe_is_shown_with_the_probes_numbers():
    probe = probes()[0]
    text = shown(replace(passing(), probes=[ProbeResult(probe, failing())]))
    assert f"DIVERGED: In the probe {probe.name} (" in text
    assert f"probe {probe.name}, lock-step, 1 step: DIVERGED" in text
    assert "in the order of computation" in text


def test_formats_of_arithmetic_and_of_storage_are_both_shown():
    result = check(master_weights, short(), **ONLY_LOCK_STEP)
    assert "in bfloat16, weights and moments in float32" in " ".join(shown(result).split())
    assert "weights and moments" not in shown(passing())


@pytest.mark.parametrize(
    ("batch_size", "said"),
    [
        (1, "There it was given document 1 of the case, 6 tokens long"),
        (2, "There it was given documents 2 and 3 of the case, 6 and 8 tokens long"),
    ],
)
def test_failing_subject_is_told_at_which_documents(batch_size, said):
    names = Case.from_names(steps=2, batch_size=batch_size, config={"n_embd": 4, "n_head": 2, "block_size": 3})
    result = check(Raises, names, **ONLY_LOCK_STEP)
    assert result.verdict is Verdict.ERROR
    lengths = [len(names.documents[number]) for number in range(batch_size, 2 * batch_size)]
    assert result.failure.asked.tokens == tuple(lengths)
    said = said.replace("6 and 8", " and ".join(map(str, lengths))).replace("6 tokens", f"{lengths[0]} tokens")
    assert said in result.reason
    assert "block_size is 3" in result.reason
    asked = result.to_dict()["failure"]["asked"]
    assert (asked["step"], asked["tokens"]) == (1, lengths)
    assert "compared before it failed" in shown(result)


def test_last_lines_of_a_dead_process_are_shown(tmp_path):
    program = "import sys; print('first line', 'last line', sep='\\n', file=sys.stderr); sys.exit(3)"
    result = check([sys.executable, "-c", program], short(), **ONLY_LOCK_STEP)
    assert "\n" not in result.reason
    assert "  first line\n  last line\n" in shown(result)
    assert "```\nfirst line\nlast line\n```" in check_markdown(result, SOURCE)
    assert result.to_dict()["failure"]["last_words"] == ["first line", "last line"]
    with pytest.raises(ParityError, match=r"(?s)^ERROR: .*\n  first line\n  last line\nRepeat with: "):
        assert_parity([sys.executable, "-c", program], short(), store=tmp_path, **ONLY_LOCK_STEP)


def test_markdown_says_the_same_as_the_terminal(tmp_path, capsys):
    markdown = check_markdown(failing(), SOURCE)
    assert markdown.startswith("### DIVERGED\n\nstep 0: grad layer0.attn_wk[0,0]: ")
    assert (
        "- begins at grad layer0.attn_wk, layer0.attn_wq: what it is computed from is not seen to be wrong" in markdown
    )
    assert "| grad | " in markdown
    file = tmp_path / "check.md"
    small = ["--steps", "1", "--n-embd", "4", "--n-head", "2", "--only-case", "--mode", "lock-step"]
    assert main(["check", *small, "--markdown", str(file), "--verbose"]) == 0
    assert "would be caught" in capsys.readouterr().out
    assert file.read_text().startswith("### PARITY")
    assert "- a second layer (--n-layer 2)" in file.read_text()


def test_markdown_has_the_truth_and_the_first_site():
    mode = failing().modes[0]
    truth = TruthResult(subject={"grad": 1e9}, reference={"grad": 0.5}, apart={"grad": 1e9})
    told = replace(mode, first_site=mode.first_divergence, truth=truth)
    result = replace(failing(), modes=[told])
    markdown = check_markdown(result, SOURCE)
    assert "| grad | 1e+09 | 0.5 | 1e+09 |" in markdown
    for said in (truth.sentence(result.judge.limit), f"first site outside: {mode.first_divergence}"):
        assert said in markdown
        assert said in " ".join(shown(result, 1000).split())


def test_assertion_tells_tensor_by_tensor(tmp_path):
    with pytest.raises(ParityError) as caught:
        assert_parity(MUTANTS["keys_detached"].make, short(), store=tmp_path, **ONLY_LOCK_STEP)
    first, counts, *located, last = str(caught.value).splitlines()
    assert first.startswith("DIVERGED: step 0: grad layer0.attn_wk[0,")
    assert re.match(r"  outside in 1 step: \d+ of [\d,]+ grad, ", counts)
    assert located[-1] == "  begins at grad layer0.attn_wk: what it is computed from is not seen to be wrong"
    assert last.startswith("Repeat with: parity replay ")


def test_result_in_an_assertion_is_one_line():
    assert repr(failing()).startswith("<Result of ")
    assert len(repr(failing())) < 320


def test_json_has_neither_nan_nor_infinities():
    json.dumps(failing().to_dict(), allow_nan=False)
