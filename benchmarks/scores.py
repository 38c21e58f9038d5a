"""What a check says of wrong implementations by another hand: whether it refuses, places and names their mistakes.

    python -m benchmarks.scores --json benchmarks/results/scores.json --markdown benchmarks/results/scores.md

Each is one of the examples with mistakes put in by hand (`benchmarks/scored/`), and is checked as users check theirs:
the default case, and the probes where that passes. Every one is to be refused, to be placed where its author says, and
to be given its mistakes' names from the catalogue, or none where the catalogue has no such mistake.

What is named counts as: right (the mistakes that were made and no other), first (others follow that fit, too), among
others (which stand before), in part (one of several mistakes and no other), none, wrong (another mistake than that).
"""

import argparse
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.scored.implementation import Implementation
from benchmarks.scored.summary import markdown, summary
from parity import Case, Verdict, check
from parity.catalogue.mutants import MUTANTS
from parity.catalogue.naming import name_mistakes
from parity.errors import UsageError
from parity.files import write_whole
from parity.judging.location import begins_at
from parity.judging.result import Result
from parity.ladder import machine
from parity.quantities import TensorKey

LISTS = Path(__file__).parent / "scored"
DTYPES = ("float64", "float32")


def implementations(path: Path) -> ModuleType:
    """A list of them: a Python file with IMPLEMENTATIONS, the EXAMPLE that they are, and a CASE if not the default."""
    spec = importlib.util.spec_from_file_location(f"scored_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def files(listed: ModuleType, folder: Path) -> Iterator[tuple[Implementation, Path]]:
    """Each implementation of a list, and its file in a folder; UsageError where its mistakes are not as it says."""
    example: Path = listed.EXAMPLE
    text = example.read_text(encoding="utf-8")
    for entry in listed.IMPLEMENTATIONS:
        unknown = {*entry.mistakes, *entry.same} - MUTANTS.keys()
        if unknown:
            raise UsageError(f"The catalogue has no mistake {', '.join(sorted(unknown))} ({entry.how}).")
        source = folder / f"{re.sub('[^a-z0-9]+', '_', entry.how.lower())}{example.suffix}"
        source.write_text(entry.written(text), encoding="utf-8")
        yield entry, source


def rows_of(listed: ModuleType, only: str | None, dtypes: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a list, each implementation in those of these number formats that its example has."""
    case = getattr(listed, "CASE", None)
    with tempfile.TemporaryDirectory(prefix="scored") as folder:
        for entry, source in files(listed, Path(folder)):
            if only in (None, entry.how):
                language, subject, formats = _subject(source)
                for dtype in formats if entry.float32 else formats[:1]:
                    if dtype in dtypes:
                        yield {"language": language, "dtype": dtype, **scored(entry, subject, dtype, case)}


def _subject(source: Path) -> tuple[str, Any, tuple[str, ...]]:
    """The language of a file, what is checked of it, and the number formats that it has."""
    if source.suffix == ".py":
        return "NumPy", f"{source}:make", DTYPES
    program = source.with_suffix("")
    if shutil.which("cc") is None:
        raise UsageError("Implementations in C need a compiler, and cc is not installed.")
    subprocess.run(["cc", "-O2", "-std=c99", "-o", str(program), str(source), "-lm"], check=True)
    return "C", [str(program)], DTYPES[:1]


def scored(entry: Implementation, subject: Any, dtype: str, case: Case | None) -> dict[str, Any]:
    """What is said of one of them, beside what should be."""

    def ask(case: Case | None, **options: Any) -> Result:
        return check(subject, case, dtype=dtype, **options)

    start = time.perf_counter()
    result = ask(case, probes=True)
    checked, naming = time.perf_counter(), time.thread_time()
    if result.verdict is Verdict.DIVERGED:
        name_mistakes(result, lambda small: ask(small, modes="lock-step", probes=False))
    probe = result.deciding_probe
    step, begins = _beginning(result)
    names = list(result.mistakes)
    return {
        "how": entry.how,
        "mistakes": list(entry.mistakes),
        "verdict": result.verdict.value,
        "shows_in": probe.probe.name if probe else "the case",
        "names": names,
        "named": how_named(entry, names),
        "gave_up": bool(result.naming_hint),
        "begins_at": begins,
        "step": step,
        "should_begin_at": entry.begins_at,
        "located": is_located(entry, begins, step),
        "check_seconds": round(checked - start, 2),
        "naming_seconds": round(time.thread_time() - naming, 2),
    }


def how_named(entry: Implementation, names: Sequence[str]) -> str:
    """Which of `benchmarks.scored.summary.NAMES` they are."""
    expected = set(entry.mistakes)
    given = [set(name.split(" + ")) for name in names]
    if not given:
        return "none" if expected else "right"

    def fits(some: set[str]) -> bool:
        return bool(expected) and len(some) == len(expected) and some <= expected.union(entry.same)

    if any(map(fits, given)):
        return "right" if all(map(fits, given)) else "first" if fits(given[0]) else "among others"
    return "in part" if all(some < expected for some in given) else "wrong"


def _beginning(result: Result) -> tuple[int | None, list[str]]:
    """The step that diverged first, and the tensors that the wrong begins at in it, without layers and documents."""
    mode = next((mode for mode in result.deciding.modes if mode.location), None)
    if mode is None or mode.location is None:
        return None, []
    return mode.location.step, list(dict.fromkeys(map(_in_short, begins_at(mode.location, mode.first_site))))


def _in_short(key: TensorKey) -> str:
    name = key.name.rpartition(".")[2]
    return name if name == key.quantity else f"{key.quantity} {name}"


def is_located(entry: Implementation, begins: Sequence[str], step: int | None) -> bool:
    """Whether these are the tensors where it should begin, and all that are named so."""
    expected = entry.begins_at.split(", ")

    def fits(place: str, found: str) -> bool:
        return found == place or found.startswith(f"{place} ")

    met = all(any(fits(place, found) for found in begins) for place in expected)
    known = all(any(fits(place, found) for place in expected) for found in begins)
    return met and known and entry.step in (None, step)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scores", description=__doc__.partition("\n")[0])
    parser.add_argument("--list", metavar="FILE", type=Path, action="append", help="in place of this project's")
    parser.add_argument("--only", metavar="HOW", help="one implementation, by what its author did")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES, help="number formats (both)")
    parser.add_argument("--write", metavar="FOLDER", type=Path, help="only write the implementations there")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    rows = []
    for path in arguments.list or sorted(LISTS.glob("*_ports.py")):
        if not path.is_file():
            parser.error(f"There is no file {path}.")
        listed = implementations(path)
        try:
            if arguments.write:
                arguments.write.mkdir(parents=True, exist_ok=True)
                print(*(source for _, source in files(listed, arguments.write)), sep="\n")
                continue
            for row in rows_of(listed, arguments.only, arguments.dtypes):
                rows.append(row)
                place = "placed" if row["located"] else f"NOT PLACED ({', '.join(row['begins_at'])})"
                print(f"{row['how']}: {row['verdict']}, {row['named']} {row['names']}, {place}", file=sys.stderr)
        except (UsageError, ValueError) as error:
            parser.error(str(error))
    if arguments.write:
        return
    if not rows:
        parser.error(f"There is no implementation {arguments.only!r}.")
    print(markdown(rows), end="")
    if arguments.json:
        result = {"machine": machine(), "summary": summary(rows), "implementations": rows}
        write_whole(arguments.json, json.dumps(result, indent=1) + "\n")
    if arguments.markdown:
        write_whole(arguments.markdown, markdown(rows))


if __name__ == "__main__":
    main()
