"""Which mutant shows in which probe, and the choice of the probes: a greedy cover of the catalogue.

    python -m benchmarks.probes --json benchmarks/results/probes.json
    python -m benchmarks.probes --choose

The first writes the matrix mutant × probe in every number format; the second weighs all combinations of sizes, weights
and optimizers, and prints which ones would be chosen. A mutant shows where its answers are clearly outside of the noise
floor (`parity.catalogue.detection`), in lock-step or free-running.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

from parity import Case
from parity.catalogue.detection import AskedCase, cover
from parity.catalogue.mutants import ALL, MUTANTS
from parity.errors import NoExpectation
from parity.files import write_whole
from parity.judging.probes import CHOSEN, EVERY_FORMAT, OPTIMIZERS, SIZES, WEIGHTS, Combination, probes
from parity.ladder import machine

NEEDED = ("float64", "float32")
"""In these every mutant must show somewhere."""


def shown(case: Case, dtype: str) -> dict[str, str]:
    """The mutants that show in a case, with the first mode in which they do."""
    questions = AskedCase(case, dtype)
    return {mutant.name: mode for mutant in ALL if (mode := questions.refusing_mode(mutant))}


def combinations() -> list[Combination]:
    """Every combination of sizes, weights and optimizers, with two steps where a run starts: something is carried."""
    return [
        Combination(size, weights, optimizer, 1 if OPTIMIZERS[optimizer].start else 2)
        for size, weights, optimizer in product(SIZES, WEIGHTS, OPTIMIZERS)
    ]


def shown_by(plan: Combination) -> set[str]:
    """The mutants that show in a combination in all formats that are needed; none where the reference has no answer."""
    try:
        return set.intersection(*(set(shown(plan.case(), dtype)) for dtype in NEEDED))
    except NoExpectation:
        return set()


def matrix(dtypes: Sequence[str]) -> dict[str, dict[str, dict[str, str]]]:
    """By format and probe: the mutants that show, with the first mode in which they do."""
    asked = [(dtype, probe) for dtype in dtypes for probe in probes(dtype)]
    found: dict[str, dict[str, dict[str, str]]] = {dtype: {} for dtype in dtypes}
    with ProcessPoolExecutor() as pool:
        answers = pool.map(shown, [probe.case for _, probe in asked], [dtype for dtype, _ in asked])
        for (dtype, probe), answer in zip(asked, answers, strict=True):
            found[dtype][probe.name] = answer
            print(f"{dtype}: {probe.name} shows {len(answer)} of {len(ALL)} mistakes.", flush=True)
    return found


def as_result(found: Mapping[str, Mapping[str, Mapping[str, str]]]) -> dict[str, object]:
    """The matrix as it is stored: a letter for each probe in their order, by mutant and format."""
    rows = {
        name: {
            dtype: "".join(by_probe.get(probe, {}).get(name, ".")[0] for probe in CHOSEN)
            for dtype, by_probe in found.items()
        }
        for name in MUTANTS
    }
    return {
        "machine": machine(),
        "letters": "l: it shows in lock-step, f: only free-running, .: not at all, or the format has no answer",
        "probes": list(CHOSEN),
        "mutants": rows,
        "nowhere": {dtype: [name for name in MUTANTS if not rows[name][dtype].strip(".")] for dtype in found},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--choose", action="store_true", help="weigh all combinations, and print those to be chosen")
    parser.add_argument("--formats", nargs="+", choices=EVERY_FORMAT, default=EVERY_FORMAT, help="of the matrix")
    parser.add_argument("--json", type=Path, help="where to write the matrix")
    arguments = parser.parse_args()
    if arguments.choose:
        plans = {f"{plan.size}, {plan.weights}, {plan.optimizer}": plan for plan in combinations()}
        with ProcessPoolExecutor() as pool:
            shown_in = dict(zip(plans, pool.map(shown_by, plans.values()), strict=True))
        print(*cover(shown_in, MUTANTS), sep="\n")
        return
    result = as_result(matrix(arguments.formats))
    print(json.dumps(result["nowhere"], indent=1))
    if arguments.json:
        write_whole(arguments.json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
