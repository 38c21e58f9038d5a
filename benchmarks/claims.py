"""What is said of microGPT, and what was measured: a table, generated.

    python -m benchmarks.claims --names names.txt --ladder ladder.json --json claims.json > claims.md

Statements are those of microGPT's author in its file and its announcement. Training runs once by the exact replay,
whose bits are the reference's; the time is that of the reference itself, over the first steps.
"""

import argparse
import ast
import json
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import reference.microgpt
from parity.case import Case
from parity.files import write_whole
from parity.ladder import machine
from parity.oracle.replay import Replay
from parity.subjects.timing import frozen_garbage
from reference.config import State
from reference.microgpt import sample, train_step
from tests.import_statements import imports
from torch_twin.microgpt import Twin
from torch_twin.microgpt import sample as twin_sample

TIMED_STEPS = 50
ABOUT = 0.05
PASSED = ("IDENTICAL", "PARITY")


@dataclass
class Claim:
    """A statement, what was measured, and whether that bears it out: "yes", "no", or "not measured"."""

    statement: str
    measured: str
    holds: str


def yes(truth: bool) -> str:
    return "yes" if truth else "no"


def lines_of_code(source: str) -> int:
    """Lines that hold code: no blank ones, no comments, no docstrings."""
    tree = ast.parse(source)
    prose: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            prose |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(1 for number, line in lines if number not in prose and line.strip() and not line.strip().startswith("#"))


def trained(case: Case) -> tuple[list[float], State]:
    """The losses of a whole training run, and the state at its end."""
    replay = Replay(case.config, case.hyper)
    replay.load(case.state)
    losses = []
    for batch in case.batches():
        step = replay.train_step(batch)
        assert step is not None
        losses.append(float(step.loss))
    return losses, replay.state


def seconds_a_step(case: Case, steps: int, garbage_collector: bool) -> float:
    """Of the reference, the mean over the first steps."""
    step = train_step.__wrapped__ if garbage_collector else train_step  # type: ignore[attr-defined]
    state, batches = case.state, list(case.batches())[:steps]
    with frozen_garbage():
        start = time.perf_counter()
        for batch in batches:
            state, _ = step(state, batch, case.config, case.hyper)
        return (time.perf_counter() - start) / len(batches)


def claims(case: Case, ladder: list[dict], timed_steps: int) -> Iterator[Claim]:
    """Every statement in turn."""
    parameters = case.config.num_params()
    yield Claim("4,192 parameters", f"{parameters:,}", yes(parameters == 4192))
    yield Claim("a vocabulary of 27", f"{case.config.vocab_size}", yes(case.config.vocab_size == 27))
    losses, state = trained(case)
    end = statistics.mean(losses[-100:])  # what is printed at a step is the loss of one name
    error = statistics.stdev(losses[-100:]) / 10
    yield Claim(
        "the loss falls from about 3.3 to about 2.37 in 1,000 steps",
        f"{losses[0]:.2f} at the first step; {end:.2f} ± {error:.2f} over the last 100, of which the very last is "
        f"{losses[-1]:.2f} (about: within {ABOUT:.0%})",
        yes(all(abs(value / said - 1) <= ABOUT for value, said in ((losses[0], 3.3), (end, 2.37)))),
    )
    plain, paused = (seconds_a_step(case, timed_steps, collects) for collects in (True, False))
    yield Claim(
        "training takes about a minute",
        f"{1000 * plain:.0f} s for 1,000 steps, {1000 * paused:.0f} s with the garbage collector paused "
        f"(from the first {timed_steps})",
        yes(30 <= 1000 * plain <= 120),
    )
    source = Path(reference.microgpt.__file__).read_text(encoding="utf-8")
    packages = {found.name.partition(".")[0] for found in imports("reference/microgpt.py", source)}
    foreign = packages - set(sys.stdlib_module_names) - {"reference"}
    yield Claim(
        "about 200 lines, standard library only",
        f"{lines_of_code(source)} lines of code, {len(foreign)} packages from outside (the reference, which takes "
        "config and weights as arguments)",
        yes(lines_of_code(source) < 250 and not foreign),
    )
    twin = Twin(case.config, case.hyper)
    twin.load(state)
    drawn = [sample(state.params, case.config, random.Random(seed), 0) for seed in range(5)]
    drawn += [twin_sample(twin.state.params, case.config, random.Random(seed), 0) for seed in range(5)]
    yield Claim(
        "sampling at temperature 0 is deterministic",
        f"{len({tuple(tokens) for tokens in drawn})} name in 10 samples of reference and twin, with 5 seeds",
        yes(all(tokens == drawn[0] for tokens in drawn)),
    )
    for what, names in TECHNIQUES.items():
        yield of_ladder(what, names, ladder)


TECHNIQUES = {
    "tensors": ("twin", "positions"),
    "batching": ("padded", "packed", "documents_last", "chunks"),
    "fusing and compiling": ("fused_attention", "foreach_adam", "fused_adam", "compiled", "whole_step", "batched_step"),
    "recomputing and accumulating": ("checkpointing", "accumulation"),
    "a key/value cache": ("decoding",),
    "lower precision": ("float32", "bfloat16"),
    "several processes": ("data_parallel",),
    "GPUs": ("cuda", "cuda_graph"),
    "quantisation": (),
}
"""What "everything else is just efficiency" speaks of, and the rungs that show it."""


def of_ladder(what: str, names: tuple[str, ...], ladder: list[dict]) -> Claim:
    """Whether the algorithm stays the same under a technique, by the verdicts of a ladder."""
    found = [r for r in ladder if r["rung"] in names and r["verdict"] not in ("skipped", "INCONCLUSIVE")]
    said = ", ".join(
        f"{rung['rung']} {rung['verdict']}"
        + ("" if rung["largest_z"] is None else f" (z {float(rung['largest_z']):.2g}, {rung['dtype']})")
        for rung in found
    )
    held = yes(all(rung["verdict"] in PASSED for rung in found)) if found else "not measured"
    return Claim(f"the identical algorithm with {what}", said or "no rung of it was run", held)


def markdown(found: list[Claim]) -> str:
    rows = [f"| {claim.statement} | {claim.measured} | {claim.holds} |" for claim in found]
    counts = Counter(claim.holds for claim in found)
    return "\n".join(
        [
            "| statement | measured | holds |",
            "| --- | --- | --- |",
            *rows,
            "",
            f"Of {len(found)} statements {counts['yes']} hold and {counts['no']} do not; "
            f"{counts['not measured']} were not measured.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", help="names.txt of makemore, on which the statements were made")
    parser.add_argument("--ladder", type=Path, help="what `parity ladder --json` wrote")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--timed-steps", type=int, default=TIMED_STEPS)
    arguments = parser.parse_args()
    case = Case.from_names(arguments.names, steps=1000)
    ladder = json.loads(arguments.ladder.read_text(encoding="utf-8"))["rungs"] if arguments.ladder else []
    found = list(claims(case, ladder, arguments.timed_steps))
    print(markdown(found))
    if arguments.json:
        data = {"machine": machine(), "claims": [asdict(claim) for claim in found]}
        write_whole(arguments.json, json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
