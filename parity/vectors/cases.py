"""Writing conformance vectors: the cases, weights for which rounding decides nothing, and what mistakes would give."""

from collections.abc import Callable, Sequence
from decimal import ROUND_CEILING, Context
from functools import partial
from pathlib import Path

import numpy as np

from parity.case import Case
from parity.catalogue.mutant_noise import NoisyMutant
from parity.catalogue.mutants import MUTANTS, Mutant
from parity.errors import UsageError
from parity.files import write_whole
from parity.judging.checking import check
from parity.number_formats import FORMATS, Format
from parity.oracle.oracle import Expectation, Oracle
from parity.oracle.python_reference import Reference
from parity.progress import each
from parity.quantities import FIELDS
from parity.trees import listed, mapped
from parity.vectors.format import DTYPES, Mistake, Vector, format_of
from parity.vectors.plans import PLANS, Plan
from parity.vectors.readme import TITLE, readme
from parity.verdict import FALSE_ALARM
from reference.config import Step

TRIED_SEEDS = 200
"""Weights that are tried for a case; the first ones will nearly always do."""

SHOWN = {name: mutant for name, mutant in MUTANTS.items() if mutant.in_vectors}
"""The mistakes that these cases show. More would need more cases and larger numbers than ports in other languages read
with ease; the probes of `parity check` show the others."""


def write_vectors(
    folder: Path, dtype: str = "float64", progress: Callable[[int], None] = lambda cases: None
) -> list[Path]:
    """Write all cases and a README.md that explains them into a folder; the paths.

    The same bytes at every run on one machine. progress(cases done) is called after every case. Raises UsageError for
    a dtype that has none, for a folder that holds anything else, and where a mistake would be seen in no case; nothing
    is written then.
    """
    if dtype not in DTYPES:
        raise UsageError(
            f"There are vectors for {' and '.join(DTYPES)}, not for {dtype}, in which rounding alone decides ReLUs in "
            "every case; there, `parity check` tells the two sides of a ReLU apart."
        )
    old = _own_files(folder)
    vectors = make_vectors(dtype, PLANS, progress)
    texts = {f"{vector.name}.json": vector.to_json() for vector in vectors}
    texts["README.md"] = readme(vectors)
    for path in old:
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        write_whole(folder / name, text)
    return [folder / name for name in texts]


def _own_files(folder: Path) -> list[Path]:
    """The files of an earlier run; UsageError where there is anything else."""
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder.")
    for path in sorted(folder.iterdir()):
        own = path.is_file() and (
            format_of(path) is not None
            if path.suffix == ".json"
            else path.name == "README.md" and path.read_bytes().startswith(TITLE.encode())
        )
        if not own:
            raise UsageError(
                f"{folder} holds {path.name}, which is no conformance vector; name an empty or new folder."
            )
    return sorted(folder.iterdir())


def make_vectors(
    dtype: str, plans: Sequence[Plan] = PLANS, progress: Callable[[int], None] = lambda cases: None
) -> list[Vector]:
    """All cases in a number format. Raises UsageError where a mistake would be seen in none of them."""
    vectors = []
    for plan in each("cases", plans):
        vector = _without_mistakes(plan, dtype, [plan.name for plan in plans])
        shown = list(SHOWN) if plan.mistakes is None else plan.mistakes
        for mutant in each(f"{plan.name}: mistakes", [SHOWN[name] for name in shown]):
            mistake = _mistaken(vector, mutant)
            if mistake is None and plan.mistakes is not None:
                raise UsageError(f"The case {plan.name} would not catch this mistake in {dtype}: {mutant.mistake}")
            vector.mistakes.extend([mistake] if mistake else [])
        vectors.append(vector)
        progress(len(vectors))
    caught = {mistake.name for vector in vectors for mistake in vector.mistakes}
    missed = [mutant.mistake for name, mutant in SHOWN.items() if name not in caught]
    if missed:
        raise UsageError(f"No case would catch this mistake in {dtype}: {missed[0]}")
    return vectors


def _without_mistakes(plan: Plan, dtype: str, cases: list[str]) -> Vector:
    """A plan with weights for which rounding decides nothing."""
    false_alarm = FALSE_ALARM / len(cases)
    reference = check(Reference, plan.drawn(0), modes=("free-running",), false_alarm=false_alarm)
    limit = reference.judge.limit
    for seed in range(TRIED_SEEDS):
        case = plan.drawn(seed)
        steps = _calm_steps(case, FORMATS[dtype], limit)
        if steps is not None:
            expected = [mapped(float, listed(found.step)) for found in steps]
            allowed = [mapped(partial(_allowed, limit), listed(found.sigma)) for found in steps]
            return Vector(plan.name, plan.exercises, dtype, cases, false_alarm, limit, case, expected, allowed, [])
    raise UsageError(f"No weights were found for the case {plan.name} in {dtype} in which rounding decides nothing.")


def _calm_steps(case: Case, form: Format, limit: float) -> list[Expectation] | None:
    """What the reference gives and the noise floor, step by step, free-running.

    None where a ReLU's input lies within the noise floor of zero, so that rounding may turn it, or a gradient does, so
    that Adam makes an update of either sign of it: `parity check` knows how to judge that, a table of numbers does not.
    """
    oracle = Oracle(case.config, case.hyper, form, limit)
    point, steps = oracle.start(case.state), []
    for batch in case.batches():
        steps.append(oracle.expect(point, batch))
        point, expected, sigma = steps[-1].after, steps[-1].step, steps[-1].sigma
        sure = (
            np.all((np.abs(grad) > limit * sigma.grads[name]) | (sigma.grads[name] == 0))
            for name, grad in expected.grads.items()
        )
        if steps[-1].near or not all(sure):
            return None
    return steps


_ROUNDED_UP = Context(prec=3, rounding=ROUND_CEILING)


def _allowed(limit: float, sigma: float) -> float:
    """limit · σ in few digits."""
    return float(_ROUNDED_UP.create_decimal_from_float(limit * sigma))


def _mistaken(vector: Vector, mutant: Mutant) -> Mistake | None:
    """What a mutant gives; None where it gives the right answers in this case."""
    case = vector.case
    noisy = NoisyMutant(mutant, case.config, case.hyper, FORMATS[vector.dtype])
    noisy.load(case.state)
    steps = [noisy.train_step(batch) for batch in case.batches()]
    outside = vector.outside([values for values, _ in steps], vector.expected, vector.allowed)
    if not outside:
        return None
    field = next(field for field, quantity in FIELDS.items() if quantity == outside[0].keys[0].quantity)
    kept = []
    for number, (values, sigma) in enumerate(steps, case.state.step):
        names = {"loss", field} if number == outside[0].step else {"loss"}
        allowed = mapped(partial(_allowed, vector.limit), sigma)
        kept.append([Step(**{name: getattr(step, name) for name in names}) for step in (values, allowed)])
    return Mistake(mutant.name, mutant.mistake, [values for values, _ in kept], [allowed for _, allowed in kept])
