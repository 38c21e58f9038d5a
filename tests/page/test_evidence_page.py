"""The page of the evidence: a view of stored results, each if it is there."""

import json
import re
import shutil
from argparse import Namespace
from pathlib import Path

import pytest

from parity.cli import main
from parity.cli.report_command import report_command
from parity.page.calibration_view import calibration_view
from parity.page.evidence_page import evidence_page
from parity.page.listing import listing
from parity.page.matrix_view import matrix_view
from parity.page.stored import COMMANDS, Stored, read
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


def real_mistakes(results):
    return [entry for entry in results["mutants"]["mutants"] if not entry["equivalent"]]


def caught_by(row, results):
    return [row["caught"], *(rule not in row["missed_by"] for rule in results["mutants"]["rules"])]


def test_page_has_no_number_that_is_not_stored(page):
    results = read(RESULTS).results
    timed = [results[name] for name in ("ladder", "scaling")]
    known = stored_numbers([results, in_other_units(timed), COMMANDS])
    caught = results["calibration"]["caught"].values()
    sums = {
        str(sum(fault[form][rule] for fault in caught)) for form in ("float64", "float32", "bfloat16") for rule in RULES
    }
    for place in range(len(results["mutants"]["dtypes"])):
        caught = [(entry["stage"], caught_by(entry["formats"][place], results)) for entry in real_mistakes(results)]
        for stage in {stage for stage, _ in caught}:
            sums |= {str(sum(column)) for column in zip(*(row for of, row in caught if of == stage), strict=True)}
            sums.add(str(sum(of == stage for of, _ in caught)))
        sums |= {str(sum(column)) for column in zip(*(row for _, row in caught), strict=True)}
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


def test_wrong_implementations_are_counted_as_they_were(page):
    section = page[page.index('<section id="scores"') : page.index('<section id="power"')]
    found = read(RESULTS).results["scores"]
    for row in found["summary"]:
        cells = "".join(f"<td>{row[key]}</td>" for key in ("checks", "refused", "located", "right", "wrong"))
        assert f'<th scope="row">{row["kind"]}</th>{cells}' in section
    assert section.count("<tr>") == len(found["summary"]) + len(found["implementations"]) + 2


def test_every_section_says_what_made_it(page):
    for section in re.findall(r"<section id=.*?</section>", page, re.DOTALL)[:-1]:
        (made,) = re.findall(r'<p class="repeat small soft">(.*?)</p>', section)
        assert re.match(r"Made by <code>\w", made), made


def test_rungs_over_ranks_are_told_apart_from_those_that_are_held_to_the_reference():
    stored = read(RESULTS)
    rungs = [rung for rung in stored.results["ladder"]["rungs"] if not rung.get("ranks")]
    over_ranks = {"technique": "ZeRO-1", "ranks": 2, "dtype": "float32", "verdict": "PARITY", "largest_z": 2.26}
    over_ranks |= {"power": 1e-6, "timing": None, "speed_up_over_reference": None}
    ladder = {"rungs": [*rungs, over_ranks, {**over_ranks, "technique": "Pipeline", "verdict": "DIVERGED"}]}
    page = evidence_page(Stored(stored.folder, {**stored.results, "ladder": ladder}))
    ran = sum(rung["verdict"] != "skipped" for rung in rungs)
    assert f"{ran} of {ran} rungs that ran compute the same function as" in page
    assert "1 of 2 techniques over ranks compute what one process does." in page
    assert 'ZeRO-1 (2 ranks, float32) <span class="soft">PARITY, z 2.3</span>' in page


def test_what_is_not_stored_is_not_shown(tmp_path):
    shutil.copy(RESULTS / "claims.json", tmp_path)
    page = evidence_page(read(tmp_path))
    assert re.findall(r'<section id="(\w+)"', page) == ["claims", "machines"]


def test_detection_matrix_is_shown_where_it_is_stored(tmp_path):
    row = {"dtype": "float64", "caught": True, "equivalent": False, "z": "inf", "first": "grad", "where": "case"}
    row |= {"evidence": {"1": 3.9, "10": 12.3, "100": 39.0}, "evidence_limit": 7.2}
    summary = {"mistakes": 1, "caught": 1, "caught_by_case": 1, "missed": [], "missed_by": {"allclose": 1}}
    stored = {
        "dtypes": ["float64"],
        "rules": {"allclose": "rtol 1e-5"},
        "summary": {"formats": {"float64": summary}},
        "mutants": [
            {"name": "rate_twice", "stage": "Adam", "formats": [{**row, "missed_by": ["allclose"]}]},
            {"name": "beta", "stage": "Adam", "formats": [{**row, "missed_by": [], "evidence": None, "z": 4.5}]},
        ],
    }
    (tmp_path / "mutants.json").write_text(json.dumps(stored), encoding="utf-8")
    page = evidence_page(read(tmp_path))
    rows = re.findall(r'<tr><th scope="row" class="mono">(.*?)</tr>', page)
    cells = [re.findall(r"<td(?: class=\"(\w+)\")?>([^<]*)", row) for row in rows]
    assert [row.partition("<")[0] for row in rows[:2]] == ["rate_twice", "beta"]
    assert [text for _, text in cells[0]] == ["Adam", "grad", "inf", "case", "3.9", "12.3", "39", "✓", "·"]
    assert [text for _, text in cells[1]] == ["Adam", "grad", "4.5", "case", "-", "-", "-", "✓", "✓"]
    assert re.search(r'Adam \(2\)</th><td class="hit">2</td><td class="miss">1</td>', page)
    assert "1 mistakes that the case makes" in page
    assert "limit 7.2" in page


def test_evidence_of_mistakes_lies_on_the_side_of_the_limit_that_it_is_on():
    found = read(RESULTS).results["mutants"]
    for place, drawn in enumerate(matrix_view(found).evidence):
        rows = [entry["formats"][place] for entry in found["mutants"]]
        known = [row for row in rows if row.get("evidence") and not row["equivalent"]]
        limit, columns = known[0]["evidence_limit"], drawn.panels[-1].columns
        beyond = sum(column.height for column in columns if column.start >= limit * 0.999)
        assert beyond == sum(float(row["evidence"]["10"]) >= limit for row in known) > 90
        assert sum(column.height for column in columns) == len(known)


def test_histogram_has_the_limit_and_what_is_assumed(page):
    section = page[page.index('<section id="calibration"') : page.index('<section id="matrix"')]
    found = read(RESULTS).results
    assert section.count("<svg") == len(found["calibration"]["comparisons"]) == 5
    assert section.count(f"limit {found['twin']['check']['limit']:.1f}") == 5
    assert section.count('class="series1 dashed"') == 5


def test_tail_is_called_thicker_only_where_it_is():
    found = json.loads((RESULTS / "calibration.json").read_text(encoding="utf-8"))
    thicker = calibration_view(found, None).thicker
    assert thicker == [
        "bfloat16 from z 6 on, 4 of 17,272,530",
        "bfloat16, weights in float32 from z 6 on, 10 of 7,973,124",
    ]
    for beyond in found["elements_beyond"].values():
        beyond.update({"6": 0, "7": 0, "8": 0})
    assert calibration_view(found, None).thicker == []


def test_lines_that_are_measured_come_first():
    blocks = listing(read(RESULTS).results["twin"])
    told = [any(pair.z for pair in block.pairs) for block in blocks]
    assert told == sorted(told, reverse=True)
    assert [block.name for block in blocks[:2]] == ["gpt", "document_loss"]


def test_scale_of_a_tensor_in_bfloat16_is_seen_from_few_per_cent_on(page):
    section = page[page.index('<section id="whole"') : page.index('<section id="scaling"')]
    assert "in bfloat16 over 20 steps" in section
    seen = read(RESULTS).results["twin"]["evidence"]["bfloat16"]
    for along in seen:
        if along["tensor"]:
            assert f"<td>{along['allowed']:.2g}</td>" in section
            assert 0.01 < along["allowed"] < 0.03


def test_results_are_made_where_that_is_asked_for(tmp_path, monkeypatch, capsys):
    made = []

    def instead(names, steps=1000, progress=None):
        made.append(names)
        return json.loads((RESULTS / "twin.json").read_text(encoding="utf-8"))

    monkeypatch.setattr("parity.ladder.line_by_line.line_by_line", instead)
    results, out = tmp_path / "results", tmp_path / "report.html"
    assert main(["report", "--run", "--results", str(results), "--out", str(out), "--names", "mine.txt"]) == 0
    assert capsys.readouterr().err == "Making twin.json, 1 of 1, which takes about a minute.\n"
    assert made == ["mine.txt"]
    assert [file.name for file in results.iterdir()] == ["twin.json"]
    assert re.findall(r'<section id="(\w+)"', out.read_text(encoding="utf-8")) == [
        *("listing", "drift", "power", "whole", "machines"),
    ]
    assert main(["report", "--run", "--out", str(out)]) == 2
    assert capsys.readouterr().err == "--run needs --results DIR, a folder that what is made is kept in.\n"
    assert main(["report", "--names", "mine.txt"]) == 2
    assert capsys.readouterr().err == "--names is for --run: stored results have had their documents.\n"
    assert main(["report", "--run", "--results", str(tmp_path / "no" / "folder"), "--out", str(out)]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_other_results_are_made_by_their_own_commands(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("parity.cli.command_line.run", lambda words: asked.append(words))
    (tmp_path / "claims.json").write_text((RESULTS / "claims.json").read_text(encoding="utf-8"), encoding="utf-8")
    arguments = Namespace(
        names="mine.txt", run_results=["mutants", "ladder"], results=tmp_path, out=tmp_path / "report.html"
    )
    assert report_command(arguments) == 0
    assert asked[-2:] == [
        ["ladder", "--json", str(tmp_path / "ladder.json"), "--names", "mine.txt"],
        ["mutants", "--json", str(tmp_path / "mutants.json")],
    ]


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
    out = tmp_path / "report.html"
    assert main(["report", "--out", str(out), "--results", str(RESULTS)]) == 0
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert capsys.readouterr().out.startswith(f"Wrote {out} (")
