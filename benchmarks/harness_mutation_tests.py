"""The tests that `benchmarks.harness_mutation` runs for each module, and how it runs them: quickly, in a copy."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from .harness_mutation_mutants import Mutant

LIMIT = 400.0
"""Seconds for the tests of one mutant: enough for the longest on a machine that does much else."""
_MEMORY = 12 << 30
"""Bytes of addresses that a run may take."""

_JUDGING, _ORACLE, _CATALOGUE = "tests/judging/test_", "tests/oracle/test_", "tests/catalogue/test_"
_CHECKING, _FAULTS = f"{_JUDGING}checking.py", f"{_JUDGING}faults.py"
_LOCATION, _ERRORS = f"{_JUDGING}location.py", f"{_JUDGING}element_errors.py"
_PARTIAL, _PROBING = f"{_JUDGING}partial_subjects.py", f"{_JUDGING}probing.py"
_GATES, _UPDATES, _HINTS = f"{_JUDGING}own_gates.py", f"{_JUDGING}own_updates.py", f"{_JUDGING}hints.py"
_EXACT, _LOOPHOLES, _CHAIN = f"{_JUDGING}exact_arithmetic.py", f"{_JUDGING}loopholes.py", f"{_JUDGING}chain.py"
_FLOOR, _REPLAY, _TRUTH = f"{_ORACLE}noise_floor.py", f"{_ORACLE}replay.py", f"{_ORACLE}truth.py"
_ROUNDING, _RESULT, _REPORT = f"{_ORACLE}rounding.py", f"{_JUDGING}result.py", "tests/cli/test_check_report.py"
_ORACLES, _SITES = f"{_ORACLE}oracle.py", "tests/subjects/test_module_sites.py"
_PROBES, _NAMING = f"{_CATALOGUE}probes.py", f"{_CATALOGUE}naming.py"
_POWER = f"{_FLOOR}::test_power_tells_the_smallest_error_that_is_caught"
_KINKS = (
    f"{_FLOOR}::test_a_relu_at_its_kink_may_go_either_way",
    f"{_FLOOR}::test_of_relus_at_their_kinks_those_are_turned_that_the_subject_turned",
    f"{_FLOOR}::test_a_relu_away_from_its_kink_may_not",
)
_VACUOUS = (
    f"{_FLOOR}::test_a_one_token_document_does_not_vouch_for_queries_and_keys",
    f"{_FLOOR}::test_projections_drawn_at_zero_leave_four_of_six_matrices_blind",
)
_SHADOWS, _WITHOUT_FLINT = "tests/oracle/shadows/test_", "tests/cli/test_command_line.py::test_truth_without_flint"

TESTS: dict[str, tuple[str, ...]] = {
    "judging/causes": (_RESULT, _CHECKING, _HINTS, f"{_PROBING}::test_other_revision_is_named_where_it_diverges"),
    "judging/chain/": (_CHAIN,),
    "judging/check_options": (f"{_JUDGING}check_options.py",),
    "judging/checking": (_CHECKING, f"{_WITHOUT_FLINT}_says_what_to_install", _PARTIAL, _LOOPHOLES),
    "judging/computation_order": (_LOCATION, _FAULTS),
    "judging/cost": (_CHAIN, _PROBING),
    "judging/diagnosis": (
        f"{_FLOOR}::test_a_relu_at_its_kink_may_go_another_way_when_it_is_asked_again",
        _CHECKING,
        _LOOPHOLES,
        _LOCATION,
    ),
    "judging/element_errors": (_ERRORS, _CHECKING),
    "judging/exact_arithmetic": (_EXACT,),
    "judging/exchange": (_CHECKING, _UPDATES, _PARTIAL, _SITES, _GATES),
    "judging/judge": (_ERRORS, _CHECKING, _FAULTS),
    "judging/location": (_LOCATION, _FAULTS),
    "judging/moderation": ("tests/training/test_moderation.py",),
    "judging/on_shadows": (_EXACT,),
    "judging/own_updates": (_UPDATES, _LOCATION, _PARTIAL),
    "judging/pairing": (_HINTS, _CHECKING, _PARTIAL),
    "judging/pairs": (_ERRORS, _CHECKING),
    "judging/probes": (_PROBES, _PROBING),
    "judging/probing": (_PROBING,),
    "judging/quantity_result": (_RESULT, _CHECKING, _PARTIAL, *_VACUOUS, _POWER),
    "judging/relu_gates": (*_KINKS, _GATES, _LOOPHOLES),
    "judging/result": (_RESULT, _CHECKING, _REPORT, _PARTIAL),
    "judging/sentences": (_HINTS, _LOCATION, _REPORT),
    "judging/suspected_sites": (_SITES,),
    "judging/trial": (_CHECKING, _FAULTS),
    "judging/true_exchange": (_TRUTH,),
    "oracle/": (_ORACLES, _REPLAY, *_KINKS),
    "oracle/adam": (_ROUNDING, _REPLAY, _FLOOR),
    "oracle/noisy": (_ROUNDING, _ORACLES, _FLOOR),
    "oracle/oracle": (_ORACLES, *_KINKS, _CHECKING, _GATES),
    "oracle/rounding": (_ROUNDING, _FLOOR),
    "oracle/spread": (_FLOOR,),
    "oracle/truth": (_TRUTH,),
    "oracle/shadows/": (f"{_SHADOWS}execution.py", f"{_SHADOWS}operations.py"),
    "oracle/shadows/execution": (f"{_SHADOWS}execution.py", f"{_SHADOWS}operations.py", _EXACT),
    "oracle/shadows/gated": (f"{_SHADOWS}operations.py", f"{_SHADOWS}modules.py"),
    "oracle/shadows/norms": (f"{_SHADOWS}execution.py", f"{_SHADOWS}operations.py", f"{_SHADOWS}modules.py"),
    "oracle/shadows/optimizers": (f"{_SHADOWS}optimizers.py",),
    "oracle/shadows/signatures": (f"{_SHADOWS}execution.py", f"{_SHADOWS}optimizers.py", f"{_SHADOWS}operations.py"),
    "catalogue/": (f"{_CATALOGUE}exclusion.py", _PROBES),
    "catalogue/mutant_noise": (f"{_CATALOGUE}mutants.py", _NAMING),
    "catalogue/naming": (_NAMING,),
}
"""By the beginning of a module's path, the longest that fits, the tests that know it best, quick ones first."""

COMPILING = (_CHECKING, _ERRORS, _REPLAY)
"""Tests that leave hardly anything to be compiled."""

SLOW = (
    f"{_CHAIN}::test_rung_with_a_mistake_of_its_own_vouches_for_nothing",
    f"{_CHAIN}::test_rung_passes",
    f"{_EXACT}::test_ranks_of_other_processes_are_not_taken_for_exact",
    f"{_GATES}::test_own_gates_explain_nothing_else",
    f"{_GATES}::test_what_is_compiled_is_judged_and_not_what_it_was_compiled_from",
    f"{_FLOOR}::test_float16_is_judged_by_its_own_floor",
    f"{_FLOOR}::test_gradients_of_scores_may_be_made_from_rounded_outputs",
    f"{_PROBES}::test_correct_implementation_passes_every_probe",
    f"{_PROBES}::test_twin_passes_every_probe_in_narrow_formats",
    f"{_PROBES}::test_rung_passes_every_probe_in_every_format",
    f"{_NAMING}::test_large_question_is_replaced_by_a_small_one",
    f"{_CATALOGUE}mutants.py::test_no_two_mutants_give_the_same_answers",
    _POWER,
)
"""Left out but where they are named: each takes as long as a file of others."""


class Outcome(NamedTuple):
    """What the tests said of a mutant."""

    outcome: str
    """killed, survived or timed out"""
    by: str
    """The first test that failed, or what happened instead; empty where none did."""
    seconds: float


def tests_of(path: str) -> tuple[str, ...]:
    """The tests of a module."""
    return TESTS[max((start for start in TESTS if path.removeprefix("parity/").startswith(start)), key=len)]


class Copy:
    """A copy of the checkout, with machine code of its own, in which mutants take the place of modules."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        self.tree, self._code, self._log = folder / "tree", folder / "code", folder / "output"
        shutil.rmtree(self.tree, ignore_errors=True)
        names = subprocess.check_output(["git", "ls-files", "-z"], cwd=checkout, text=True).split("\0")
        for name in filter(None, names):
            (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(checkout / name, self.tree / name)
        self._context = get_context("forkserver")
        self._context.set_forkserver_preload(["torch", "numba", "scipy.stats", "scipy.special", "flint"])

    def pass_without_mutant(self, tests: Sequence[str]) -> None:
        """SystemExit where one of these tests fails as things are, and says nothing of mutants then."""
        found = self._run(tests, self._code, 3600.0, keeps=True)
        if found.outcome != "survived":
            raise SystemExit(f"Without a mutant: {found.outcome}, {found.by}.\n{self._log.read_text('utf-8')[-3000:]}")

    def judged(self, mutant: Mutant) -> Outcome:
        """What the tests of its module say of a mutant."""
        file = self.tree / mutant.path
        kept = file.with_suffix(".kept")
        shutil.copy2(file, kept)
        with tempfile.TemporaryDirectory(dir=self.tree.parent) as code:
            shutil.copytree(self._code, code, dirs_exist_ok=True)
            for stem in self._stale(mutant):
                for index in Path(code).rglob(f"{stem}.*.nbi"):
                    index.unlink()
            try:
                file.write_text(mutant.source, encoding="utf-8")
                return self._run(tests_of(mutant.path), Path(code), LIMIT)
            finally:
                kept.replace(file)  # with its time, by which Python and Numba know it

    def _stale(self, mutant: Mutant) -> Iterator[str]:
        """The modules whose machine code may hold what changes: Numba notices no change in another file."""
        files, changed, seen = list((self.tree / "parity").rglob("*.py")), [mutant.path], {mutant.path}
        while changed and mutant.frozen:
            module = changed.pop().removesuffix(".py").replace("/", ".")
            for file in files:
                path = file.relative_to(self.tree).as_posix()
                if path not in seen and re.search(rf"^from {module} import ", text := file.read_text("utf-8"), re.M):
                    if "machine_code import" in text:
                        yield file.stem
                    seen.add(path)
                    changed.append(path)

    def _run(self, tests: Sequence[str], code: Path, limit: float, keeps: bool = False) -> Outcome:
        began = time.monotonic()
        arguments = [*tests, *(f"--deselect={test}" for test in SLOW if test not in tests)]
        process = self._context.Process(target=_tested, args=(self.tree, code, self._log, arguments, keeps))
        process.start()
        process.join(limit)
        seconds = round(time.monotonic() - began, 1)
        with _ended(process):
            if process.is_alive():
                return Outcome("timed out", "", seconds)
        if process.exitcode == 0:
            return Outcome("survived", "", seconds)
        if process.exitcode in (4, 5):
            raise SystemExit(self._log.read_text("utf-8")[-3000:])
        failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", self._log.read_text("utf-8", "replace"), re.MULTILINE)
        how = "a crash" if (process.exitcode or 0) < 0 else "no test could be run"
        return Outcome("killed", failed[1] if failed else how, seconds)


@contextmanager
def _ended(process: BaseProcess) -> Iterator[None]:
    """Afterwards it has ended, and whatever it started."""
    try:
        yield
    finally:
        if process.is_alive() and process.pid:
            os.killpg(process.pid, signal.SIGKILL)
        process.join()


def _tested(tree: Path, code: Path, log: Path, arguments: list[str], keeps: bool) -> None:
    """In a process of its own, which has imported no module of the project before."""
    os.setsid()
    with log.open("w", encoding="utf-8") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    os.chdir(tree)
    checkout = str(Path(__file__).parents[1])
    sys.path[:] = [str(tree), *(entry for entry in sys.path if entry not in ("", checkout))]
    for name in [name for name in sys.modules if name.partition(".")[0] in ("benchmarks", "__mp_main__")]:
        del sys.modules[name]
    os.environ.update(PYTHONPATH=str(tree), NUMBA_CACHE_DIR=str(code), PARITY_PROFILE="dev")
    import numba
    import pytest

    numba.config.CACHE_DIR = str(code)
    sys.dont_write_bytecode = not keeps  # a file of the same second and size would be taken for another
    options = ["-x", "-q", "-n0", "--tb=line", "-p", "no:cacheprovider", "-p", "no:benchmark", "--hypothesis-seed=0"]
    status = pytest.main([*arguments, *options])
    sys.stdout.flush()
    os._exit(int(status))
