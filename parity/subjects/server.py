"""A Python subject behind the protocol, as `--isolate` runs it: `python -m parity.serve path/to/file.py:make`."""

import os
import sys
import time
from pathlib import Path
from typing import IO, Any, Protocol

from parity.answers import as_array
from parity.errors import SubjectError, UnsupportedModel, UsageError
from parity.subjects.attributes import attribute, has_sites, left_out, show_sites, tied_head, warnings, without_update
from parity.subjects.calls import guarded, wait
from parity.subjects.messages import PROTOCOL, decoded, encoded, step_message
from parity.subjects.own_files import OwnFiles, loaded_files
from parity.subjects.subject import make_subject, subject_dtype, subject_format, subject_storage, train_step
from reference.config import Config, Hyper, State

_METHODS = ("decode", "sample")
"""What a subject may have beyond load and train_step."""


class Server:
    """The subjects of one factory, message by message."""

    def __init__(self, factory: str, moved: tuple[Path, Path] | None = None) -> None:
        self.factory = factory
        self.own_files = OwnFiles(*moved) if moved else None
        self.subject: Any = None
        self.number = 0

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """The answer to one message of the harness."""
        kind = message.pop("type")
        return getattr(self, f"on_{kind}")(**message)  # type: ignore[no-any-return]

    def on_hello(
        self, protocol: str, config: dict[str, Any], hyper: dict[str, Any], options: dict[str, str]
    ) -> dict[str, Any]:
        """Make the subject."""
        if protocol != PROTOCOL:
            raise UsageError(f"This is a server for the protocol {PROTOCOL!r}, not {protocol!r}.")
        self.made_for = Config(**config), Hyper(**hyper)
        self.subject = make_subject(self.factory, self.made_for[0], self.made_for[1], **options)
        self.require_files_of_its_own()
        return {
            "type": "ready",
            "protocol": PROTOCOL,
            "dtype": subject_dtype(self.subject),
            "storage": (subject_storage(self.subject) or subject_format(self.subject)).name,
            "sizes": sizes if isinstance(sizes := attribute(self.subject, "sizes"), str) else None,
            "sites": has_sites(self.subject),
            "forward_only": attribute(self.subject, "forward_only", False) is True,
            "without_update": bool(without_update(self.subject)),
            "tied_head": tied_head(self.subject),
            "not_exercised": left_out(self.subject),
            "warnings": warnings(self.subject),
            "methods": [name for name in _METHODS if callable(attribute(self.subject, name))],
        }

    def on_load(self, **state: Any) -> dict[str, Any]:
        """Hand on the state."""
        self.number = state["step"]
        guarded(f"load before step {self.number}", self.subject.load, State(**state))
        return {"type": "loaded"}

    def on_train_step(self, batch: list[list[int]], sites: bool) -> dict[str, Any]:
        """One step; the input must come out of it as it went in."""
        show_sites(self.subject, sites)
        start = time.perf_counter()
        step = train_step(self.subject, batch, f"step {self.number}")
        wait()
        seconds = time.perf_counter() - start
        self.number += 1
        self.require_files_of_its_own()
        # What some subjects leave unexercised they know only after a step.
        return {**step_message(step), "seconds": seconds, "not_exercised": left_out(self.subject)}

    def on_decode(self, tokens: list[int]) -> dict[str, Any]:
        """The logits of single steps."""
        logits = guarded("decode", self.subject.decode, tokens)
        return {"type": "logits", "logits": as_array(logits, "The subject's logits of decode").tolist()}

    def on_sample(self, **options: Any) -> dict[str, Any]:
        """Documents."""

        def sample() -> list[list[int]]:
            return [[int(token) for token in document] for document in self.subject.sample(**options)]

        return {"type": "samples", "documents": guarded("sample", sample)}

    def on_time(self, state: dict[str, Any], documents: list[list[int]], **options: Any) -> dict[str, Any]:
        """Speed and memory; the ladder asks for them."""
        from parity.subjects.timing import timed

        config, hyper = self.made_for
        timing = guarded("timing", timed, self.subject, config, hyper, State(**state), documents, **options)
        return {"type": "time", "timing": timing.to_dict()}

    def on_files(self) -> dict[str, Any]:
        """The files of all modules but the harness's own; the gate asks for them."""
        return {"type": "files", "files": loaded_files()}

    def require_files_of_its_own(self) -> None:
        """UsageError where a gate's subject has loaded a file of the repository from another place than its own."""
        if self.own_files:
            self.own_files.require()


class Answering(Protocol):
    """What answers messages."""

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """The answer to one message of the harness."""


def serve(server: Answering, lines: IO[bytes], answers: IO[bytes]) -> None:
    """Answer line by line until there are no more."""
    for line in lines:
        try:
            answer = encoded(server.answer(decoded(line)))
        except (SubjectError, UsageError) as error:
            kinds = {"usage": isinstance(error, UsageError), "unsupported": isinstance(error, UnsupportedModel)}
            answer = encoded({"type": "error", "message": str(error), **kinds})
        answers.write(answer)
        answers.flush()


def main() -> None:
    """Serve on standard input and output, which the subject itself must not write to."""
    private = private_output()
    factory, *moved = sys.argv[1:]
    root, folder = (Path(path).resolve() for path in moved) if moved else (None, None)
    server = Server(factory, (root, folder) if root and folder else None)
    if server.own_files:
        server.own_files.move_search_path()
    serve(server, sys.stdin.buffer, private)


def private_output() -> IO[bytes]:
    """Standard output, for answers alone; what else is written there goes to standard error from now on."""
    private = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return private
