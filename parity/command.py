"""Subjects in a process of their own, which speaks the protocol of `parity.protocol`, within limits."""

import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from parity.errors import SubjectError, UsageError
from parity.protocol import PROTOCOL, decoded, encoded, step_of
from reference.config import Config, Hyper, State, Step

LONGEST_LINE = 1 << 28
"""Bytes; a subject that writes more without a line's end writes no messages."""
TICK = 0.1
"""Seconds between two looks at the memory of a subject that is busy."""


@dataclass(frozen=True)
class Limits:
    """What a subject's process may use: seconds for each answer, bytes of memory for it and its children."""

    seconds: float = 300.0
    memory: int = 8 << 30


class Command:
    """A factory of subjects out of one process, started when it is first needed, and again after it has failed.

    argv: the command, run in a folder (None: the current one), with an environment (None: this one) and more on its
    PYTHONPATH. Only the subject made last has its model in the process; another one that is loaded sends its greeting
    again.
    """

    def __init__(
        self,
        argv: Sequence[str],
        limits: Limits | None = None,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        python_path: Sequence[str] = (),
    ) -> None:
        self.argv, self.limits, self.folder = list(argv), limits or Limits(), folder
        self.environment = dict(environment or os.environ)
        path = [*python_path, *filter(None, [self.environment.get("PYTHONPATH")])]
        if path:
            self.environment["PYTHONPATH"] = os.pathsep.join(path)
        self.process: _Process | None = None
        self.current: CommandSubject | None = None

    def __call__(
        self, config: Config, hyper: Hyper, *, dtype: str | None = None, device: str | None = None
    ) -> "CommandSubject":
        """A subject; SubjectError where the command does not answer the greeting, UsageError where it cannot start."""
        return CommandSubject(self, config, hyper, {"dtype": dtype, "device": device})

    def ask(self, message: dict[str, Any], answer: str, doing: str) -> dict[str, Any]:
        """The answer of the type given; SubjectError for anything else. What has failed is killed."""
        if self.process is None:
            self.process, self.current = _Process(self.argv, self.folder, self.environment), None
            self.end = weakref.finalize(self, self.process.end)  # at the latest as Python leaves
        try:
            self.process.send(message)
            return _checked(self.process.answer(self.limits, doing), answer, doing)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.end()
        self.process = self.current = None


HOME = Path(__file__).resolve().parents[1]


def serving(
    factory: str,
    limits: Limits,
    folder: Path | None = None,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Command:
    """The command that has Python serve the factory so named (see `parity.serve`), in a folder."""
    # -P: the harness is the same, whatever lies in the folder; -B: it leaves nothing there.
    argv = [sys.executable, "-P", "-B", "-m", "parity.serve", factory, *arguments]
    installed = HOME.name in ("site-packages", "dist-packages")
    return Command(argv, limits, folder, environment, [] if installed else [str(HOME)])


class CommandSubject:
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
        self.forward_only = ready.get("forward_only") is True
        methods = ready.get("methods", [])
        self.methods = [str(method) for method in methods] if isinstance(methods, list) else []
        if ready.get("sites") is True:
            self.expose_sites = False

    def _greet(self) -> dict[str, Any]:
        ready = self.command.ask(self.greeting, "ready", "the greeting")
        if ready.get("protocol") != PROTOCOL:
            raise SubjectError(f"The subject speaks the protocol {ready.get('protocol')!r}, not {PROTOCOL!r}.")
        self.command.current = self
        return ready

    def _ask(self, message: dict[str, Any], answer: str, doing: str) -> dict[str, Any]:
        if self.command.current is not self:
            self._greet()
        return self.command.ask(message, answer, doing)

    def load(self, state: State) -> None:
        """Send weights, m, v and step number."""
        self._ask({"type": "load", **vars(state)}, "loaded", f"load before step {state.step}")
        self.number = state.step

    def train_step(self, batch: list[list[int]]) -> Step:
        """Send the documents, and take the step."""
        sites = getattr(self, "expose_sites", False)
        message = {"type": "train_step", "batch": batch, "sites": sites}
        start = time.perf_counter()
        answer = self._ask(message, "step", f"step {self.number}")
        elapsed = time.perf_counter() - start
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
        raise SubjectError(text if text.startswith("The subject") else f"The subject says in {doing}: {text}")
    if kind != answer:
        raise SubjectError(f"The subject answered with {_excerpt(message)} in {doing}, where type {answer!r} was due.")
    return message  # type: ignore[no-any-return]


def _excerpt(value: Any) -> str:
    text = " ".join((value.decode(errors="replace") if isinstance(value, bytes) else repr(value)).split())
    return text if len(text) <= 80 else f"{text[:80]}…"


class _Process:
    """A running command. Threads of its own read and write, so that nothing it does can block the harness."""

    def __init__(self, argv: list[str], folder: Path | None, environment: dict[str, str]) -> None:
        try:
            self.popen = subprocess.Popen(
                argv,
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # a Ctrl-C is the harness's, which then ends the subject
            )
        except (OSError, ValueError) as error:
            cause = error.strerror if isinstance(error, OSError) else str(error)
            raise UsageError(f"The command {shlex.join(argv)} cannot be started: {cause}.") from None
        self.lines: queue.Queue[bytes] = queue.Queue(maxsize=8)
        self.outbox: queue.Queue[bytes | None] = queue.Queue()
        self.last_words: deque[bytes] = deque(maxlen=20)
        self.peak = 0
        self.ended = False
        assert self.popen.stdin
        assert self.popen.stdout
        assert self.popen.stderr
        for target, stream in (
            (self._read, self.popen.stdout),
            (self._write, self.popen.stdin),
            (self._listen, self.popen.stderr),
        ):
            threading.Thread(target=target, args=(stream,), daemon=True).start()

    def _read(self, stream: IO[bytes]) -> None:
        with stream, suppress(OSError, ValueError):
            while line := stream.readline(LONGEST_LINE):
                self._put(line)
        self._put(b"")

    def _put(self, line: bytes) -> None:
        while not self.ended:  # nobody takes lines any more once it is
            with suppress(queue.Full):
                self.lines.put(line, timeout=1.0)
                return

    def _write(self, stream: IO[bytes]) -> None:
        with suppress(OSError, ValueError), stream:
            while (line := self.outbox.get()) is not None:
                stream.write(line)
                stream.flush()

    def _listen(self, stream: IO[bytes]) -> None:
        with stream, suppress(OSError, ValueError):
            while line := stream.readline(10_000):
                self.last_words.append(line)

    def send(self, message: dict[str, Any]) -> None:
        self.outbox.put(encoded(message))

    def answer(self, limits: Limits, doing: str) -> Any:
        """The next message. SubjectError where none comes in time, the process ends, or it is no JSON."""
        deadline = time.monotonic() + limits.seconds
        while True:
            wait = min(TICK, deadline - time.monotonic())
            try:
                line = self.lines.get(timeout=max(0.0, wait))
                break
            except queue.Empty:
                self._require_memory(limits, doing)
                if wait <= 0:
                    raise SubjectError(
                        f"The subject did not answer within {limits.seconds:g} s in {doing}{self._said()}."
                    ) from None
        self._require_memory(limits, doing)
        if not line:
            raise SubjectError(f"The subject {self._fate()} in {doing}{self._said()}.")
        if not line.endswith(b"\n"):
            raise SubjectError(
                f"The subject wrote {len(line):,} bytes without the end of a line in {doing}: {_excerpt(line)}."
                if len(line) == LONGEST_LINE
                else f"The subject {self._fate()} in the middle of a line in {doing}{self._said()}."
            )
        try:
            return decoded(line)
        except (ValueError, RecursionError):
            raise SubjectError(
                f"The subject wrote something other than a line of JSON in {doing}: {_excerpt(line)} (standard output "
                "is for answers; anything else belongs on standard error)."
            ) from None

    def _require_memory(self, limits: Limits, doing: str) -> None:
        used = 0
        with suppress(psutil.Error):
            process = psutil.Process(self.popen.pid)
            for member in (process, *process.children(recursive=True)):
                with suppress(psutil.Error):
                    used += member.memory_info().rss
        before, self.peak = self.peak, max(self.peak, used)
        if used > limits.memory:
            raise SubjectError(
                f"The subject used {used / 2**30:.2g} GiB of memory in {doing}, more than the limit of "
                f"{limits.memory / 2**30:.2g} GiB ({before / 2**30:.2g} GiB before)."
            )

    def _fate(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self.popen.wait(timeout=2)
        code = self.popen.returncode
        if code is None:
            return "closed its output"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name if -code in set(signal.Signals) else f'signal {-code}'}"
        return f"left with exit status {code}"

    def _said(self) -> str:
        time.sleep(0.02)  # what it wrote last may still be on its way
        lines = [text for line in self.last_words if (text := line.decode(errors="replace").strip())]
        errors = [line for line in lines if "error" in line.lower()]  # Node's last line is its version
        return f"; its last words: {_excerpt((errors or lines)[-1].encode())}" if lines else ""

    def end(self) -> None:
        """Kill it and all that it started, unless it leaves by itself as its input ends."""
        self.ended = True
        self.outbox.put(None)
        children: list[psutil.Process] = []
        with suppress(psutil.Error):
            children = psutil.Process(self.popen.pid).children(recursive=True)
        with suppress(subprocess.TimeoutExpired):
            self.popen.wait(timeout=0.5)
        with suppress(OSError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        for child in children:
            with suppress(psutil.Error):
                child.kill()
        self.popen.wait()
