"""Cases: what is refused, and that a stored case is the same case."""

import json
import math
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity import Case, Config, Hyper, State
from parity.errors import UsageError
from parity.files import write_whole
from parity.strategies import cases, configs
from reference.data import DataError

CONFIG = Config(n_layer=1, n_embd=2, n_head=1, block_size=2, vocab_size=3)


def zeros() -> dict[str, list[list[float]]]:
    return {name: [[0.0] * columns for _ in range(rows)] for name, (rows, columns) in CONFIG.shapes().items()}


def a_case(**changes) -> Case:
    case = Case(CONFIG, Hyper(num_steps=10), State(zeros(), zeros(), zeros()), [[2, 0, 1, 2]], steps=2)
    return replace(case, **changes)


def a_state(kind: str, name: str, matrix) -> State:
    state = State(zeros(), zeros(), zeros())
    getattr(state, kind)[name] = matrix
    return state


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def is_a_sentence(message: str) -> bool:
    return message.endswith(".") and "\n" not in message and "Traceback" not in message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": -1}, "steps"),
        ({"steps": 2.0}, "steps"),
        ({"steps": True}, "steps"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": "1"}, "batch_size"),
        ({"steps": 11}, "num_steps"),
        ({"state": State(zeros(), zeros(), zeros(), step=9)}, "num_steps"),
        ({"documents": []}, "no documents"),
        ({"documents": [[2, 0, 2], []]}, "Document 1"),
        ({"documents": [[2]]}, "BOS"),
        ({"documents": [[0, 1, 2]]}, "BOS"),
        ({"documents": [[2, 1, 0]]}, "BOS"),
        ({"documents": [[2, 3, 2]]}, "token 3"),
        ({"documents": [[2, -1, 2]]}, "token -1"),
        ({"documents": [[2, 0.5, 2]]}, "token 0.5"),
        ({"documents": [[2, "a", 2]]}, "token 'a'"),
        ({"state": a_state("params", "bias", [[0.0]])}, "bias"),
        ({"state": State({}, zeros(), zeros())}, "lm_head"),
        ({"state": a_state("params", "wte", [[0.0, 0.0]])}, "wte"),
        ({"state": a_state("params", "wte", [[0.0, 0.0], [0.0, 0.0], [0.0]])}, "wte"),
        ({"state": a_state("params", "wte", [["a", 0.0]] * 3)}, "wte"),
        ({"state": a_state("params", "wte", [[None, 0.0]] * 3)}, "wte"),
        ({"state": a_state("params", "wte", 0.0)}, "wte"),
        ({"state": a_state("params", "wte", None)}, "wte"),
        ({"state": a_state("params", "wte", [[10**400, 0.0]] * 3)}, "wte"),
        ({"state": a_state("params", "wte", [[math.nan, 0.0]] * 3)}, "finite"),
        ({"state": a_state("m", "wte", [[math.inf, 0.0]] * 3)}, "finite"),
        ({"state": a_state("v", "wte", [[-1.0, 0.0]] * 3)}, "at least 0"),
    ],
)
def test_parts_that_do_not_fit_are_refused_in_a_sentence(changes, said):
    with pytest.raises(UsageError) as caught:
        a_case(**changes)
    assert said in str(caught.value)
    assert is_a_sentence(str(caught.value))


@pytest.mark.parametrize("step", [-1, 1.5, "0", None])
def test_number_of_updates_that_is_no_whole_number_is_refused(step):
    with pytest.raises(UsageError):
        a_case(state=State(zeros(), zeros(), zeros(), step=step))


def test_tensors_are_copied_so_that_nobody_else_can_change_them():
    state = State(zeros(), zeros(), zeros())
    case = a_case(state=state)
    state.params["wte"][0][0] = 1.0
    assert case.state.params["wte"][0][0] == 0.0


def test_batches_are_fresh_lists():
    case = a_case()
    for batch in case.batches():
        batch[0].clear()
    assert case.documents == [[2, 0, 1, 2]]


def test_documents_start_over_at_the_end():
    first, second, third = [2, 0, 2], [2, 1, 2], [2, 2]
    case = a_case(documents=[first, second, third], batch_size=2, steps=3)
    assert list(case.batches()) == [[first, second], [third, first], [second, third]]


def test_names_give_the_run_that_the_reference_would_make():
    case = Case.from_names(steps=3, seed=7, config={"n_layer": 2}, hyper={"beta1": 0.5})
    assert (case.config.n_layer, case.hyper.beta1, case.steps, case.state.step) == (2, 0.5, 3, 0)
    assert len(case.documents) == 3
    assert case == Case.from_names(steps=3, seed=7, config={"n_layer": 2}, hyper={"beta1": 0.5})
    assert case.state != Case.from_names(steps=3, seed=8, config={"n_layer": 2}).state


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"preset": "gpt-2"}, "microgpt_early"),
        ({"config": {"n_head": 3}}, "3 heads"),
        ({"config": {"n_heads": 4}}, "n_heads"),
        ({"hyper": {"beta1": 1.0}}, "beta1"),
        ({"hyper": {"num_steps": 5}}, "num_steps"),
        ({"steps": 0}, "steps"),
        ({"batch_size": -3}, "batch_size"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_a_sentence(arguments, said):
    with pytest.raises(UsageError) as caught:
        Case.from_names(**arguments)
    assert said in str(caught.value)
    assert is_a_sentence(str(caught.value))


def test_names_that_do_not_exist_are_refused(tmp_path):
    with pytest.raises(DataError, match="There is no file"):
        Case.from_names(tmp_path / "names.txt")


def bits(case: Case) -> list[tuple[str, ...]]:
    tensors = (case.state.params, case.state.m, case.state.v)
    return [tuple(x.hex() for x in row) for kind in tensors for matrix in kind.values() for row in matrix]


@given(case=cases(config=configs(max_embd=4)), data=st.data())
def test_stored_case_is_the_same_bit_for_bit(case, data):
    number = st.floats(allow_nan=False, allow_infinity=False)
    for kind in ("params", "m", "v"):
        matrix = getattr(case.state, kind)["wte"]
        drawn = data.draw(st.lists(number, min_size=len(matrix[0]), max_size=len(matrix[0])), label=kind)
        matrix[0] = [abs(x) for x in drawn] if kind == "v" else drawn
    again = Case.from_json(case.to_json())
    assert again == case
    assert bits(again) == bits(case)
    assert again.to_json() == case.to_json()


@pytest.mark.parametrize("number", [5e-324, -2.5e-310, -0.0, 1.7976931348623157e308, 0.1, 1 / 3])
def test_every_float_survives_storing(number, tmp_path):
    case = a_case(state=a_state("params", "wpe", [[number, 0.0], [0.0, -number]]))
    case.save(tmp_path / "case.json")
    again = Case.load(tmp_path / "case.json")
    assert bits(again) == bits(case)
    assert again.config == case.config
    assert again.hyper == case.hyper


def stored(**changes) -> str:
    return json.dumps({**json.loads(a_case().to_json()), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "3",
        '"case"',
        "{}",
        '{"format": "microgpt-parity case 0"}',
        '{"format": "microgpt-parity case 1"}',
        stored(format=None),
        stored(config=None),
        stored(config={"n_layers": 1}),
        stored(config=vars(CONFIG) | {"n_embd": 3}),
        stored(config=vars(CONFIG) | {"n_head": "1"}),
        stored(config=vars(CONFIG) | {"init_std": "a"}),
        stored(hyper=[]),
        stored(hyper={"beta1": 2}),
        stored(hyper={"beta1": None}),
        stored(state={}),
        stored(state={"params": 1, "m": 2, "v": 3}),
        stored(state={"params": {}, "m": {}, "v": {}}),
        stored(state=None),
        stored(documents=3),
        stored(documents=None),
        stored(documents=[3]),
        stored(documents=[[]]),
        stored(documents=["name"]),
        stored(documents={}),
        stored(steps=None),
        stored(extra=1),
        a_case().to_json().replace("0.0", "NaN", 1),
        a_case().to_json().replace("0.0", "1e999", 1),
        a_case().to_json()[:-20],
        "[" * 100_000,
        '{"a":' * 100_000,
        "1" * 5000,
    ],
)
def test_file_that_holds_no_case_is_refused_in_a_sentence(text, tmp_path):
    path = tmp_path / "case.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        Case.load(path)
    assert is_a_sentence(str(caught.value))
    assert str(path) in str(caught.value)


def test_file_that_cannot_be_read_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80")
    for name in ("missing", "binary", ".", "binary/below"):
        with pytest.raises(UsageError) as caught:
            Case.load(tmp_path / name)
        assert is_a_sentence(str(caught.value))


def test_saving_makes_the_folder_and_leaves_only_the_file(tmp_path):
    a_case().save(tmp_path / "new" / "folder" / "case.json")
    assert names_in(tmp_path / "new" / "folder") == ["case.json"]


def test_saving_replaces_what_was_there(tmp_path):
    path = tmp_path / "case.json"
    path.write_text("old")
    a_case().save(path)
    assert Case.load(path) == a_case()
    assert names_in(tmp_path) == ["case.json"]


def test_interrupted_saving_leaves_the_old_file_and_nothing_half_written(tmp_path, monkeypatch):
    path = tmp_path / "case.json"
    path.write_text("old")

    def full(self, text, **options):
        self.write_bytes(text[: len(text) // 2].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UsageError, match="No space left on device"):
        a_case().save(path)
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["case.json"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogate")])
def test_saving_that_ends_otherwise_leaves_nothing_half_written(error, tmp_path, monkeypatch):
    def interrupted(self, text, **options):
        self.touch()
        raise error

    monkeypatch.setattr(Path, "write_text", interrupted)
    with pytest.raises((KeyboardInterrupt, UnicodeEncodeError)):
        a_case().save(tmp_path / "case.json")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("place", [".", "file/below.json", "x" * 300])
def test_place_that_cannot_be_written_is_named_in_a_sentence(place, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError) as caught:
        write_whole(tmp_path / place, "text")
    assert is_a_sentence(str(caught.value))
    assert names_in(tmp_path) == ["file"]


def test_device_is_written_and_stays_a_device():
    a_case().save(Path(os.devnull))
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_link_is_followed_rather_than_replaced(tmp_path):
    target = tmp_path / "target.json"
    target.write_text("old")
    (tmp_path / "link.json").symlink_to(target)
    a_case().save(tmp_path / "link.json")
    assert Case.load(target) == a_case()
    assert (tmp_path / "link.json").is_symlink()
