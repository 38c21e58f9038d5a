"""Where a rank stands that does not answer: read from the stack that it writes when it is sent a signal."""

import os
import re
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.*)')
_WORKER = Path(__file__).with_name("worker.py")
_LIBRARIES = {"site-packages", "dist-packages", Path(os.__file__).parent.name}
_PARITY = Path(__file__).parents[1]


@dataclass
class Place:
    """Where a rank stands: the line of the training's own, and the function of torch that it has called, if any."""

    line: str = ""
    within: str = ""

    @property
    def waits(self) -> bool:
        """Whether it is in torch's hands, which may be a wait for the others."""
        return bool(self.within)

    def __str__(self) -> str:
        parts = [f"in torch's {self.within}" if self.within else "", f"at {self.line}" if self.line else ""]
        return ", ".join(filter(None, parts)) or "still starting"


def places(folder: Path, processes: Mapping[int, int]) -> dict[int, Place]:
    """By rank, where its process, of this number, stands now."""
    if not hasattr(signal, "SIGUSR1"):
        return {rank: Place() for rank in processes}
    for rank, process in processes.items():
        if (folder / f"stack{rank}").exists():  # until then it is starting, and the signal would end it
            with suppress(OSError):
                os.kill(process, signal.SIGUSR1)
    time.sleep(0.3)
    return {rank: _place(folder / f"stack{rank}") for rank in processes}


def _place(file: Path) -> Place:
    with suppress(OSError):
        for thread in file.read_text(encoding="utf-8", errors="replace").split("\n\n"):
            frames = [match.groups() for line in thread.split("\n") if (match := _FRAME.match(line))]
            if any(Path(name) == _WORKER and function == "main" for name, _, function in frames):
                return _of_frames(frames)
    return Place()


def _of_frames(frames: list[tuple[str, ...]]) -> Place:
    """frames: file, line and function, the innermost first."""
    found = Place()
    for name, number, function in frames:
        path = Path(name)
        if "torch" in path.parts and not found.within:
            found.within = function
        if not (_LIBRARIES & set(path.parts) or path.is_relative_to(_PARITY) or name.startswith("<")):
            found.line = f"{path.name}, line {number} ({function})"
            break
    return found
