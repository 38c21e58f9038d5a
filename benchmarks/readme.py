"""What the results of the ladder and of the calibration print, put into the README between its marks.

    python -m benchmarks.readme [FILE]

FILE: another one than the project's own. A part begins with the line <!-- NAME --> and ends with <!-- end -->.
"""

import json
import re
import sys
from pathlib import Path

from parity.files import write_whole

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def parts() -> dict[str, str]:
    """Each part by name, as Markdown."""
    table: list[str] = json.loads((RESULTS / "calibration.json").read_text(encoding="utf-8"))["table"]
    return {
        "ladder": (RESULTS / "ladder.md").read_text(encoding="utf-8").strip(),
        "calibration": "\n".join(table[: table.index("")]),  # beyond the blank line: tolerances set by hand
    }


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
