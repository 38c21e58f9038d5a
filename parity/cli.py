"""The command line: `parity check` and `parity replay`."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from parity.case import Case, write_whole
from parity.errors import UsageError
from parity.options import CASE_OPTIONS, CHECK_OPTIONS, MODES, SIZES
from parity.subjects import TWIN
from reference.data import DataError

if TYPE_CHECKING:
    from parity.result import Result

EXIT_STATUS = """exit status:
  0  IDENTICAL or PARITY
  1  DIVERGED, PRECISION LOSS or ERROR (the subject failed)
  2  bad usage or bad input
  3  INCONCLUSIVE"""


class Parser(argparse.ArgumentParser):
    """One that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the sentence and leave with status 2."""
        self.exit(2, f"{self.prog}: {message}. See {self.prog} --help.\n")


class HelpProtocol(argparse.Action):
    """Print the protocol's page."""

    def __call__(self, *_: Any) -> None:
        """Leave as --help does."""
        from parity.protocol import HELP

        print(HELP, end="")
        raise SystemExit(0)


def _parser() -> Parser:
    parser = Parser(
        prog="parity",
        description="Does this code compute the same function as the reference?",
        epilog="example:\n  parity check my_port.py:make",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    checking = commands.add_parser(
        "check",
        help="compare a subject with the reference, step by step",
        description="Compare a subject with the reference: loss, logits, every gradient and Adam's m, v and "
        "parameters, element by element, in lock-step (the subject is set to the reference's state before every "
        "step) and free-running (both start equal and run on).",
        epilog="examples:\n  parity check my_port.py:make --names names.txt --steps 100\n  parity check --steps 5 -- "
        f"./my_port --verbose\n\n{EXIT_STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_subject(checking)
    _add_options(checking, CASE_OPTIONS, "the case")
    _add_options(checking, CHECK_OPTIONS, "the check")
    checking.add_argument("--help-protocol", action=HelpProtocol, nargs=0, help="how a COMMAND is spoken to, and exit")

    replaying = commands.add_parser(
        "replay",
        help="check a stored case again",
        description="Compare a subject with the reference on a case that a failing check or test stored.",
        epilog=f"example:\n  parity replay .parity/case.json my_port.py:make\n\n{EXIT_STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    replaying.add_argument("case", metavar="CASE.json", type=Path, help="the stored case")
    _add_subject(replaying)
    _add_options(replaying, CHECK_OPTIONS, "the check")
    return parser


def _add_subject(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "subject",
        metavar="SUBJECT",
        nargs="?",
        default=TWIN,
        help="factory package.module:make or path/to/file.py:make, or -- COMMAND ..., a program in any language that "
        f"speaks the protocol of `parity check --help-protocol` (default: {TWIN})",
    )


def _add_options(parser: argparse.ArgumentParser, table: dict[str, dict[str, Any]], title: str) -> None:
    group = parser.add_argument_group(title)
    for flag, details in table.items():
        group.add_argument(flag, **details)


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    try:
        arguments = _parsed(sys.argv[1:] if argv is None else argv)
        if arguments.command == "replay":
            case, source = Case.load(arguments.case), str(arguments.case)
        else:
            case, source = _case(arguments), arguments.names or "embedded names"
        return _check(arguments, case, source)
    except (UsageError, DataError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _parsed(argv: list[str]) -> argparse.Namespace:
    """The arguments; what stands after -- is a command, with options of its own."""
    own, command = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, None)
    parser = _parser()
    arguments = parser.parse_args(own)
    if command is not None and (not hasattr(arguments, "subject") or arguments.subject != TWIN or not command):
        parser.error("a COMMAND after -- takes the place of the SUBJECT of a command that has one")
    if command is not None:
        arguments.subject = command
    return arguments


def _case(arguments: argparse.Namespace) -> Case:
    config = {size: getattr(arguments, size) for size in SIZES if getattr(arguments, size) is not None}
    hyper = {} if arguments.num_steps is None else {"num_steps": arguments.num_steps}
    return Case.from_names(
        arguments.names, arguments.preset, arguments.seed, arguments.steps, arguments.batch_size, config, hyper
    )


def _check(arguments: argparse.Namespace, case: Case, source: str) -> int:
    from parity.checking import check
    from parity.command import Limits
    from parity.kernels import compile_timer

    compiled: list[float] = []
    modes = MODES if arguments.mode == "both" else (arguments.mode,)
    with _progress(modes, case.steps) as progress, compile_timer(compiled):
        result = check(
            arguments.subject,
            case,
            modes=modes,
            sites=arguments.sites,
            dtype=arguments.dtype,
            device=arguments.device,
            false_alarm=arguments.false_alarm,
            oracle=arguments.oracle,
            truth=arguments.truth,
            isolate=arguments.isolate,
            limits=Limits(arguments.time_limit, int(arguments.memory_limit * 2**30)),
            progress=progress,
        )
    if compiled:
        print(f"The oracle was compiled in {sum(compiled):.1f} s; the next run finds it on disk.", file=sys.stderr)
    _report(result, source, arguments.json)
    return result.verdict.exit_status


def _report(result: "Result", source: str, json_file: str | None) -> None:
    from parity.render import console, rendered

    text = json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n"
    if json_file == "-":
        sys.stdout.write(text)
    else:
        console().print(rendered(result, source))
        if json_file is not None:
            write_whole(Path(json_file), text)
    sys.stdout.flush()


@contextmanager
def _progress(modes: Iterable[str], steps: int) -> Iterator[Callable[[str, int], None]]:
    """A bar for each mode on standard error, if that is a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    from parity.render import console

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    errors = console(stderr=True)
    with Bars(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bars:
        tasks = {mode: bars.add_task(mode, total=steps) for mode in modes}
        yield lambda mode, done: bars.update(tasks[mode], completed=done)
