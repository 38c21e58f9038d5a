"""The twin line by line, as a page shows it."""

import json
from pathlib import Path

import pytest

from parity.ladder import line_by_line
from parity.page.evidence_page import evidence_page
from parity.page.stored import read

STORED = Path(__file__).parents[2] / "benchmarks" / "results" / "twin.json"


@pytest.mark.skipif(not STORED.is_file(), reason="the benchmarks' results are not here")
def test_what_is_measured_has_the_parts_of_what_is_stored(monkeypatch, tmp_path):
    for name, few in (("PASSES", 3), ("LOCK_STEPS", 2), ("CHECKED_STEPS", 2), ("SEEN_IN", ("float32",))):
        monkeypatch.setattr(line_by_line, name, few)
    said = []
    found = json.loads(json.dumps(line_by_line.line_by_line(None, steps=3, progress=said.append), allow_nan=False))
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    assert found.keys() == stored.keys()
    for name in ("largest_z", "seconds", "percent"):
        assert {part: of.keys() for part, of in found[name].items()} == {
            part: of.keys() for part, of in stored[name].items()
        }
    assert [row["step"] for row in found["drift"]] == [1, 2, 3]
    assert all(not along["beyond"] for along in found["evidence"]["float32"])
    assert said[-1] == "drift of a training"
    (tmp_path / "twin.json").write_text(json.dumps(found), encoding="utf-8")
    assert "Line for line" in evidence_page(read(tmp_path))
