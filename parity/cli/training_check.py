"""`parity check` of a training."""

import argparse
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from parity.cli.streams import complain
from parity.errors import SubjectError, UsageError
from parity.files import write_whole
from parity.options import options_of

_OPTIONS = [
    "subject",
    "steps",
    "mode",
    "sites",
    "dtype",
    "device",
    "false_alarm",
    "time_limit",
    "memory_limit",
    "json",
    "markdown",
    "html",
    "against",
    "names_map",
    "replicas",
    "ranks",
    "base",
    "rounds",
    "fail_slower",
    "allow_new",
    "command",
    "run",
]
"""What a training's check may be told; the rest is of microGPT's cases."""

_LAST_LINES = 10
"""Of what a rank wrote before it failed."""


def training_check_command(arguments: argparse.Namespace, make: Callable[..., Any], report: Callable[..., None]) -> int:
    """Check a training; report(data, renderable, JSON file) prints the result."""
    from parity.cli.bars import progress
    from parity.cli.pages import write_page
    from parity.cli.training_tables import training_markdown, training_report
    from parity.options import MODES
    from parity.subjects.calls import time_limit
    from parity.training.checking import TrainingOptions, check_training
    from parity.training.running import Factory

    refuse_others(arguments, "check")
    if arguments.ranks is not None:
        return _check_ranks(arguments, make, report)
    factory = Factory(make, arguments.dtype, arguments.device)
    modes = MODES if arguments.mode == "both" else (arguments.mode,)
    options = TrainingOptions(
        steps=arguments.steps, modes=modes, replicas=arguments.replicas, false_alarm=arguments.false_alarm
    )
    with (
        progress() as phase,
        redirect_stdout(sys.stderr if arguments.json == "-" else sys.stdout),
        redirect_stderr(sys.stderr),
        time_limit(arguments.time_limit),
    ):
        phase("the training")
        result = check_training(arguments.subject, factory, options, against=_against(arguments, make))
    report(result.to_dict(), training_report(result), arguments.json)
    if arguments.markdown:
        write_whole(Path(arguments.markdown), training_markdown(result))
    write_page(arguments, result.to_dict())
    return result.verdict.exit_status


def _check_ranks(arguments: argparse.Namespace, make: Callable[..., Any], report: Callable[..., None]) -> int:
    """Check a training over several ranks."""
    from parity.cli.bars import progress
    from parity.cli.pages import write_page
    from parity.cli.training_tables import training_markdown, training_report
    from parity.options import MODES
    from parity.ranks.checking import check_ranks
    from parity.ranks.processes import Ranks
    from parity.ranks.sides import Sides
    from parity.subjects.process import Limits
    from parity.subjects.training_factories import names_of, training_factory
    from parity.training.checking import TrainingOptions
    from parity.training.names import read_names

    if arguments.against is None:
        raise UsageError("--ranks needs --against, the training of one process that the ranks are held to.")
    single = training_factory(arguments.against)
    if single is None:
        raise UsageError(f"{arguments.against} makes no parity.training.Training, or does not exist.")
    names = read_names(Path(arguments.names_map)) if arguments.names_map else names_of(make) or names_of(single)
    sides = Sides(arguments.subject, make, arguments.against, single, names, arguments.dtype, arguments.device)
    modes = MODES if arguments.mode == "both" else (arguments.mode,)
    options = TrainingOptions(arguments.steps, modes, False, arguments.replicas, arguments.false_alarm)
    limits = Limits(arguments.time_limit, int(arguments.memory_limit * 2**30))
    ranks = Ranks(arguments.ranks, limits)
    try:
        with (
            progress() as phase,
            redirect_stdout(sys.stderr if arguments.json == "-" else sys.stdout),
            redirect_stderr(sys.stderr),
        ):
            result = check_ranks(sides, options, ranks, phase)
    except SubjectError as error:
        for line in error.last_words[-_LAST_LINES:]:
            complain(f"  {line}")
        raise
    finally:
        ranks.close()
    report(result.to_dict(), training_report(result), arguments.json)
    if arguments.markdown:
        write_whole(Path(arguments.markdown), training_markdown(result))
    write_page(arguments, result.to_dict())
    return result.verdict.exit_status


def _against(arguments: argparse.Namespace, make: Callable[..., Any]) -> Any:
    from parity.subjects.training_factories import names_of, training_factory
    from parity.training.checking import Against
    from parity.training.names import read_names
    from parity.training.other import OtherHere
    from parity.training.running import Factory

    if arguments.against is None:
        if arguments.names_map is not None:
            raise UsageError("--names-map is for --against, which names the other training.")
        return None
    other = training_factory(arguments.against)
    if other is None:
        raise UsageError(f"{arguments.against} makes no parity.training.Training, or does not exist.")
    factory = Factory(other, device=arguments.device)
    names = read_names(Path(arguments.names_map)) if arguments.names_map else names_of(make) or names_of(other)
    return Against(arguments.against, lambda replicas, sites: OtherHere(factory, replicas=replicas, sites=sites), names)


def refuse_others(arguments: argparse.Namespace, command: str) -> None:
    """UsageError for an option that is given and is for microGPT's cases alone."""
    for flag, details in options_of(command).items():
        name = flag.removeprefix("--").replace("-", "_")
        given = getattr(arguments, name, None)
        if name not in _OPTIONS and given not in (None, details.get("default"), False):
            if name in ("accept", "accepted"):
                raise UsageError(f"{flag} is not for trainings: what is meant passes once it is the base.")
            raise UsageError(
                f"{flag} is for a subject that is held to the reference; a training brings its own batches."
            )
