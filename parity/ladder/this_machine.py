"""This machine: what the figures depend on, and which rungs cannot run on it."""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import parity
from parity.ladder.rungs import Rung


def missing(rung: Rung) -> str:
    """What the rung cannot do without and this machine lacks, in a sentence; nothing if it can run."""
    if rung.cuda and not _has_cuda():
        return "There is no CUDA device here."
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")  # as torch looks for it
    if rung.compiled and shutil.which(compiler) is None:
        return f"There is no C++ compiler here; torch.compile looks for {compiler}, or what CXX names."
    if rung.compiled and not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "Python.h is not here, which torch.compile needs; Linux distributions have it in python3-dev."
    return ""


@cache
def _has_cuda() -> bool:
    # Asked in another process: this one has no need of torch.
    question = "import torch; print(torch.cuda.is_available())"
    done = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True, check=False)
    return done.stdout.strip() == "True"


def machine() -> dict[str, Any]:
    """What the figures depend on, and nothing that names the machine."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), cpu)
    except OSError:
        pass
    return {
        "parity": parity.__version__,
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "torch": version("torch"),
    }
