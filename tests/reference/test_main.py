import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import reference.__main__ as main_module

ROOT = Path(__file__).parents[2]
# Without site-packages and the environment, so that only the standard library can be imported.
PYTHON = [sys.executable, "-S", "-E", "-s"]


def run(*arguments):
    command = [*PYTHON, "-m", "reference", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_isolated_python_sees_no_installed_package():
    result = subprocess.run([*PYTHON, "-c", "import torch"], cwd=ROOT, capture_output=True, text=True)
    assert "No module named 'torch'" in result.stderr


def test_standard_library_is_enough_to_train_and_sample():
    result = run("--steps", 3, "--samples", 2)
    header, summary, *samples = result.stdout.splitlines()
    assert (result.returncode, result.stderr) == (0, "")
    assert re.fullmatch(r"\d{3} documents, vocabulary 27, 4192 parameters", header)
    assert re.fullmatch(r"3 steps, loss 3\.\d{4} at the first, 3\.\d{4} over the last 3", summary)
    assert len(samples) == 2
    assert all(re.fullmatch("[a-z]{0,16}", name) for name in samples)


def test_same_seed_prints_the_same_and_another_does_not():
    expected = run("--steps", 2, "--seed", 7).stdout
    assert run("--steps", 2, "--seed", 7).stdout == expected
    assert run("--steps", 2, "--seed", 8).stdout != expected


def test_own_names_and_sizes_are_used(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("ab\nba\n")
    sizes = ("--n-layer", 2, "--n-embd", 4, "--n-head", 2, "--block-size", 3)
    result = run("--names", path, "--steps", 2, "--samples", 1, *sizes)
    assert result.returncode == 0
    assert result.stdout.startswith(f"2 documents, vocabulary 3, {2 * 3 * 4 + 3 * 4 + 2 * 12 * 4**2} parameters\n")


def test_early_preset_is_used():
    result = run("--preset", "microgpt_early", "--steps", 1, "--samples", 0)
    assert result.returncode == 0
    assert "4064 parameters" in result.stdout


@pytest.mark.parametrize(
    "options",
    [
        ["--names", "absent.txt"],
        ["--names", os.sep],
        ["--names", os.devnull],
        ["--steps", "0"],
        ["--steps", "-1"],
        ["--steps", "many"],
        ["--steps", "1.5"],
        ["--seed", "x"],
        ["--preset", "microgpt_300"],
        ["--n-layer", "0"],
        ["--n-embd", "0"],
        ["--n-embd", "15"],
        ["--n-head", "0"],
        ["--n-head", "3"],
        ["--n-head", "-4"],
        ["--block-size", "0"],
        ["--block-size", "wide"],
        ["--samples", "-1"],
        ["--samples", "few"],
        ["--temperature", "-1"],
        ["--temperature", "nan"],
        ["--temperature", "inf"],
        ["--temperature", "hot"],
        ["--nonsense"],
        ["names.txt"],
    ],
    ids=" ".join,
)
def test_bad_option_gives_a_sentence_and_status_2(options, capsys):
    with pytest.raises(SystemExit) as leaving:
        sys.exit(main_module.main(options))
    captured = capsys.readouterr()
    assert leaving.value.code == 2
    assert captured.out == ""
    culprit = options[1] if options[0] == "--names" else options[0].removeprefix("--")
    assert culprit in captured.err.splitlines()[-1].replace("_", "-")


def test_bad_input_gives_no_traceback():
    result = run("--names", "absent.txt")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "There is no file absent.txt; a text file with one document a line is needed.\n"


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
@pytest.mark.skipif(signal.getsignal(signal.SIGINT) is signal.SIG_IGN, reason="a child process would ignore SIGINT too")
def test_interrupted_training_samples_what_was_learned_so_far():
    terminal, stderr = os.openpty()
    command = [*PYTHON, "-m", "reference", "--steps", "100000", "--samples", "2"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        os.close(stderr)
        shown = b""
        while b"step 2 of 100000, loss " not in shown:
            shown += os.read(terminal, 1024)
        process.send_signal(signal.SIGINT)
        stdout, _ = process.communicate(timeout=120)
        shown += os.read(terminal, 4096)
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    _, summary, *samples = stdout.splitlines()
    assert process.returncode == 130
    assert b"Traceback" not in shown
    assert re.match(r"\d+ steps, loss ", summary)
    assert int(summary.split()[0]) >= 2
    assert len(samples) == 2


def test_interruption_before_the_first_step_is_said(monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(main_module, "train", interrupted)
    assert main_module.main([]) == 130
    assert capsys.readouterr().err == "Interrupted before the first step was done.\n"


def test_interruption_while_sampling_ends_quietly(monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(main_module, "sample", interrupted)
    assert main_module.main(["--steps", "1"]) == 130
    captured = capsys.readouterr()
    assert captured.err == ""
    assert len(captured.out.splitlines()) == 2
