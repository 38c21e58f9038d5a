"""What parity says of a port, and how long its steps take beside the reference's."""

import importlib.util
import statistics
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.ports.port import CannotRun, Port, Subjects
from parity import Case, check
from parity.catalogue.naming import name_mistakes
from parity.errors import SubjectError, UsageError
from parity.judging.plain import plain
from parity.subjects.timing import ROUNDS, frozen_garbage, reference_step, typical
from parity.subjects.turns import in_turns

FEW = 10
"""Documents of a turn."""
PASSED = ("IDENTICAL", "PARITY")


def adapters(folder: Path) -> Iterator[tuple[str, Port]]:
    """The ports of a folder of adapters, by the names of their files."""
    for path in sorted(folder.glob("[!_]*.py")):
        spec = importlib.util.spec_from_file_location(f"adapter_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield path.stem, module.PORT


def judged(name: str, port: Port, checkouts: Path, steps: int) -> dict[str, Any]:
    """The row of a port, for JSON; where it cannot run, the row says why."""
    row = {
        "adapter": name,
        "port": port.repository,
        "file": port.file,
        "commit": port.commit,
        "language": port.language,
        "verdict": "not run",
        "reason": "",
        "deviates": port.deviates,
        "limits": port.limits,
    }
    try:
        subjects = Subjects(port, checkouts)
    except CannotRun as error:
        return {**row, "reason": str(error)}
    with subjects.open:
        try:
            row |= _checked(port, subjects, steps)
            if port.corrected and row["verdict"] not in PASSED:
                row |= _corrected(port, checkouts, steps)
            return row
        except CannotRun as error:
            return {**row, "reason": str(error)}
        except (SubjectError, UsageError) as error:
            return {**row, "verdict": "ERROR", "reason": str(error)}


def _checked(port: Port, subjects: Subjects, steps: int) -> dict[str, Any]:
    case = port.case(steps)
    subjects(case.config, case.hyper)  # that it cannot be built is no answer of the port's
    result = check(subjects, case, probes=True)
    name_mistakes(result, lambda case: check(subjects, case, modes=("lock-step",)))
    probe = result.deciding_probe
    found = result.to_dict()
    row: dict[str, Any] = {key: found[key] for key in ("verdict", "reason", "dtype", "mistakes", "unchecked")}
    row["preset"] = port.preset
    row["named"] = result.named
    row["largest_z"] = plain(probe.result.largest_z if probe and probe.result else result.largest_z)
    row["probe"] = probe.probe.name if probe and row["verdict"] not in PASSED else ""
    located = [dict(mode.location_lines).get("begins at", "") for mode in result.deciding.modes]
    row["begins_at"] = next(filter(None, located), "")
    row["located"] = [line for mode in result.deciding.modes[:1] for line in mode.location_lines]
    row["not_exercised"] = found["not_exercised"]
    if row["verdict"] in PASSED:
        row["seconds"] = seconds_a_step(subjects, case)
    return row


def _corrected(port: Port, checkouts: Path, steps: int) -> dict[str, Any]:
    """What it gives with that undone which deviates."""
    subjects = Subjects(port, checkouts, corrected=True)
    with subjects.open:
        result = check(subjects, port.case(steps), probes=True)
    return {"corrected_verdict": result.verdict.value, "corrected_reason": result.reason}


def seconds_a_step(subjects: Subjects, case: Case) -> dict[str, float]:
    """Medians of a step of one document, of the port and of the reference in turns with it.

    A port in a process of its own says how long its steps take: what goes to and fro is not its own.
    """
    subject = subjects(case.config, case.hyper)
    documents = typical([list(tokens) for tokens in case.documents], FEW)
    reference = reference_step(case.config, case.hyper, case.state, False)

    def own() -> float:
        taken = []
        for tokens in documents:
            subject.load(case.state)
            start = time.perf_counter()
            subject.train_step([tokens])
            taken.append(getattr(subject, "seconds", time.perf_counter() - start))
        return sum(taken) / FEW

    def others() -> float:
        start = time.perf_counter()
        for tokens in documents:
            reference([tokens])
        return (time.perf_counter() - start) / FEW

    own()  # what is compiled as it runs
    with frozen_garbage():
        rounds = list(islice(in_turns([own, others]), 2 * ROUNDS))
    port, beside = (statistics.median(each) for each in zip(*rounds, strict=True))
    return {"step": port, "reference": beside, "speed_up": beside / port}
