"""The page of one result: what it shows is what JSON holds, and nothing in it asks for anything else."""

import base64
import re

import numpy as np
import pytest

from parity import Case, check
from parity.cli import main
from parity.judging.pairs import Pairs
from parity.judging.smallest_case import smallest_case
from parity.judging.z_map import z_maps
from parity.page.heat_map import heat_map
from parity.page.mistakes import mistakes
from parity.page.result_page import result_page, without
from parity.page.tables import LogAxis
from parity.quantities import TensorKey
from tests.faults import planted
from tests.page.numbers import FORMATS, NUMBER, shown_numbers, stored_numbers
from tests.page.results import COMMAND, MISTAKE, UNSCALED, gate, page, ranks, ranks_page, stored
from torch_twin.microgpt import Twin

SMALL = Case.from_names(steps=4, config={"n_embd": 4, "n_head": 2, "block_size": 3})


@pytest.mark.parametrize("fails", [False, True])
def test_page_has_no_number_that_is_not_in_json(fails):
    data = stored(fails=fails)
    shown, known = shown_numbers(page(fails=fails)), stored_numbers([data, COMMAND])
    assert len(shown) > 30
    places = {str(number) for number in range(64)}  # rows and columns of a map
    assert not shown - known - places


@pytest.mark.parametrize("fails", [False, True])
def test_every_number_of_the_rows_of_json_is_on_the_page(fails):
    data, text = stored(fails=fails), re.sub(r"<[^>]+>", " ", page(fails=fails))
    assert not [number for number in numbers_of_rows(data) if not written(number) & set(NUMBER.findall(text))]


def test_missing_number_is_noticed():
    data, text = stored(fails=True), re.sub(r"<[^>]+>", " ", page(fails=True))
    data["modes"][0]["evidence"][3]["amount"] = 0.123
    data["modes"][0]["quantities"][2]["outside"] = 123_457
    missing = [number for number in numbers_of_rows(data) if not written(number) & set(NUMBER.findall(text))]
    assert missing == [123_457, 0.123]


def numbers_of_rows(data):
    """What the tables behind a page are made of: of elements, tensors, directions, and what was checked."""
    yield data["limit"]
    if data["smallest_case"]:
        yield from (*data["config"].values(), *data["hyper"].values())
    for mode in data["modes"]:
        for row in mode["quantities"]:
            yield from (
                row["compared"],
                row["largest_z"]["z"],
                *((row["outside"],) if mode["first_divergence"] else ()),
            )
            if mode is data["modes"][0]:
                yield from (cell["median"] for cell in row["power"].values())
        for along in mode["evidence"]:
            yield from (along[name] for name in ("amount", "sd", "allowed", "z"))
        if mode is data["modes"][0] and mode["first_divergence"]:
            for found in (mode["first_divergence"], mode["first_site"]):
                yield from (found["z"], found["error"], found["step"])
            for tensor in mode["location"]["tensors"]:
                yield from (tensor["outside"], tensor["elements"], tensor["relative_error"])
            for stored_map in mode["z_maps"]:
                yield from map(float, " ".join(stored_map["rows"]).split())


def written(number):
    """A number as a page may write it; words and switches of a config are none."""
    if isinstance(number, (bool, str)):
        return set(NUMBER.findall(page(fails=True))) if number != "inf" else {"inf"}
    return {form.format(number) for form in (*FORMATS, "{:.7g}")}


def test_smallest_case_shows_the_same_failure_when_it_is_replayed():
    data = stored(fails=True)
    (kept,) = re.findall(r'download="case.json" href="data:application/json;base64,([^"]+)"', page(fails=True))
    case = Case.from_json(base64.b64decode(kept).decode())
    assert (case.steps, len(case.documents), case.state.step) == (1, 1, 0)
    with planted(UNSCALED) as make:
        again = check(make, case, modes=["lock-step"], probes=False)
    first, before = again.modes[0].first_divergence, data["modes"][0]["first_divergence"]
    assert (first.quantity, first.where, first.actual) == (before["quantity"], before["where"], before["actual"])
    assert "<pre>parity replay case.json port.py:make</pre>" in page(fails=True)
    assert 'id="case"' not in page(fails=False)


def test_smallest_case_of_a_free_running_failure_begins_at_the_start():
    result = check(Twin, SMALL, modes=["free-running"], probes=False)
    assert smallest_case(result) is None
    with planted(
        ("rate = learning_rate(state.step, hyper)", "rate = learning_rate(state.step, hyper) * (1 + (state.step == 2))")
    ) as make:
        result = check(make, SMALL, modes=["free-running"], probes=False)
    assert smallest_case(result).steps == 3
    assert smallest_case(result).state == SMALL.state


def test_mistakes_made_together_are_shown_with_the_lines_of_both():
    data = stored(fails=True)
    (both,) = mistakes([f"{MISTAKE} + weight_decay"])
    assert [changed.line for changed in both.changed] == [211, 273]
    assert data["named"] in result_page({**data, "mistakes": ["unheard of"]}, COMMAND)


def test_evidence_along_directions_is_drawn_with_what_rounding_explains():
    data = stored(fails=False)
    data["modes"][0]["evidence"][3] |= {"amount": 0.25, "allowed": 0.01, "z": 31.0, "beyond": True}
    shown = result_page(data, COMMAND)
    section = shown[shown.index('<section id="evidence"') : shown.index('<section id="power"')]
    assert section.count('<li class="series1">') == 1
    assert '<span class="text">0.25</span>' in section
    assert "which is the number where ✗ says that it is beyond" in section
    assert "which is the number where" not in page(fails=False)


def test_mistakes_are_weighed_where_no_element_decides():
    weighed = {"alpha": 0.1, "sd": 0.02, "shared": 0.0, "limit": 8.0, "documents": 20, "more_documents": None}
    excluded = {"known": 3, "excluded": 2, "undecided": ["norm_without_eps"]}
    excluded["weighed"] = {"gelu": {**weighed, "excluded": True, "seen": False}}
    excluded["weighed"]["norm_without_eps"] = {**weighed, "alpha": 0.6, "excluded": False, "seen": False}
    shown = result_page({**stored(fails=False), "excluded": excluded}, COMMAND)
    assert "Excludes 2 of 3 known mistakes." in shown
    assert '<span class="text">0.1 excluded</span>' in shown
    assert '<span class="text">0.6 undecided</span>' in shown
    assert "or too little of it was seen" in shown
    bar = re.search(
        r"<span>gelu</span>.*?reach.*?left:([\d.]+)%;width:([\d.]+)%.*?dot.*?left:([\d.]+)%", shown, re.DOTALL
    )
    assert [float(place) for place in bar.groups()] == [22.0, 16.0, 30.0]  # of -0.5 to 1.5


def test_planted_number_is_noticed():
    data = stored(fails=True)
    data["modes"][0]["quantities"][0]["outside"] = 12_345
    assert shown_numbers(result_page(data, COMMAND)) - stored_numbers([stored(fails=True), COMMAND]) == {"12,345"}


def test_failure_begins_at_its_site_in_the_drawing_and_names_the_line():
    shown = page(fails=True)
    assert '<p class="lead">step 0: logits document 0[1,0]' in shown
    lit = re.findall(r'<g class="lit">.*?✗ ([\w.]+)<', shown, re.DOTALL)
    assert lit == ["attn.scores"]
    after = re.findall(r'<g class="after">.*?>([\w.]+)<', shown, re.DOTALL)
    assert (after[0], after[-1]) == ("attn.weights", "update")
    assert re.search(r'<span class="n">211</span>.*head_dim\*\*0\.5', shown)
    assert "parity check port.py:make --n-embd 4 --steps 1 --mode lock-step --only-case" in shown


def test_pass_shows_power_and_no_place():
    shown = page(fails=False)
    assert "What would have been caught" in shown
    assert "Where it goes wrong" not in shown
    assert "<svg" not in shown


def test_gradients_wrong_from_the_right_loss_on_light_a_weight_and_nothing_after_it():
    data = stored(fails=True)
    for mode in data["modes"]:
        mode["first_site"] = None
        for tensor in mode["location"]["tensors"]:
            tensor["origin"] = (tensor["quantity"], tensor["tensor"]) == ("grad", "layer0.mlp_fc2")
    shown = result_page(data, COMMAND)
    assert re.findall(r'<g class="lit">.*?✗ ([\w.]+)<', shown, re.DOTALL) == ["mlp.residual"]
    assert '<g class="after">' not in shown


def test_layer_that_is_drawn_is_the_one_that_is_wrong():
    data = stored(fails=True)
    data["config"]["n_layer"] = 3
    mode = data["modes"][0]
    mode["first_site"]["tensor"] = "layer2.mlp.pre at document 0, position 1"
    assert "In the model, layer 2 of 3" in result_page(data, COMMAND)
    mode["first_site"] = None
    for tensor in mode["location"]["tensors"]:
        tensor["origin"] = tensor["tensor"] == "layer0.mlp_fc1" and tensor["quantity"] == "grad"
        tensor["tensor"] = tensor["tensor"].replace("layer0", "layer1")
    shown = result_page(data, COMMAND)
    assert "In the model, layer 1 of 3" in shown
    assert re.findall(r'<g class="lit">.*?✗ ([\w.]+)<', shown, re.DOTALL)[0] == "mlp.pre"


@pytest.mark.parametrize("fails", [False, True])
def test_page_asks_for_nothing(fails):
    shown = page(fails=fails)
    assert "default-src 'none'" in shown
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)|url\(|@import""", shown)
    assert len(shown.encode()) < 200_000


def test_what_a_result_says_is_text_and_no_markup():
    data = {**stored(fails=False), "subject": "<script>alert(1)</script>", "reason": "<b>bold</b> & plain"}
    shown = result_page(data, ["parity", "check", "'<img src=x>'"])
    assert "<script>alert" not in shown
    assert "<b>bold" not in shown
    assert "<img" not in shown
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; plain" in shown


def test_page_of_a_probe_shows_where_the_probe_goes_wrong():
    data, failed = stored(fails=False), stored(fails=True)
    data["decided_by_probe"] = {"probe": "long", **{name: failed[name] for name in ("limit", "config", "modes")}}
    data["verdict"] = "DIVERGED"
    assert "in the probe long" in result_page(data, COMMAND)


def test_infinite_and_unknown_numbers_have_a_place():
    data = stored(fails=True)
    data["modes"][0]["first_divergence"] |= {"z": "inf", "error": "nan", "actual": "nan", "relative_error": "nan"}
    data["modes"][0]["allowed"] = "nan"
    data["modes"][0]["z_maps"][0]["rows"][0] = "inf inf 0"
    assert "<dd>nan</dd>" in result_page(data, COMMAND)


def test_gate_shows_head_against_base_first():
    shown = result_page(gate(), COMMAND)
    assert re.findall(r'<section id="(\w+)"', shown)[:3] == ["gate", "mode1", "mode2"]
    assert "head (actual) against base (expected)" in shown
    assert "port.py: 3, 7–9" in shown
    assert '<header class="top c-wrong">' in shown


def test_gate_that_passes_and_fails_for_another_reason_says_so_on_top():
    speed = {"ratio": 1.5, "interval": [1.4, 1.6]}
    passing = {"verdict": "PARITY", "first": None, "location": None, "head": stored(fails=False)}
    shown = result_page(gate(**passing, speed=speed, slower=True, fail_slower=1.1, wrong_alike=True), COMMAND)
    assert "SLOWER: a step at head takes at least 1.40 of the time at base; the limit is 1.1." in shown
    assert "Both wrong alike" in shown
    assert '<header class="top c-wrong">' in shown
    assert '<header class="top c-right">' in result_page(gate(**passing), COMMAND)
    accepted = result_page(gate(accepted={"reason": "On purpose", "verdict": "DIVERGED"}), COMMAND)
    assert '<header class="top c-identical">' in accepted
    assert "Accepted as intended: “On purpose”." in accepted


def test_training_is_shown_module_by_module():
    def wrong(quantity, name, module, error):
        tensor = f"{quantity} {name}"
        return {"key": [quantity, name], "tensor": tensor, "module": module, "relative_error": error}

    data = stored(fails=True)
    rows = [
        wrong("site", "blocks.0.norm", "LayerNorm", 3e-7),
        wrong("site grad", "blocks.0.norm", "LayerNorm", 2e-7),
        wrong("grad", "blocks.0.norm.weight", "", 5e-7),
        wrong("grad", "blocks.0.norm.bias", "", 6e-7),
        wrong("grad", "head.weight", "", 7e-9),
    ]
    data["modes"][0] |= {"location": None, "right": 7, "wrong": [{**row, "outside": 1, "elements": 2} for row in rows]}
    shown = result_page(data, COMMAND)
    table = shown[shown.index("<caption>the largest relative error in each module") : shown.index("tensor by tensor")]
    assert re.findall(r'<span class="mono">([^<]+)', table) == ["blocks.0.norm", "head"]
    assert re.findall(r"<td[^>]*>([^<]*)", table) == ["3e-07", "2e-07", "6e-07", "", "", "7e-09"]
    assert table.count("begins here") == 1
    assert shown.count('id="begins1"') == 1


def test_ranks_are_shown_rank_by_rank():
    shown = ranks_page()
    assert "parity check over 2 ranks" in shown
    rows = re.findall(r'<tr( class="explained")?><th scope="row" class="mono">([^<]+)</th>(.*?)</tr>', shown)
    assert [(name, bool(fine)) for fine, name, _ in rows] == [("grad w", False), ("grad b", True), ("param w", True)]
    cells = [re.findall(r"<td class=\"(\w+)\".*?</span> ([^<]+)<", row) for _, _, row in rows]
    assert cells[0] == [("hit", "0.5"), ("miss", "4e+14")]
    assert "✗ ≠" in rows[0][2]
    assert '<td class="soft">–</td>' in rows[2][2]
    assert "1 of 3 tensors outside: the gradient is the rank&#39;s own" in shown
    assert shown.count("2 times what is expected") == 2  # for eyes, and for those who listen
    shown_numbers_ = shown_numbers(shown)
    assert not shown_numbers_ - stored_numbers(ranks()) - {str(number) for number in range(5)}


def test_page_of_many_tensors_shows_those_that_are_wrong_first():
    data = ranks()
    for rank in data["by_rank"]:
        right = rank["tensors"][-1] | {"bits_of": 0}
        rank["tensors"] = [right | {"tensor": f"grad t{number}"} for number in range(900)] + rank["tensors"]
    shown = result_page(data, COMMAND)
    assert len(re.findall(r'<th scope="row" class="mono">', shown)) == 400
    assert '<th scope="row" class="mono">grad w</th>' in shown
    assert "503 more tensors are in the JSON, by_rank." in shown


def test_truth_is_told_where_it_was_asked_for():
    data = stored(fails=True)
    data["modes"][0] |= {
        "truth": {"subject": {"grad": 7e8}, "reference": {"grad": 1.1}, "apart": {}, "failures": []},
        "truth_says": "The subject is wrong: the truth agrees with the reference.",
    }
    shown = result_page(data, COMMAND)
    assert "The subject is wrong: the truth agrees with the reference." in shown
    assert shown.count("<dt>truth</dt>") == 1  # of the tensor; the sites are the reference's
    assert "<dt>truth</dt>" not in page(fails=True)
    assert re.search(r"grad</th><td>7e\+08</td><td>1.1</td><td>-</td>", shown)


def test_map_of_a_large_tensor_has_the_largest_z_of_each_block():
    key, sigma = TensorKey("grad", "wte"), np.ones((130, 3))
    error = np.zeros((130, 3))
    error[129, 2], sigma[0, 0], error[0, 0] = 7.0, np.inf, 1.0
    (stored_map,) = z_maps(Pairs.of(0, [(key, (130, 3))], [error], [np.zeros((130, 3))], [sigma]), [key, key])
    assert (stored_map["shape"], stored_map["block"]) == ([130, 3], [3, 1])
    assert len(stored_map["rows"]) == 44
    assert (stored_map["rows"][0], stored_map["rows"][1], stored_map["rows"][43]) == ("inf 0 0", "0 0 0", "0 0 7")
    found = heat_map(stored_map, 10.0)
    assert [shade for shade, _ in found.shades] == [0, 1, 6]


def test_axis_has_room_for_what_is_on_it():
    axis = LogAxis.around([3e-15, 0.0, 2e-9, float("inf")])
    assert (axis.first, axis.last) == (-15, -8)
    assert (axis.place(1e-15), axis.place(1e-8), axis.place(0.0), axis.place(float("inf"))) == (0, 100, 0, 100)


def test_command_without_some_options():
    words = ["parity", "check", "--json", "a.json", "--html=b", "--steps", "2", "--", "./port", "--json", "x"]
    assert without(words, "--json", "--html") == ["parity", "check", "--steps", "2", "--", "./port", "--json", "x"]


def test_page_that_cannot_be_written_is_refused_before_anything_runs(tmp_path, capsys):
    assert main(["check", "--html", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"{tmp_path} cannot be written: it is a folder.\n"
    assert main(["check", "--html", str(tmp_path / "a"), "--json", str(tmp_path / "a")]) == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--json", "--markdown", "--html"])
def test_folder_that_is_not_there_is_refused_and_not_made(option, tmp_path, capsys):
    file = tmp_path / "new" / "file"
    assert main(["check", option, str(file)]) == 2
    assert capsys.readouterr().err == f"{file} cannot be written: there is no folder {file.parent}.\n"
    assert not list(tmp_path.iterdir())


def test_command_writes_the_page_of_its_json(tmp_path, capsys):
    small = ["--steps", "1", "--only-case", "--n-embd", "4", "--n-head", "2", "--block-size", "3"]
    file = tmp_path / "page.html"
    assert main(["check", *small, "--html", str(file)]) == 0
    assert f"<pre>parity check {' '.join(small)}</pre>" in file.read_text(encoding="utf-8")
    assert capsys.readouterr().out.startswith("PARITY")
