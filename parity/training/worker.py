"""One training in a process of its own: `python -m parity.training.worker FACTORY ROOT FOLDER OPTIONS`.

It answers messages of the harness as lines of JSON, and exchanges tensors as files that a message names. FACTORY is a
name such as training.py:make; ROOT and FOLDER are a repository's root and where this revision of it lies; OPTIONS are
what the factory is given, dtype and device, as JSON. What the training prints goes to standard error.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parity.subjects.calls import guarded, wait
from parity.subjects.imports import imported
from parity.subjects.messages import encoded
from parity.subjects.own_files import OwnFiles, loaded_files
from parity.subjects.server import private_output, serve
from parity.training.checking import TrainingOptions, check_training
from parity.training.exchange import read_tensors, write_tensors
from parity.training.observation import Observed, observed_step
from parity.training.other import OtherHere, digests, numbered, with_numbers
from parity.training.running import Factory, step_seed
from parity.training.state import State, load_state, named_parameters, state_of


class Worker:
    """The training of one factory, message by message. busy: to be called now and then while an answer takes long."""

    def __init__(self, name: str, options: dict[str, str], own_files: OwnFiles, busy: Callable[[], None]) -> None:
        self.name, self.own_files, self.busy = name, own_files, busy
        self.factory = Factory(imported(name), **options)
        self.native = self.factory()
        self.start = state_of(self.native)
        own_files.require()
        self.timed_from: State | None = None
        self.other: OtherHere | None = None

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """The answer to one message of the harness; whatever is loaded for it lies where it ought to."""
        kind = message.pop("type")
        found: dict[str, Any] = getattr(self, f"on_{kind}")(**message)
        self.own_files.require()
        return found

    def on_describe(self, steps: int, file: str) -> dict[str, Any]:
        """What it is made of; its numbers at the start go into the file."""
        write_tensors(Path(file), {"start": numbered(self.start)})
        return {
            "type": "description",
            "shapes": [[name, list(param.shape)] for name, param in named_parameters(self.native).items()],
            "batches": digests(self.native, steps),
            "steps": self.native.steps,
        }

    def on_step(self, number: int, given: str, file: str, replicas: int, sites: bool) -> dict[str, Any]:
        """An exact step from the state and with the gradients given, with both floors."""
        if self.other is None:
            self.other = OtherHere(self.factory, replicas=replicas, sites=sites)
        taken = read_tensors(Path(given), ("start", "gradients"))
        gradients = {key.name: tensor for key, tensor in taken["gradients"].items()}
        answer = self.other.step(number, taken["start"], gradients, self.busy)
        parts = {"expected": answer.expected.tensors, "wide": answer.wide_floor, "floor": answer.floor}
        write_tensors(Path(file), parts)
        return {"type": "step"}

    def on_native(self, number: int, file: str, given: str | None = None) -> dict[str, Any]:
        """A step as it is, from the state given, or from where the training stands. dtypes: of every tensor."""
        if given is not None:
            load_state(self.native, with_numbers(self.start, read_tensors(Path(given), ("start",))["start"]).rounded())
        with step_seed(number):
            # Without hooks on modules, which have compiled code run otherwise.
            seen = Observed(modules_are_seen=False)
            guarded(f"step {number}", observed_step, self.native, number, sites=False, seen=seen)
        write_tensors(Path(file), {"seen": seen.tensors})
        dtypes = [[key.quantity, key.name, str(dtype)] for key, dtype in seen.dtypes.items()]
        return {"type": "native", "dtypes": dtypes}

    def on_time(self, number: int) -> dict[str, Any]:
        """The seconds of a step, always from the same state: after the first step, where there are several."""
        several = self.native.steps > 1
        if self.timed_from is None:
            load_state(self.native, self.start)
            if several:
                guarded("timing", self.native.take_step, 0)
            self.timed_from = state_of(self.native)
        load_state(self.native, self.timed_from)
        number = 1 + number % (self.native.steps - 1) if several else 0
        wait()
        began = time.perf_counter()
        guarded("timing", self.native.take_step, number)
        wait()
        return {"type": "time", "seconds": time.perf_counter() - began}

    def on_check(self, steps: int, modes: list[str], false_alarm: float, replicas: int | None = None) -> dict[str, Any]:
        """Hold it to its own exact arithmetic."""
        options = TrainingOptions(steps, modes, sites=False, replicas=replicas, false_alarm=false_alarm)
        result = check_training(self.name, self.factory, options, progress=lambda _: self.busy())
        return {"type": "check", "result": result.to_dict()}

    def on_files(self) -> dict[str, Any]:
        """The files of all modules but the harness's own."""
        return {"type": "files", "files": loaded_files()}


class _Serving:
    """Answers with a worker that is made with the first message, so that what goes wrong in it is an answer."""

    def __init__(self, make: Callable[[], Worker]) -> None:
        self.make = make
        self.worker: Worker | None = None

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        if self.worker is None:
            self.worker = self.make()
        return self.worker.answer(message)


def main() -> None:
    """Serve on standard input and output, which the training itself must not write to."""
    private = private_output()
    name, root, folder, options = sys.argv[1:]
    own_files = OwnFiles(Path(root).resolve(), Path(folder).resolve())
    own_files.move_search_path()

    def busy() -> None:
        private.write(encoded({"type": "busy"}))
        private.flush()

    serve(_Serving(lambda: Worker(name, json.loads(options), own_files, busy)), sys.stdin.buffer, private)


if __name__ == "__main__":
    main()
