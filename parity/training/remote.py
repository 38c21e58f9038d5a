"""A training in a process of its own, `parity.training.worker`, at another revision or at this one."""

import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from parity.errors import SubjectError, UsageError
from parity.quantities import TensorKey
from parity.subjects.command import Command, serving
from parity.subjects.process import Limits
from parity.training.checking import TrainingOptions
from parity.training.exchange import Parts, read_tensors, write_tensors
from parity.training.observation import Observed
from parity.training.other import Answer, Description, Numbered


class OtherFailed(SubjectError):
    """The training that a subject is held to fails: of the subject that says nothing."""


class Elsewhere:
    """A training in a process of its own.

    name: its factory's. given: to the factory, dtype and device. moved: the repository's root, and where this side's
    root is. exchange: a folder for tensors on their way. where: another revision, with which errors begin. Whatever it
    is asked raises UsageError where it cannot be had or makes no sense, and SubjectError where it fails: OtherFailed at
    another revision.
    """

    def __init__(
        self,
        name: str,
        given: dict[str, str],
        *,
        folder: Path,
        moved: tuple[Path, Path],
        environment: Mapping[str, str],
        limits: Limits,
        exchange: Path,
        where: str = "",
    ) -> None:
        arguments = [*map(str, moved), json.dumps(given)]
        self.command: Command = serving(name, limits, folder, arguments, environment, "parity.training.worker")
        self.exchange, self.where = exchange, where
        self.available = 0
        """How many steps its batches last for, once it has described itself."""
        self._numbers = itertools.count()

    def start(self) -> None:
        """Start the process; others can start meanwhile."""
        self.command.start()

    def describe(self, steps: int) -> Description:
        """See `Other`."""
        file = self._file()
        found = self._ask({"type": "describe", "steps": steps, "file": str(file)}, "description", "its description")
        self.available = found["steps"]
        shapes = {name: tuple(shape) for name, shape in found["shapes"]}
        return Description(shapes, found["batches"], read_tensors(file, ("start",))["start"])

    def step(
        self,
        number: int,
        start: Numbered,
        gradients: dict[str, Tensor],
        replicas: int,
        sites: bool,
        busy: Callable[[], None],
    ) -> Answer:
        """See `Other`, with so many replicas of each floor; busy: called after each."""
        given = {TensorKey("grad", name): tensor for name, tensor in gradients.items()}
        message = {
            "type": "step",
            "number": number,
            "given": self._written({"start": start, "gradients": given}),
            "file": str(file := self._file()),
            "replicas": replicas,
            "sites": sites,
        }
        self._ask(message, "step", f"step {number} in exact arithmetic", busy)
        found = read_tensors(file, ("expected", "wide", "floor"))
        return Answer(Observed(found["expected"]), found["wide"], found["floor"])

    def native(self, number: int, start: Numbered | None = None) -> Observed:
        """A step as it is, from a state, or from where the one before left it; without sites."""
        file = self._file()
        given = {} if start is None else {"given": self._written({"start": start})}
        found = self._ask({"type": "native", "number": number, "file": str(file), **given}, "native", f"step {number}")
        dtypes = {TensorKey(quantity, name): dtype for quantity, name, dtype in found["dtypes"]}
        return Observed(read_tensors(file, ("seen",))["seen"], dtypes)

    def seconds(self, number: int) -> float:
        """The time of a step, always from the same state; number: of the batch, over and over."""
        return float(self._ask({"type": "time", "number": number}, "time", "timing")["seconds"])

    def check(self, options: TrainingOptions, steps: int) -> dict[str, Any]:
        """What it is beside its own exact arithmetic: a `TrainingResult` as a dict."""
        message: dict[str, Any] = {"type": "check", "steps": steps, "modes": [*options.modes]}
        message |= {"false_alarm": options.false_alarm}
        message |= {} if options.replicas is None else {"replicas": options.replicas}
        found: dict[str, Any] = self._ask(message, "check", "its check")["result"]
        return found

    def files(self) -> list[str]:
        """The files of all modules that it has loaded."""
        return list(self._ask({"type": "files"}, "files", "its list of files")["files"])

    def close(self) -> None:
        """End the process."""
        self.command.close()

    def _ask(
        self, message: dict[str, Any], answer: str, doing: str, busy: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        try:
            return self.command.ask(message, answer, doing, busy)
        except UsageError as error:
            raise (UsageError(f"At {self.where}: {error}") if self.where else error) from None
        except SubjectError as error:
            raise (OtherFailed(f"At {self.where}: {error}") if self.where else error) from None

    def _file(self) -> Path:
        return self.exchange / f"{id(self)}-{next(self._numbers)}.npz"

    def _written(self, parts: Parts) -> str:
        file = self._file()
        write_tensors(file, parts)
        return str(file)


class OtherElsewhere:
    """A training elsewhere as one that a subject is held to. replicas: of each floor. busy: called now and then."""

    def __init__(
        self, training: Elsewhere, *, replicas: int, sites: bool, busy: Callable[[], None] = lambda: None
    ) -> None:
        self.training, self.replicas, self.sites, self.busy = training, replicas, sites, busy

    def describe(self, steps: int) -> Description:
        """See `Other`."""
        return self.training.describe(steps)

    def step(self, number: int, start: Numbered, gradients: dict[str, Tensor]) -> Answer:
        """See `Other`."""
        return self.training.step(number, start, gradients, self.replicas, self.sites, self.busy)
