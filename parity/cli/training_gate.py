"""`parity gate` of a training."""

import argparse
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from parity.errors import SubjectError, UsageError


def is_training(arguments: argparse.Namespace) -> bool:
    """Whether the factory makes a training; UsageError where options say so, and it does not."""
    from parity.subjects.calls import time_limit
    from parity.subjects.training_factories import training_factory

    found = None
    if isinstance(arguments.subject, str):
        try:
            with redirect_stdout(sys.stderr), time_limit(arguments.time_limit):  # what is imported may print
                found = training_factory(arguments.subject)
        except (SubjectError, UsageError):  # in a process of its own it fails again, and is a verdict
            found = None
    if found is None and (arguments.names_map or arguments.replicas):
        raise UsageError(f"--names-map and --replicas are for trainings, and {arguments.subject} is none.")
    return found is not None


def training_gate_command(arguments: argparse.Namespace, tell: Callable[..., None]) -> int:
    """Compare a training with itself; tell(arguments, data, report, Markdown, annotations) says what was found."""
    from parity.cli.bars import progress
    from parity.cli.gate_report import annotations
    from parity.cli.training_check import refuse_others
    from parity.cli.training_gate_report import training_gate_markdown, training_gate_report
    from parity.gate.training_gate import gate_training
    from parity.subjects.process import Limits
    from parity.training.checking import TrainingOptions
    from parity.training.names import read_names

    refuse_others(arguments, "gate")
    options = TrainingOptions(steps=arguments.steps, replicas=arguments.replicas, false_alarm=arguments.false_alarm)
    with (
        progress() as phase,
        redirect_stdout(sys.stderr if arguments.json == "-" else sys.stdout),
        redirect_stderr(sys.stderr),
    ):
        phase("checking out the base")
        result = gate_training(
            arguments.subject,
            arguments.base,
            options,
            dtype=arguments.dtype,
            device=arguments.device,
            names=read_names(Path(arguments.names_map)) if arguments.names_map else None,
            rounds=arguments.rounds,
            fail_slower=arguments.fail_slower,
            limits=Limits(arguments.time_limit, int(arguments.memory_limit * 2**30)),
            allow_new=arguments.allow_new,
            progress=phase,
        )
    tell(
        arguments,
        result.to_dict(),
        training_gate_report(result),
        training_gate_markdown(result),
        annotations(result),
    )
    return result.exit_status
