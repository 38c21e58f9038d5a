"""What results print, put into the README and into the page of `parity help evidence` between their marks.

    python -m benchmarks.readme [FOLDER]

FOLDER: another one than the project's own, with these files in their places. A part begins with the line <!-- NAME -->
and ends with <!-- end -->.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.ports.__main__ import markdown
from parity.cli.campaign_table import campaign_markdown
from parity.files import write_whole

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
_LEFT_OUT = ("batch", "× below", "MiB")
"""Columns of the ladder that a front page has no room for: the rung below a row is not always shown, either."""


def ladder() -> str:
    """The rungs of the whole table that are faster than all above them, in its most telling columns."""
    rungs = json.loads((RESULTS / "ladder.json").read_text(encoding="utf-8"))["rungs"]
    head, line, *rows = _cells((RESULTS / "ladder.md").read_text("utf-8"))
    kept = [number for number, column in enumerate(head) if column not in _LEFT_OUT]
    shown = [head, line, *(rows[number] for number in fastest_so_far(rungs))]
    return _table([row[number] for number in kept] for row in shown)


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


def ports() -> str:
    """Public ports: those in parity in a sentence, and of each other one its verdict and what deviates in it."""
    stored = json.loads((RESULTS / "ports.json").read_text(encoding="utf-8"))["ports"]
    head, _, *rows = _cells(markdown(stored))
    verdict, deviates = (head.index(column) for column in ("verdict", "what deviates"))
    named = [(f"{row[0]} ({row[1].replace('Python, ', '')})", row[verdict], row[deviates]) for row in rows]
    right = [name for name, said, _ in named if said.startswith(("PARITY", "IDENTICAL"))]
    others = [row for row in named if row[0] not in right]
    table = [("port", "verdict", "what deviates"), ("---", "---", "---"), *others]
    return f"In parity: {', '.join(right)}.\n\n{_table(table)}"


def claims() -> str:
    """What is said of microGPT, and what was measured."""
    return (RESULTS / "claims.md").read_text(encoding="utf-8").strip()


def calibration() -> str:
    """False alarms and planted faults, by number format."""
    return "\n".join(_calibrated()[0])


def campaign() -> str:
    """False alarms in very many drawn cases, by number format."""
    stored = json.loads((RESULTS / "campaign_calibration.json").read_text(encoding="utf-8"))["campaigns"]
    table = next(campaign_markdown(data) for data in stored if data["kind"] == "calibrate" and not data["guided"])
    lines = table.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("| "))
    return "\n".join(lines[first : lines.index("", first)])


def tolerances() -> str:
    """The same of tolerances that were set by hand."""
    return "\n".join(_calibrated()[1])


FILES: dict[str, tuple[Callable[[], str], ...]] = {
    "README.md": (ladder, ports),
    "parity/cli/help/evidence.md": (claims, calibration, campaign, tolerances),
}
"""Which parts each file has; a part is named as its function is."""


def _calibrated() -> tuple[list[str], list[str]]:
    """Both tables of the calibration."""
    table: list[str] = json.loads((RESULTS / "calibration.json").read_text(encoding="utf-8"))["table"]
    blank = table.index("")
    return table[:blank], table[blank + 1 :]


def _cells(table: str) -> list[list[str]]:
    """The rows of a Markdown table, heading and line among them."""
    return [row[2:-2].split(" | ") for row in table.splitlines()]


def _table(rows: Any) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def filled(name: str, text: str) -> str:
    """One of the files with its parts as the results have them; SystemExit where it lacks the marks of one."""
    for part in FILES[name]:
        marked = re.compile(rf"(<!-- {part.__name__} -->\n).*?(?:\n)?(<!-- end -->)", re.DOTALL)
        if not marked.search(text):
            raise SystemExit(f"{name} has no part <!-- {part.__name__} -->.")
        text = marked.sub(lambda found, part=part: f"{found[1]}{part()}\n{found[2]}", text)  # type: ignore[misc]
    return text


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    texts = {name: filled(name, (folder / name).read_text(encoding="utf-8")) for name in FILES}
    for name, text in texts.items():
        write_whole(folder / name, text)


if __name__ == "__main__":
    main()
