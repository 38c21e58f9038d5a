"""What is known of a port, and the subject that an adapter makes of it."""

import contextlib
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.ports.lines import Lines, Process
from parity import Case
from reference.config import Config, Hyper

HERE = Path(__file__).parent
_BUILD_SECONDS = 300


class CannotRun(Exception):
    """Why a port is not judged, in a sentence."""


@dataclass(frozen=True)
class Port:
    """A public port, and how it is driven; nothing of its code but the few words by which an edit finds a line.

    repository: owner/name on GitHub; commit: the one that was read; file: the one that is run, as it lies in a
    checkout, and blob: git's hash of it. deviates: what a person found in the code, in a sentence, once the run said
    where to look; empty where nothing. limits: what the adapter leaves unexercised.

    edits: for a model, which lines are others (`edited`) in the copy that is run: sizes and hyper-parameters that are
    constants, and the places in its training loop where a document comes in and results go out. corrected: words that
    other words take the place of to undo what deviates, found once each: a second run shows whether that is all.

    preset, config, hyper: the case's. dtype: what it computes in; dtypes: other formats that it can be told to compute
    in: @dtype@ in an edit is the one that is asked for. command: runs the file, {file}, in a folder where it lies as
    `name` beside its neighbours, the helpers and input.txt; needs: a program that must be there for it; build: commands
    before that; extra: other files in the folder, by name. factory: in place of all these, makes a Python factory of a
    checkout and the corrections.
    """

    repository: str
    commit: str
    language: str
    file: str
    blob: str
    deviates: str = ""
    limits: str = ""
    preset: str = "microgpt_200"
    config: Mapping[str, Any] = field(default_factory=dict)
    hyper: Mapping[str, Any] = field(default_factory=dict)
    needs: str = ""
    command: Sequence[str] = ()
    build: Sequence[Sequence[str]] = ()
    helpers: Sequence[str] = ()
    extra: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    edits: Callable[[Config, Hyper], Mapping[str, str]] = lambda config, hyper: {}
    corrected: Mapping[str, str] = field(default_factory=dict)
    dtype: str = "float64"
    dtypes: Sequence[str] = ()
    factory: Callable[[Path, Mapping[str, str]], Callable[[Config, Hyper], Any]] | None = None

    @property
    def folder(self) -> str:
        """Of its checkout."""
        return self.repository.replace("/", "+")

    def source(self, checkouts: Path) -> Path:
        """Its file in a checkout; CannotRun where that is not there, or is not the one that was read."""
        path = checkouts / self.folder / self.file
        if not path.is_file():
            raise CannotRun(f"There is no checkout: {path} is missing; it is in {self.repository} at {self.commit}.")
        content = path.read_bytes()
        if hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() != self.blob:
            raise CannotRun(f"{path} is not the file of commit {self.commit}, which the adapter was written for.")
        return path

    def case(self, steps: int) -> Case:
        """That it is checked on: the model and the hyper-parameters that it has."""
        return Case.from_names(preset=self.preset, steps=steps, config=dict(self.config), hyper=dict(self.hyper))

    def require_programs(self) -> None:
        """CannotRun where what runs or builds it is not installed."""
        for program in filter(None, [self.needs, *(words[0] for words in self.build)]):
            if shutil.which(program) is None:
                raise CannotRun(f"{program} is not installed.")


class Subjects:
    """The factory of a port's subjects; closing `open` ends their processes and removes their folders.

    corrected: with what deviates undone.

    Raises NotImplementedError for a model that the port does not have, CannotRun where it cannot be built.
    """

    def __init__(self, port: Port, checkouts: Path, *, corrected: bool = False) -> None:
        self.corrections = port.corrected if corrected else {}
        self.port, self.source, self.name = port, port.source(checkouts), port.repository
        self.open = ExitStack()
        port.require_programs()
        self._in_python = port.factory(checkouts / port.folder, self.corrections) if port.factory else None

    def __call__(self, config: Config, hyper: Hyper, dtype: str | None = None) -> Any:
        """A subject of this model."""
        own = self.port.case(1)
        kind = own.config.activation, own.hyper.lr_schedule
        if (config.activation, hyper.lr_schedule) != kind:
            raise NotImplementedError(f"{self.name} has {' and a schedule that is '.join(kind)}")
        form = dtype or self.port.dtype
        if form not in (self.port.dtype, *self.port.dtypes):
            raise NotImplementedError(f"{self.name} computes in {self.port.dtype}")
        if self._in_python:
            return self._in_python(config, hyper)
        folder = Path(self.open.enter_context(tempfile.TemporaryDirectory(prefix="port")))
        self._prepare(folder, config, hyper, form)
        process = Process([word.format(file=self._name) for word in self.port.command], folder)
        return self.open.enter_context(Lines(process, config, form))

    @property
    def _name(self) -> str:
        return self.port.name or self.source.name

    def _prepare(self, folder: Path, config: Config, hyper: Hyper, form: str) -> None:
        """The file with its edits, among its neighbours and our helpers, built."""
        for neighbour in self.source.parent.iterdir():
            if neighbour.name not in (self.source.name, "input.txt") and not neighbour.name.startswith("."):
                (folder / neighbour.name).symlink_to(neighbour.resolve())
        text = corrected(self.source.read_text(encoding="utf-8"), self.corrections, self.name)
        text = edited(text, self.port.edits(config, hyper), self.name)
        self._write(folder / self._name, text.replace("@dtype@", form))
        for helper in self.port.helpers:
            self._write(folder / helper, (HERE / helper).read_text(encoding="utf-8"))
        # As many characters as there are tokens beside BOS: the documents themselves come from parity.
        self._write(folder / "input.txt", "".join(f"{chr(97 + token)}\n" for token in range(config.vocab_size - 1)))
        for name, content in self.port.extra.items():
            self._write(folder / name, content)
        for words in self.port.build:
            self._build([word.format(file=self._name) for word in words], folder)

    def _write(self, path: Path, text: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()  # never through a link into the checkout
        path.write_text(text, encoding="utf-8")

    def _build(self, words: Sequence[str], folder: Path) -> None:
        try:
            done = subprocess.run(
                words, cwd=folder, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise CannotRun(f"{words[0]} did not end in {_BUILD_SECONDS} seconds.") from None
        if done.returncode:
            lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
            telling = [line for line in lines if "error" in line.lower()]
            said = (telling or lines or ["it says nothing"])[0]
            raise CannotRun(f"{words[0]} ended with status {done.returncode}: {said}")


def edited(text: str, edits: Mapping[str, str], name: str) -> str:
    """A file in which the one line that holds each of these few words is another one; CannotRun where none or two do.

    @@ stands for the line as it was.
    """
    lines = text.splitlines()
    for words, new in edits.items():
        found = [number for number, line in enumerate(lines) if words in line]
        if len(found) != 1:
            where = f"{len(found)} lines hold" if found else "no line holds"
            raise CannotRun(f"The code of {name} is not what its adapter expects: {where} {words!r}.")
        lines[found[0]] = new.replace("@@", lines[found[0]])
    return "\n".join(lines) + "\n"


def corrected(text: str, words: Mapping[str, str], name: str) -> str:
    """A file with these words in place of those; CannotRun where one is not found exactly once."""
    for old, new in words.items():
        count = text.count(old)
        if count != 1:
            raise CannotRun(f"The code of {name} is not what its adapter expects: {old!r} is there {count} times.")
        text = text.replace(old, new)
    return text


def module_of(path: Path, corrections: Mapping[str, str]) -> ModuleType:
    """A Python file of a checkout as a module, which leaves nothing beside it."""
    module = ModuleType(f"port_{path.stem}")
    exec(compile(corrected(path.read_text(encoding="utf-8"), corrections, path.name), path, "exec"), vars(module))
    return module
