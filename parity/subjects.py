"""Subjects: the protocol, finding one by name, and the reference as one."""

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from parity.errors import NoExpectation, SubjectError, UsageError
from parity.formats import FORMATS
from reference import microgpt
from reference.config import Config, Hyper, State, Step

LIBRARY = Path(os.__file__).parent.name
TWIN = "torch_twin.microgpt:make"
"""The subject that is checked where none is named."""


class Subject(Protocol):
    """An implementation under test.

    An attribute dtype, "float64" if missing, names the number format it computes in. A subject with an attribute
    expose_sites is asked for its sites by setting it to True.
    """

    def load(self, state: State) -> None:
        """Take these weights, m, v and step number. The matrices are nested lists that the subject may keep."""

    def train_step(self, batch: list[list[int]]) -> Step:
        """Forward, backward and Adam on these documents."""


def make_subject(factory: str | Callable[..., Any], config: Config, hyper: Hyper, **options: str | None) -> Subject:
    """The subject that `package.module:make`, `path/to/file.py:make` or a factory makes.

    options (dtype, device) go to the factory as keywords, where not None. Raises UsageError where there is no such
    factory or it takes no such option, and SubjectError where it fails.
    """
    make = _found(factory)
    wanted = {name: option for name, option in options.items() if option is not None}
    for name in wanted:
        if not takes_keyword(make, name):
            raise UsageError(f"The subject cannot be made with --{name}: its factory has no parameter {name!r}.")
    subject = guarded("making it", make, config, hyper, **wanted)
    require_methods(subject)
    dtype = subject_dtype(subject)
    if wanted.get("dtype", dtype) != dtype:
        raise SubjectError(f"The subject was to compute in {wanted['dtype']} but says that it computes in {dtype}.")
    return subject  # type: ignore[no-any-return]


def require_methods(subject: Any) -> None:
    """SubjectError for something that is no subject."""
    for method in ("load", "train_step"):
        if not callable(getattr(subject, method, None)):
            raise SubjectError(f"The subject is a {type(subject).__name__}, which has no method {method}.")


def takes_keyword(factory: str | Callable[..., Any], name: str) -> bool:
    """Whether a factory, or the one so named, can be called with a keyword."""
    try:
        parameters = inspect.signature(_found(factory)).parameters.values()
    except (ValueError, TypeError):  # some callables of C have none
        return False
    return any(parameter.name == name or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def subject_dtype(subject: Subject) -> str:
    """The name of the number format that a subject computes in; SubjectError for one that is not known."""
    dtype = str(guarded("its dtype", lambda: getattr(subject, "dtype", "float64"))).removeprefix("torch.")
    if dtype not in FORMATS:
        raise SubjectError(f"The subject's dtype is {dtype!r}; it must be one of {', '.join(FORMATS)}.")
    return dtype


def guarded(doing: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """The result of the subject's own code; SubjectError for whatever it raises, with the line that raised it."""
    try:
        return function(*arguments, **options)
    except (UsageError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a subject may even call sys.exit
        frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)[1:]]
        # The last line of the subject's own, not of a library that it called.
        own = [(file, line) for file, line in frames if not {"site-packages", LIBRARY} & set(file.parts)] or frames
        place = f" ({own[-1][0].name}, line {own[-1][1]})" if own else ""
        message = " ".join(str(error).split())
        cause = type(error).__name__ + (f": {message}" if message else "")
        raise SubjectError(f"The subject raised {cause}{place} in {doing}.") from error


def _found(name: str | Callable[..., Any]) -> Callable[..., Any]:
    if not isinstance(name, str):
        return name
    place, separator, attribute = name.rpartition(":")
    if not separator or not place or not attribute:
        raise UsageError(f"A subject is named package.module:make or path/to/file.py:make, not {name!r}.")
    module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    factory = getattr(module, attribute, None)
    if factory is None:
        raise UsageError(f"{place} has no {attribute!r}.")
    if not callable(factory):
        raise UsageError(f"{name} cannot be called; a factory make(config, hyper) is needed.")
    return factory  # type: ignore[no-any-return]


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise UsageError(f"There is no file {path}.")
    name = f"parity subject {path.resolve()}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # As if it were run as a script: it can import its neighbours, and dataclasses find their module.
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    sys.modules[name] = module
    try:
        guarded(f"importing {path}", spec.loader.exec_module, module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str) -> Any:
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"{name!r} is not the name of a module; a file's name ends in .py.")
    sys.path.insert(0, "")  # a console script does not look in the current folder by itself
    try:
        return guarded(f"importing {name}", importlib.import_module, name)
    except SubjectError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and cause.name and f"{name}.".startswith(f"{cause.name}."):
            raise UsageError(f"There is no module {name!r}.") from None
        raise
    finally:
        sys.path.remove("")


class Reference:
    """The reference as a subject: it yields *expected*. Raises NoExpectation where it has none."""

    dtype = "float64"

    def __init__(self, config: Config, hyper: Hyper) -> None:
        self.config, self.hyper = config, hyper
        self.expose_sites = False

    def load(self, state: State) -> None:
        """Start from this state."""
        self.state = state

    def train_step(self, batch: list[list[int]]) -> Step:
        """Forward, backward and Adam on these documents, all as nested lists of floats."""
        sites: dict[str, list[Any]] = {}

        def collect(site: str, value: Any) -> Any:
            sites.setdefault(site, []).append(value)
            return value

        tap = collect if self.expose_sites else microgpt.no_tap
        try:
            self.state, step = microgpt.train_step(self.state, batch, self.config, self.hyper, tap)
        except (ArithmeticError, ValueError) as error:
            raise NoExpectation(
                f"The reference itself raises {type(error).__name__} ({error}) at step {self.state.step}."
            ) from None
        if self.expose_sites:
            step.sites = _deep(lambda value: value.data, sites)
            step.site_grads = _deep(microgpt.gradient, sites)
        return step  # type: ignore[no-any-return]


def _deep(function: Callable[[microgpt.Value], float], nested: Any) -> Any:
    if isinstance(nested, dict):
        return {name: _deep(function, value) for name, value in nested.items()}
    return [_deep(function, value) for value in nested] if isinstance(nested, list) else function(nested)
