"""A Python subject behind the protocol, as `--isolate` runs it: `python -m parity.serve path/to/file.py:make`."""

import os
import sys
from typing import IO, Any

from parity.compare import as_array
from parity.errors import SubjectError, UsageError
from parity.protocol import PROTOCOL, decoded, encoded, step_message
from parity.subjects import guarded, make_subject, subject_dtype, train_step
from reference.config import Config, Hyper, State

METHODS = ("decode", "sample")
"""What a subject may have beyond load and train_step."""


class Server:
    """The subjects of one factory, message by message."""

    def __init__(self, factory: str) -> None:
        self.factory = factory
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
        self.subject = make_subject(self.factory, Config(**config), Hyper(**hyper), **options)
        return {
            "type": "ready",
            "protocol": PROTOCOL,
            "dtype": subject_dtype(self.subject),
            "sites": hasattr(self.subject, "expose_sites"),
            "forward_only": getattr(self.subject, "forward_only", False) is True,
            "methods": [name for name in METHODS if callable(getattr(self.subject, name, None))],
        }

    def on_load(self, **state: Any) -> dict[str, Any]:
        """Hand on the state."""
        self.number = state["step"]
        guarded(f"load before step {self.number}", self.subject.load, State(**state))
        return {"type": "loaded"}

    def on_train_step(self, batch: list[list[int]], sites: bool) -> dict[str, Any]:
        """One step; the input must come out of it as it went in."""
        if hasattr(self.subject, "expose_sites"):
            self.subject.expose_sites = sites
        step = train_step(self.subject, batch, f"step {self.number}")
        self.number += 1
        return step_message(step)

    def on_decode(self, tokens: list[int]) -> dict[str, Any]:
        """The logits of single steps."""
        logits = guarded("decode", self.subject.decode, tokens)
        return {"type": "logits", "logits": as_array(logits, "The subject's logits of decode").tolist()}

    def on_sample(self, **options: Any) -> dict[str, Any]:
        """Documents."""
        documents = guarded("sample", lambda: self.subject.sample(**options))
        return {"type": "samples", "documents": [[int(token) for token in document] for document in documents]}


def serve(factory: str, lines: IO[bytes], answers: IO[bytes]) -> None:
    """Answer line by line until there are no more."""
    server = Server(factory)
    for line in lines:
        try:
            answer = encoded(server.answer(decoded(line)))
        except (SubjectError, UsageError) as error:
            answer = encoded({"type": "error", "message": str(error), "usage": isinstance(error, UsageError)})
        answers.write(answer)
        answers.flush()


def main() -> None:
    """Serve on standard input and output, which the subject itself must not write to."""
    private = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.argv[1], sys.stdin.buffer, private)


if __name__ == "__main__":
    main()
