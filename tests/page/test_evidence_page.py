"""The page of the evidence: a view of stored results, each if it is there."""

import json
import re
import shutil
from pathlib import Path

import pytest

from parity.cli import main
from parity.page.evidence_page import evidence_page
from parity.page.listing import listing
from parity.page.stored import COMMANDS, read
from tests.page.numbers import shown_numbers, stored_numbers

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
if not RESULTS.is_dir():
    pytest.skip("the benchmarks' results are not here", allow_module_level=True)

UNITS = (1e3, 1e6, 2.0**-20)
"""Milliseconds, microseconds and MiB."""


@pytest.fixture(scope="module")
def page() -> str:
    return evidence_page(read(RESULTS))


def in_other_units(data):
    """The numbers of a result in the units of a page, beside it."""
    if isinstance(data, (list, dict)):
        parts = data.values() if isinstance(data, dict) else data
        return [in_other_units(part) for part in parts]
    return [data * unit for unit in UNITS] if isinstance(data, float | int) else []


def test_page_has_no_number_that_is_not_stored(page):
    results = read(RESULTS).results
    timed = [results[name] for name in ("ladder", "scaling")]
    known = stored_numbers([results, in_other_units(timed), COMMANDS])
    caught = results["calibration"]["caught"].values()
    sums = {
        str(sum(fault[form][rule] for fault in caught)) for form in ("float64", "float32", "bfloat16") for rule in RULES
    }
    rounded = {text.replace(",", "") for text in known}
    shown = {text for text in shown_numbers(page) if text.replace(",", "") not in rounded}
    assert not shown - sums


RULES = ("noise floor", "torch.testing's defaults", "rtol 1e-3, atol 1e-3", "numpy.allclose", "absolute 2e-2")


def test_page_is_small_and_asks_for_nothing(page):
    assert len(page.encode()) < 3_000_000
    assert "default-src 'none'" in page
    assert not re.findall(r"""(?:\bsrc|<link[^>]*href)=["'](?!#|data:,)|url\(|@import|<script""", page)
    assert set(re.findall(r'href="(?!#|data:,)([^"]*)"', page)) == {
        f"https://github.com/{port['port']}/blob/{port['commit']}/{port['file']}"
        for port in json.loads((RESULTS / "ports.json").read_text())["ports"]
    }


def test_every_line_of_both_files_is_there_once_and_lines_with_a_site_stand_together():
    blocks = listing(read(RESULTS).results["twin"])
    pairs = [pair for block in blocks for pair in block.pairs]
    for side, name in (("left", "reference/microgpt.py"), ("right", "torch_twin/microgpt.py")):
        lines = (RESULTS.parents[1] / name).read_text(encoding="utf-8").splitlines()
        shown = dict(line for pair in pairs if (line := getattr(pair, side)))
        assert all(shown.get(number, "") == line for number, line in enumerate(lines, 1))
    with_shares = [pair for pair in pairs if pair.shares != ("", "")]
    assert len(with_shares) == 17
    assert all(pair.left and pair.right and all(pair.shares) and pair.z for pair in with_shares)


def test_ports_that_deviate_show_no_speed(page):
    ladder = page[page.index('<section id="ladder"') : page.index('<section id="listing"')]
    ports = json.loads((RESULTS / "ports.json").read_text())["ports"]
    for port in ports:
        name = f"{port['port']} ({port['language']})"
        bar = re.search(rf"<span>{re.escape(name)}</span>.*?</li>", ladder, re.DOTALL)
        assert bool(bar) == (port["verdict"] in ("PARITY", "IDENTICAL")), name


def test_what_is_not_stored_is_not_shown(tmp_path):
    shutil.copy(RESULTS / "claims.json", tmp_path)
    page = evidence_page(read(tmp_path))
    assert re.findall(r'<section id="(\w+)"', page) == ["claims", "machines"]


def test_detection_matrix_is_shown_where_it_is_stored(tmp_path):
    row = {"dtype": "float64", "caught": True, "equivalent": False, "z": "inf", "first": "grad", "where": "case"}
    summary = {"mistakes": 1, "caught": 1, "caught_by_case": 1, "missed": [], "missed_by": {"allclose": 1}}
    stored = {
        "dtypes": ["float64"],
        "rules": {"allclose": "rtol 1e-5"},
        "summary": {"formats": {"float64": summary}},
        "mutants": [{"name": "rate_twice", "stage": "Adam", "formats": [{**row, "missed_by": ["allclose"]}]}],
    }
    (tmp_path / "mutants.json").write_text(json.dumps(stored), encoding="utf-8")
    page = evidence_page(read(tmp_path))
    assert re.search(r"rate_twice.*Adam.*grad.*inf.*case.*allclose", page)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read: it is no JSON."),
        ("[]", "does not hold what a page shows of it; write it anew: parity ladder --names names.txt --json FILE"),
        ('{"rungs": []}', "does not hold what a page shows of it"),
        (None, "There are no results in "),
    ],
)
def test_bad_results_are_one_sentence(content, said, tmp_path, capsys):
    folder = tmp_path / "results"
    folder.mkdir()
    if content is not None:
        (folder / "ladder.json").write_text(content, encoding="utf-8")
    out = tmp_path / "report.html"
    assert main(["report", "--out", str(out), "--results", str(folder)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_folders_that_are_not_there_are_one_sentence(tmp_path, capsys):
    assert main(["report", "--results", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith(f"There is no folder {tmp_path / 'none'};")
    file = tmp_path / "file"
    file.touch()
    assert main(["report", "--out", str(file / "report.html"), "--results", str(RESULTS)]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_command_writes_the_page(tmp_path, capsys):
    out = tmp_path / "new" / "report.html"
    assert main(["report", "--out", str(out), "--results", str(RESULTS)]) == 0
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert capsys.readouterr().out.startswith(f"Wrote {out} (")
