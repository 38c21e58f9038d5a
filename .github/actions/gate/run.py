"""What the action does, step by step: `python run.py plan`, `install` and `gate`.

The first two run before anything is installed, on the standard library alone. Inputs and outputs go through the
environment and files, as GitHub Actions has it.
"""

import contextlib
import hashlib
import io
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

HARNESS = Path(__file__).resolve().parents[3]
"""The repository that holds this action."""
TEMPORARY = Path(os.environ.get("RUNNER_TEMP", "."))
INCLUDED = re.compile(r"\s*(?:-[rc]|--requirement\b|--constraint\b)[\s=]*(\S+)")
"""A line of a file of requirements that names another one, relative to it."""
KINDS = ("py", "json", "html", "css", "md")
"""Of the harness's files, those that are installed."""
ENVIRONMENT, ORACLE = TEMPORARY / "parity-environment", TEMPORARY / "parity-oracle"


def plan() -> int:
    """Say where things go, and under which keys they are kept: of all that decides what they are."""
    machine = [platform.system(), platform.machine(), *platform.libc_ver(), sys.version, sys.executable]
    files = [*sources(), *all_requirements(), Path("pyproject.toml")]
    packages = hashed([*machine, week(), *settings(), *map(read, files)])
    # Machine code is that of one processor.
    oracle = hashed([packages, *processor()])
    keys = {"packages-key": f"parity-packages-{packages}", "oracle-key": f"parity-oracle-{oracle}"}
    tell(environment=str(ENVIRONMENT), oracle=str(ORACLE), python=str(python()), **keys)
    return 0


def install() -> int:
    """Install the harness and what the user asks for, in an environment of its own unless there is one."""
    if not has_own_python():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    gpu = has_gpu()
    if not gpu and sys.platform == "linux" and not os.environ.get("TORCH_CPU_INDEX") and not has_own_python():
        annotate(
            "notice", "There is no GPU here, and torch comes with CUDA: the input torch-cpu-index saves some 5 GB."
        )
    subprocess.run(install_command(gpu), check=True)
    # Numba knows machine code by its source's time, which is that of the installation.
    code = "import importlib.util as u; print(u.find_spec('parity').submodule_search_locations[0])"
    found = subprocess.run([python(), "-P", "-c", code], capture_output=True, text=True, check=True)
    for file in Path(found.stdout.strip()).rglob("*.py"):
        os.utime(file, (0, 0))
    return 0


def gate() -> int:
    """Compare what is checked out with the event's base, and hand on what was found."""
    from parity.cli import main
    from parity.errors import UsageError
    from parity.gate.event import base_of, named_base

    name, folder = os.environ.get("BASE", ""), Path.cwd()
    try:
        event = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))
        base = named_base(name, folder) if name else base_of(os.environ["GITHUB_EVENT_NAME"], event, folder)
        arguments = own_arguments()
    except (UsageError, ValueError) as error:
        annotate("error", str(error))
        return 2
    if base is None:
        annotate("notice", "This is the first commit: there is nothing to compare it with.")
        return 0
    print(f"Comparing with {base.commit}, {base.what}.", flush=True)
    result, summary, page = TEMPORARY / "parity.json", TEMPORARY / "parity.md", TEMPORARY / f"{page_name()}.html"
    for left in (result, summary, page):
        left.unlink(missing_ok=True)
    files = ["--json", str(result), "--markdown", str(summary), "--html", str(page)]
    # The user's options first: of one that is given twice, the last counts.
    status = run_gate(main, ["gate", *arguments, "--base", base.commit, *files, *subject()])
    if not result.is_file():
        if status == 0:  # as after --help
            annotate("error", "Nothing was compared: the input arguments is for options of a gate that runs.")
        return status or 2
    found = json.loads(result.read_text(encoding="utf-8"))
    ratio = f"{found['speed']['ratio']:.4g}" if found["speed"] else ""
    accepted = " ".join((found["accepted"] or {}).get("reason", "").split())
    outputs = {"verdict": found["verdict"], "accepted": accepted, "speed-ratio": ratio, "base": base.commit}
    tell(**outputs, json=str(result), markdown=str(summary), html=str(page))
    append("GITHUB_STEP_SUMMARY", summary.read_text(encoding="utf-8"))
    return status


def page_name() -> str:
    """The name of the page, which is that of its artifact: no other job's, nor that of another subject in this one."""
    return re.sub(r"[^\w.-]+", "-", f"{os.environ.get('PAGE', 'parity')}-{os.environ['SUBJECT']}").strip("-")[:80]


def run_gate(main: Callable[[list[str]], int], words: list[str]) -> int:
    """The command's exit status. Bad usage, which is a sentence, becomes an annotation, as a verdict does by itself."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            status = main(words)
    except SystemExit as leaving:  # of argparse
        status = int(leaving.code or 0)
    message = said.getvalue().strip()
    if status == 2:
        annotate("error", message)
    elif message:
        print(message, file=sys.stderr)
    return status


def own_arguments() -> list[str]:
    """The user's options; ValueError for those with which nothing would be checked."""
    given = shlex.split(os.environ.get("ARGUMENTS", ""))
    if "--" in given:
        raise ValueError('A command is given as the input subject, after "-- ", and not among the arguments.')
    if any(word.partition("=")[0] == "--accept" for word in given):
        raise ValueError("--accept is for the command line: in a workflow it would let every change pass.")
    return given


def subject() -> list[str]:
    """The words that name the subject on the command line."""
    given = os.environ["SUBJECT"]
    return ["--", *shlex.split(given[3:])] if given.startswith("-- ") else [given]


def install_command(gpu: bool) -> list[str]:
    """What pip is told, at once, so that nothing that is installed first is replaced later.

    Versions of torch for the CPU count as newer than those of the same number for CUDA, so that an index which has
    them besides is enough.
    """
    index = os.environ.get("TORCH_CPU_INDEX", "")
    cpu = ["--extra-index-url", index] if index and not gpu else []
    files = [word for file in requirements() for word in ("--requirement", str(file))]
    return [str(python()), "-m", "pip", "install", *cpu, str(HARNESS), *files]


def has_gpu() -> bool:
    """Whether NVIDIA's driver lists a GPU."""
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def has_own_python() -> bool:
    """Whether the user's own environment is used."""
    return os.environ.get("OWN_PYTHON") == "true"


def python() -> Path:
    """The interpreter that the harness is installed for."""
    if has_own_python():
        return Path(sys.executable)
    return ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def requirements() -> list[Path]:
    """The user's files."""
    return [Path(name) for name in shlex.split(os.environ.get("REQUIREMENTS", ""))]


def all_requirements() -> list[Path]:
    """The user's files, and those that they include."""
    found, left = [], requirements()
    while left:
        file = left.pop(0)
        if file in found:
            continue
        found.append(file)
        lines = read(file).decode(errors="replace").splitlines()
        included = filter(None, (INCLUDED.match(line) for line in lines))
        left += [Path(os.path.normpath(file.parent / match[1].strip("\"'"))) for match in included]
    return found


def week() -> str:
    """The week of the year: so long versions that nobody has pinned stay what they are."""
    return datetime.now(UTC).strftime("%G-W%V")


def settings() -> list[str]:
    """The inputs that decide what is installed."""
    return [os.environ.get(name, "") for name in ("OWN_PYTHON", "REQUIREMENTS", "TORCH_CPU_INDEX")]


def sources() -> list[Path]:
    """The files of the harness."""
    folders = ("reference", "torch_twin", "parity")
    found = [file for name in folders for kind in KINDS for file in sorted((HARNESS / name).rglob(f"*.{kind}"))]
    return [HARNESS / "pyproject.toml", *found]


def processor() -> list[str]:
    """What there is to know of the processor."""
    lines = read(Path("/proc/cpuinfo")).decode(errors="replace").splitlines()
    return sorted({line for line in lines if line.startswith(("model name", "flags"))}) or [platform.processor()]


def read(path: Path) -> bytes:
    """What is in a file; nothing if there is none."""
    return path.read_bytes() if path.is_file() else b""


def hashed(parts: Iterable[str | bytes]) -> str:
    """A short name for all of that."""
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part if isinstance(part, bytes) else part.encode()).digest())
    return total.hexdigest()[:20]


def tell(**outputs: str) -> None:
    """Set outputs of this step; each is one line."""
    append("GITHUB_OUTPUT", "".join(f"{name}={value}\n" for name, value in outputs.items()))


def append(variable: str, text: str) -> None:
    """Append to the file that a variable names, if it does."""
    if path := os.environ.get(variable):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)


def annotate(kind: str, message: str) -> None:
    """Show a message with the workflow's run."""
    escaped = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    print(f"::{kind} title=parity gate::{escaped}", flush=True)


if __name__ == "__main__":
    sys.exit({"plan": plan, "install": install, "gate": gate}[sys.argv[1]]())
