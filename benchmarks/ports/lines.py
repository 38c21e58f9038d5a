"""A port's own training loop as a subject: its process is told in lines of text what to do, and answers in lines.

To the port: `load STEP` and three lines of numbers (params, m, v: every tensor row by row, in the order of
Config.shapes()), `step TOKEN TOKEN ...`, and `update TOKEN TOKEN ...` with a line of gradients that take the place of
its own. From it, in any order: `parity loss X`, `parity logits X ...` (once for each position), `parity grads X ...`,
`parity params X ...`, `parity m X ...`, `parity v X ...`, `parity seconds X`, and at the end `parity done`. What else a
port prints is passed over.
"""

import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from parity.errors import SubjectError
from reference.config import Config, State, Step

PATIENCE = 120.0
"""Seconds that an answer may take."""
_TELLING = ("error", "exception", "panicked")
"""Words of the line that says what went wrong."""
_STATE = ("params", "m", "v")


class Process:
    """A port that runs; SubjectError with what it wrote to standard error where it ends or hangs."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self.errors = (folder / "errors.txt").open("w+")
        self.process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )

    def send(self, *lines: str) -> None:
        """Write lines."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # why it ended is asked when it does not answer
            self.process.stdin.write("".join(f"{line}\n" for line in lines))
            self.process.stdin.flush()

    def answers(self) -> Iterator[list[str]]:
        """The words of each line meant for us, up to `done`."""
        assert self.process.stdout is not None
        timer = threading.Timer(PATIENCE, self.process.kill)
        timer.start()
        try:
            for line in self.process.stdout:
                word, *rest = line.split() or [""]
                if word == "parity":
                    if rest == ["done"]:
                        return
                    yield rest
        finally:
            timer.cancel()
        raise SubjectError(f"The port ended, or did not answer in {PATIENCE:g} seconds: {self._last_words()}")

    def _last_words(self) -> str:
        self.process.wait()
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors if line.strip()]
        telling = [n for n, line in enumerate(lines) if any(word in line.lower() for word in _TELLING)]
        if not lines:
            return f"it wrote nothing to standard error; its status is {self.process.returncode}"
        at = telling[0] if telling else len(lines) - 1
        return " ".join(lines[at : at + 1 + lines[at].endswith(":")])

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()
        self.errors.close()


class Lines:
    """A port in a process of its own.

    It trains on one document at a time. Of a batch each document is asked for in turn, from the same state; the mean of
    the gradients is the adapter's, and goes through the port's own update.
    """

    not_exercised = ("batches of several documents in the port's own code (its gradients are averaged by the adapter)",)

    def __init__(self, process: Process, config: Config, dtype: str = "float64") -> None:
        self.process, self.shapes, self.dtype = process, config.shapes(), dtype
        self.vocab_size, self.seconds = config.vocab_size, 0.0
        self.state = State({}, {}, {})

    def load(self, state: State) -> None:
        """Take these weights, m, v and step number, from the next step on."""
        self.state = state
        self._tell_state()

    def train_step(self, batch: list[list[int]]) -> Step:
        """Each document's loss, logits and gradients, their mean, and the update."""
        answers = []
        for number, tokens in enumerate(batch):
            if number:
                self._tell_state()
            self.process.send(f"step {_words(tokens)}")
            answers.append(self._answer())
        last = answers[-1]
        if len(batch) > 1:
            grads = [sum(each) / len(batch) for each in zip(*(answer.grads for answer in answers), strict=True)]
            self._tell_state()
            self.process.send(f"update {_words(batch[-1])}", _words(grads))
            last = self._answer()
            last.grads = grads
        loss = sum(answer.loss for answer in answers) / len(batch)
        matrices = {name: self._matrices(getattr(last, name)) for name in ("grads", *_STATE)}
        self.state = State(*(matrices[name] for name in _STATE), self.state.step + 1)
        logits = [answer.logits for answer in answers] if last.logits else None
        return Step(loss=loss, logits=logits, **matrices)

    def _tell_state(self) -> None:
        kinds = (_words(self._flat(getattr(self.state, name))) for name in _STATE)
        self.process.send(f"load {self.state.step}", *kinds)

    def _answer(self) -> Step:
        found: dict[str, Any] = {"logits": []}
        for name, *words in self.process.answers():
            numbers = list(map(float, words))
            if name == "logits":
                found["logits"].append(numbers)
            else:
                found[name] = numbers[0] if name in ("loss", "seconds") else numbers
        self.seconds = found.pop("seconds")
        return Step(**found)

    def _flat(self, tensors: Mapping[str, Any]) -> Iterator[float]:
        return (x for name in self.shapes for row in tensors[name] for x in row)

    def _matrices(self, numbers: Iterable[float]) -> dict[str, list[list[float]]]:
        rest = iter(numbers)
        shapes = self.shapes.items()
        return {name: [[next(rest) for _ in range(columns)] for _ in range(rows)] for name, (rows, columns) in shapes}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.close()


def _words(numbers: Iterable[float]) -> str:
    return " ".join(map(repr, numbers))
