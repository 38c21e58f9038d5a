"""The script that judges public ports, on small ports of this test's own: it says what it finds, and what it lacks."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PASSED = ("IDENTICAL", "PARITY")

PORT = """
import random
from reference.config import Config, Hyper, State
from reference.microgpt import init_params, init_state, train_step

config, hyper = Config(), Hyper()
state = init_state(init_params(config, random.Random(1)))
for step in range(1000):
    tokens = [26, 1, 2, 26]
    state, found = train_step(state, [tokens[:-1]], config, hyper)
    found.loss = found.loss + 1e-10
    print(found.loss)
"""

ADAPTER = '''
import sys
from benchmarks.ports.port import Port

FLAT = """
import sys
sys.path.insert(0, ROOT)
import lines_in_python as parity

class Number:
    def __init__(self, data, grad=0.0):
        self.data, self.grad = data, grad

def flat(tensors):
    return [x for matrix in tensors.values() for row in matrix for x in row]

def tensors(numbers):
    rest = iter(numbers)
    return {name: [[next(rest) for _ in range(n)] for _ in range(rows)] for name, (rows, n) in config.shapes().items()}

def next_step():
    global state
    p, m, v = [Number(x) for x in flat(state.params)], flat(state.m), flat(state.v)
    step = parity.next_step(p, m, v)
    state = State(tensors(x.data for x in p), tensors(m), tensors(v), step)

def answer(before):
    global state
    for row in found.logits[0]:
        parity.logits([Number(x) for x in row])
    grads = [Number(0.0, x) for x in flat(found.grads)]
    parity.gradients(grads)
    state = adam(before, tensors(x.grad for x in grads), hyper)
    parity.answer(found.loss, [Number(x) for x in flat(state.params)], flat(state.m), flat(state.v))
"""

def edits(config, hyper):
    return {
        "import random": FLAT.replace("ROOT", repr(ROOT)) + "import random",
        "from reference.config": "@@",
        "from reference.microgpt": "@@, adam",
        "config, hyper =": f"config, hyper = {config}, {hyper}",
        "for step": "while True:\\n    next_step()",
        "tokens = [": "    tokens, before = [*parity.tokens, 0], state",
        "print(": "    answer(before)",
    }

ROOT = %(root)r
PORT = Port(
    repository="somebody/port", commit="c0ffee", language="Python", file="port.py", blob=%(blob)r,
    deviates="1e-10 is added to the loss", corrected={" + 1e-10": ""}, needs=%(needs)r, build=%(build)r,
    config={"n_embd": 4, "n_head": 2, "block_size": 8},
    command=(sys.executable, "{file}"), helpers=("lines_in_python.py",), edits=edits,
)
'''


def adapter(folder: Path, name: str, needs: str = "", build: tuple = (), text: str = PORT, old: str = "") -> None:
    blob = hashlib.sha1(b"blob %d\0" % len(text) + text.encode()).hexdigest()
    filled = ADAPTER % {"root": str(ROOT), "blob": blob, "needs": needs, "build": build}
    (folder / f"{name}.py").write_text(filled.replace('"tokens = ["', f'"{old}"') if old else filled, encoding="utf-8")


def ports(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "benchmarks.ports", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.fixture
def checkouts(tmp_path):
    """A checkout of the port, and a folder for adapters."""
    (tmp_path / "checkouts" / "somebody+port").mkdir(parents=True)
    (tmp_path / "checkouts" / "somebody+port" / "port.py").write_text(PORT, encoding="utf-8")
    (tmp_path / "adapters").mkdir()
    return tmp_path


def test_port_is_judged_as_it_is_and_once_corrected(checkouts):
    adapter(checkouts / "adapters", "port")
    found = checkouts / "ports.json"
    done = ports(
        str(checkouts / "checkouts"), "--adapters", str(checkouts / "adapters"), "--steps", "1", "--json", str(found)
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(found.read_text(encoding="utf-8"))["ports"]
    assert (row["verdict"], row["corrected_verdict"]) == ("DIVERGED", "PARITY"), row
    assert "loss" in row["reason"]
    assert "seconds" not in row
    assert "| DIVERGED float64 | 1e-10 is added to the loss (with that undone: PARITY) | " in done.stdout
    assert [path.name for path in (checkouts / "checkouts" / "somebody+port").iterdir()] == ["port.py"]


def test_what_is_lacking_is_said_in_a_sentence(checkouts):
    fail = (sys.executable, "-c", "import sys; sys.exit('port.py:1: error: no such thing')")
    adapter(checkouts / "adapters", "a_build", build=(fail,))
    adapter(checkouts / "adapters", "b_compiler", needs="no-such-compiler")
    adapter(checkouts / "adapters", "c_changed", text=PORT + "\n")
    adapter(checkouts / "adapters", "d_edit", old="no such words")
    found = checkouts / "ports.json"
    done = ports(str(checkouts / "checkouts"), "--adapters", str(checkouts / "adapters"), "--json", str(found))
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    rows = json.loads(found.read_text(encoding="utf-8"))["ports"]
    assert [row["verdict"] for row in rows] == ["not run"] * 4
    reasons = [row["reason"] for row in rows]
    assert reasons[0].endswith("ended with status 1: port.py:1: error: no such thing")
    assert reasons[1] == "no-such-compiler is not installed."
    assert reasons[2].endswith("is not the file of commit c0ffee, which the adapter was written for.")
    assert reasons[3].endswith("is not what its adapter expects: no line holds 'no such words'.")
    assert all(reason in done.stdout for reason in reasons)


def test_missing_checkouts_are_rows_and_a_missing_folder_is_bad_usage(tmp_path):
    done = ports(str(tmp_path))
    assert done.returncode == 0, done.stderr
    rows = done.stdout.splitlines()[2:]
    assert len(rows) >= 10
    assert all("| not run | There is no checkout: " in row for row in rows)
    done = ports(str(tmp_path / "nowhere"))
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2,
        f"python -m benchmarks.ports: error: There is no folder {tmp_path / 'nowhere'}.",
    )


def test_stored_result_has_a_row_for_each_adapter_and_the_readme_counts_them():
    stored = json.loads((ROOT / "benchmarks" / "results" / "ports.json").read_text(encoding="utf-8"))["ports"]
    written = {path.stem for path in (ROOT / "benchmarks" / "ports" / "adapters").glob("[!_]*.py")}
    assert written <= {row["adapter"] for row in stored}
    assert not [row["adapter"] for row in stored if row["verdict"] in ("not run", "INCONCLUSIVE")]
    # What deviates is said of all that do, and of no other; what can be undone by a few words leads to parity.
    others = [row for row in stored if row["verdict"] not in PASSED]
    assert [row["adapter"] for row in stored if row["deviates"]] == [row["adapter"] for row in others]
    assert {row["corrected_verdict"] for row in others if "corrected_verdict" in row} <= set(PASSED)
    assert all(("seconds" in row) == (row["verdict"] in PASSED) for row in stored)
    languages = {row["language"].partition(",")[0] for row in stored}
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"of {len(stored)} in {len(languages)} languages {len(stored) - len(others)} are in parity" in readme
