"""What the results of the ladder and of the calibration print, put into the README between its marks.

    python -m benchmarks.readme [FILE]

FILE: another one than the project's own. A part begins with the line <!-- NAME --> and ends with <!-- end -->.
"""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from parity.files import write_whole

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
_LEFT_OUT = ("batch", "× below", "MiB")
"""Columns of the ladder that a front page has no room for: the rung below a row is not always shown, either."""


def parts() -> dict[str, str]:
    """Each part by name, as Markdown."""
    table: list[str] = json.loads((RESULTS / "calibration.json").read_text(encoding="utf-8"))["table"]
    return {
        "ladder": ladder(),
        "calibration": "\n".join(table[: table.index("")]),  # beyond the blank line: tolerances set by hand
    }


def ladder() -> str:
    """The rungs of the whole table that are faster than all above them, in its most telling columns."""
    rungs = json.loads((RESULTS / "ladder.json").read_text(encoding="utf-8"))["rungs"]
    head, line, *rows = (row[2:-2].split(" | ") for row in (RESULTS / "ladder.md").read_text("utf-8").splitlines())
    kept = [number for number, column in enumerate(head) if column not in _LEFT_OUT]
    shown = [head, line, *(rows[number] for number in fastest_so_far(rungs))]
    return "\n".join(f"| {' | '.join(row[number] for number in kept)} |" for row in shown)


def fastest_so_far(rungs: Sequence[dict[str, Any]]) -> Iterator[int]:
    """Which rungs train in less time than every one above them, by the step or by the document of the best batch."""
    shortest = [float("inf")] * 2
    for number, rung in enumerate(rungs):
        timing = rung["timing"]
        if timing and not timing["forward_only"]:
            seconds = timing["step"], timing["batches"][str(timing["best"])]
            if any(now < before for now, before in zip(seconds, shortest)):
                yield number
            shortest = [min(pair) for pair in zip(seconds, shortest)]


def filled(text: str) -> str:
    """A README with its parts as the results have them; SystemExit where it lacks the marks of one."""
    for name, part in parts().items():
        marked = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        if not marked.search(text):
            raise SystemExit(f"The README has no part <!-- {name} -->.")
        text = marked.sub(lambda found, part=part: f"{found[1]}{part}{found[2]}", text)  # type: ignore[misc]
    return text


def main() -> None:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "README.md"
    write_whole(file, filled(file.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
