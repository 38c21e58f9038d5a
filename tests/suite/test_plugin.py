"""The pytest plugin: what it costs, its options, its fixtures, and how failures read."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import settings

from parity import Case
from parity.cli import main
from parity.errors import UsageError
from parity.plugin import PYTEST_OPTIONS
from parity.suite.expectations import ExpectedFailure, read_expectations
from parity.testing.profiles import PROFILES, load_profile, profile
from tests.warming import warm_up

pytest_plugins = "pytester"

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "numpy", "hypothesis", "numba", "scipy", "flint", "rich", "reference", "parity.case"}

DOUBLED = """
from torch_twin.microgpt import Twin

class Doubled(Twin):
    def train_step(self, batch):
        step = super().train_step(batch)
        step.grads["wte"] = 2 * step.grads["wte"]
        return step

def make(config, hyper, dtype="float64"):
    return Doubled(config, hyper, dtype)
"""

SMALL_CHECK = """
from parity import Case
from parity.testing import assert_parity

def test_port(parity_subject):
    assert_parity(parity_subject, Case.from_names(steps=1, config={"n_embd": 4, "n_head": 2}), modes=["lock-step"])
"""

PROPERTY = """
from hypothesis import Phase, given, settings
from parity.strategies import cases, configs
from parity.testing import assert_parity

@settings(max_examples=5, derandomize=True, phases=(Phase.generate,))
@given(case=cases(config=configs(max_layer=1, max_embd=2, max_block=2, max_vocab=3)))
def test_port(parity_subject, case):
    assert_parity(parity_subject, case)
"""


@pytest.fixture(scope="module", autouse=True)
def _everything_is_imported():
    """A run within this one forgets what it imports first, and NumPy can be loaded only once."""
    warm_up()


@pytest.fixture(autouse=True)
def _same_profile_afterwards():
    name = settings.get_current_profile_name()
    yield
    settings.load_profile(name)


@pytest.fixture
def run(pytester, monkeypatch):
    """Run pytest with the plugin, in this process, where no variable of the environment chooses a profile."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("PARITY_PROFILE", raising=False)

    def run(*arguments):
        return pytester.runpytest_inprocess("-p", "parity.plugin", "-p", "no:cacheprovider", *arguments)

    return run


def modules_after(*arguments: str, cwd: Path) -> set[str]:
    """The heavy modules that a pytest run in a fresh process has imported."""
    program = (
        f"import sys, pytest; status = pytest.main({['-p', 'parity.plugin', *arguments]!r}); "
        f"print('MODULES', *({HEAVY!r} & sys.modules.keys())); sys.exit(status)"
    )
    # Hypothesis has a plugin of its own, which imports it.
    environment = {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return set(result.stdout.rpartition("MODULES")[2].split())


def test_pytest_starts_without_anything_heavy(tmp_path):
    (tmp_path / "test_empty.py").write_text("def test_nothing():\n    pass\n")
    assert modules_after("--version", cwd=tmp_path) == set()
    assert modules_after("test_empty.py", cwd=tmp_path) == set()
    assert "numpy" in modules_after("test_empty.py", "--parity-dtype", "float32", cwd=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parity-dtype", "float8"], "--parity-dtype is 'float8'; there are float64, float32, bfloat16, float16."),
        (["--parity-profile", "fast"], "There is no profile 'fast'; there are dev, ci, thorough."),
        (["--parity-cases", "0"], "--parity-cases is '0': neither a whole number of at least 1, nor a stored case"),
        (["--parity-cases", "lost.json"], "--parity-cases is 'lost.json': neither a whole number of at least 1, nor"),
        (["--parity-cases", "empty"], "--parity-cases: the folder empty holds no case (*.json)."),
        (["--parity-cases", "bad"], "bad/broken.json: This is not a stored case: "),
        (["--parity-expectations", "lost.txt"], "The expectations lost.txt cannot be read: No such file or directory."),
        (["--parity-expectations", "bad/list.txt"], "bad/list.txt, line 3: a line is `skip PATTERN  # reason` or"),
        (["--parity-subject", "lost.py:make"], "There is no file lost.py."),
        (["--parity-subject", "make"], "A subject is named package.module:make or path/to/file.py:make, not 'make'."),
        (["--parity-subject", "plain.py:make", "--parity-dtype", "float32"], "The subject cannot be made with --dtype"),
    ],
)
def test_bad_value_is_a_usage_error_of_one_sentence(pytester, run, arguments, message):
    pytester.makepyfile(plain="def make(config, hyper): raise OSError", test_port=SMALL_CHECK)
    pytester.mkdir("empty")
    bad = pytester.mkdir("bad")
    (bad / "broken.json").write_text("{}")
    (bad / "list.txt").write_text("# fine\nskip a*\nxskip b\n")
    result = run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line]
    assert line.startswith(f"ERROR: {message}")


def test_header_names_the_options_that_were_given(pytester, run):
    pytester.makepyfile("def test_nothing(): pass")
    run("--parity-dtype", "bfloat16", "--parity-cases", "7").stdout.fnmatch_lines(["parity: dtype bfloat16, cases *7*"])
    run().stdout.no_fnmatch_line("parity: *")


def test_every_option_is_in_the_help(run):
    text = run("--help").stdout.str()
    assert all(flag in text for flag in PYTEST_OPTIONS)
    assert all(name in PYTEST_OPTIONS["--parity-profile"]["help"] for name in PROFILES)


def test_subject_is_the_twin_unless_another_is_named(pytester, run):
    pytester.makepyfile(test_port=SMALL_CHECK, my_port=DOUBLED)
    run().assert_outcomes(passed=1)
    result = run("--parity-subject", "my_port.py:make", "--parity-dtype", "float32")
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines([r".*Repeat with: parity replay .* --dtype float32 --mode lock-step my_port.py:make$"])


def test_dtype_and_device_reach_the_factory(pytester, run):
    pytester.makepyfile(
        my_port="def make(config, hyper, dtype, device): raise ValueError(f'{dtype} on {device}')",
        test_port="""
            import pytest
            from parity import Config, Hyper
            from parity.errors import SubjectError

            def test_port(parity_subject):
                assert parity_subject.name == "my_port:make"
                with pytest.raises(SubjectError, match="bfloat16 on meta"):
                    parity_subject(Config(), Hyper())
                with pytest.raises(SubjectError, match="float32 on meta"):
                    parity_subject(Config(), Hyper(), dtype="float32")
        """,
    )
    options = ["--parity-subject", "my_port:make", "--parity-dtype", "bfloat16", "--parity-device", "meta"]
    run(*options).assert_outcomes(passed=1)


def test_subject_may_be_a_command(pytester, run):
    pytester.makepyfile(
        """
        def test_name(request):
            from parity.plugin import bound_subject
            assert bound_subject(request.config).name == "-- ./my_port --fast"
        """
    )
    run("--parity-subject", "-- ./my_port --fast").assert_outcomes(passed=1)
    run("--parity-subject=-- ./my_port --fast").assert_outcomes(passed=1)


def test_fixed_cases_are_the_presets_and_what_is_stored(pytester, run):
    Case.from_names(steps=1, config={"n_embd": 4, "n_head": 2}).save(Path("stored/one.json"))
    Case.from_names(steps=2, config={"n_embd": 4, "n_head": 2}).save(Path("stored/two.json"))
    pytester.makepyfile("def test_case(parity_case): assert parity_case.steps")
    run("-v").assert_outcomes(passed=2)
    result = run("-v", "--parity-cases", "stored")
    result.assert_outcomes(passed=4)
    names = ("microgpt_200", "microgpt_early", "one.json", "two.json")
    result.stdout.fnmatch_lines([f"*::test_case[[]{name}[]] PASSED*" for name in names])
    run("--parity-cases", "stored/two.json").assert_outcomes(passed=3)
    Case.load(Path("stored/two.json")).save(Path("one.json"))
    run("--parity-cases", "stored", "--parity-cases", "one.json").assert_outcomes(passed=5)  # two files of one name


def test_subject_is_imported_once(pytester, run):
    pytester.makepyfile(
        my_port="from torch_twin.microgpt import make\nprint('IMPORTED')",
        test_port=SMALL_CHECK + SMALL_CHECK.replace("test_port", "test_again"),
    )
    result = run("-s", "--parity-subject", "my_port.py:make")
    result.assert_outcomes(passed=2)
    assert result.stdout.str().count("IMPORTED") == 1


def drawn(result) -> int:
    return int(re.search(r"DRAWN (\d+)", result.stdout.str())[1])


def test_number_of_cases_is_that_of_the_options(pytester, run, monkeypatch):
    pytester.makepyfile(
        """
        from hypothesis import given, strategies as st

        seen = []

        @given(st.integers())
        def test_drawn(number):
            seen.append(number)

        def test_count():
            print("DRAWN", len(seen))
        """
    )
    assert drawn(run("-s", "--parity-cases", "7")) == 7
    assert drawn(run("-s", "--parity-profile", "dev")) == 20
    assert drawn(run("-s", "--parity-profile", "thorough", "--parity-cases", "3")) == 3
    monkeypatch.setenv("PARITY_PROFILE", "ci")
    assert drawn(run("-s")) == settings.default.max_examples  # nobody asked: other people's properties stay as they are
    assert profile().max_examples == 50


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, "dev"), ({"CI": "true"}, "ci"), ({"CI": "true", "PARITY_PROFILE": "thorough"}, "thorough")],
)
def test_profile_is_that_of_the_environment(monkeypatch, environment, expected):
    for name in ("CI", "PARITY_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    load_profile()
    assert settings.default.max_examples == PROFILES[expected]["max_examples"]
    assert settings.default.derandomize is PROFILES[expected].get("derandomize", False)
    assert settings.default.deadline is None


def test_unknown_profile_in_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv("PARITY_PROFILE", "quick")
    with pytest.raises(UsageError, match="no profile 'quick'"):
        load_profile()


def test_profile_without_hypothesis_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(UsageError, match=r"install microgpt-parity\[test\]"):
        profile()


EXPECTED = """
import pytest

@pytest.mark.parametrize("name", ["a b", "c"])
def test_fails(name):
    assert False

def test_passes():
    pass
"""


@pytest.mark.parametrize(
    ("lines", "outcomes"),
    [
        ("# nothing\n\n", {"failed": 2, "passed": 1}),
        ("skip test_port.py::*  # not ready", {"skipped": 3}),
        ("xfail test_port.py::test_fails*  # issue 12", {"xfailed": 2, "passed": 1}),
        ("xfail test_port.py::test_fails[a b]", {"xfailed": 1, "failed": 1, "passed": 1}),
        ("xfail *::test_fails[?]\nskip *[a b]", {"xfailed": 1, "skipped": 1, "passed": 1}),
        ("xfail test_port.py::*", {"xfailed": 2, "failed": 1}),
    ],
)
def test_expectations_skip_and_expect_failures(pytester, run, lines, outcomes):
    folder = pytester.mkpydir("deep")
    (folder / "test_port.py").write_text(EXPECTED)
    pytester.path.joinpath("list.txt").write_text(lines)
    run("--parity-expectations", "list.txt").assert_outcomes(**outcomes)


def test_expectation_gives_its_reason_or_its_place(pytester, run):
    pytester.makepyfile(test_port=EXPECTED)
    pytester.path.joinpath("list.txt").write_text("skip *[c]  # no c # yet\n\nskip *[a b]")
    result = run("--parity-expectations", "list.txt", "-rs")
    result.stdout.fnmatch_lines_random(["*: no c # yet", "*: expected by list.txt, line 3"])


def test_unexpected_pass_fails_with_its_reason(pytester, run):
    pytester.makepyfile(test_port=EXPECTED)
    pytester.path.joinpath("list.txt").write_text("xfail *::test_passes  # issue 12")
    result = run("--parity-expectations", "list.txt", "-k", "passes")
    result.assert_outcomes(failed=1, deselected=2)
    result.stdout.fnmatch_lines(["[[]XPASS(strict)[]] issue 12"])


def test_pattern_that_matches_nothing_is_warned_of(pytester, run):
    pytester.makepyfile(test_port=EXPECTED)
    pytester.path.joinpath("list.txt").write_text("skip *::test_fails*\nskip *::test_gone  # once")
    message = "list.txt, line 2: the pattern '*::test_gone' matches no test that was collected."
    result = run("--parity-expectations", "list.txt", "-W", "default", "-k", "passes")
    result.assert_outcomes(passed=1, deselected=2, warnings=1)  # and what -k leaves out was collected
    assert message in result.stdout.str()
    result = run("--parity-expectations", "list.txt", "-W", "error")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.errlines[0] == f"ERROR: {message}"


@pytest.mark.parametrize("line", ["skip", "xfail  # why", "fail test_a", "skiptest_a", "xfail, test_a"])
def test_line_that_makes_no_sense_is_refused_with_its_place(tmp_path, line):
    path = tmp_path / "list.txt"
    path.write_text(f"skip a\n{line}\n")
    with pytest.raises(UsageError, match=rf"list\.txt, line 2: .* not {re.escape(repr(line))}\.$"):
        read_expectations(path)


def test_binary_expectations_are_refused(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not text"):
        read_expectations(path)


def test_brackets_in_a_pattern_stand_for_themselves():
    expectation = ExpectedFailure("skip", "test_a.py::test_b[c*]", "", "")
    assert expectation.matches("test_a.py::test_b[c1]")
    assert not expectation.matches("test_a.py::test_bc")


LINE = r"DIVERGED: step \d+: grad wte\[\d+,\d+\]: .*, expected .*, z .* \(limit .*\)\.( To within rounding, .*\.)?"
BEGINS, REPEAT = (
    "  begins at grad wte: what it is computed from is not seen to be wrong",
    r"Repeat with: parity replay .*",
)


def test_failure_is_its_message_and_the_minimal_case(pytester, run):
    pytester.makepyfile(test_port=PROPERTY, my_port=DOUBLED)
    result = run("--parity-subject", "my_port.py:make")
    result.assert_outcomes(failed=1)
    lines = result.outlines
    start = next(number for number, line in enumerate(lines) if re.fullmatch("_+ test_port _+", line))
    assert re.fullmatch(LINE, lines[start + 1])
    end = next(number for number, line in enumerate(lines) if re.fullmatch("-+ minimal case -+", line))
    assert lines[end - 2] == BEGINS
    assert re.fullmatch(REPEAT, lines[end - 1])
    assert lines[end + 1].endswith(": test_port(")
    assert lines[end + 2] == "    parity_subject=<subject my_port.py:make>,"
    assert lines[end + 3].startswith("    case=Case(Config(")
    assert "Traceback" not in result.stdout.str()
    assert any(line.startswith("FAILED test_port.py::test_port - DIVERGED: step ") for line in lines)


def test_traceback_is_shown_where_it_is_asked_for(pytester, run):
    pytester.makepyfile(test_port=SMALL_CHECK, my_port=DOUBLED)
    result = run("--parity-subject", "my_port.py:make", "--tb", "long")
    result.stdout.fnmatch_lines([">       assert_parity(*", "E*ParityError: DIVERGED: step 0: grad wte*"])


def test_other_failures_look_as_ever(pytester, run):
    pytester.makepyfile("from parity.testing import assert_parity\n\ndef test_other():\n    assert [1] == [2]\n")
    run().stdout.fnmatch_lines([">       assert [[]1[]] == [[]2[]]", "E  *At index 0 diff: 1 != 2"])


def test_junit_holds_the_line_and_the_figures(pytester, run):
    pytester.makepyfile(test_port=SMALL_CHECK + "\ndef test_nothing(): pass\n", my_port=DOUBLED)
    run("--junitxml", "good.xml").assert_outcomes(passed=2)
    run("--junitxml", "bad.xml", "--parity-subject", "my_port.py:make").assert_outcomes(failed=1, passed=1)
    (good, nothing), (bad, _) = (
        ElementTree.parse(pytester.path / name).getroot().iter("testcase") for name in ("good.xml", "bad.xml")
    )
    figures = {entry.get("name"): entry.get("value") for entry in good.iter("property")}
    assert figures["parity.verdict"] == "PARITY"
    assert figures["parity.checks"] == "1"
    assert 0 < float(figures["parity.largest_z"]) < float(figures["parity.limit"])
    assert 0 < float(figures["parity.would_catch"]) < 1e-9
    assert list(nothing.iter("property")) == []
    assert {entry.get("name"): entry.get("value") for entry in bad.iter("property")}["parity.verdict"] == "DIVERGED"
    (failure,) = bad.iter("failure")
    first, *_, begins, repeat = failure.text.strip().splitlines()
    assert re.fullmatch(LINE, first)
    assert begins == BEGINS
    assert re.fullmatch(REPEAT, repeat)
    # Some versions of pytest cut off a message of many lines.
    assert failure.get("message").splitlines()[0] == first


@pytest.mark.usefixtures("unnamed")
def test_property_of_the_readme_needs_no_profile(pytester, monkeypatch, capsys):
    """A first example compiles and records, which takes longer than Hypothesis's deadline."""
    pytester.makepyfile(
        test_mine="""
            from hypothesis import given, settings
            from parity.strategies import cases, configs
            from parity.testing import assert_parity

            @settings(max_examples=3)
            @given(case=cases(config=configs(max_embd=4, max_layer=1)))
            def test_explicit(case):
                assert settings.default.deadline is None

            @given(case=cases(config=configs(max_embd=4, max_layer=1), max_steps=1))
            def test_my_port(case):
                assert_parity("my_port.py:make", case)
        """,
        my_port=DOUBLED.replace(
            "torch_twin.microgpt import Twin", "tests.examples.numpy_port import NumpyPort as Twin"
        ),
    )
    home = str(Path(__file__).parents[2])
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "PARITY_PROFILE")}
    command = [sys.executable, "-m", "pytest", "-p", "parity.plugin", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, env={**environment, "PYTHONPATH": home}, capture_output=True, text=True, check=False, timeout=300
    )
    assert "DeadlineExceeded" not in done.stdout
    assert "1 failed, 1 passed" in done.stdout
    assert any(line.startswith("DIVERGED: step 0: grad ") for line in done.stdout.splitlines())
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("Repeat with: ")]
    words = shlex.split(line.removeprefix("Repeat with: "))
    assert words.pop(0) == "parity"
    monkeypatch.syspath_prepend(pytester.path)
    assert main(words) == 1
    assert "DIVERGED: step 0: grad " in capsys.readouterr().out
