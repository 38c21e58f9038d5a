"""Wrong implementations by another hand: what is stored of them, and that the script that scores them is right."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STORED = json.loads((ROOT / "benchmarks" / "results" / "scores.json").read_text(encoding="utf-8"))

LIST = f"""
from pathlib import Path
from benchmarks.scored.implementation import Implementation
from parity import Case

EXAMPLE = Path({str(ROOT / "tests" / "examples" / "numpy_port.py")!r})
CASE = Case.from_names(steps=1, config={{"n_embd": 4, "n_head": 2, "block_size": 3}})
BITS = {{
    "-np.log(probs": "-np.log2(probs",
    "d_logits / (n * len(batch))": "d_logits / (n * len(batch)) / np.log(2)",
}}
IMPLEMENTATIONS = (
    Implementation("as it is said", ("loss_in_bits",), "loss", BITS, float32=False),
    Implementation("with another name and place", ("loss_over_length",), "grad wte", BITS, float32=False),
    Implementation("with one more mistake", ("loss_in_bits", "gelu"), "loss", BITS, step=1, float32=False),
    Implementation("as if nobody knew it", (), "loss", BITS, float32=False),
)
"""


def scores(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "benchmarks.scores", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_what_is_said_is_held_to_what_the_author_says(tmp_path):
    (tmp_path / "list.py").write_text(LIST, encoding="utf-8")
    files = [str(tmp_path / name) for name in ("list.py", "scores.json", "scores.md")]
    done = scores("--list", files[0], "--json", files[1], "--markdown", files[2])
    assert done.returncode == 0, done.stderr
    rows = {row["how"]: row for row in json.loads(Path(files[1]).read_text(encoding="utf-8"))["implementations"]}
    assert {(row["verdict"], *row["names"], *row["begins_at"]) for row in rows.values()} == {
        ("DIVERGED", "loss_in_bits", "loss")
    }
    assert {how: (row["named"], row["located"]) for how, row in rows.items()} == {
        "as it is said": ("right", True),
        "with another name and place": ("wrong", False),
        "with one more mistake": ("in part", False),
        "as if nobody knew it": ("wrong", True),
    }
    found = Path(files[2]).read_text(encoding="utf-8")
    assert found == done.stdout
    assert found.startswith(
        "4 checks of 4 implementations: 2 wrong names; named first: 1 of 2 (50%) of one mistake, 0 of"
    )
    assert "| one mistake | 2 | 2 | 1 | 1 | 0 | 0 | 0 | 0 | 1 |" in found


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"loss_over_length"', '"no_such_mistake"', "The catalogue has no mistake no_such_mistake (with another name"),
        ('"-np.log(probs"', '"no such words"', "'no such words' does not stand in the example exactly once (as it is"),
    ],
)
def test_bad_list_is_refused_in_a_sentence(tmp_path, old, new, said):
    (tmp_path / "list.py").write_text(LIST.replace(old, new), encoding="utf-8")
    done = scores("--list", str(tmp_path / "list.py"), "--write", str(tmp_path / "written"))
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr


def test_every_implementation_can_be_written_and_has_its_rows(tmp_path):
    done = scores("--write", str(tmp_path))
    assert done.returncode == 0, done.stderr
    written = [path.suffix for path in tmp_path.iterdir()]
    stored = {(row["how"], row["language"]) for row in STORED["implementations"]}
    counts = {language: sum(found == language for _, found in stored) for language in ("NumPy", "C")}
    assert counts == {"NumPy": written.count(".py"), "C": written.count(".c")}


def test_stored_scores_are_of_enough_implementations_and_no_name_is_wrong():
    rows = STORED["implementations"]
    of_one = {(row["how"], row["language"]) for row in rows if len(row["mistakes"]) == 1}
    of_several = {(row["how"], row["language"]) for row in rows if len(row["mistakes"]) > 1}
    assert (len(of_one) >= 40, len(of_several) >= 10) == (True, True)
    assert [row["how"] for row in rows if row["named"] == "wrong"] == []
    assert [row["how"] for row in rows if row["verdict"] not in ("DIVERGED", "ERROR")] == []
