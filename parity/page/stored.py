"""Stored results: the files of a folder that a page of evidence is made of, each if it is there."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from parity.errors import UsageError

COMMANDS = {
    "twin": "parity report --run twin --names names.txt --results DIR",
    "ladder": "parity ladder --names names.txt --json FILE",
    "ports": "python -m benchmarks.ports CHECKOUTS",
    "calibration": "python -m benchmarks.calibrate",
    "campaign_calibration": "parity campaign show LEDGER --json FILE",
    "probes": "python -m benchmarks.probes --json FILE",
    "mutants": "parity mutants --json FILE",
    "calibration_evidence": "python -m benchmarks.calibrate_evidence --json FILE",
    "scores": "python -m benchmarks.scores --json FILE",
    "scaling": "pytest benchmarks/test_scaling.py --benchmark-only",
    "claims": "python -m benchmarks.claims --names names.txt --ladder ladder.json --json FILE",
}
"""By the name of a file, without its ending, what writes it."""

Part = TypeVar("Part")


@dataclass(frozen=True)
class Stored:
    """What is there, by name."""

    folder: Path
    results: dict[str, Any]

    def part(self, name: str, view: Callable[[Any], Part]) -> Part | None:
        """The view of a file's result; None where it is not there, UsageError where the file holds something else."""
        if name not in self.results:
            return None
        try:
            return view(self.results[name])
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
            raise UsageError(
                f"{self.folder / name}.json does not hold what a page shows of it; write it anew: {COMMANDS[name]}"
            ) from None


def read(folder: Path | None) -> Stored:
    """The results of a folder; None: those of the repository that this was started in, or that it is run from.

    UsageError where there are none, or one is no JSON.
    """
    folders = [folder] if folder else [Path("benchmarks/results"), Path(__file__).parents[2] / "benchmarks" / "results"]
    if folder and not folder.is_dir():
        raise UsageError(f"There is no folder {folder}; --results names that of ladder.json and others like it.")
    for place in folders:
        results = {name: _loaded(place / f"{name}.json") for name in COMMANDS if (place / f"{name}.json").is_file()}
        if results:
            return Stored(place, results)
    where = f"in {folder}" if folder else "here; --results names a folder of them"
    raise UsageError(f"There are no results {where}: none of {', '.join(f'{name}.json' for name in COMMANDS)}.")


def _loaded(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise UsageError(f"{file} cannot be read: {reason}.") from None
