"""What each command of the command line does with its arguments; each gives the exit status back."""

import argparse
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity.case import Case
from parity.cli.streams import complain
from parity.errors import UsageError
from parity.files import require_folder, require_writable, write_whole
from parity.options import CONFIG_OPTIONS, HYPER_OPTIONS, OPTIONS, STEPS

if TYPE_CHECKING:
    from rich.console import RenderableType

    from parity.ladder import Rung, RungResult


def check_command(arguments: argparse.Namespace) -> int:
    """`parity check` and `parity replay`."""
    from parity.catalogue.exclusion import note_exclusion
    from parity.catalogue.naming import name_mistakes
    from parity.cli.bars import progress
    from parity.cli.check_markdown import check_markdown
    from parity.cli.check_report import check_report
    from parity.cli.pages import write_page
    from parity.judging.check_options import check_keywords
    from parity.judging.checking import check
    from parity.subjects.subject import is_command
    from parity.verdict import Verdict

    _require_its_own_process(arguments)
    if getattr(arguments, "ranks", None) and (arguments.isolate or is_command(arguments.subject)):
        raise UsageError("--ranks is for the factory of a training, and has processes of its own without --isolate.")
    if arguments.command == "check" and isinstance(arguments.subject, str) and not arguments.isolate:
        from parity.subjects.training_factories import training_factory

        with progress() as phase:
            phase(f"importing {arguments.subject}")
            make = training_factory(arguments.subject)
        if make is not None:
            from parity.cli.training_check import training_check_command

            return training_check_command(arguments, make, _report)
        if arguments.against or arguments.names_map or arguments.replicas or arguments.ranks:
            raise UsageError(
                f"--against, --names-map, --replicas and --ranks are for trainings, and {arguments.subject} is none."
            )
    if arguments.command == "replay":
        case, source = _stored_case(arguments.case), str(arguments.case)
    else:
        case, source = _case(arguments), arguments.names or "embedded names"
    keywords = check_keywords(vars(arguments))
    asked_again = {"modes": "lock-step", "probes": False, "sites": False, "truth": False}
    with (
        progress(),
        redirect_stdout(sys.stderr if arguments.json == "-" else sys.stdout),  # a subject may print,
        redirect_stderr(sys.stderr),  # and do something to either
    ):
        result = check(arguments.subject, case, **keywords)
        if result.verdict is Verdict.DIVERGED:
            name_mistakes(result, lambda case: check(arguments.subject, case, **{**keywords, **asked_again}))
        note_exclusion(result)
    _report(result.to_dict(), check_report(result, source, arguments.verbose), arguments.json)
    if arguments.markdown:
        write_whole(Path(arguments.markdown), check_markdown(result, source))
    write_page(arguments, result.to_dict())
    return result.verdict.exit_status


def gate_command(arguments: argparse.Namespace) -> int:
    """`parity gate`."""
    from parity.catalogue.exclusion import note_exclusion
    from parity.catalogue.naming import name_mistakes
    from parity.cli.bars import progress
    from parity.cli.gate_report import annotations, gate_markdown, gate_report
    from parity.cli.training_gate import is_training, training_gate_command
    from parity.gate import gate
    from parity.gate.acceptance import with_change
    from parity.gate.accepted_file import read_accepted, write_accepted
    from parity.judging.check_options import check_keywords
    from parity.subjects.subject import subject_name
    from parity.verdict import Verdict

    with progress() as phase:
        phase(f"importing {subject_name(arguments.subject)}")
        training = is_training(arguments)
    if training:
        return training_gate_command(arguments, _tell)
    file = _accepted_file(arguments)
    accepted = read_accepted(file)
    reason = None if arguments.accept is None else " ".join(arguments.accept.split())
    if reason == "":
        raise UsageError("--accept needs a reason, for those who review the change.")
    with progress() as phase:
        phase("checking out the base")
        result = gate(
            arguments.subject,
            arguments.base,
            _case(arguments),
            rounds=arguments.rounds,
            fail_slower=arguments.fail_slower,
            accepted=accepted,
            fingerprints=reason is not None,
            allow_new=arguments.allow_new,
            progress=phase,
            **check_keywords(vars(arguments)),
        )
        if not result.verdict.passes and result.head.verdict is Verdict.DIVERGED:
            phase("naming the mistake")
            name_mistakes(result.head)
        note_exclusion(result.head)
    refused = "" if reason is None else result.not_acceptable
    if reason is not None and not refused:
        result.accept(reason)
        assert result.accepted
        write_accepted(file, with_change(accepted, result.accepted))
        complain(f"Wrote {file}; commit it with the change.")
    _tell(arguments, result.to_dict(), gate_report(result), gate_markdown(result), annotations(result))
    if refused:
        complain(refused)
    return result.exit_status


def _tell(
    arguments: argparse.Namespace, data: dict[str, Any], table: "RenderableType", markdown: str, faults: list[str]
) -> None:
    """Print what a gate found, write its files, and say to GitHub Actions what is to be said there."""
    from parity.cli.pages import write_page

    _report(data, table, arguments.json)
    write_page(arguments, data)
    if arguments.markdown:
        _append(Path(arguments.markdown), markdown)
    elif summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            _append(Path(summary), markdown)
        except UsageError as error:  # nobody asked for it on the command line, and the verdict stands without it
            complain(f"The summary is not shown with the workflow's run: {error}")
    if os.environ.get("GITHUB_ACTIONS") == "true":
        # Read from either stream; standard output may be taken by the JSON.
        say = complain if arguments.json == "-" else print
        for fault in faults:
            say(fault)


def ladder_command(arguments: argparse.Namespace) -> int:
    """`parity ladder`; one that is interrupted shows the rungs that it has finished."""
    from dataclasses import replace

    from parity.cli.bars import progress
    from parity.cli.ladder_table import markdown, rendered
    from parity.ladder.climbing import climb
    from parity.ladder.comparison import compared
    from parity.ladder.rungs import RUNGS, chosen
    from parity.ladder.this_machine import machine
    from parity.progress import work
    from parity.verdict import worst

    rungs = chosen(arguments.rungs)
    # Enough documents for batches to be of mixed lengths; the check takes the first ones.
    case = replace(Case.from_names(arguments.names, steps=1000), steps=arguments.steps)
    results: list[RungResult] = []
    interrupted = False
    try:
        with progress() as phase, work("rungs", len(rungs)) as rung_is_done:

            def started(rung: "Rung") -> None:
                phase(f"{rung.name} (some 30 s)")

            for result in climb(rungs, case, threads=arguments.threads, started=started):
                results.append(result)
                found = compared([result.to_dict() for result in results], RUNGS)
                data = {"machine": machine(), "steps": case.steps, "rungs": found}
                if arguments.json not in (None, "-"):
                    write_whole(Path(arguments.json), json.dumps(data, indent=1, allow_nan=False) + "\n")
                if arguments.markdown:
                    write_whole(Path(arguments.markdown), markdown(found))
                rung_is_done()
    except KeyboardInterrupt:
        interrupted = True
    if results:
        _report(data, rendered(found), "-" if arguments.json == "-" else None)
    if interrupted:
        raise KeyboardInterrupt
    return worst(result.verdict for result in results if not result.skipped).exit_status


def mutants_command(arguments: argparse.Namespace) -> int:
    """`parity mutants`."""
    from parity.cli import mutants_command as command

    return command.mutants_command(arguments, _report)


def vectors_command(arguments: argparse.Namespace) -> int:
    """`parity vectors`."""
    from rich.text import Text

    from parity.cli.bars import progress
    from parity.cli.terminal import show
    from parity.vectors.cases import write_vectors

    dtype = arguments.dtype or "float64"
    require_writable(arguments.folder / "README.md")
    with progress():
        *cases, readme = write_vectors(arguments.folder, dtype)
    show(Text(f"Wrote {len(cases)} cases in {dtype}; {readme} says what to do with them."))
    return 0


def verify_command(arguments: argparse.Namespace) -> int:
    """`parity verify`."""
    from parity.cli.bars import progress
    from parity.cli.verification_table import verification_table
    from parity.vectors.verify import verify

    with progress():
        found = verify(arguments.folder, arguments.results)
    _report(found.to_dict(), verification_table(found), arguments.json)
    return found.verdict.exit_status


def campaign_command(arguments: argparse.Namespace) -> int:
    """`parity campaign`."""
    from parity.cli.campaign_command import campaign_command as run

    return run(arguments, _report)


def require_outputs(arguments: argparse.Namespace) -> None:
    """UsageError where a file that is to be written cannot be, or is another of those that are read or written.

    Said before anything starts, for it ought not to cost what the result did.
    """
    subject = getattr(arguments, "subject", None)
    read = [getattr(arguments, name, None) for name in ("names", "case", "results", "names_map")]
    read += [subject.rpartition(":")[0]] if isinstance(subject, str) else []
    read += [getattr(arguments, "ledger", None), *getattr(arguments, "ledgers", ())]
    taken: dict[Path, str] = {}
    if arguments.command == "gate":
        accepted = _accepted_file(arguments)
        taken[accepted.resolve()] = "the file of accepted changes"
        if arguments.accept is not None:
            require_writable(accepted)
    for option in ("json", "markdown", "html", "out"):
        file = getattr(arguments, option, None)
        if file is None or (file, option) == ("-", "json"):
            continue
        if not file:
            raise UsageError(f"--{option} needs the name of a file.")
        require_writable(Path(file))
        require_folder(Path(file))
        if any(_same(Path(file), Path(other)) for other in read if other):
            raise UsageError(f"--{option} {file} would overwrite what is read; name another file.")
        if Path(file).exists() and not Path(file).is_file():  # a device takes any number of them
            continue
        other = taken.setdefault(Path(file).resolve(), f"--{option}")
        if other != f"--{option}":
            raise UsageError(f"--{option} {file} is {other}, too; name another file.")


def _accepted_file(arguments: argparse.Namespace) -> Path:
    from parity.gate.accepted_file import accepted_file

    return Path(arguments.accepted) if arguments.accepted else accepted_file(Path.cwd())


def _same(file: Path, other: Path) -> bool:
    """Whether both exist and are one."""
    try:
        return file.samefile(other)
    except OSError:
        return False


def _require_its_own_process(arguments: argparse.Namespace) -> None:
    """UsageError for a limit of memory that would not be kept."""
    from parity.subjects.subject import is_command

    given = arguments.memory_limit is not OPTIONS["--memory-limit"]["default"]
    own = arguments.isolate or is_command(arguments.subject) or getattr(arguments, "ranks", None)
    if given and not own:
        raise UsageError("--memory-limit is kept only for a subject in a process of its own: add --isolate.")


def _stored_case(path: Path) -> Case:
    """The case in a file, or of LEDGER#DIGITS the one that a campaign's ledger has under an address."""
    ledger, mark, digits = str(path).rpartition("#")
    if not mark or path.exists():
        if path.is_file() and path.read_bytes()[:15] == b"SQLite format 3":
            raise UsageError(
                f"{path} is a ledger; of its cases name one, as `parity campaign show` does: {path}#ADDRESS."
            )
        return Case.load(path)
    from parity.campaign.ledger import Ledger

    with Ledger(Path(ledger), read_only=True) as found:
        return Case.from_json(found.case_text(digits))


def _case(arguments: argparse.Namespace) -> Case:
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    config, hyper = (
        {name: given[name] for name in names if name in given} for names in (CONFIG_OPTIONS, HYPER_OPTIONS)
    )
    return Case.from_names(
        arguments.names, arguments.preset, arguments.seed, arguments.steps or STEPS, arguments.batch_size, config, hyper
    )


def _report(data: dict[str, Any], table: "RenderableType", json_file: str | None) -> None:
    from parity.cli.terminal import show

    text = json.dumps(data, indent=1, allow_nan=False) + "\n"
    if json_file == "-":
        sys.stdout.write(text)
    else:
        show(table)
        if json_file is not None:
            write_whole(Path(json_file), text)


def _append(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from None
