"""The line-for-line twin beside the reference: z and time of every line that names a site, and the drift of a training.

z: the largest of a site, or of a quantity, over lock-step steps. seconds: of a forward pass, from the site before to
this one, the median of passes taken in turns. drift: free-running, the root mean square over a quantity's elements of
the error and of the noise floor, and the largest z, at steps further and further apart. evidence: by number format, how
much of each direction is seen in a check.
"""

import re
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np

import reference.microgpt
from parity.case import Case
from parity.judging.checking import check
from parity.judging.exchange import Exchange, Run
from parity.judging.judge import Judge, offered_elements
from parity.ladder.this_machine import machine
from parity.number_formats import FORMATS
from parity.progress import each
from parity.subjects.timing import frozen_garbage
from reference.microgpt import Value, elementwise, without_gc

LOCK_STEPS = 50
PASSES = 41
KEPT = sorted({round(10 ** (exponent / 16)) for exponent in range(49)})
"""Steps of the drift that are kept, counted from 1."""
CHECKED_STEPS = 20
SEEN_IN = ("float64", "float32", "bfloat16")
"""The formats in which the evidence along directions is asked for."""

Progress = Callable[[str], None]
"""Told what is being done."""


def run_of(case: Case, sites: bool) -> Run:
    """A run of the twin."""
    from torch_twin.microgpt import Twin

    judge = Judge.of_elements(offered_elements(case, sites=sites), 1e-9, FORMATS["float64"])
    return Run(case, Twin(case.config, case.hyper), judge, sites=sites)


def short(name: str) -> str:
    """A site of any layer."""
    return re.sub(r"^layer\d+\.", "", name)


def lock_step(case: Case) -> Iterator[Exchange]:
    """What the twin answers to each step, from the reference's own state."""
    run, state = run_of(case, sites=True), case.state
    for batch in case.batches():
        exchange = run.ask(state, batch)
        state = exchange.after.state(case.config)
        yield exchange


def largest_z(case: Case) -> dict[str, dict[str, float]]:
    """By site, and by quantity of those that are none."""
    found: dict[str, dict[str, float]] = {"site": defaultdict(float), "site grad": defaultdict(float)}
    found["quantity"] = defaultdict(float)
    for exchange in lock_step(case):
        for tensor in exchange.pairs:
            key = tensor.keys[0]
            kind = key.quantity if key.quantity in found else "quantity"
            name = short(key.name) if kind != "quantity" else key.quantity
            found[kind][name] = max(found[kind][name], tensor.largest_z)
    return found


def seconds(case: Case) -> dict[str, dict[str, float]]:
    """By side and site, of the forward pass of the first document; both sides take turns."""
    import torch

    import torch_twin.microgpt

    tokens = next(case.batches())[0]
    sides: dict[str, tuple[ModuleType, Any]] = {
        "reference": (
            reference.microgpt,
            {name: elementwise(Value, matrix) for name, matrix in case.state.params.items()},
        ),
        "twin": (
            torch_twin.microgpt,
            {name: torch.tensor(matrix, dtype=torch.float64) for name, matrix in case.state.params.items()},
        ),
    }
    passes: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    with frozen_garbage():
        for _ in range(PASSES):
            for name, (module, params) in sides.items():
                taken: dict[str, float] = defaultdict(float)
                times = [("", time.perf_counter())]

                def tap(site: str, value: Any, times: list[tuple[str, float]] = times) -> Any:
                    times.append((site, time.perf_counter()))
                    return value

                without_gc(module.document_loss)(tokens, params, case.config, tap)  # type: ignore[no-untyped-call]
                for (_, start), (site, end) in pairwise(times):
                    taken[short(site)] += end - start
                passes[name].append(taken)
    return {
        name: {site: statistics.median(taken[site] for taken in all_passes) for site in all_passes[0]}
        for name, all_passes in passes.items()
    }


def shares(taken: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Of each side's forward pass, in percent."""
    return {
        side: {site: 100 * second / sum(by_site.values()) for site, second in by_site.items()}
        for side, by_site in taken.items()
    }


def drift(case: Case) -> list[dict[str, Any]]:
    """Of the loss and the parameters, free-running."""
    run, last, rows = run_of(case, sites=False), None, []
    for number, batch in enumerate(each("steps", list(case.batches())), 1):
        last = run.ask(case.state, batch) if last is None else run.go_on(last, batch)
        if number in KEPT:
            row: dict[str, Any] = {"step": number}
            for quantity in ("loss", "param"):
                pairs = last.pairs.of_quantities(quantity)
                row[quantity] = {
                    "error": float(np.sqrt(np.mean(pairs.error**2))),
                    "floor": float(np.sqrt(np.mean(pairs.sigma**2))),
                    "largest_z": pairs.largest_z,
                }
            rows.append(row)
    return rows


def evidence(case: Case) -> dict[str, list[dict[str, Any]]]:
    """By format, what a check in lock-step sees along each direction."""
    found = {}
    for dtype in SEEN_IN:
        data = check(case=case, probes=False, modes=["lock-step"], dtype=dtype).to_dict()
        found[dtype] = data["modes"][0]["evidence"]
    return found


def line_by_line(names: str | None, steps: int = 1000, progress: Progress = lambda said: None) -> dict[str, Any]:
    """All of it, for JSON. steps: of the drift."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        few, many = Case.from_names(names, steps=LOCK_STEPS), Case.from_names(names, steps=steps)
        checked = replace(few, steps=CHECKED_STEPS)
        progress("times of every line")
        taken = seconds(few)
        progress("z of every line, and what is seen of all elements together")
        found = {
            "machine": machine(),
            "lock_steps": LOCK_STEPS,
            "limit": run_of(few, sites=True).judge.limit,
            "largest_z": largest_z(few),
            "seconds": taken,
            "percent": shares(taken),
            "check": check(case=checked, probes=False).to_dict(),
            "evidence": evidence(checked),
        }
        progress("drift of a training")
        return {**found, "drift_limit": run_of(many, sites=False).judge.limit, "drift": drift(many)}
    finally:
        torch.set_num_threads(threads)
