"""`parity mutants`: the detection matrix, and the catalogue of known mistakes."""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity.errors import UsageError
from parity.files import write_whole
from parity.progress import work
from parity.words import did_you_mean

if TYPE_CHECKING:
    from parity.catalogue.matrix import Matrix
    from parity.catalogue.matrix_result import Entry
    from parity.catalogue.mutants import Mutant


def mutants_command(arguments: argparse.Namespace, report: Callable[..., None]) -> int:
    """Run the matrix, or list the catalogue; report(data, renderable, JSON file) prints either.

    What is finished is shown when it is interrupted. Status 1 where a mistake is missed in float64.
    """
    from parity.catalogue.matrix import Matrix
    from parity.catalogue.matrix_result import summary
    from parity.cli.bars import progress
    from parity.cli.mutants_table import catalogue_table, matrix_markdown, matrix_report

    mutants = chosen(arguments.mutant, arguments.stage)
    if arguments.list:
        report(_listed(mutants), catalogue_table(mutants), arguments.json)
        return 0
    dtypes = list(dict.fromkeys(arguments.dtype))
    matrix = Matrix(dtypes, steps=arguments.steps, rules=not arguments.quick, places=not arguments.quick)
    entries, started, interrupted = list["Entry"](), time.process_time(), False
    try:
        with progress(), work("mistakes", len(mutants)) as mistake_is_done:
            for entry in matrix.entries(mutants):
                entries.append(entry)
                mistake_is_done()
    except KeyboardInterrupt:
        interrupted = True
    if entries:
        data = as_data(matrix, entries, arguments.steps, time.process_time() - started)
        report(data, matrix_report(data), arguments.json)
        if arguments.markdown:
            write_whole(Path(arguments.markdown), matrix_markdown(data))
    if interrupted:
        raise KeyboardInterrupt
    in_float64 = summary(entries)["formats"].get("float64")
    return int(bool(in_float64 and (in_float64["missed"] or in_float64["refused"])))


def chosen(names: Sequence[str] | None, stages: Sequence[str] | None) -> list["Mutant"]:
    """The mutants of these names and of these stages, all where neither is given; UsageError for what there is not."""
    from parity.catalogue.mutants import ALL, EQUIVALENT, STAGES

    known = {mutant.name: mutant for mutant in (*ALL, *EQUIVALENT)}
    for name in names or ():
        if name not in known:
            raise UsageError(f"There is no mistake {name}{did_you_mean(name, known)}; parity mutants --list shows all.")
    for stage in stages or ():
        if stage not in STAGES:
            raise UsageError(f"There is no stage {stage}{did_you_mean(stage, STAGES)}; there are {', '.join(STAGES)}.")
    if not names and not stages:
        return list(known.values())
    return [mutant for name, mutant in known.items() if name in (names or ()) or mutant.stage in (stages or ())]


def _listed(mutants: Sequence["Mutant"]) -> dict[str, Any]:
    fields = ("name", "stage", "place", "mistake", "sources", "equivalent")
    found = [{name: getattr(mutant, name) for name in fields} for mutant in mutants]
    return json.loads(json.dumps({"mutants": found}))  # type: ignore[no-any-return]


def as_data(matrix: "Matrix", entries: Sequence["Entry"], steps: int, seconds: float) -> dict[str, Any]:
    """The result for JSON; seconds: of processor time."""
    from parity.catalogue.matrix_result import summary
    from parity.ladder.this_machine import machine

    said = {}
    if matrix.rules:
        from parity.catalogue.fixed_rules import RULES

        said = {rule.name: rule.sentence for rule in RULES}
    return {
        "machine": machine(),
        "seconds": round(seconds),
        "steps": steps,
        "dtypes": list(matrix.dtypes),
        "rules": said,
        "rules_refusing_the_twin": matrix.refusing_the_twin(),
        "summary": summary(entries),
        "mutants": [entry.to_dict() for entry in entries],
    }
