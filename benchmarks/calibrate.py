"""How often the noise floor cries wolf, and what it catches, beside tolerances set by hand.

    python -m benchmarks.calibrate --comparisons 30000 --json benchmarks/results/calibration.json

Correct implementations (`tests.implementations`, and the eager rungs of the ladder) are compared with the reference in
every number format, also with weights and moments in a wider one than products are, over drawn configs and documents,
deep and narrow ones among them, with fresh and with trained weights; a comparison is one run of one to four steps, in
lock-step or free-running, in all quantities. Then every planted fault of `tests.faults` is compared on default-size
steps. Data comes from the file that MICROGPT_NAMES names, else from the embedded names.
"""

import argparse
import json
import os
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from parity import Case, Config, Hyper, State, Verdict, check
from parity.campaign.drawing import trained
from parity.errors import NoExpectation, UsageError
from parity.files import write_whole
from parity.judging.exchange import Run
from parity.judging.judge import Judge
from parity.judging.pairing import paired
from parity.ladder import machine
from parity.number_formats import FORMATS, Floats
from parity.oracle.noisy_replay import REPLICAS
from parity.scalar import Scalar
from reference.microgpt import init_params, init_state
from tests.faults import FAULTS, planted
from tests.implementations import IMPLEMENTATIONS

FORMATS_CALIBRATED: dict[str, tuple[str, str | None]] = {
    "float64": ("float64", None),
    "float32": ("float32", None),
    "bfloat16": ("bfloat16", None),
    "bfloat16, weights in float32": ("bfloat16", "float32"),
    "float16, weights in float32": ("float16", "float32"),
}
"""By name: what products are computed in, and what weights and moments lie in, where that is another format."""

FAULTS_IN = ("float64", "float32", "bfloat16")
"""The formats in which planted faults are looked for."""

TORCH_DEFAULTS = {
    "float64": (1e-7, 1e-7),
    "float32": (1.3e-6, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
    "float16": (1e-3, 1e-5),
}
"""rtol and atol of torch.testing.assert_close."""

RUNGS = ("positions", "padded", "packed", "fused_attention", "fused_adam", "accumulation")
"""Eager rungs of the ladder."""

TOLERANCES: dict[str, Callable[[str], tuple[float, float]]] = {
    "torch.testing's defaults": lambda dtype: TORCH_DEFAULTS[dtype],
    "rtol 1e-3, atol 1e-3": lambda dtype: (1e-3, 1e-3),
    "numpy.allclose": lambda dtype: (1e-5, 1e-8),
    "absolute 2e-2": lambda dtype: (0.0, 2e-2),
}
TAIL = range(2, 11)
"""Values of z beyond which elements are counted, beside as many as Student's t has there."""

NOISE_FLOOR = "noise floor"
OBVIOUS = "one gradient is NaN"


@dataclass
class Tally:
    """Counts by number format; z: the largest z of each comparison, in bins of a half."""

    comparisons: Counter[str] = field(default_factory=Counter)
    z: dict[str, Counter[float]] = field(default_factory=lambda: defaultdict(Counter))
    largest_z: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    alarms: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    first_steps: Counter[str] = field(default_factory=Counter)
    gates_turned: Counter[str] = field(default_factory=Counter)
    undecided: Counter[str] = field(default_factory=Counter)
    why_undecided: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    elements: Counter[str] = field(default_factory=Counter)
    beyond: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    """Of the elements of first steps, how many have a z beyond each of TAIL."""

    def add(self, other: "Tally") -> None:
        for name in ("comparisons", "first_steps", "gates_turned", "undecided", "why_undecided", "broken", "elements"):
            getattr(self, name).update(getattr(other, name))
        for dtype in FORMATS_CALIBRATED:
            self.z[dtype].update(other.z[dtype])
            self.beyond[dtype].update(other.beyond[dtype])
            self.largest_z[dtype] = max(self.largest_z[dtype], other.largest_z[dtype])
        self.refused += other.refused
        for criterion, counts in other.alarms.items():
            self.alarms[criterion].update(counts)


@dataclass(frozen=True)
class Range:
    """What weights and learning rates are drawn from: the exponents of ten that they lie between."""

    init_std: tuple[float, float]
    learning_rate: tuple[float, float]


RANGES = {
    "training": Range((-1.7, -0.6), (-4, -1.5)),  # init_std 0.02 to 0.25, learning_rate 0.0001 to 0.03
    "stress": Range((-1.7, 0), (-4, -1)),  # up to 1 and 0.1: saturated softmax, probabilities that underflow
}


def drawn_cases(rng: random.Random, ranges: Range) -> Iterator[Case]:
    """A few steps of a drawn model, before training and twice in the midst of it."""
    deep = rng.random() < 0.4
    n_head = rng.choice((1, 2)) if deep else rng.choice((1, 1, 2, 3, 4))
    config = Config(
        n_layer=rng.randint(3, 6) if deep else rng.randint(1, 3),
        n_embd=n_head * (rng.choice((1, 2)) if deep else rng.choice((1, 2, 3, 4))),
        n_head=n_head,
        block_size=rng.randint(1, 8),
        vocab_size=rng.randint(2, 12),
        init_std=10 ** rng.uniform(*ranges.init_std),
        activation=rng.choice(("relu", "relu2")),
    )
    hyper = Hyper(
        learning_rate=10 ** rng.uniform(*ranges.learning_rate),
        beta1=rng.uniform(0, 0.95),
        beta2=rng.uniform(0.5, 0.999),
    )
    bos = config.vocab_size - 1
    documents = [
        [bos, *(rng.randrange(max(1, bos)) for _ in range(rng.randint(0, config.block_size + 1))), bos]
        for _ in range(rng.randint(1, 40))
    ]
    state = init_state(init_params(config, rng))
    for steps in (0, rng.randint(1, 20), rng.randint(20, 60)):
        state = trained(config, hyper, state, documents, steps)
        rng.shuffle(documents)
        yield Case(config, hyper, state, documents, batch_size=rng.randint(1, 4), steps=rng.randint(1, 4))


def within(case: Case, make: Callable[..., Any], dtype: str, storage: str | None = None) -> dict[str, bool]:
    """Whether each tolerance set by hand accepts the implementation's first step; empty if that is not finite."""
    form = FORMATS[storage or dtype]
    state = State(
        *(
            {name: form.rounded(matrix).tolist() for name, matrix in part.items()}
            for part in (case.state.params, case.state.m, case.state.v)
        ),
        step=case.state.step,
    )
    subject, oracle = made(make, case, dtype, storage), Scalar(case.config, case.hyper)
    subject.load(state)
    oracle.load(state)
    batch = next(case.batches())
    expected = oracle.train_step(batch)
    lengths = [min(case.config.block_size, len(tokens) - 1) for tokens in batch]
    pairs = paired(0, subject.train_step(batch), expected, expected, lengths)
    if not np.isfinite(pairs.actual).all():
        return {}
    accepted = {}
    for criterion, tolerance in TOLERANCES.items():
        rtol, atol = tolerance(dtype)
        accepted[criterion] = bool(np.all(pairs.error <= atol + rtol * np.abs(pairs.expected)))
    return accepted


def made(make: Callable[..., Any], case: Case, dtype: str, storage: str | None) -> Any:
    """The subject that an implementation makes."""
    options = {"dtype": dtype} if storage is None else {"dtype": dtype, "storage": storage}
    return make(case.config, case.hyper, **options)


def implementations(storage: str | None) -> Iterator[tuple[str, Callable[..., Any]]]:
    """By name those that compute in one format throughout, or those whose weights lie in another one."""
    for name, make in IMPLEMENTATIONS.items():
        if storage is None or "storage" in signature(make).parameters:
            yield name, make
    if storage is None:
        for rung in RUNGS:
            yield rung, import_module(f"torch_twin.{rung}").make


def compare_correct(seed: int, ranges: Range) -> Tally:
    """All implementations and formats on the cases of one drawn model."""
    torch.set_num_threads(1)
    tally = Tally()
    try:
        for case in drawn_cases(random.Random(seed), ranges):
            for name, (dtype, storage) in FORMATS_CALIBRATED.items():
                for who, make in implementations(storage):
                    tally.add(compared(case, who, make, name, dtype, storage))
    except (NoExpectation, UsageError):
        pass  # training blew up: the reference itself has no answer
    return tally


def compared(case: Case, who: str, make: Callable[..., Any], name: str, dtype: str, storage: str | None) -> Tally:
    """One check, in both modes, by every criterion."""
    tally = Tally()
    accepted = within(case, make, dtype, storage)
    if not accepted:  # it overflows or underflows in this format, and is not correct in it
        tally.broken[name] += 1
        return tally
    result = check(lambda config, hyper: made(make, case, dtype, storage), case)
    if any(first and not np.isfinite(first.actual) for first in (mode.first_divergence for mode in result.modes)):
        tally.broken[name] += 1  # the same in a later step
        return tally
    for mode in result.modes:
        tally.comparisons[name] += 1
        if mode.verdict is Verdict.INCONCLUSIVE:
            tally.undecided[name] += 1
            tally.why_undecided[f"{name}: {mode.reason}"] += 1
        rows = mode.quantities.values()
        z = max((row.largest_z.z for row in rows if row.largest_z), default=0.0)
        tally.z[name][min(z // 0.5 * 0.5, 100.0)] += 1
        tally.largest_z[name] = max(tally.largest_z[name], z)
        if mode.verdict.exit_status == 1:
            where = f"{case.config} {case.hyper} batch_size={case.batch_size} steps={case.steps}"
            tally.refused.append(f"{name}: {who} {mode.mode}: {mode.verdict}: {mode.reason} {where}")
        tally.gates_turned[name] += mode.turned_gates
        tally.alarms[NOISE_FLOOR][name] += mode.verdict.exit_status == 1
    z = first_step(case, make, result.judge, dtype, storage)
    tally.elements[name] += len(z)
    tally.beyond[name].update({k: int(np.count_nonzero(z > k)) for k in TAIL})
    tally.first_steps[name] += 1
    for criterion, fine in accepted.items():
        tally.alarms[criterion][name] += not fine
    return tally


def first_step(case: Case, make: Callable[..., Any], judge: Judge, dtype: str, storage: str | None) -> Floats:
    """The z of all elements of the first step whose noise floor is not 0; none where the reference has no answer."""
    try:
        pairs = Run(case, made(make, case, dtype, storage), judge).ask(case.state, next(case.batches())).pairs
    except NoExpectation:
        return np.zeros(0)
    return pairs.z[pairs.sigma > 0]


def default_cases() -> list[Case]:
    """Default size, one document with a repeated letter: with fresh weights, and after 200 steps."""
    case = Case.from_names(os.environ.get("MICROGPT_NAMES"), steps=400)
    document = next(tokens for tokens in case.documents if len(tokens) > len(set(tokens)) + 2)
    later = trained(case.config, case.hyper, case.state, case.documents, 200)
    return [Case(case.config, case.hyper, state, [document], steps=1) for state in (case.state, later)]


def catch_faults() -> dict[str, dict[str, dict[str, bool]]]:
    """For each fault, number format and criterion: whether it is caught on one of the default cases."""
    caught: dict[str, dict[str, dict[str, bool]]] = {}
    for fault in FAULTS:
        if fault.name == OBVIOUS:
            continue
        with planted(*fault.edits) as make:
            for dtype in FAULTS_IN:
                by = caught.setdefault(fault.name, {}).setdefault(dtype, defaultdict(bool))
                for case in default_cases():
                    result = check(make, case, modes=("lock-step",), dtype=dtype)
                    by[NOISE_FLOOR] |= result.verdict.exit_status == 1
                    for criterion, fine in within(case, make, dtype).items():
                        by[criterion] |= not fine
    return caught


def table(tally: Tally, caught: dict[str, dict[str, dict[str, bool]]]) -> str:
    """By format and criterion, false alarms and faults caught, as Markdown.

    Of n comparisons without a false alarm, 3 / n is what their rate lies below with a probability of 95 %.
    """
    lines = ["| format | comparisons | false alarms | undecided | largest z | rate below | faults caught |"]
    lines.append("| --- |" + " ---: |" * 6)
    for name in FORMATS_CALIBRATED:
        alarms, compared = tally.alarms[NOISE_FLOOR][name], tally.comparisons[name]
        cells = [f"{compared:,}", f"{alarms}", f"{tally.undecided[name]}", f"{tally.largest_z[name]:.1f}"]
        cells.append(f"{3 / compared:.0e}" if compared and not alarms else "-")
        cells.append(f"{faults(caught, name, NOISE_FLOOR)} of {len(caught)}" if name in FAULTS_IN else "-")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "| set by hand | " + " | ".join(f"{f}: caught, false alarms" for f in FAULTS_IN) + " |"]
    lines.append("| --- |" + " ---: |" * len(FAULTS_IN))
    for criterion in TOLERANCES:
        cells = [
            f"{faults(caught, name, criterion)} of {len(caught)}, "
            f"{tally.alarms[criterion][name]} of {tally.first_steps[name]:,}"
            for name in FAULTS_IN
        ]
        lines.append(f"| {criterion} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def tail_table(tally: Tally) -> str:
    """By format, how often an element's z lies beyond a limit, and how often Student's t does, as Markdown."""
    lines = ["| z beyond | " + " | ".join(map(str, TAIL)) + " |", "| --- |" + " ---: |" * len(TAIL)]
    expected = " | ".join(f"{2 * stats.t.sf(k, REPLICAS - 1):.0e}" for k in TAIL)
    lines.append(f"| Student's t, {REPLICAS - 1} degrees of freedom | {expected} |")
    for name in FORMATS_CALIBRATED:
        elements, beyond = tally.elements[name], tally.beyond[name]
        cells = [f"{beyond[k] / elements:.0e}" if beyond[k] else "0" for k in TAIL]
        lines.append(f"| {name}, of {elements:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def faults(caught: dict[str, dict[str, dict[str, bool]]], dtype: str, criterion: str) -> int:
    """How many are caught."""
    return sum(by[dtype][criterion] for by in caught.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=30_000, help="correct comparisons, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ranges", choices=RANGES, default="training", help="of weights and learning rates")
    parser.add_argument("--json", type=Path, help="where to write the result")
    arguments = parser.parse_args()
    tally, seed = Tally(), arguments.seed * 1_000_000
    draw = partial(compare_correct, ranges=RANGES[arguments.ranges])
    with ProcessPoolExecutor() as pool:
        while tally.comparisons.total() < arguments.comparisons:
            for part in pool.map(draw, range(seed, seed + 8)):
                tally.add(part)
                print(*part.refused, sep="\n", end="\n" if part.refused else "")
            seed += 8
            print(f"{tally.comparisons.total():,} comparisons, {len(tally.refused)} refused", flush=True)
    caught = catch_faults()
    print(table(tally, caught), tail_table(tally), sep="\n\n")
    if arguments.json:
        result = {
            "machine": machine(),
            "names": "MICROGPT_NAMES" if "MICROGPT_NAMES" in os.environ else "embedded",
            "ranges": {arguments.ranges: asdict(RANGES[arguments.ranges])},
            "comparisons": dict(tally.comparisons),
            "largest_z": dict(tally.largest_z),
            "histogram_of_largest_z": {
                dtype: {f"{low:g}": count for low, count in sorted(bins.items())} for dtype, bins in tally.z.items()
            },
            "false_alarms": {criterion: dict(counts) for criterion, counts in tally.alarms.items()},
            "inconclusive": dict(tally.undecided),
            "why_inconclusive": dict(tally.why_undecided),
            "not_finite_in_the_format": dict(tally.broken),
            "gates_turned": dict(tally.gates_turned),
            "first_steps": dict(tally.first_steps),
            "refused": tally.refused,
            "caught": {name: {dtype: dict(by) for dtype, by in formats.items()} for name, formats in caught.items()},
            "table": table(tally, caught).splitlines(),
            "elements_of_first_steps": dict(tally.elements),
            "elements_beyond": {name: dict(beyond) for name, beyond in tally.beyond.items()},
            "tail": tail_table(tally).splitlines(),
        }
        write_whole(arguments.json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
