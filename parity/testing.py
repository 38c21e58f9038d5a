"""Assertions for test suites: a check that raises unless it passes, and stores what failed."""

import hashlib
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parity.case import Case
from parity.checking import check
from parity.errors import UsageError
from parity.result import Result
from parity.subjects import TWIN, Subject
from parity.verdict import Verdict

PASSES = (Verdict.IDENTICAL, Verdict.PARITY)
"""The verdicts that pass; INCONCLUSIVE does not: a check that could decide nothing is no pass."""

_stored: dict[tuple[Path, str], Path] = {}
"""By test and subject, the case stored last: Hypothesis fails a test again and again until its case is small."""


def assert_parity(
    subject: Subject | Callable[..., Subject] | str = TWIN,
    case: Case | None = None,
    *,
    store: Path = Path(".parity"),
    **options: Any,
) -> Result:
    """Check a subject (see `parity.check`, which takes the options) and return the result if it passes.

    Otherwise store the case as JSON in the folder store, in place of the one that the same test stored before, and
    raise AssertionError with one line: verdict, what, where, how much, and the command that repeats it.
    """
    __tracebackhide__ = True
    result = check(subject, case, **options)
    if result.verdict in PASSES:
        return result
    reason = " ".join(result.reason.split())
    raise AssertionError(f"{result.verdict.value}: {reason} {_repetition(result, store, options)}")


def _repetition(result: Result, store: Path, options: dict[str, Any]) -> str:
    try:
        path = _store(result, store)
    except UsageError as error:
        return f"The case could not be stored: {error}"
    subject = "SUBJECT" if "<" in result.subject else result.subject  # no name leads to what a function made
    command = ["parity", "replay", str(path), subject]
    for name in ("dtype", "device"):
        command += [f"--{name}", options[name]] if options.get(name) else []
    command += [f"--{name}" for name in ("sites", "truth") if options.get(name)]
    modes = options.get("modes")
    command += ["--mode", modes[0]] if modes and len(modes) == 1 else []
    command += ["--false-alarm", repr(options["false_alarm"])] if "false_alarm" in options else []
    command += ["--oracle", options["oracle"]] if "oracle" in options else []
    return f"Repeat with: {shlex.join(command)}"


def _store(result: Result, folder: Path) -> Path:
    test = os.environ.get("PYTEST_CURRENT_TEST", "")
    content = f"{test}\n{result.subject}\n{result.case.to_json()}"
    path = folder / f"{hashlib.sha256(content.encode()).hexdigest()[:12]}.json"
    result.case.save(path)
    last = _stored.get((folder, f"{test} {result.subject}"), path)
    if test and last != path:
        last.unlink(missing_ok=True)
    _stored[folder, f"{test} {result.subject}"] = path
    return path
