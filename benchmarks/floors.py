"""Both noise floors at sizes that both reach: the scalar graph's, and that of all positions at once on shadows.

    python -m benchmarks.floors --json benchmarks/results/floors.json

Prints and writes how many times as wide as the scalar graph's the rung's floor is, element by element: the median, and
where 5 and 95 % lie. Where the scalar graph does not reach, the rung's is the only one (`parity.judging.chain`). Both
are of 64 replicas here; an element that one of them takes for exact and the other does not is counted apart. Updates
need no comparison: in either case it is the reference's own Adam that is replayed.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from parity import Case
from parity.files import write_whole
from parity.judging.chain.expected import Expected
from parity.judging.chain.rung import ReluInputs, Rung
from parity.ladder import machine
from parity.number_formats import FORMATS, Floats, Format
from parity.oracle.noisy_replay import REPLICAS
from parity.oracle.oracle import Expectation, Oracle
from parity.oracle.shadows.noise import Noise
from parity.tensors import flat
from reference.config import State

CASES = {
    "default": Case.from_names(steps=1),
    "n_embd 32, n_layer 2, batches of 3": Case.from_names(steps=1, batch_size=3, config={"n_embd": 32, "n_layer": 2}),
}
DTYPES = ("float64", "float32", "bfloat16")


def of_graph(case: Case, form: Format) -> Expectation:
    """What is expected of the first step, and its floor, by the scalar graph."""
    oracle = Oracle(case.config, case.hyper, form, limit=10.0)
    return oracle.expect(oracle.start(rounded(case, form)), next(case.batches()))


def rounded(case: Case, form: Format) -> State:
    """The case's state in numbers of a format, in arrays."""
    params = {name: form.rounded(matrix) for name, matrix in case.state.params.items()}
    zeros = {name: np.zeros_like(matrix) for name, matrix in params.items()}
    return State(params, zeros, zeros, case.state.step)


def of_rung(case: Case, form: Format) -> Iterator[tuple[str, Floats]]:
    """By quantity the floors of the first step by the rung's replicas."""
    rung, state, batch = Rung(case.config, case.hyper, form), rounded(case, form), next(case.batches())
    grads: dict[str, Any] = {}
    natural = ReluInputs()
    exact = rung.step(state.params, batch, None, natural, grads.__setitem__)
    expected = Expected.around(exact, grads)
    passes = [x > 0 for x in natural.inputs]  # as in the scalar graph, replicas take the gates of the exact run
    for replica in range(REPLICAS):
        relus = ReluInputs(passes)
        expected.add(rung.step(state.params, batch, Noise(replica), relus, expected.add_gradient))
    _, floor = expected.sides_forward()
    yield "logits", np.concatenate([rows.ravel() for rows in floor.logits])
    yield "loss", np.array([floor.loss])
    yield "grad", flat(case.config, {name: expected.sides_of(name)[1].grads[name] for name in grads})


def compared(case: Case, form: Format) -> dict[str, dict[str, float]]:
    """By quantity, the ratio of both floors."""
    graph = of_graph(case, form)
    floors = {
        "logits": np.concatenate([np.ravel(rows) for rows in graph.sigma.logits]),
        "loss": np.array([graph.sigma.loss]),
        "grad": flat(case.config, graph.sigma.grads),
    }
    return {quantity: ratio(floor, floors[quantity]) for quantity, floor in of_rung(case, form)}


def ratio(rung: Floats, graph: Floats) -> dict[str, float]:
    """How the floors of some elements compare."""
    both = (rung > 0) & (graph > 0)
    low, median, high = np.quantile(rung[both] / graph[both], (0.05, 0.5, 0.95)).tolist()
    exact = {
        "exact_in_both": int(((rung == 0) & (graph == 0)).sum()),
        "exact_in_one": int(((rung > 0) != (graph > 0)).sum()),
    }
    return {"elements": rung.size, "median": median, "5 %": low, "95 %": high, **exact}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to write the ratios")
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    for name, case in CASES.items():
        for dtype in DTYPES:
            found.setdefault(name, {})[dtype] = rows = compared(case, FORMATS[dtype])
            for quantity, row in rows.items():
                spread = f"{row['median']:.2f} ({row['5 %']:.2f} to {row['95 %']:.2f})"
                print(f"{name}, {dtype}, {quantity}: {spread}; exact in one alone: {row['exact_in_one']}", flush=True)
    if arguments.json:
        result = {"machine": machine(), "replicas": REPLICAS, "ratios": found}
        write_whole(arguments.json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
