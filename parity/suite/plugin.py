"""The pytest plugin: options, fixtures, expected failures, and failures in few lines.

Pytest imports this module at every start, so whatever is heavy (Hypothesis too) waits until an option or a test asks
for it. It may well be imported before pytest marks it for rewriting, so: PYTEST_DONT_REWRITE.
"""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from parity.errors import SubjectError, UsageError
from parity.options import options_of
from parity.suite import MODULES
from parity.suite.bound import Bound
from parity.suite.expectations import ExpectedFailure, expect, read_expectations
from parity.testing.profiles import load_profile, profile
from parity.testing.tally import tally

if TYPE_CHECKING:
    from parity.case import Case

_PRESET_STEPS = 5
"""Training steps of the presets as test cases."""

PYTEST_OPTIONS = {f"--parity-{flag.removeprefix('--')}": details for flag, details in options_of("pytest").items()}

_DRAWS: pytest.StashKey[int | None] = pytest.StashKey()
_STORED: pytest.StashKey[dict[str, "Case"]] = pytest.StashKey()
_SUBJECT: pytest.StashKey[Bound] = pytest.StashKey()
_EXPECTATIONS: pytest.StashKey[list[ExpectedFailure]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("parity", "parity: a GPT training step against the reference")
    for flag, details in PYTEST_OPTIONS.items():
        group.addoption(flag, **details)


@contextmanager
def _usage_errors() -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_configure(config: pytest.Config) -> None:
    """Check the options that were given, and load the profile if one was."""
    option = config.option
    with _usage_errors():
        if option.parity_dtype is not None:
            from parity.number_formats import FORMATS

            if option.parity_dtype not in FORMATS:
                raise UsageError(f"--parity-dtype is {option.parity_dtype!r}; there are {', '.join(FORMATS)}.")
        config.stash[_DRAWS], config.stash[_STORED] = _cases(option.parity_cases)
        if option.parity_profile is not None or config.stash[_DRAWS] is not None:
            load_profile(option.parity_profile, config.stash[_DRAWS])
        file = option.parity_expectations
        config.stash[_EXPECTATIONS] = [] if file is None else read_expectations(Path(file))


def _cases(given: list[str]) -> tuple[int | None, dict[str, "Case"]]:
    """How many cases a property draws, if that was given, and the stored cases by file name."""
    draws: int | None = None
    stored: dict[str, Any] = {}
    for text in given:
        path = Path(text)
        if text.isdecimal() and int(text) > 0:
            draws = int(text)
        elif path.exists():
            from parity.case import Case

            files = sorted(path.glob("*.json")) if path.is_dir() else [path]
            if not files:
                raise UsageError(f"--parity-cases: the folder {text} holds no case (*.json).")
            for file in files:
                stored[str(file.resolve()) if file.name in stored else file.name] = Case.load(file)
        else:
            raise UsageError(
                f"--parity-cases is {text!r}: neither a whole number of at least 1, nor a stored case, nor a folder."
            )
    return draws, stored


def _given(config: pytest.Config) -> dict[str, Any]:
    """The options that were given, by flag."""
    values = {flag: getattr(config.option, flag.removeprefix("--").replace("-", "_")) for flag in PYTEST_OPTIONS}
    return {flag: value for flag, value in values.items() if value}


def pytest_report_header(config: pytest.Config) -> str | None:
    """The options that were given."""
    given = _given(config)
    texts = {flag: " ".join(value) if isinstance(value, list) else value for flag, value in given.items()}
    words = [f"{flag.removeprefix('--parity-')} {text}" for flag, text in texts.items()]
    return f"parity: {', '.join(words)}" if words else None


def bound_subject(config: pytest.Config) -> Bound:
    """The subject that the options name, one for the whole session, so that it is imported once."""
    from parity.subjects.subject import TWIN

    if _SUBJECT in config.stash:
        return config.stash[_SUBJECT]
    given = _given(config)
    given["--parity-cases"] = config.stash[_DRAWS]
    given["--parity-expectations"] = None
    arguments = [word for flag, value in given.items() if value for word in (flag, str(value))]
    option = config.option
    subject = Bound(option.parity_subject or TWIN, option.parity_dtype, option.parity_device, tuple(arguments))
    return config.stash.setdefault(_SUBJECT, subject)


@pytest.fixture(scope="session")
def parity_subject(pytestconfig: pytest.Config) -> Bound:
    """The factory that --parity-subject names, with --parity-dtype and --parity-device bound."""
    return bound_subject(pytestconfig)


@pytest.fixture
def parity_case(request: pytest.FixtureRequest) -> "Case":
    """A fixed case: each preset in turn, and every stored case of --parity-cases."""
    return request.param  # type: ignore[no-any-return]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Fill in parity_case."""
    if "parity_case" in metafunc.fixturenames:
        from parity.case import Case
        from reference.config import PRESETS

        cases = {name: Case.from_names(preset=name, steps=_PRESET_STEPS) for name in PRESETS}
        stored: dict[str, Case] = metafunc.config.stash[_STORED]
        cases |= stored
        metafunc.parametrize("parity_case", list(cases.values()), ids=list(cases), indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is expected not to pass, before -k deselects any, and give the suite's properties their profile."""
    expectations: list[ExpectedFailure] = config.stash[_EXPECTATIONS]
    for expectation in expect(expectations, items):
        message = f"{expectation.place}: the pattern {expectation.pattern!r} matches no test that was collected."
        try:
            warnings.warn(pytest.PytestWarning(message), stacklevel=1)
        except pytest.PytestWarning:  # where warnings are errors
            raise pytest.UsageError(message) from None
    _prepare_suite(config, items)


def _prepare_suite(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the suite's laws in their order, and give its properties their profile."""
    modules = {f"parity.suite.{name}": place for place, name in enumerate(MODULES)}
    tests = [(i, item) for i, item in enumerate(items) if isinstance(item, pytest.Function)]
    laws = [(i, item) for i, item in tests if item.obj.__module__ in modules]
    ordered = sorted((item for _, item in laws), key=lambda item: modules[item.obj.__module__])
    for (i, _), item in zip(laws, ordered, strict=True):
        items[i] = item
    properties = {item.obj for item in ordered if getattr(item.obj, "is_hypothesis_test", False)}
    if properties:
        from hypothesis.errors import InvalidArgument

        with _usage_errors():
            chosen = profile(config.option.parity_profile, config.stash[_DRAWS])
        for function in properties:
            with suppress(InvalidArgument):  # it has one from an earlier session in this process
                chosen(function)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Refuse a subject that does not exist at once, and not once for every test."""
    if session.config.option.collectonly:
        return
    if any("parity_subject" in getattr(item, "fixturenames", ()) for item in session.items):
        from reference.config import Config, Hyper

        with _usage_errors(), suppress(SubjectError):
            bound_subject(session.config)(Config(), Hyper())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Report verdict, largest z and power of a test's checks as its properties (JUnit knows them)."""
    tally.clear()
    try:
        return (yield)
    finally:
        item.user_properties += tally.properties


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Show a failed check as its message and the minimal case; with --tb, as pytest shows everything else."""
    report: Any = yield
    testing = sys.modules.get("parity.testing.assertions")
    failure = call.excinfo.value if call.excinfo else None
    if testing and isinstance(failure, testing.ParityError) and item.config.option.tbstyle == "auto":
        assert call.excinfo is not None
        shown = call.excinfo.getrepr(style="value", chain=False)
        if shown.reprcrash:
            shown.reprcrash.message = str(failure)
        notes = getattr(failure, "__notes__", [])
        if notes:
            shown.addsection("minimal case", "\n".join(notes))
        report.longrepr = shown
    return report  # type: ignore[no-any-return]
