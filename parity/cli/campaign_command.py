"""`parity campaign`: plans from arguments, a ledger's summary, and what a campaign says while it runs."""

import argparse
import importlib.util
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity.cli.streams import complain
from parity.errors import UsageError
from parity.files import make_store, require_folder, require_writable, write_whole
from parity.options import OPTIONS
from parity.progress import watched
from parity.words import counted

if TYPE_CHECKING:
    from parity.campaign.item import Plan
    from parity.campaign.ledger import Ledger
    from parity.campaign.summary import Summary
    from parity.campaign.workers import Workers

_CASES = 200
"""Drawn for each subject and format in each way, if nobody says otherwise."""
_CORRECT = tuple(
    f"torch_twin.{name}:make"
    for name in ("microgpt", "positions", "padded", "packed", "fused_attention", "fused_adam", "accumulation")
)
"""Right implementations that come with the package and are not compiled: eager rungs of the ladder."""
_SAYS_EVERY = 60.0
"""Seconds between two lines of a campaign that nobody watches on a terminal."""

_SUBJECTS = {
    "metavar": "SUBJECT",
    "nargs": "*",
    "help": "factory package.module:make or path/to/file.py:make, or '-- COMMAND ...' as one word",
}
_LEDGER_READ = {"metavar": "LEDGER", "type": Path, "help": "the file that a campaign wrote"}
ACTIONS: dict[str, tuple[str, str, str, dict[str, dict[str, Any]]]] = {
    "check": (
        "put very many drawn cases to subjects, in all processes",
        "Draw cases from seeds, compare subjects with the reference in each, and note what came of it in a ledger, "
        "item by item. What is there is not done again: the same command goes on where it was interrupted, and does "
        "first what failed before. Failing cases are made small afterwards, once for each way to fail.",
        "parity campaign check my_port.py:make --cases 10000",
        {"subjects": _SUBJECTS},
    ),
    "calibrate": (
        "how often right subjects are refused",
        "The same of subjects that are right, so that each refusal is a false alarm: how many there are, and what "
        "their rate lies below. Where a right subject overflows in its format nothing is compared.",
        "parity campaign calibrate --dtype float32 bfloat16 --cases 2000",
        {
            "subjects": {
                **_SUBJECTS,
                "help": f"{_SUBJECTS['help']} (default: the eager rungs of the ladder in torch_twin)",
            }
        },
    ),
    "mutants": (
        "in how many drawn cases each known mistake shows",
        "Put drawn cases to the known mistakes: in how many each shows, and how little it exceeds twice the limit at "
        "least. The exit status is 1 where one shows in none in float64.",
        "parity campaign mutants --stage attention --cases 100",
        {},
    ),
    "show": (
        "what a ledger holds",
        "Print what a ledger holds: cases, verdicts, failures with the commands that repeat them, cases a second, what "
        "the rate of refusals lies below, and what was exercised.",
        "parity campaign show .parity/campaign.db",
        {"ledger": _LEDGER_READ},
    ),
    "merge": (
        "put other machines' ledgers into one",
        "Take into LEDGER, which is made where it is missing, all that the others hold; they stay as they are.",
        "parity campaign merge all.db first.db second.db",
        {
            "ledger": {**_LEDGER_READ, "help": "the file that takes all in"},
            "ledgers": {**_LEDGER_READ, "metavar": "OTHER", "nargs": "+"},
        },
    ),
}
"""By action: its summary, description and example, and what it takes besides options of the table."""

Report = Callable[..., None]


def campaign_command(arguments: argparse.Namespace, report: Report) -> int:
    """Any of its actions; report(data, renderable, JSON file) prints a summary."""
    action = arguments.command.split()[1]
    if action == "show":
        return _show(arguments, report)
    if action == "merge":
        return _merge(arguments)
    _require_packages()
    return _run(arguments, action, report)


def _require_packages() -> None:
    for package in ("hypothesis", "pebble"):
        if importlib.util.find_spec(package) is None:
            raise UsageError(f"Campaigns need {package}: pip install 'microgpt-parity[campaign]'.")


def _run(arguments: argparse.Namespace, action: str, report: Report) -> int:
    from parity.campaign.ledger import Ledger
    from parity.campaign.running import run
    from parity.campaign.summary import Summary
    from parity.cli.bars import is_terminal, progress

    plan, workers = _plan(arguments, action), _workers(arguments)
    _make_room(arguments.ledger)
    with Ledger(arguments.ledger) as ledger:
        done = ledger.keys() & {item.key for item in plan.items()}
        if done:
            complain(f"{counted(len(done), 'item')} of {len(plan.items()):,} stand in {arguments.ledger} already.")
        try:
            with progress(), watched(_Lines()) if not is_terminal() else nullcontext(), workers:
                items = run(plan, ledger, workers)
        except KeyboardInterrupt:
            complain(f"What is done is in {arguments.ledger}; the same command goes on from there.")
            raise
        return _reported(arguments, [Summary(ledger, plan.kind, plan.guided, items)], report)


def _show(arguments: argparse.Namespace, report: Report) -> int:
    from parity.campaign.ledger import Ledger
    from parity.campaign.summary import Summary, kinds

    with Ledger(arguments.ledger, read_only=True) as ledger:
        summaries = [Summary(ledger, *kind) for kind in kinds(ledger)]
        if arguments.cases:
            _write_cases(ledger, [summary.to_dict() for summary in summaries], arguments.cases)
        return _reported(arguments, summaries, report)


def _reported(arguments: argparse.Namespace, summaries: "list[Summary]", report: Report) -> int:
    """Print the summaries, and write them where they are asked for; the worst exit status of them."""
    from rich.console import Group

    from parity.cli.campaign_table import campaign_markdown, campaign_report
    from parity.ladder.this_machine import machine

    campaigns = [summary.to_dict() for summary in summaries]
    if not campaigns:
        complain("Nothing is done yet.")
    parts = [part for data in campaigns for part in (*campaign_report(data), "")]
    report({"machine": machine(), "campaigns": campaigns}, Group(*parts[:-1]), arguments.json)
    if arguments.markdown:
        write_whole(Path(arguments.markdown), "\n".join(map(campaign_markdown, campaigns)))
    statuses = [summary.exit_status for summary in summaries]
    return 1 if 1 in statuses else max(statuses, default=3)


def _write_cases(ledger: "Ledger", campaigns: list[dict[str, Any]], folder: Path) -> None:
    """The cases that failed, made small, and the extremes, each in a file of its own."""
    digests = {found["case"] for data in campaigns for found in (*data["failures"], *data["extremes"])}
    for digest in digests:
        write_whole(folder / f"{digest[:12]}.json", f"{ledger.case_text(digest)}\n")
    complain(f"Wrote {counted(len(digests), 'case')} to {folder}.")


def _merge(arguments: argparse.Namespace) -> int:
    from parity.campaign.ledger import Ledger

    for other in arguments.ledgers:
        with Ledger(other, read_only=True):
            pass  # before anything is written
    _make_room(arguments.ledger)
    with Ledger(arguments.ledger) as ledger:
        for other in arguments.ledgers:
            new = ledger.merge(other)
            print(f"{other}: {counted(new, 'new item')}")
    return 0


def _plan(arguments: argparse.Namespace, action: str) -> "Plan":
    from parity.campaign.item import CASES_OF_A_CLIMB, CASES_OF_AN_ITEM, Plan

    if action == "mutants":
        from parity.cli.mutants_command import chosen

        subjects = [mutant.name for mutant in chosen(arguments.mutant, arguments.stage) if not mutant.equivalent]
        dtypes = arguments.dtype or ["float64"]
    else:
        subjects = arguments.subjects or (list(_CORRECT) if action == "calibrate" else [])
        dtypes = arguments.dtype or ([""] if action == "check" else ["float64", "float32", "bfloat16"])
        if not subjects:
            raise UsageError("Name a subject to check: parity campaign check my_port.py:make.")
        _require_subjects(subjects)
    first, last = arguments.seeds or (0, None)
    drawn = CASES_OF_A_CLIMB if arguments.guided else CASES_OF_AN_ITEM
    seeds = range(first, -(-(arguments.cases or _CASES) // drawn) + first if last is None else last)
    if last is not None and arguments.cases:
        raise UsageError("--cases and the end of --seeds say the same; give one of them.")
    draws = list(dict.fromkeys(arguments.draw))
    return Plan(
        action,
        list(dict.fromkeys(subjects)),
        list(dict.fromkeys(dtypes)),
        draws,
        seeds,
        arguments.time_limit,
        arguments.guided,
    )


def _require_subjects(subjects: list[str]) -> None:
    """UsageError where there is no such subject, said before anything starts."""
    from parity.subjects.subject import find_factory, is_command
    from parity.subjects.training_factories import training_factory

    for subject in subjects:
        if is_command(subject):
            continue
        if training_factory(subject) is not None:
            raise UsageError(f"{subject} is a training, whose batches are its own; campaigns draw cases of microGPT.")
        find_factory(subject)


def _workers(arguments: argparse.Namespace) -> "Workers":
    from parity.campaign.workers import LocalWorkers, RayWorkers

    if arguments.ray and arguments.workers:
        raise UsageError("--workers is for the processes of this machine; a Ray cluster knows its own.")
    return RayWorkers(arguments.ray) if arguments.ray else LocalWorkers(arguments.workers)


def _make_room(path: Path) -> None:
    """UsageError where no ledger can be written; the default one's folder is made, and git does not look there."""
    if path == OPTIONS["--ledger"]["default"]:
        make_store(path.parent)
    require_folder(path)
    require_writable(path)


class _Lines:
    """Says now and then, in a line, how far a campaign is that nobody watches on a terminal."""

    def __init__(self) -> None:
        self.what, self.parts, self.done, self.said = "", 0, 0, time.monotonic()

    def begin(self, what: str, parts: int) -> int:
        """See `parity.progress.Watcher`."""
        self.what, self.parts, self.done = what, parts, 0
        return 0

    def part_is_done(self, number: int) -> None:
        """See `parity.progress.Watcher`."""
        self.done += 1
        if time.monotonic() - self.said > _SAYS_EVERY:
            self.said = time.monotonic()
            complain(f"{self.what}: {self.done:,} of {self.parts:,}")

    def end(self, number: int) -> None:
        """See `parity.progress.Watcher`."""
