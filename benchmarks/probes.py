"""Which mutant shows in which probe, and the choice of the probes: a greedy cover of the catalogue.

    python -m benchmarks.probes --json benchmarks/results/probes.json --write parity/catalogue/shown.json
    python -m benchmarks.probes --choose

The first writes the matrix mutant × probe in every number format, and for a check which quantities each shows in; the
second weighs all combinations of sizes, weights
and optimizers, and prints which ones would be chosen. A mutant shows where its answers are clearly outside of the noise
floor (`parity.catalogue.detection`), in lock-step or free-running.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

from parity import Case
from parity.catalogue.detection import NOWHERE, AskedCase, Shown, cover
from parity.catalogue.mutants import ALL, MUTANTS
from parity.errors import NoExpectation
from parity.files import write_whole
from parity.judging.probes import (
    CHOSEN,
    EVERY_FORMAT,
    OPTIMIZERS,
    SIZES,
    WEIGHTS,
    Combination,
    Probe,
    probes,
    probes_for,
)
from parity.ladder import machine

NEEDED = ("float64", "float32")
"""In these every mutant must show somewhere."""


def shown(case: Case, dtype: str) -> set[str]:
    """The mutants that show in a case."""
    questions = AskedCase(case, dtype)
    return {mutant.name for mutant in ALL if questions.refusing_mode(mutant)}


def quantities(case: Case, dtype: str) -> dict[str, str]:
    """Where each mutant shows in a case, as `parity.catalogue.detection.Shown` writes it."""
    questions = AskedCase(case, dtype)
    return {mutant.name: questions.shown(mutant).text for mutant in ALL}


def combinations() -> list[Combination]:
    """Every combination of sizes, weights and optimizers, with two steps where a run starts: something is carried."""
    return [
        Combination(size, weights, optimizer, 1 if OPTIMIZERS[optimizer].start else 2)
        for size, weights, optimizer in product(SIZES, WEIGHTS, OPTIMIZERS)
    ]


def shown_by(plan: Combination) -> set[str]:
    """The mutants that show in a combination in all formats that are needed; none where the reference has no answer."""
    try:
        return set.intersection(*(shown(plan.case(), dtype) for dtype in NEEDED))
    except NoExpectation:
        return set()


def of_usual_models(dtype: str) -> tuple[Probe, ...]:
    """The probes of models with ReLUs and a linear schedule, as `parity.catalogue.exclusion` reads them."""
    usual = Case.from_names()
    return probes_for(usual.config, usual.hyper, dtype)


def matrix(dtypes: Sequence[str], probes: Callable[[str], tuple[Probe, ...]]) -> dict[str, dict[str, dict[str, str]]]:
    """By format and probe, and mutant: where it shows."""
    asked = [(dtype, probe) for dtype in dtypes for probe in probes(dtype)]
    found: dict[str, dict[str, dict[str, str]]] = {dtype: {} for dtype in dtypes}
    with ProcessPoolExecutor() as pool:
        answers = pool.map(quantities, [probe.case for _, probe in asked], [dtype for dtype, _ in asked])
        for (dtype, probe), answer in zip(asked, answers, strict=True):
            found[dtype][probe.name] = answer
            number = sum(text != NOWHERE.text for text in answer.values())
            print(f"{dtype}: {probe.name} shows {number} of {len(ALL)} mistakes.", flush=True)
    return found


def letter(text: str) -> str:
    """The first mode in which a mutant shows."""
    found = Shown.of_text(text)
    return "l" if found.lock_step else "f" if found.free_running else "."


def as_table(found: Mapping[str, Mapping[str, Mapping[str, str]]]) -> dict[str, object]:
    """The same as a check reads it: the texts of all probes, in their order, by mutant and format."""
    rows = {
        name: {
            dtype: "".join(by_probe.get(probe, {}).get(name, NOWHERE.text) for probe in CHOSEN)
            for dtype, by_probe in found.items()
        }
        for name in MUTANTS
    }
    return {"probes": list(CHOSEN), "mutants": rows}


def as_result(found: Mapping[str, Mapping[str, Mapping[str, str]]]) -> dict[str, object]:
    """The matrix as it is stored: a letter for each probe in their order, by mutant and format."""
    rows = {
        name: {
            dtype: "".join(letter(by_probe.get(probe, {}).get(name, NOWHERE.text)) for probe in CHOSEN)
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
    parser.add_argument("--write", type=Path, help="where to write which quantities each shows in")
    arguments = parser.parse_args()
    if arguments.choose:
        plans = {f"{plan.size}, {plan.weights}, {plan.optimizer}": plan for plan in combinations()}
        with ProcessPoolExecutor() as pool:
            shown_in = dict(zip(plans, pool.map(shown_by, plans.values()), strict=True))
        print(*cover(shown_in, MUTANTS), sep="\n")
        return
    found = matrix(arguments.formats, probes)
    result = as_result(found)
    print(json.dumps(result["nowhere"], indent=1))
    if arguments.json:
        write_whole(arguments.json, json.dumps(result, indent=1) + "\n")
    if arguments.write:
        others = matrix(
            arguments.formats, lambda dtype: tuple(p for p in of_usual_models(dtype) if p not in probes(dtype))
        )
        usual = {dtype: {**by_probe, **others[dtype]} for dtype, by_probe in found.items()}
        write_whole(arguments.write, json.dumps(as_table(usual), indent=0) + "\n")


if __name__ == "__main__":
    main()
