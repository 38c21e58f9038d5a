"""What each command of the command line does with its arguments; each gives the exit status back."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity.case import Case
from parity.errors import UsageError
from parity.files import write_whole
from parity.options import CONFIG_SIZES

if TYPE_CHECKING:
    from rich.console import RenderableType

    from parity.ladder import Rung, RungResult


def check_command(arguments: argparse.Namespace) -> int:
    """`parity check` and `parity replay`."""
    from parity.cli.check_report import check_report
    from parity.judging.check_options import check_keywords
    from parity.judging.checking import check
    from parity.machine_code import compile_timer

    if arguments.command == "replay":
        case, source = Case.load(arguments.case), str(arguments.case)
    else:
        case, source = _case(arguments), arguments.names or "embedded names"
    compiled: list[float] = []
    keywords = check_keywords(vars(arguments))
    with _progress(keywords["modes"], case.steps) as progress, compile_timer(compiled):
        result = check(arguments.subject, case, **keywords, progress=progress)
    if compiled:
        print(f"The oracle was compiled in {sum(compiled):.1f} s; the next run finds it on disk.", file=sys.stderr)
    _report(result.to_dict(), check_report(result, source), arguments.json)
    return result.verdict.exit_status


def gate_command(arguments: argparse.Namespace) -> int:
    """`parity gate`."""
    from parity.cli.gate_report import annotations, gate_markdown, gate_report
    from parity.cli.terminal import console
    from parity.gate import gate
    from parity.judging.check_options import check_keywords

    with console(stderr=True).status("checking out the base") as status:  # only a terminal shows it
        result = gate(
            arguments.subject,
            arguments.base,
            _case(arguments),
            rounds=arguments.rounds,
            progress=status.update,
            **check_keywords(vars(arguments)),
        )
    _report(result.to_dict(), gate_report(result), arguments.json)
    summary = arguments.markdown or os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        _append(Path(summary), gate_markdown(result))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        # Read from either stream; standard output may be taken by the JSON.
        print(*annotations(result), sep="\n", file=sys.stderr if arguments.json == "-" else sys.stdout)
    return result.verdict.exit_status


def ladder_command(arguments: argparse.Namespace) -> int:
    """`parity ladder`; one that is interrupted shows the rungs that it has finished."""
    from dataclasses import replace

    from parity.cli.ladder_table import markdown, rendered
    from parity.cli.terminal import console
    from parity.ladder.climbing import climb
    from parity.ladder.comparison import compared
    from parity.ladder.rungs import RUNGS, chosen
    from parity.ladder.this_machine import machine
    from parity.verdict import worst

    rungs = chosen(arguments.rungs)
    # Enough documents for batches to be of mixed lengths; the check takes the first ones.
    case = replace(Case.from_names(arguments.names, steps=1000), steps=arguments.steps)
    results: list[RungResult] = []
    errors = console(stderr=True)

    def started(rung: "Rung") -> None:
        errors.print(f"rung {len(results) + 1} of {len(rungs)}: {rung.name}", style="dim")

    for file in filter(None, (arguments.json, arguments.markdown)):
        if Path(file).is_dir():  # said now, for it ought not to cost minutes
            raise UsageError(f"{file} cannot be written: it is a folder.")
    interrupted = False
    try:
        for result in climb(rungs, case, threads=arguments.threads, started=started):
            results.append(result)
            found = compared([result.to_dict() for result in results], RUNGS)
            data = {"machine": machine(), "steps": case.steps, "rungs": found}
            if arguments.json not in (None, "-"):
                write_whole(Path(arguments.json), json.dumps(data, indent=1, allow_nan=False) + "\n")
            if arguments.markdown:
                write_whole(Path(arguments.markdown), markdown(found))
    except KeyboardInterrupt:
        interrupted = True
    if results:
        _report(data, rendered(found), "-" if arguments.json == "-" else None)
    if interrupted:
        raise KeyboardInterrupt
    return worst(result.verdict for result in results if not result.skipped).exit_status


def vectors_command(arguments: argparse.Namespace) -> int:
    """`parity vectors`."""
    from parity.vectors.cases import write_vectors

    dtype = arguments.dtype or "float64"
    *cases, readme = write_vectors(arguments.folder, dtype)
    print(f"Wrote {len(cases)} cases in {dtype}; {readme} says what to do with them.")
    return 0


def verify_command(arguments: argparse.Namespace) -> int:
    """`parity verify`."""
    from parity.cli.verification_table import verification_table
    from parity.vectors.verify import verify

    found = verify(arguments.folder, arguments.results)
    _report(found.to_dict(), verification_table(found), arguments.json)
    return found.verdict.exit_status


def new_subject_command(arguments: argparse.Namespace) -> int:
    """`parity new-subject`."""
    from parity.subjects import skeleton

    file: Path = arguments.file
    if file.suffix != ".py":
        raise UsageError(
            f"new-subject writes Python, to a file whose name ends in .py, not to {file}. "
            "A subject in another language speaks the protocol of `parity check --help-protocol`."
        )
    text = Path(skeleton.__file__).read_text(encoding="utf-8").replace("my_port.py", str(file))
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(text)
    except FileExistsError:
        raise UsageError(f"{file} exists already, and is left as it is.") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}.") from None
    print(f"Wrote {file}. Fill in what is marked TODO, then run: parity check {file}:make")
    return 0


def _case(arguments: argparse.Namespace) -> Case:
    config = {size: getattr(arguments, size) for size in CONFIG_SIZES if getattr(arguments, size) is not None}
    hyper = {} if arguments.num_steps is None else {"num_steps": arguments.num_steps}
    return Case.from_names(
        arguments.names, arguments.preset, arguments.seed, arguments.steps, arguments.batch_size, config, hyper
    )


def _report(data: dict[str, Any], table: "RenderableType", json_file: str | None) -> None:
    from parity.cli.terminal import console

    text = json.dumps(data, indent=1, allow_nan=False) + "\n"
    if json_file == "-":
        sys.stdout.write(text)
    else:
        console().print(table)
        if json_file is not None:
            write_whole(Path(json_file), text)
    sys.stdout.flush()


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from None


@contextmanager
def _progress(modes: Iterable[str], steps: int) -> Iterator[Callable[[str, int], None]]:
    """A bar for each mode on standard error, if that is a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    from parity.cli.terminal import console

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    errors = console(stderr=True)
    with Bars(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bars:
        tasks = {mode: bars.add_task(mode, total=steps) for mode in modes}
        yield lambda mode, done: bars.update(tasks[mode], completed=done)
