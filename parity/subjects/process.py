"""A command that runs and answers line by line, within limits of time and memory."""

import math
import os
import queue
import shlex
import signal
import subprocess
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from parity.errors import SubjectError, UsageError
from parity.options import MOST_SECONDS
from parity.subjects.messages import decoded, encoded

_LONGEST_LINE = 1 << 28
"""Bytes; a subject that writes more without a line's end writes no messages."""
_TICK = 0.1
"""Seconds between two looks at the memory of a subject that is busy, and for the children of one that answers faster.

To find them, every process of the machine is looked at, which takes longer than many an answer.
"""


@dataclass(frozen=True)
class Limits:
    """What a subject's process may use: seconds for each answer, bytes of memory for it and its children.

    UsageError for seconds that no clock counts, or no memory at all.
    """

    seconds: float = 300.0
    memory: int = 8 << 30

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= MOST_SECONDS:
            raise UsageError(f"The limit of time must be up to {MOST_SECONDS:,} seconds, not {self.seconds!r}.")
        if not self.memory > 0:
            raise UsageError(f"The limit of memory must be some bytes, not {self.memory!r}.")


def excerpt(value: Any) -> str:
    """The beginning of a message, for an error that quotes it."""
    text = " ".join((value.decode(errors="replace") if isinstance(value, bytes) else repr(value)).split())
    return text if len(text) <= 80 else f"{text[:80]}…"


class Process:
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
        self.children: list[psutil.Process] = []
        self.looked = -math.inf  # when its children were
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
            while line := stream.readline(_LONGEST_LINE):
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
        """Write a message, without waiting until it is read."""
        self.outbox.put(encoded(message))

    def answer(self, limits: Limits, doing: str) -> Any:
        """The next message. SubjectError where none comes in time, the process ends, or it is no JSON."""
        deadline = time.monotonic() + limits.seconds
        while True:
            wait = min(_TICK, deadline - time.monotonic())
            try:
                line = self.lines.get(timeout=max(0.0, wait))
                break
            except queue.Empty:
                self._require_memory(limits, doing)
                if wait <= 0:
                    raise self._failed(f"The subject did not answer within {limits.seconds:g} s in {doing}") from None
        self._require_memory(limits, doing)
        if not line:
            raise self._failed(f"The subject {self._fate()} in {doing}")
        if not line.endswith(b"\n"):
            if len(line) == _LONGEST_LINE:
                raise SubjectError(
                    f"The subject wrote {len(line):,} bytes without the end of a line in {doing}: {excerpt(line)}."
                )
            raise self._failed(f"The subject {self._fate()} in the middle of a line in {doing}")
        try:
            return decoded(line)
        except (ValueError, RecursionError):
            raise SubjectError(
                f"The subject wrote something other than a line of JSON in {doing}: {excerpt(line)} (standard output "
                "is for answers; anything else belongs on standard error)."
            ) from None

    def _require_memory(self, limits: Limits, doing: str) -> None:
        used = 0
        with suppress(psutil.Error):
            process = psutil.Process(self.popen.pid)
            if time.monotonic() - self.looked >= _TICK:
                self.children, self.looked = process.children(recursive=True), time.monotonic()
            for member in (process, *self.children):
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

    def _failed(self, what: str) -> SubjectError:
        """The error for what became of it, with the line that says most of what it wrote last, and all of these."""
        time.sleep(0.02)  # what it wrote last may still be on its way
        lines = [text for line in self.last_words if (text := line.decode(errors="replace").rstrip())]
        errors = [line for line in lines if "error" in line.lower()]  # Node's last line is its version
        said = f"; its last words: {excerpt((errors or lines)[-1].encode())}" if lines else ""
        error = SubjectError(f"{what}{said}.")
        error.last_words = tuple(lines)
        return error

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
