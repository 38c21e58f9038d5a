"""The benchmarks run, which says nothing of how fast; the same ones in larger sizes are left to whoever measures."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

SMALL = "not (16 or 32 or 64 or first_use)"
"""Of the sizes of test_oracle.py only n_embd 8, and no compiling of all kernels anew."""


def test_benchmarks_run():
    command = [sys.executable, "-m", "pytest", "benchmarks", "--benchmark-disable", "-q", "-k", SMALL]
    done = subprocess.run([*command, "-p", "no:cacheprovider"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
