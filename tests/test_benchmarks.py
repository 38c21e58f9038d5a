"""The benchmarks run, which says nothing of how fast; the same ones in larger sizes are left to whoever measures."""

import os
import subprocess
import sys
from pathlib import Path

from parity.ladder import RUNGS

ROOT = Path(__file__).parents[1]

LARGE = ("16", "32", "64", "128", "256", "4096", "first_use", "extrapolation", "thousand_steps")
ALIKE = [rung.name for rung in RUNGS if rung.name not in ("twin", "positions", "batched_step")]


def test_benchmarks_run():
    command = [sys.executable, "-m", "pytest", "benchmarks", "--benchmark-disable", "-q", "-p", "no:cacheprovider"]
    environment = {**os.environ, "TORCH_COMPILE_DISABLE": "1"}
    done = subprocess.run(
        [*command, "-k", f"not ({' or '.join((*LARGE, *ALIKE))})"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
