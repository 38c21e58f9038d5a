"""Whatever is wrong is said in one sentence with the right status, and what was stored stays as it was."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from parity.cli import main
from tests.bad_input import INPUT, PORT, USAGE, Bad, write_files
from tests.broken_subjects import BROKEN, ISOLATED, Broken
from tests.warming import warm_up

ROOT = Path(__file__).parents[1]
TINY = ["--steps", "2", "--n-embd", "2", "--n-head", "1", "--block-size", "2", "--only-case"]
WRITES_JSON = ("check", "replay", "gate", "ladder", "verify")


@pytest.fixture(scope="module", autouse=True)
def _oracle_is_compiled():
    """Standard error stays empty then."""
    warm_up()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The current folder, with good and bad files in it."""
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def keeping(argv: list[str]) -> list[str]:
    """The words with a result that is stored already, where a command stores one."""
    wanted = argv[0] in WRITES_JSON and not {"--json", "--markdown"} & set(argv)
    return [argv[0], "--json", "kept.json", *argv[1:]] if wanted else argv


def assert_one_sentence(error: str, *said: str) -> None:
    assert error.count("\n") == 1, error
    assert error.endswith(".\n")
    assert "Traceback" not in error
    for words in said:
        assert words in error


@pytest.mark.parametrize("usage", USAGE, ids=str)
def test_bad_usage_is_one_sentence_that_points_to_help(folder, capsys, usage: Bad):
    before = contents(folder)
    with pytest.raises(SystemExit, match="2"):
        main(keeping(usage.argv))
    out, error = capsys.readouterr()
    assert out == ""
    assert_one_sentence(error, *usage.said, " --help.")
    assert contents(folder) == before


@pytest.mark.parametrize("given", INPUT, ids=str)
def test_bad_input_is_one_sentence_and_nothing_is_written(folder, capsys, given: Bad):
    before = contents(folder)
    assert main(keeping(given.argv)) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert_one_sentence(error, *given.said)
    assert contents(folder) == before


def assert_is_an_error(subject: Broken, capsys) -> None:
    Path("broken.py").write_text(subject.text, encoding="utf-8", errors="surrogatepass")
    status = main(["check", "broken.py:make", *TINY, *subject.words.split()])
    out, error = capsys.readouterr()
    assert status == 1
    assert error == ""
    printed = " ".join(out.split())
    assert "Traceback" not in printed
    assert "ERROR: The subject" in printed
    assert subject.said in printed


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of a thread that is ended
@pytest.mark.parametrize("subject", BROKEN, ids=str)
def test_broken_subject_is_an_error_in_one_sentence(folder, capsys, subject: Broken):
    assert_is_an_error(subject, capsys)


@pytest.mark.parametrize("subject", ISOLATED, ids=str)
def test_subject_that_ends_its_own_process_is_an_error(folder, capsys, subject: Broken):
    assert_is_an_error(subject, capsys)


def test_tables_are_as_long_as_they_are_said_to_be():
    assert len(USAGE) + len(INPUT) >= 60
    assert len(BROKEN) + len(ISOLATED) >= 25


def test_good_subject_beside_the_broken_ones_passes(folder, capsys):
    """What all of them are made of is right, so each fails for its own reason."""
    assert main(["check", "port.py:make", *TINY]) == 0
    assert "IDENTICAL" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv",
    [
        ["check", *TINY],
        ["check", *TINY, "--json", "-"],
        ["check", "--help"],
        ["check", "--help-protocol"],
        ["new-subject", "new.py"],
        ["--version"],
        [],
    ],
    ids=" ".join,
)
def test_full_standard_output_is_one_sentence_with_status_2(folder, capsys, monkeypatch, argv):
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(argv) == 2
    assert capsys.readouterr().err == "Standard output cannot be written: No space left on device.\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE])
@pytest.mark.parametrize(("stream", "status"), [("stderr", 2), (None, None)])
def test_error_of_something_else_is_not_one_of_standard_output(folder, capsys, monkeypatch, number, stream, status):
    class Failing(io.StringIO):
        def write(self, words):
            raise OSError(number, os.strerror(number))

    if stream:
        monkeypatch.setattr(sys, stream, Failing())
    monkeypatch.setattr("parity.cli.command_line.run", lambda argv: (sys.stderr if stream else Failing()).write(""))
    if status is None:
        with pytest.raises(OSError, match=os.strerror(number)):
            main(["check"])
    else:
        assert main(["check"]) == status
    assert capsys.readouterr().out == ""


def test_status_is_right_though_standard_error_is_closed(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr("parity.cli.streams._fill_gaps", lambda: None)  # none of this process's is closed
    assert main(["check", "--names", "missing.txt"]) == 2
    assert capsys.readouterr().out == ""


def test_closed_standard_output_is_refused_before_anything_runs(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr("parity.cli.streams._fill_gaps", lambda: None)
    assert main(["check", *TINY, "--json", "kept.json"]) == 2
    assert_one_sentence(capsys.readouterr().err, "Standard output is closed", "/dev/null")
    assert Path("kept.json").read_text(encoding="utf-8") == "kept"


def test_subject_that_closes_standard_output_hides_no_verdict_in_silence(folder, capsys, monkeypatch):
    Path("closing.py").write_text(f"{PORT}\nimport sys\nsys.stdout.close()\n", encoding="utf-8")
    with Path("out").open("w", encoding="utf-8") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert main(["check", "closing.py:make", *TINY]) == 2
    assert capsys.readouterr().err == "Standard output was closed before the result could be printed.\n"


def test_subject_that_takes_the_streams_away_gives_them_back(folder, capsys):
    Path("taking.py").write_text(f"{PORT}\nimport sys\nsys.stdout = sys.stderr = None\n", encoding="utf-8")
    assert main(["check", "taking.py:make", *TINY]) == 0
    assert "IDENTICAL" in capsys.readouterr().out


def test_folder_that_is_gone_is_one_sentence(folder, capsys, monkeypatch):
    (folder / "gone").mkdir()
    monkeypatch.chdir(folder / "gone")
    (folder / "gone").rmdir()
    assert main(["gate", "port.py:make"]) == 2
    assert capsys.readouterr().err == "The current folder does not exist any more.\n"


@pytest.mark.parametrize("columns", ["0", "1", "wide"])
def test_terminal_of_no_width_shows_help(monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit, match="0"):
        main(["check", "--help"])
    assert "--steps" in capsys.readouterr().out


def test_characters_that_standard_output_lacks_are_spelt_out(folder, monkeypatch):
    Path("broken.py").write_text("raise OSError('×')", encoding="utf-8")
    with Path("out").open("w", encoding="ascii") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert main(["check", "broken.py:make", *TINY]) == 1
    assert "OSError: \\xd7 (broken.py, line 1)" in Path("out").read_text(encoding="ascii")


@pytest.mark.parametrize(
    ("shell", "statuses", "said"),
    [
        ("{parity} check {tiny} >&-", "2", "Standard output is closed; where only the exit status matters, send it to"),
        ("{parity} --help > /dev/full", "2", "Standard output cannot be written: No space left on device."),
        ("{parity} check --help-protocol | true", "141 0", ""),
        ("{parity} check --names missing.txt <&- 2>&-", "2", ""),
    ],
)
def test_shell_sees_one_sentence_and_the_status(folder, shell, statuses, said):
    script = shell.format(parity=f"{sys.executable} -m parity", tiny=" ".join(TINY))
    script = f'exec 9>statuses; {script}; echo "${{PIPESTATUS[@]}}" >&9'
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert Path("statuses").read_text(encoding="utf-8").strip() == statuses
    assert done.stdout == ""
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == bool(said)


def test_printing_subject_leaves_the_json_on_standard_output_pure(folder, capsys):
    Path("loud.py").write_text(f"{PORT}\nprint('making noise')\n", encoding="utf-8")
    assert main(["check", "loud.py:make", *TINY, "--json", "-"]) == 0
    out, error = capsys.readouterr()
    assert out.startswith("{")
    assert error == "making noise\n"


@pytest.mark.parametrize("isolated", [[], ["--isolate"]])
def test_subject_may_send_its_own_functions_to_a_pool(folder, isolated):
    """Its processes start anew, as they always do on macOS, and find the file under its name."""
    Path("pooled.py").write_text(
        "import multiprocessing\n"
        "def halved(number): return number / 2\n"
        "def make(config, hyper):\n"
        "    from parity.oracle.python_reference import Reference\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        assert pool.map(halved, [3.0]) == [1.5]\n"
        "    return Reference(config, hyper)\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "parity", "check", "pooled.py:make", *TINY, "--time-limit", "60", *isolated]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # from Python 3.12 on, where there are threads
def test_process_that_a_subject_forks_may_leave(folder, capsys):
    source = "import os\nfrom parity.oracle.python_reference import Reference\ndef make(config, hyper):\n"
    source += (
        "    child = os.fork() or os._exit(3)\n    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3\n"
    )
    Path("forking.py").write_text(f"{source}    return Reference(config, hyper)\n", encoding="utf-8")
    leave = os._exit
    assert main(["check", "forking.py:make", *TINY]) == 0
    assert os._exit is leave
