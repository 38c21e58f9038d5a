"""What a campaign's engine costs: efficiency of two processes over one, overhead of an item, Ray beside processes.

    python -m benchmarks.campaign_engine --json benchmarks/results/campaign_engine.json

The same items, the eager positions rung on small drawn cases in float64, are done with an empty ledger by one process,
by two, and by two of a Ray cluster on this machine, in turns; processes are started, and have done some items of other
seeds, before the clock is. Efficiency is the time of one process over that of two. The overhead of an item is what one
process takes beyond what the items themselves say that they took, divided by their number: handing out, sending back,
and writing to the ledger.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parity.campaign.item import CALIBRATE, Plan
from parity.campaign.ledger import Ledger
from parity.campaign.running import run
from parity.campaign.workers import LocalWorkers, RayWorkers, Workers
from parity.files import write_whole
from parity.ladder import machine

SUBJECT = "torch_twin.positions:make"
CORES_OF_THE_PLAN, CASES_OF_THE_PLAN = 1_000, 10**8


def plan(seeds: range) -> Plan:
    return Plan(CALIBRATE, [SUBJECT], ["float64"], ["edges"], seeds, 60.0)


def measured(workers: Workers, items: int, ledger: Path) -> dict[str, float]:
    """Seconds that the items take, and those that they say they took."""
    with Ledger(ledger) as found:
        run(plan(range(items, items + 6 * workers.number)), found, workers)  # everybody has loaded everything
        started = time.perf_counter()
        run(plan(range(items)), found, workers)
        wall = time.perf_counter() - started
        said = [outcome for item, outcome, _ in found.entries() if item.seed < items]
        return {
            "wall": wall,
            "work": sum(outcome.seconds for outcome in said),
            "checks": sum(outcome.checking for outcome in said),
            "cases": float(sum(len(outcome.cases) for outcome in said)),
        }


def turns(made: dict[str, Callable[[], Workers]], rounds: int, items: int) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in made}
    for turn in range(rounds):
        for name, make in made.items():
            with tempfile.TemporaryDirectory() as folder, make() as workers:
                found[name].append(measured(workers, items, Path(folder) / "ledger.db"))
            print(f"round {turn + 1}: {name}: {found[name][-1]['wall']:.1f} s", flush=True)
    return found


def summary(found: dict[str, list[dict[str, float]]], items: int) -> dict[str, Any]:
    def median(name: str, of: Callable[[dict[str, float]], float]) -> float:
        return statistics.median(map(of, found[name]))

    one, two = (median(name, lambda turn: turn["wall"]) for name in ("1 process", "2 processes"))
    # Turn by turn, for the machine is not as fast in every one.
    pairs = [a["wall"] / b["wall"] for a, b in zip(found["1 process"], found["2 processes"], strict=True)]
    result = {
        "items": items,
        "seconds_of_one_process": one,
        "seconds_of_two_processes": two,
        "efficiency": statistics.median(pairs),
        "overhead_of_an_item_ms": 1e3 * median("1 process", lambda turn: turn["wall"] - turn["work"]) / items,
        "drawing_a_case_ms": 1e3 * median("1 process", lambda turn: (turn["work"] - turn["checks"]) / turn["cases"]),
        "seconds_of_work_of_a_case": median("1 process", lambda turn: turn["work"] / turn["cases"]),
    }
    if "Ray" in found:
        rays = [a["wall"] / b["wall"] for a, b in zip(found["Ray"], found["2 processes"], strict=True)]
        result["ray_over_processes"] = statistics.median(rays)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-ray", action="store_true")
    parser.add_argument("--json", type=Path, help="where to write the result")
    arguments = parser.parse_args()
    made: dict[str, Callable[[], Workers]] = {
        "1 process": lambda: LocalWorkers(1),
        "2 processes": lambda: LocalWorkers(2),
    }
    if not arguments.without_ray:
        made["Ray"] = lambda: RayWorkers("local")
    found = turns(made, arguments.rounds, arguments.items)
    result = {"machine": machine(), **summary(found, arguments.items), "turns": found}
    hours = CASES_OF_THE_PLAN * result["seconds_of_work_of_a_case"] / CORES_OF_THE_PLAN / 3600
    print(
        f"2 processes over 1: {result['efficiency']:.2f}; an item costs {result['overhead_of_an_item_ms']:.1f} ms, "
        f"drawing a case {result['drawing_a_case_ms']:.1f} ms; {CASES_OF_THE_PLAN:.0e} such cases take {hours:.1f} h "
        f"on {CORES_OF_THE_PLAN:,} such cores"
    )
    if arguments.json:
        write_whole(arguments.json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
