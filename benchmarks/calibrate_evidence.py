"""How far correct implementations lie along directions: whether `parity.judging.evidence` cries wolf.

    python -m benchmarks.calibrate_evidence --comparisons 20000 --json benchmarks/results/calibration_evidence.json

The implementations, formats and drawn cases of `benchmarks.calibrate`, in lock-step over one to ten steps, in half
of the cases with a rate next to nothing, or one document again and again, so that steps repeat each other. A comparison
is one run; of each the largest z along any direction is noted, and how much of each direction was seen.
"""

import argparse
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.calibrate import FORMATS_CALIBRATED, RANGES, Range, drawn_cases, implementations, made
from parity import Case, Verdict
from parity.errors import NoExpectation, SubjectError, UsageError
from parity.files import write_whole
from parity.judging.exchange import Run
from parity.judging.judge import Judge, offered_elements
from parity.judging.trial import Trial
from parity.ladder import machine
from parity.number_formats import FORMATS
from parity.verdict import FALSE_ALARM


@dataclass
class Tally:
    """By number format; z: the largest along any direction of each comparison, in bins of a half."""

    comparisons: Counter[str] = field(default_factory=Counter)
    alarms: Counter[str] = field(default_factory=Counter)
    directions: Counter[str] = field(default_factory=Counter)
    undecided: Counter[str] = field(default_factory=Counter)
    z: dict[str, Counter[float]] = field(default_factory=lambda: defaultdict(Counter))
    largest: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    unshared: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """The largest amount in standard deviations, if nothing were allowed for what all elements share."""
    beyond: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        for name in ("comparisons", "alarms", "directions", "undecided"):
            getattr(self, name).update(getattr(other, name))
        for name in other.z:
            self.z[name].update(other.z[name])
        for kind in ("largest", "unshared"):
            for name, value in getattr(other, kind).items():
                getattr(self, kind)[name] = max(getattr(self, kind)[name], value)
        self.beyond += other.beyond


def cases(seed: int, ranges: Range) -> Iterator[Case]:
    """Drawn cases of more steps, some of which repeat each other."""
    rng = random.Random(seed)
    for case in drawn_cases(rng, ranges):
        case = replace(case, steps=rng.choice((1, 1, 1, 2, 3, 5, 10)))
        kind = rng.randrange(4)
        if kind == 0:
            case = replace(case, hyper=replace(case.hyper, learning_rate=1e-12))
        if kind == 1:
            case = replace(case, documents=case.documents[:1], batch_size=1)
        yield case


def compare(seed: int, ranges: Range) -> Tally:
    """All implementations and formats on the cases of one drawn model."""
    torch.set_num_threads(1)
    tally, draw = Tally(), random.Random(seed)
    try:
        for case in cases(seed, ranges):
            for name, (dtype, storage) in FORMATS_CALIBRATED.items():
                # A few of them each time: it is cases that differ.
                for who, make in draw.sample(list(implementations(storage)), 4):
                    form, stored = FORMATS[dtype], FORMATS[storage] if storage else None
                    judge = Judge.of_elements(offered_elements(case), FALSE_ALARM, form)
                    run = Run(case, made(make, case, dtype, storage), replace(judge, storage=stored))
                    note(
                        tally, name, f"{name}: {who}: seed {seed}: {case.config} {case.hyper}", Trial(run, "lock-step")
                    )
    except (NoExpectation, UsageError):
        pass  # training blew up: the reference itself has no answer
    return tally


def note(tally: Tally, name: str, what: str, trial: Trial) -> None:
    """Take in a comparison."""
    try:
        trial.go()
    except (NoExpectation, SubjectError):
        tally.undecided[name] += 1
        return
    found = trial.result
    if found.first_divergence is not None or found.verdict is Verdict.INCONCLUSIVE or not found.evidence:
        tally.undecided[name] += 1  # as where it overflows in the format, of which `benchmarks.calibrate` has more
        return
    tally.comparisons[name] += 1
    tally.alarms[name] += bool(found.beyond)
    tally.directions[name] += len(found.evidence)
    z = max(along.z / along.limit for along in found.evidence) * found.evidence[0].limit
    tally.z[name][min(z // 0.5 * 0.5, 100.0)] += 1
    tally.largest[name] = max(tally.largest[name], z)
    unshared = max(abs(along.amount) / along.sd if along.sd else 0.0 for along in found.evidence)
    tally.unshared[name] = max(tally.unshared[name], unshared)
    if any(along.z > 0.6 * along.limit for along in found.evidence):
        most = max(found.evidence, key=lambda along: along.z)
        tally.beyond.append(f"{what} steps {trial.run.case.steps}: {most} (sd {most.sd:.2g}, shared {most.shared:.2g})")


def table(tally: Tally) -> str:
    """By format, as Markdown; rate below: of n comparisons without an alarm, with a probability of 95 %."""
    lines = ["| format | comparisons | directions | alarms | largest z | rate below |", "| --- |" + " ---: |" * 5]
    for name in FORMATS_CALIBRATED:
        n = tally.comparisons[name]
        counts = f"{n:,} | {tally.directions[name]:,} | {tally.alarms[name]}"
        lines.append(f"| {name} | {counts} | {tally.largest[name]:.1f} | {3 / max(1, n):.0e} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=20_000, help="correct comparisons, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ranges", choices=RANGES, default="training", help="of weights and learning rates")
    parser.add_argument("--workers", type=int, help="processes; as many as there are cores if not given")
    parser.add_argument("--json", type=Path, help="where to write the result")
    arguments = parser.parse_args()
    tally, seed = Tally(), arguments.seed * 1_000_000
    with ProcessPoolExecutor(arguments.workers) as pool:
        while tally.comparisons.total() < arguments.comparisons:
            for part in pool.map(partial(compare, ranges=RANGES[arguments.ranges]), range(seed, seed + 4)):
                tally.add(part)
                print(*part.beyond, sep="\n", end="\n" if part.beyond else "")
            seed += 4
            largest = ", ".join(f"{name} {z:.1f}" for name, z in tally.largest.items())
            print(f"{tally.comparisons.total():,} comparisons; largest {largest}", flush=True)
    print(table(tally))
    if arguments.json:
        result = {
            "machine": machine(),
            "comparisons": dict(tally.comparisons),
            "alarms": dict(tally.alarms),
            "directions": dict(tally.directions),
            "not_compared": dict(tally.undecided),
            "largest_z": dict(tally.largest),
            "largest_amount_in_sd": dict(tally.unshared),
            "histogram_of_largest_z": {
                name: {f"{low:g}": count for low, count in sorted(bins.items())} for name, bins in tally.z.items()
            },
            "beyond": tally.beyond,
            "table": table(tally).splitlines(),
        }
        write_whole(arguments.json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
