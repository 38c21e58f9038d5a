"""The time of a step at head beside that at base: where the ratio lies, and when it is too high beyond doubt."""

import math
import random

import pytest

from parity.cli import main
from parity.cli.gate_report import annotations
from parity.errors import UsageError
from parity.gate import gate
from parity.gate.result import GateResult
from parity.gate.speed import FEWEST_PAIRS, require_pairs, speed_of
from parity.verdict import Verdict


def pairs_with(ratio: float, count: int = 30, noise: float = 0.05) -> list[list[float]]:
    """Head is so much slower; now and then, another process takes the machine away from one side."""
    rng = random.Random(count)
    times = [[ratio * math.exp(rng.gauss(0, noise)), math.exp(rng.gauss(0, noise))] for _ in range(count)]
    for i in range(0, count, 9):
        times[i][i % 2] *= 20
    return times


def gated(speed, fail_slower: float | None, verdict: Verdict = Verdict.PARITY) -> GateResult:
    return GateResult("port.py:make", "a", "b", verdict, "", None, None, [], None, speed, fail_slower=fail_slower)


def test_interval_of_the_median_is_that_of_order_statistics():
    ratios = [1 + i / 100 for i in range(30)]
    found = speed_of([[ratio, 1.0] for ratio in ratios])
    assert found.interval == (ratios[9], ratios[20])  # 95.7 % of Binomial(30, 1/2) lies from 10 to 20
    assert (found.low, found.high) == (pytest.approx(1.0675), pytest.approx(1.2225))


def test_interval_holds_the_ratio_about_as_often_as_it_says():
    rng = random.Random(1)
    drawn = [speed_of([[rng.lognormvariate(0, 0.3), 1.0] for _ in range(12)]) for _ in range(300)]
    assert 0.93 <= sum(found.tells_no_difference for found in drawn) / 300 <= 1


def test_only_a_ratio_beyond_doubt_fails():
    slow = speed_of(pairs_with(1.3))
    assert slow.is_slower(1.2)
    assert gated(slow, 1.2).exit_status == 1
    assert gated(slow, 1.29).exit_status == 0  # the median lies above; the interval does not
    assert gated(slow, None).exit_status == 0
    assert gated(speed_of(pairs_with(1.0)), 1.0).exit_status == 0


def test_noise_and_few_pairs_are_doubt():
    assert not speed_of(pairs_with(1.3, noise=1.5)).is_slower(1.2)
    few = speed_of([[9.0, 1.0]] * (FEWEST_PAIRS - 1))
    assert few.interval is None
    assert not few.is_slower(1.2)
    with pytest.raises(UsageError, match="needs at least 6 --rounds, not 5, for a 95 % interval"):
        require_pairs(FEWEST_PAIRS - 1)
    assert speed_of([[9.0, 1.0]] * FEWEST_PAIRS).is_slower(1.2)


def test_what_could_not_be_timed_is_no_pass_where_speed_counts():
    assert gated(None, 1.2).exit_status == 3
    assert gated(None, None).exit_status == 0
    assert gated(None, 1.2, Verdict.DIVERGED).exit_status == 1


def test_slower_is_a_fault_of_its_own():
    assert [note.partition("::SLOWER")[0] for note in annotations(gated(speed_of(pairs_with(1.3)), 1.2))] == [
        "::error title=parity gate"
    ]


def test_command_line_fails_a_slow_step(repository, capsys):
    text = (repository / "port.py").read_text(encoding="utf-8")
    slow = text + (
        "import time\nquick = make\ndef make(config, hyper):\n    subject = quick(config, hyper)\n"
        "    step = subject.train_step\n    subject.train_step = lambda batch: [time.sleep(0.01), step(batch)][1]\n"
        "    return subject\n"
    )
    (repository / "port.py").write_text(slow, encoding="utf-8")
    arguments = ["gate", "port.py:make", "--steps", "1", "--n-embd", "4", "--only-case", "--rounds", "6"]
    assert main([*arguments, "--fail-slower", "2", "--markdown", "../slow.md"]) == 1
    summary = (repository.parent / "slow.md").read_text(encoding="utf-8")
    assert summary.startswith("### SLOWER (IDENTICAL: bitwise the same)\n\n**SLOWER: a step at head takes at least ")
    printed = capsys.readouterr().out
    assert printed.startswith("SLOWER: a step at head takes at least ")
    assert "\nIDENTICAL: bitwise the same." in printed
    assert main([*arguments[:-1], "5", "--fail-slower", "2"]) == 2


def test_too_few_pairs_are_refused_before_anything_runs(repository):
    with pytest.raises(UsageError, match="--rounds"):
        gate("gone.py:make", rounds=0, fail_slower=1.1)
