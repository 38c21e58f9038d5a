"""Assertions for test suites: a check that raises unless it passes, and stores what failed."""

import hashlib
import os
import re
import shlex
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, Unpack
from unittest import SkipTest

from parity.case import Case
from parity.errors import UsageError
from parity.files import make_store
from parity.judging.causes import Failed
from parity.judging.check_options import CheckKeywords, CheckOptions
from parity.judging.checking import check
from parity.judging.result import Result
from parity.judging.sentences import sentence
from parity.subjects.subject import TWIN, Named, Subject
from parity.testing.tally import tally
from parity.words import counted

STORE = Path(".parity")
"""Where failing cases are stored, and git does not look."""

_stored: dict[str, Path] = {}
"""By test, subject and signature, the case stored last: Hypothesis fails a test until its case is small."""


class ParityError(AssertionError):
    """A check that did not pass: the verdict, what, where and how much in the first line, then tensor by tensor.

    The command that repeats it comes last.

    result: all that was found. Each signature of a failure (its verdict, and which quantity of which kind of tensor or
    site diverged first) raises a class of its own, since Hypothesis tells errors apart by their class: so a failing
    case shrinks to a smaller one that fails in the same way, and does not slip to another bug.
    """

    result: Result


@cache
def error_class(signature: tuple[str, ...]) -> type[ParityError]:
    """The class of the failures with a signature."""
    return type("ParityError", (ParityError,), {"__module__": __name__, "signature": signature})


def signature(result: Result) -> tuple[str, ...]:
    """What stays of a failure where its case gets smaller: no numbers, and no layers."""
    mode = result.decisive
    first, site = mode.first_divergence, mode.first_site
    if first is None:
        kinds = [type(cause).__name__ for cause in mode.causes]
        said = " ".join(cause.message if isinstance(cause, Failed) else sentence(cause) for cause in mode.causes)
        return result.verdict.value, mode.mode, *kinds, re.sub(r"0x[0-9a-f]+|[-+]?\d[\d.e+-]*", "#", said)
    places = [first.quantity, re.sub(r"\d+", "#", first.key.name)]
    places += [re.sub(r"\d+", "#", site.key.name)] if site else []
    return result.verdict.value, mode.mode, *places


def assert_parity(
    subject: Subject | Named = TWIN,
    case: Case | None = None,
    *,
    store: Path = STORE,
    **options: Unpack[CheckKeywords],
) -> Result:
    """Check a subject (see `parity.check`, which takes the options) and return the result if it passes.

    A file that is not in the current folder is looked for beside the test's own file and in the folders above, up to
    that of pyproject.toml or .git.

    A model that the subject does not have (NotImplementedError when it is made) is passed over: in a property another
    case is drawn, elsewhere the test is skipped. Otherwise store the case as JSON in the folder store, in place of the
    one that the same test stored before, and raise ParityError, an AssertionError.
    """
    __tracebackhide__ = True
    result = check(_found(subject, Path(sys._getframe(1).f_code.co_filename)), case, **options)
    tally.note(result)
    if result.verdict.passes:
        return result
    if result.unsupported:
        _pass_over(result.reason)
    # A factory that the fixture parity_subject gives has options of its own.
    all_options = {**getattr(subject, "options", {}), **options}
    raise parity_error(result, signature(result), store, all_options)


def _found(subject: Subject | Named, test: Path) -> Subject | Named:
    """The subject, its file named from the current folder on; UsageError where it lies nowhere near the test."""
    place, _, factory = subject.rpartition(":") if isinstance(subject, str) else ("", "", "")
    if not place.endswith(".py") or place.startswith("-- ") or Path(place).is_absolute() or Path(place).is_file():
        return subject
    folders = _up_to_the_root(test.resolve().parent)
    folder = next((folder for folder in folders if (folder / place).is_file()), None)
    if folder is None:
        looked_in = ", ".join(map(str, dict.fromkeys([Path.cwd(), *folders])))
        raise UsageError(f"There is no file {place}; looked in {looked_in}.")
    return f"{os.path.relpath(folder / place)}:{factory}"


def _up_to_the_root(folder: Path) -> list[Path]:
    """A folder and those above, up to the one of the project; the folder alone where there is no such one."""
    places = [folder, *folder.parents]
    marks = ("pyproject.toml", ".git")
    root = next((n for n, place in enumerate(places) if any((place / mark).exists() for mark in marks)), 0)
    return places[: root + 1]


def _pass_over(reason: str) -> NoReturn:
    """Decide nothing of a model that the subject does not have: another case is drawn, or the test is skipped."""
    hypothesis = sys.modules.get("hypothesis")
    if hypothesis is not None and hypothesis.currently_in_test_context():
        hypothesis.event(f"passed over: {reason}")
        hypothesis.reject()
    raise SkipTest(reason)


def parity_error(result: Result, kind: tuple[str, ...], store: Path, options: dict[str, Any]) -> ParityError:
    """The error for a result that a test refuses, with its case stored."""
    mode = result.decisive
    outside = [f"{row.outside:,} of {row.compared:,} {row.quantity}" for row in mode.quantities.values() if row.outside]
    lines = [
        f"{result.verdict.value}: {' '.join(result.reason.split())}",
        *(f"  {line}" for line in (*result.last_words, *result.warnings)),
        *([f"  outside in {counted(mode.steps, 'step')}: {', '.join(outside)}"] if outside else []),
        *(f"  {what} {said}" for what, said in mode.location_lines),
        *(f"  {what}: {said}" for what, said in (result.chain.lines if result.chain else ())),
        _repetition(result, kind, store, options),
    ]
    error = error_class(kind)("\n".join(lines))
    error.result = result
    return error


def _repetition(result: Result, kind: tuple[str, ...], store: Path, options: dict[str, Any]) -> str:
    try:
        path = _store(result, kind, store)
    except UsageError as error:
        return f"The case could not be stored: {error}"
    subject = "SUBJECT" if "<" in result.subject else result.subject  # no name leads to what a function made
    limits = options.get("limits")
    if limits and not options.get("isolate") and not subject.startswith("-- "):  # its memory was not limited
        options = {**options, "limits": replace(limits, memory=type(limits).memory)}
    command = ["parity", "replay", str(path), *CheckOptions.of(options).words]
    # A command comes last, for all that follows it is its own.
    named = subject if subject.startswith("-- ") else shlex.quote(subject)
    return f"Repeat with: {shlex.join(command)} {named}"


def _store(result: Result, kind: tuple[str, ...], folder: Path) -> Path:
    test = os.environ.get("PYTEST_CURRENT_TEST", "")
    key = "\n".join((str(folder), test, result.subject, *kind))
    digest = hashlib.sha256("\n".join((key, result.deciding.case.to_json())).encode()).hexdigest()
    path = folder / f"{digest[:12]}.json"
    if folder.name == STORE.name:  # what failed here is of no use to others, as pytest's cache
        make_store(folder)
    result.deciding.case.save(path)
    last = _stored.get(key, path)
    if test and last != path:
        last.unlink(missing_ok=True)
    _stored[key] = path
    return path
