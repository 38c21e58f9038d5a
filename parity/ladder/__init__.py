"""The efficiency ladder: every rung's verdict, and its speed and memory where the verdict allows to speak of them."""

import ast
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import parity
from parity.case import Case
from parity.errors import SubjectError, UsageError
from parity.judging.checking import check
from parity.judging.result import Result, plain
from parity.subjects.command import Command, serving
from parity.subjects.process import Limits
from parity.subjects.timing import SECONDS, Timing, batch_of
from parity.verdict import Verdict, worst

SIZES = (1, 4, 16, 64, 256, 1024, 4096, 16384)
"""Batch sizes among which the best one is looked for."""
LARGEST_CHECKED = 256
"""Documents in a batch; the noise floor of 1,024 would take 8 GiB."""
SLOW = Limits(seconds=900.0, memory=64 << 30)
"""Compiling takes minutes on a slow machine."""


@dataclass(frozen=True)
class Rung:
    """One technique: a subject, in a number format of its own if dtype says so.

    cuda: it runs on a CUDA device; compiled: torch.compile makes C++ of it. It is skipped where the device or the
    compiler is missing. static: a graph is compiled for every batch size, of which none is timed that is larger than
    what is checked. below: the rung that it is compared with in speed, the one before it if None. oracle: where
    expected comes from. title: in place of the one that the module's docstring begins with, `Technique: what changed.`
    """

    name: str
    factory: str
    dtype: str | None = None
    cuda: bool = False
    compiled: bool = False
    static: bool = False
    below: str | None = None
    oracle: str = "replay"
    title: str | None = None

    @property
    def words(self) -> tuple[str, str]:
        """The technique, and what changed in one sentence."""
        module = self.factory.partition(":")[0]
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        # Read, not imported: importing would load torch for nothing.
        docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
        technique, _, changed = (self.title or docstring.partition("\n\n")[0]).partition(": ")
        return technique, " ".join(changed.split())


RUNGS = (
    Rung("twin", "torch_twin.microgpt:make", title="Line-for-line twin: tensors and autograd in place of Value."),
    Rung("positions", "torch_twin.positions:make"),
    Rung("padded", "torch_twin.padded:make"),
    Rung("packed", "torch_twin.packed:make"),
    Rung("fused_attention", "torch_twin.fused_attention:make"),
    Rung("foreach_adam", "torch_twin.foreach_adam:make"),
    Rung("fused_adam", "torch_twin.fused_adam:make"),
    Rung("compiled", "torch_twin.compiled:make", compiled=True, static=True),
    Rung("whole_step", "torch_twin.whole_step:make", compiled=True, static=True),
    Rung(
        "float32", "torch_twin.whole_step:make", "float32", compiled=True, static=True, title="Float32: half the bits."
    ),
    Rung("batched_step", "torch_twin.batched_step:make", "float32", compiled=True),
    Rung("bfloat16", "torch_twin.bfloat16:make", compiled=True, static=True, below="float32"),
    Rung("cuda", "torch_twin.cuda:make", "float32", cuda=True, static=True, below="float32"),
    Rung("cuda_graph", "torch_twin.cuda_graph:make", "float32", cuda=True, static=True, below="cuda"),
    Rung("checkpointing", "torch_twin.checkpointing:make", below="fused_adam"),
    Rung("accumulation", "torch_twin.accumulation:make", below="fused_adam"),
    Rung("data_parallel", "torch_twin.data_parallel:make", below="fused_adam"),
    Rung("decoding", "torch_twin.decoding:make", below="fused_adam"),
    Rung("scalar", "parity.scalar:make", below="twin", oracle="python"),  # it is the replay itself
)


@dataclass
class RungResult:
    """What the ladder found on one rung.

    results: the checks, of single documents and of batches. timing: None where the verdict allows none. below: what
    was found of the rung below, if it was timed. failure: why there is no timing, if not for the verdict. skipped: the
    rung cannot run here, and the failure says why.
    """

    rung: Rung
    verdict: Verdict
    results: list[Result]
    timing: Timing | None = None
    failure: str = ""
    skipped: bool = False
    below: "RungResult | None" = None

    @property
    def step_ups(self) -> tuple[float | None, float | None]:
        """How many times as fast as the rung below, by their ratios to the reference: a step, and in batches.

        None where one of the two does no more than the forward pass.
        """
        timing, below = self.timing, self.below.timing if self.below else None
        if timing is None or below is None or timing.forward_only != below.forward_only:
            return None, None
        return timing.speed_up / below.speed_up, timing.batch_speed_up / below.batch_speed_up

    @property
    def largest_z(self) -> float | None:
        """Over all quantities of all checks."""
        largest = [result.largest_z for result in self.results if result.largest_z is not None]
        return max(largest, default=None)

    @property
    def power(self) -> float | None:
        """The smallest relative error that the checks would have caught in the median element of the median tensor."""
        medians = [
            tensor.median
            for result in self.results
            for mode in result.modes
            for row in mode.quantities.values()
            for tensor in row.power.values()
            if tensor.medians
        ]
        return median(medians) if medians else None

    @property
    def dtype(self) -> str:
        """The number format that the rung computes in."""
        return self.results[0].judge.form.name if self.results else self.rung.dtype or ""

    @property
    def reason(self) -> str:
        """Of the verdict, in the check whose z is the largest."""
        if self.failure:
            return self.failure
        return max((r for r in self.results if r.verdict is self.verdict), key=lambda r: r.largest_z or 0).reason

    def to_dict(self) -> dict[str, Any]:
        """For JSON: infinities stand as strings."""
        technique, changed = self.rung.words
        fields: dict[str, Any] = plain(
            {
                "rung": self.rung.name,
                "subject": self.rung.factory,
                "dtype": self.dtype,
                "technique": technique,
                "changed": changed,
                "verdict": "skipped" if self.skipped else self.verdict.value,
                "reason": self.reason,
                "largest_z": self.largest_z,
                "power": self.power,
                "speed_up_over_reference": self.timing and [self.timing.speed_up, self.timing.batch_speed_up],
                "rung_below": self.below and self.below.rung.name,
                "speed_up_over_rung_below": self.timing and list(self.step_ups),
                "timing": self.timing and self.timing.to_dict(),
            }
        )
        return fields


def chosen(names: str | None) -> list[Rung]:
    """The rungs with these names, separated by commas (None: all), in the order of the ladder; UsageError otherwise."""
    rungs = RUNGS
    if names is None:
        return list(rungs)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in {rung.name for rung in rungs}]
    if unknown or not wanted:
        known = ", ".join(rung.name for rung in rungs)
        raise UsageError(f"There is no rung {', '.join(unknown) or repr(names)}; there are {known}.")
    return [rung for rung in rungs if rung.name in wanted]


def climb(
    rungs: Iterable[Rung],
    case: Case,
    *,
    sizes: Sequence[int] | None = None,
    threads: int | None = None,
    round_seconds: float = SECONDS,
    started: Callable[[Rung], None] = lambda rung: None,
) -> Iterator[RungResult]:
    """Check and time rung after rung, each in a process of its own; a result as soon as it is there.

    case: the run to check, document by document. It is checked in batches of three, too, and one step in a batch of
    the size that turned out to be the best, up to LARGEST_CHECKED.
    """
    timed: dict[str, RungResult] = {}
    for rung in rungs:
        started(rung)
        found = _climbed(rung, case, sizes or SIZES, threads or os.cpu_count() or 1, round_seconds)
        found.below = timed.get(rung.below or next(reversed(timed), ""))
        if found.timing:
            timed[rung.name] = found
        yield found


def _climbed(rung: Rung, case: Case, sizes: Sequence[int], threads: int, round_seconds: float) -> RungResult:
    if reason := missing(rung):
        return RungResult(rung, Verdict.INCONCLUSIVE, [], failure=reason, skipped=True)
    options = {"dtype": rung.dtype, "device": "cuda" if rung.cuda else None}
    sizes = [size for size in sizes if size <= LARGEST_CHECKED or not rung.static]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with closing(serving(rung.factory, SLOW, environment=environment)) as command:

        def checked(case: Case) -> Verdict:
            results.append(check(command, case, oracle=rung.oracle, **options))  # type: ignore[arg-type]
            return worst(result.verdict for result in results)

        results: list[Result] = []
        checked(case)
        verdict = checked(replace(case, batch_size=3))
        if not verdict.passes:
            return RungResult(rung, verdict, results)
        command.close()  # the process that is timed has done nothing else
        try:
            command(case.config, case.hyper, **options)
            timing = _timing(command, case, sizes=sizes, threads=threads, round_seconds=round_seconds)
        except (SubjectError, UsageError) as error:
            return RungResult(rung, Verdict.ERROR, results, failure=str(error))
        if timing.best > 1:
            size = min(timing.best, LARGEST_CHECKED)
            verdict = checked(replace(case, documents=batch_of(case.documents, size), batch_size=size, steps=1))
    return RungResult(rung, verdict, results, timing if verdict.passes else None)


def _timing(command: Command, case: Case, **options: Any) -> Timing:
    message = {"type": "time", "state": vars(case.state), "documents": case.documents, **options}
    fields = command.ask(message, "time", "timing")["timing"]
    fields["batches"] = {int(size): seconds for size, seconds in fields["batches"].items()}
    return Timing(**fields)


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
