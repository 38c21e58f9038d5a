"""Subjects in a process of their own, which speaks the protocol of `parity.subjects.messages`, within limits."""

import os
import shlex
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from typing_extensions import override

from parity.errors import SubjectError, UnsupportedModel, UsageError
from parity.subjects.messages import PROTOCOL, is_null, step_of
from parity.subjects.process import Limits, Process, excerpt
from parity.subjects.subject import Subject
from reference.config import Config, Hyper, State, Step


class Command:
    """A factory of subjects out of one process, started when it is first needed, and again after it has failed.

    argv: the command, run in a folder (None: the current one), with an environment (None: this one) and more on its
    PYTHONPATH. name: what a result calls it, by default the words. goes_on: that it waits for another greeting after
    one that it refuses, as `parity.serve` does; any other program is started anew, for it may have left. Only the
    subject made last has its model in the process; another one that is loaded sends its greeting again.
    """

    def __init__(
        self,
        argv: Sequence[str],
        limits: Limits | None = None,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        python_path: Sequence[str] = (),
        name: str = "",
        goes_on: bool = False,
    ) -> None:
        self.argv, self.limits, self.folder = list(argv), limits or Limits(), folder
        self.name, self.goes_on = name or f"-- {shlex.join(self.argv)}", goes_on
        self.environment = dict(environment or os.environ)
        path = [*python_path, *filter(None, [self.environment.get("PYTHONPATH")])]
        if path:
            self.environment["PYTHONPATH"] = os.pathsep.join(path)
        self.process: Process | None = None
        self.current: CommandSubject | None = None

    def __call__(
        self, config: Config, hyper: Hyper, *, dtype: str | None = None, device: str | None = None
    ) -> "CommandSubject":
        """A subject; UnsupportedModel where the command refuses the model in its answer to the greeting.

        SubjectError where it gives no other answer, UsageError where it cannot start.
        """
        return CommandSubject(self, config, hyper, {"dtype": dtype, "device": device})

    def start(self) -> None:
        """Start the process, unless it runs: what it does before it is asked takes its time, too."""
        if self.process is None:
            self.process, self.current = Process(self.argv, self.folder, self.environment), None
            self.end = weakref.finalize(self, self.process.end)  # at the latest as Python leaves

    def ask(
        self, message: dict[str, Any], answer: str, doing: str, busy: Callable[[], None] | None = None
    ) -> dict[str, Any]:
        """The answer of the type given; SubjectError for anything else. What has failed is killed.

        What only refuses a model is not, if it goes on: importing torch again would take seconds.

        busy: called for every message of that type which comes before the answer, and gives it time anew.
        """
        self.start()
        assert self.process is not None
        try:
            self.process.send(message)
            found = self.process.answer(self.limits, doing)
            while busy is not None and found == {"type": "busy"}:
                busy()
                found = self.process.answer(self.limits, doing)
            return _checked(found, answer, doing)
        except BaseException as error:
            if self.goes_on and answer == "ready" and isinstance(error, (UsageError, UnsupportedModel)):
                self.current = None
            else:
                self.close()
            raise

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.end()
        self.process = self.current = None


_HOME = Path(__file__).resolve().parents[2]


def serving(
    factory: str,
    limits: Limits,
    folder: Path | None = None,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    module: str = "parity.serve",
) -> Command:
    """The command that has Python serve the factory so named (see `parity.serve`), in a folder."""
    # -P: the harness is the same, whatever lies in the folder; -B: it leaves nothing there.
    argv = [sys.executable, "-P", "-B", "-m", module, factory, *arguments]
    installed = _HOME.name in ("site-packages", "dist-packages")
    return Command(argv, limits, folder, environment, [] if installed else [str(_HOME)], factory, goes_on=True)


class CommandSubject(Subject):
    """One model in the process of a Command. Each method raises SubjectError where the process fails."""

    def __init__(self, factory: Command, config: Config, hyper: Hyper, options: dict[str, str | None]) -> None:
        self.command = factory
        self.greeting = {
            "type": "hello",
            "protocol": PROTOCOL,
            "config": asdict(config),
            "hyper": asdict(hyper),
            "options": {name: option for name, option in options.items() if option is not None},
        }
        self.number, self.seconds = 0, 0.0
        ready = self._greet()
        self.dtype = str(ready.get("dtype", "float64"))
        self.sizes = ready.get("sizes")
        self.not_exercised: Any = ready.get("not_exercised") or ()
        self.warnings: Any = ready.get("warnings") or ()
        self.storage = str(ready.get("storage", self.dtype))
        self.forward_only = ready.get("forward_only") is True
        self.without_update = ready.get("without_update") is True
        self.tied_head = ready.get("tied_head") is True
        methods = ready.get("methods", [])
        self.methods = [str(method) for method in methods] if isinstance(methods, list) else []
        if ready.get("sites") is True:
            self.expose_sites = False

    def _greet(self) -> dict[str, Any]:
        ready = self.command.ask(self.greeting, "ready", "the greeting")
        if ready.get("protocol") != PROTOCOL:
            raise SubjectError(f"The subject speaks the protocol {ready.get('protocol')!r}, not {PROTOCOL!r}.")
        self.command.current = self
        return {name: value for name, value in ready.items() if not is_null(value)}

    def _ask(self, message: dict[str, Any], answer: str, doing: str) -> dict[str, Any]:
        if self.command.current is not self:
            self._greet()
        return self.command.ask(message, answer, doing)

    @override
    def load(self, state: State) -> None:
        """Send weights, m, v and step number."""
        self._ask({"type": "load", **vars(state)}, "loaded", f"load before step {state.step}")
        self.number = state.step

    @override
    def train_step(self, batch: list[list[int]]) -> Step:
        """Send the documents, and take the step."""
        sites = getattr(self, "expose_sites", False)
        message = {"type": "train_step", "batch": batch, "sites": sites}
        start = time.perf_counter()
        answer = self._ask(message, "step", f"step {self.number}")
        elapsed = time.perf_counter() - start
        left_out = answer.pop("not_exercised", None)
        if left_out is not None and not is_null(left_out):
            self.not_exercised = left_out
        own = answer.pop("seconds", None)
        self.seconds = float(own) if isinstance(own, (int, float)) and 0 < own < elapsed else elapsed
        step = step_of(answer)
        self.number += 1
        return step

    def decode(self, tokens: list[int]) -> Any:
        """The logits of these tokens, computed one at a time."""
        return self._ask({"type": "decode", "tokens": tokens}, "logits", "decode").get("logits")

    def sample(self, temperature: float, count: int, seed: int) -> Any:
        """Documents drawn from the loaded weights."""
        message = {"type": "sample", "temperature": temperature, "count": count, "seed": seed}
        return self._ask(message, "samples", "sample").get("documents")


def _checked(message: Any, answer: str, doing: str) -> dict[str, Any]:
    kind = message.get("type") if isinstance(message, dict) else None
    if kind == "error":
        text = " ".join(str(message.get("message")).split())
        if message.get("usage") is True:
            raise UsageError(text)
        text = text if text.startswith("The subject") else f"The subject says in {doing}: {text}"
        # Only a greeting asks for a model: an answer to anything else cannot refuse one.
        raise (UnsupportedModel if answer == "ready" and message.get("unsupported") is True else SubjectError)(text)
    if kind != answer:
        raise SubjectError(f"The subject answered with {excerpt(message)} in {doing}, where type {answer!r} was due.")
    return message  # type: ignore[no-any-return]
