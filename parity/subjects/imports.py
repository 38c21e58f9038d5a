"""Finding a factory by its name, `package.module:make` or `path/to/file.py:make`."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parity.errors import SubjectError, UsageError
from parity.subjects.calls import guarded
from parity.words import did_you_mean


def imported(name: str) -> Callable[..., Any]:
    """The factory so named; UsageError where there is none, SubjectError where importing it fails."""
    place, attribute = split_name(name)
    module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    factory = guarded(f"importing {place}", getattr, module, attribute, None)
    if factory is None:
        raise UsageError(f"{place} has no {attribute!r}{did_you_mean(attribute, vars(module))}.")
    if not callable(factory):
        raise UsageError(f"{name} cannot be called; a factory make(config, hyper) is needed.")
    return factory  # type: ignore[no-any-return]


def split_name(name: str) -> tuple[str, str]:
    """Module or file, and factory; UsageError for what names neither."""
    place, separator, attribute = name.rpartition(":")
    if not separator or not place or not attribute:
        raise UsageError(f"A subject is named package.module:make or path/to/file.py:make, not {name!r}.")
    return place, attribute


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise UsageError(f"There is no file {path}.")
    name = _module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # As if it were run as a script: it can import its neighbours, and dataclasses find their module.
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        guarded(f"importing {path}", spec.loader.exec_module, module)
    except BaseException:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
        raise
    return module


def _module_name(path: Path) -> str:
    """What a subject's file is called as a module: its own name, so that the processes of a pool find it as well.

    Where that name is another module's, one that nothing else has.
    """
    path = path.resolve()
    unmistakable = f"parity subject {path}"
    if not path.stem.isidentifier():
        return unmistakable
    try:
        spec = importlib.util.find_spec(path.stem)
    except (ValueError, ImportError):  # such as __main__
        return unmistakable
    if path.stem in sys.modules and path.stem not in _imported_files:
        return unmistakable
    if spec is not None and (spec.origin is None or Path(spec.origin).resolve() != path):
        return unmistakable
    _imported_files.add(path.stem)
    return path.stem


_imported_files: set[str] = set()
"""Modules that are subjects' files, and may be imported anew."""


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
