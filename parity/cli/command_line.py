"""The command line: its commands, how their arguments are read, and what a process that runs one ends with."""

import argparse
import shlex
import shutil
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from parity import __version__
from parity.cli import campaign_command, commands
from parity.cli.help_command import help_command, topics_listed
from parity.cli.help_pages import TOPICS
from parity.cli.new_subject import EXAMPLES, new_subject_command
from parity.cli.parser import SHELLS, Completion, HelpProtocol, Parser
from parity.cli.report_command import RUNS, report_command
from parity.cli.streams import OutputError, complain, standard_output
from parity.errors import SubjectError, UsageError
from parity.options import Details, option_groups
from parity.subjects.calls import kept_alive
from parity.subjects.subject import TWIN
from reference.data import DataError

_LAYOUT = (
    "What is printed fits the terminal, from 60 columns on; where there is none, a sentence or a row of a table is one "
    "line, without colours (parity help verdict)."
)
_WRITTEN = "it is written"
_STATUSES = {
    0: "IDENTICAL or PARITY",
    1: "DIVERGED, PRECISION LOSS, or ERROR: the subject failed",
    2: "bad usage or bad input",
    3: "INCONCLUSIVE: nothing could be decided",
}
"""What a process ends with, if its command does not say otherwise."""


_OF_CAMPAIGNS: dict[str, dict[int, str]] = {
    "check": {
        0: "nothing was refused",
        1: "a subject was refused; or a known mistake shows in no case, in float64",
        2: _STATUSES[2],
        3: "nothing could be decided",
    },
    "merge": {0: "all is taken in", 2: _STATUSES[2]},
}
"""What those of campaigns end with; by default as `check`."""

_SUBJECT: dict[str, Details] = {
    "subject": {
        "metavar": "SUBJECT",
        "nargs": "?",
        "default": TWIN,
        "help": "factory package.module:make or path/to/file.py:make, or -- COMMAND ..., a program in any language "
        f"that speaks the protocol of `parity help protocol` (default: {TWIN})",
    }
}


class _Command(NamedTuple):
    """A command: what runs it, what its help says, and the arguments that it has besides those of the table."""

    name: str
    run: Callable[[argparse.Namespace], int]
    summary: str
    description: str
    example: str
    arguments: dict[str, Details]
    statuses: Mapping[int, str] = _STATUSES


_COMMANDS = (
    _Command(
        "check",
        commands.check_command,
        "compare a subject with the reference, step by step",
        "Compare a subject with the reference: loss, logits, every gradient and Adam's m, v and parameters, element by "
        "element,\nin lock-step (the subject is set to the reference's state before every step) and free-running (both "
        "start equal\nand run on).",
        "parity check my_port.py:make --names names.txt --steps 100\n  parity check --steps 5 -- ./my_port --verbose\n"
        "  parity check --ranks 4 training.py:make --against single.py:make",
        {
            **_SUBJECT,
            "--help-protocol": {"action": HelpProtocol, "nargs": 0, "help": "print `parity help protocol`, and exit"},
        },
    ),
    _Command(
        "replay",
        commands.check_command,
        "check a stored case again",
        "Compare a subject with the reference on a case that a failing check or test stored.",
        "parity replay .parity/case.json my_port.py:make",
        {"case": {"metavar": "CASE.json", "type": Path, "help": "the stored case"}, **_SUBJECT},
    ),
    _Command(
        "gate",
        commands.gate_command,
        "compare a subject with itself at another git revision",
        "Say what became of a subject since a git revision: bitwise the same (IDENTICAL), only rounding changed "
        "(PARITY), precision lost, or the function changed (DIVERGED, and where); and how fast a step is now.\n"
        "A factory of a parity.training.Training is compared with what it was in exact arithmetic.\n"
        "What is not committed counts; the base is checked out elsewhere, and the working tree is only read.",
        "parity gate my_port.py:make --base origin/main --steps 50\n  parity gate training.py:make --base main",
        _SUBJECT,
        {
            **_STATUSES,
            0: "IDENTICAL: the same bits; PARITY: only rounding changed; or the change is accepted",
            1: "DIVERGED, PRECISION LOSS or ERROR; or slower than --fail-slower allows",
        },
    ),
    _Command(
        "ladder",
        commands.ladder_command,
        "every rung of the efficiency ladder: verdict, power, speed and memory",
        "Check and time rung after rung, from scalar Python to compiled, batched, low-precision and distributed "
        "training, each in a process of its own and beside the reference. A rung that is not IDENTICAL or PARITY\n"
        "shows no speed. Rungs that need a CUDA device or a C++ compiler are skipped where there is none.\n"
        "All of them take some ten minutes on two cores; what is finished is kept when the command is interrupted.",
        "parity ladder --rungs twin,positions,whole_step --json ladder.json",
        {},
        {
            **_STATUSES,
            0: "every rung that ran is IDENTICAL or PARITY",
            1: "a rung is not: it diverged, lost precision or failed",
            3: "a rung is INCONCLUSIVE, or none ran",
        },
    ),
    _Command(
        "mutants",
        commands.mutants_command,
        "every known mistake: by what a check catches it, and what would miss it",
        "Put the reference with each known mistake to a check, and say in which quantity it shows first, in the case "
        "or in a probe, and which rules with fixed tolerances would have missed it in that case: loss curves, final "
        "weights, sums, cosines, torch.testing's defaults, PyTorch's own rule for compiled code.\n"
        "All of them take some minutes; what is finished is shown when the command is interrupted. The exit status is "
        "1 where one is missed in float64.",
        "parity mutants --list --stage attention\n"
        "  parity mutants --mutant gelu weight_decay --dtype float64 bfloat16\n"
        "  parity mutants --json mutants.json --markdown mutants.md",
        {},
        {0: "every mistake is caught in float64", 1: "one is missed, or refused though equivalent", 2: _STATUSES[2]},
    ),
    _Command(
        "report",
        report_command,
        "the stored evidence as one page for a browser",
        "Write one HTML file from stored results: the ladder with public ports, reference and twin line for line, "
        "drift, the calibration, known mistakes, larger models and claims, each with the command that repeats it.\n"
        "What is not stored is not shown; --run makes some of it first. For one result see --html of `parity check` "
        "and `parity gate`.",
        "parity report --out report.html --results benchmarks/results\n"
        "  parity report --run --results my_results\n"
        "  parity report --run twin ladder --results my_results --names names.txt",
        {
            "--run": {
                "dest": "run_results",
                "metavar": "RESULT",
                "nargs": "*",
                "choices": list(RUNS),
                "help": "make these results first, into the folder of --results: "
                + ", ".join(f"{name} ({time})" for name, time in RUNS.items())
                + "; without a name twin alone",
            },
            "--names": {"metavar": "FILE", "help": "documents for --run, one a line (default: the embedded names)"},
            "--out": {
                "metavar": "FILE",
                "type": Path,
                "default": Path("report.html"),
                "help": "(default: %(default)s)",
            },
            "--results": {
                "metavar": "DIR",
                "type": Path,
                "help": "where ladder.json, calibration.json and others like them lie, any of them (default: the "
                "repository's benchmarks/results); with --run a new folder is made",
            },
        },
        {0: _WRITTEN, 2: _STATUSES[2]},
    ),
    *(
        _Command(
            f"campaign {action}",
            commands.campaign_command,
            summary,
            description,
            example,
            arguments,
            _OF_CAMPAIGNS.get(action, _OF_CAMPAIGNS["check"]),
        )
        for action, (summary, description, example, arguments) in campaign_command.ACTIONS.items()
    ),
    _Command(
        "vectors",
        commands.vectors_command,
        "write conformance vectors, for ports that run no Python",
        "Write cases as JSON: config, weights, documents, what is expected of every step with its allowed deviation, "
        "and negative vectors, which a correct port must not match, with the mistakes that they stand for.",
        "parity vectors conformance --dtype float32",
        {"folder": {"metavar": "DIR", "type": Path, "help": "a new or empty folder, or one written before"}},
        {0: "they are written", 2: _STATUSES[2]},
    ),
    _Command(
        "verify",
        commands.verify_command,
        "judge recorded answers by conformance vectors",
        "Judge what a port answered to the vectors in DIR, as `parity check` would; DIR/README.md says what to record.",
        "parity verify conformance RESULTS.json",
        {
            "folder": {"metavar": "DIR", "type": Path, "help": "what `parity vectors` wrote"},
            "results": {"metavar": "RESULTS.json", "type": Path, "help": "the port's answers"},
        },
        {
            **_STATUSES,
            0: "IDENTICAL or PARITY in every case that the port has a model for",
            1: "DIVERGED, PRECISION LOSS or ERROR in one",
            3: "INCONCLUSIVE: a case has no answers, or nothing could be decided",
        },
    ),
    _Command(
        "new-subject",
        new_subject_command,
        "write a commented skeleton of a subject",
        "Write a Python file to fill in, with what each part takes and gives; or a worked example, which passes.",
        "parity new-subject my_port.py\n  parity new-subject port.c --example c",
        {
            "file": {"metavar": "FILE", "type": Path, "help": "the new file, ending in .py, or .c for that example"},
            "--example": {
                "metavar": "NAME",
                "choices": list(EXAMPLES),
                "help": "write this example instead: numpy, with gradients derived by hand; module, a torch.nn.Module "
                "with maps of its parameters and sites; training, any PyTorch training step; or c, which speaks the "
                "protocol",
            },
        },
        {0: _WRITTEN, 2: "bad usage, or the file exists already"},
    ),
    _Command(
        "help",
        help_command,
        "pages on the model, on subjects and on reading a verdict",
        "Print a page on a topic, or the help of a command; without either, the list of topics.",
        "parity help verdict",
        {"topic": {"metavar": "TOPIC", "nargs": "?", "help": f"{', '.join(TOPICS)}, or a command"}},
        {0: "it is printed", 2: "there is no such topic"},
    ),
)


def _parsers() -> tuple[Parser, dict[str, Parser]]:
    """The parser of all, and that of each command."""
    parser = Parser(
        prog="parity",
        description="Does this code compute the same function as the reference?",
        epilog=f"example:\n  parity check my_port.py:make\n\ntopics:\n{topics_listed()}\n\n{_filled(_LAYOUT)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}", help="print it and exit")
    parser.add_argument(
        "--completion",
        action=Completion,
        choices=SHELLS,
        help="print a script that completes commands and options in this shell, and exit: "
        'eval "$(parity --completion bash)"',
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    actions = _campaign_parser(subparsers).add_subparsers(dest="action", required=True, metavar="ACTION")
    parsers: dict[str, Parser] = {}
    for command in _COMMANDS:
        of_campaigns, _, action = command.name.rpartition(" ")
        subparser = parsers[command.name] = (actions if of_campaigns else subparsers).add_parser(
            action,
            help=command.summary,
            description=_filled(command.description),
            epilog=f"example:\n  {command.example}\n\n{_ending(command)}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        subparser.set_defaults(run=command.run, command=command.name)
        for name, details in command.arguments.items():
            subparser.add_argument(name, **details)
        for heading, options in option_groups(command.name).items():
            group = subparser.add_argument_group(heading)
            for flag, details in options.items():
                group.add_argument(flag, **details)
    parsers |= subparsers.choices
    parsers["help"].set_defaults(commands=parsers)
    return parser, parsers


def _campaign_parser(subparsers: Any) -> Parser:
    """That of campaigns, which have actions."""
    summary = "very many comparisons, by many processes or machines"
    return subparsers.add_parser(  # type: ignore[no-any-return]
        "campaign",
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}: each noted once in a ledger, and never done again.",
        epilog="example:\n  parity campaign check my_port.py:make --cases 10000\n  parity campaign show "
        ".parity/campaign.db\n\nmore: parity help campaigns",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _ending(command: _Command) -> str:
    """What a process that runs a command ends with, and where there is more to read."""
    lines = [_filled(said, f"  {status}  ") for status, said in sorted(command.statuses.items())]
    more = _filled(f"More than options, parity help TOPIC: {', '.join(TOPICS)}.")
    return "\n".join(["exit status:", *lines, "", more])


def _filled(text: str, label: str = "") -> str:
    """A paragraph as wide as argparse makes its own, behind a label."""
    width = max(shutil.get_terminal_size().columns - 2, 11)
    return textwrap.fill(" ".join(text.split()), width, initial_indent=label, subsequent_indent=" " * len(label))


class _Terminated(KeyboardInterrupt):
    """A request to end, as an exception, so that what was started ends as well: subjects, worktrees."""


def _terminate(number: int, frame: Any) -> NoReturn:
    raise _Terminated


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status; argv: None for those of the process, which then has no other use."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    try:
        with kept_alive(to_the_end=argv is None), standard_output():
            return run(sys.argv[1:] if argv is None else argv)
    except (UsageError, DataError) as error:
        complain(str(error))
        return 2
    except SubjectError as error:
        complain(str(error))
        return 1
    except OutputError as error:
        if str(error):
            complain(str(error))
        return error.status
    except _Terminated:
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        complain("Interrupted.")
        return 130


def run(argv: list[str]) -> int:
    """Run one command, whose errors are raised, and return its exit status."""
    if not argv:
        _parsers()[0].print_help()
        return 2  # a script whose command got lost has checked nothing
    arguments = _parsed(argv)
    try:
        Path.cwd()
    except OSError:
        raise UsageError("The current folder does not exist any more.") from None
    commands.require_outputs(arguments)
    return arguments.run(arguments)  # type: ignore[no-any-return]


def _parsed(argv: list[str]) -> argparse.Namespace:
    """The arguments; what stands after -- is a command, with options of its own."""
    own, command = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, None)
    parser, subparsers = _parsers()
    arguments, rest = parser.parse_known_args(own)
    chosen = subparsers[arguments.command]
    # argparse gives a positional with a default its default where options stand before it.
    if rest and not rest[0].startswith("-") and getattr(arguments, "subject", None) == TWIN:
        arguments.subject = rest.pop(0)
    if rest:
        chosen.refuse(rest)
    if command is not None and not command:
        chosen.error("there is no command after --")
    if command is not None and arguments.command == "campaign check":
        arguments.subjects = [*arguments.subjects, f"-- {shlex.join(command)}"]
        arguments.given = ["parity", *argv]
        return arguments
    if command is not None and (not hasattr(arguments, "subject") or arguments.subject != TWIN):
        chosen.error("a COMMAND after -- takes the place of the SUBJECT of a command that has one")
    if command is not None:
        arguments.subject = command
    arguments.given = ["parity", *argv]
    return arguments
