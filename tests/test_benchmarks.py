"""The benchmarks run, which says nothing of how fast; the same ones in larger sizes are left to whoever measures."""

import json
import re
import subprocess
import sys
from pathlib import Path

from parity.ladder import RUNGS

ROOT = Path(__file__).parents[1]

SIZES = ("16", "32", "64", "128", "256", "4096", "4]", "8]")
LARGE = (*SIZES, "first_use", "extrapolation", "thousand_steps", "free-running")
ALIKE = [rung.name for rung in RUNGS if rung.name not in ("twin", "batched_step") and not rung.single]
ALIKE += ["numpy_port", "batch_size", "small_cases and twin", "small_cases and record", "time_goes and played"]
ALIKE += ["by_size and 2]", "shape0", "shape1", "shape3"]
"""What takes long, and what is measured like the others."""


def test_benchmarks_run():
    command = [sys.executable, "-m", "pytest", "benchmarks", "--benchmark-disable", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-k", f"not ({' or '.join(f'({words})' for words in (*LARGE, *ALIKE))})"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_claims_are_judged_by_what_the_ladder_found(tmp_path):
    rungs = [
        {"rung": "twin", "verdict": "PARITY", "largest_z": 2.0, "dtype": "float64"},
        {"rung": "positions", "verdict": "IDENTICAL", "largest_z": 0.0, "dtype": "float64"},
        {"rung": "padded", "verdict": "DIVERGED", "largest_z": "inf", "dtype": "float64"},
        {"rung": "decoding", "verdict": "ERROR", "largest_z": None, "dtype": ""},
        {"rung": "cuda", "verdict": "skipped", "largest_z": None, "dtype": "float32"},
    ]
    (tmp_path / "ladder.json").write_text(json.dumps({"rungs": rungs}), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "benchmarks.claims",
        "--ladder",
        str(tmp_path / "ladder.json"),
        "--timed-steps",
        "2",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = dict(re.findall(r"^\| (.*) \| .* \| (.*) \|$", done.stdout, flags=re.MULTILINE))
    assert rows["4,192 parameters"] == rows["a vocabulary of 27"] == "yes"
    assert rows["the identical algorithm with tensors"] == "yes"
    assert rows["the identical algorithm with batching"] == "no"
    assert rows["the identical algorithm with a key/value cache"] == "no"
    assert rows["the identical algorithm with GPUs"] == "not measured"
    assert done.stdout.splitlines()[-1].startswith(f"Of {len(rows) - 2} statements ")
