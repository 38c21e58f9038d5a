"""Conformance vectors: right answers pass, every mistake is refused and named, and bad input ends in a sentence."""

import io
import json
import math
import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from parity import Config, Hyper, Verdict
from parity.catalogue.mutants import MUTANTS, Mutant
from parity.cli.terminal import console
from parity.cli.verification_table import verification_table
from parity.errors import UsageError
from parity.number_formats import FORMATS
from parity.subjects.messages import step_message
from parity.vectors import format as vector_files
from parity.vectors.cases import PLANS, SHOWN, Plan, _calm_steps, make_vectors, write_vectors
from parity.vectors.format import DTYPES, VECTOR_FORMAT, Mistake, Vector
from parity.vectors.verify import verify
from reference.config import Step
from tests.faults import FAULTS, planted
from tests.implementations import IMPLEMENTATIONS
from tests.thinning import one_in

TWIN = IMPLEMENTATIONS["line-for-line twin"]
SMALL = PLANS[0]
NEUTRAL = Mutant("neutral", "There is no mistake.", ((" / config.head_dim**0.5", " * config.head_dim**-0.5"),))
LEFT_OUT = ("loss_summed_over_batch", "loss_mean_over_tokens", "last_block")
"""What single documents shorter than the block do not show."""
IN_FLOAT32 = one_in(3, SHOWN)
"""The others `parity vectors --dtype float32` itself asks: it writes nothing where one of them would not be caught."""
PLACES = [
    *((SMALL.name, name) for name in SHOWN if name not in LEFT_OUT),
    *((plan.name, name) for plan in PLANS[1:] for name in plan.mistakes),
]


def load_vectors(folder: Path) -> list[Vector]:
    """The vectors in a folder, read once for all tests as long as its files stay as they are."""
    if not folder.is_dir():
        return vector_files.load_vectors(folder)
    return _read(folder, tuple(sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir())))


@lru_cache
def _read(folder: Path, files: tuple[tuple[str, int], ...]) -> list[Vector]:
    return vector_files.load_vectors(folder)


@pytest.fixture(autouse=True)
def read_once(monkeypatch):
    monkeypatch.setattr("parity.vectors.verify.load_vectors", load_vectors)


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    """The vectors of every number format, written once; in float32 with some of the mistakes."""
    paths = {dtype: tmp_path_factory.mktemp("vectors") / dtype for dtype in DTYPES}
    write_vectors(paths["float64"], "float64")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("parity.vectors.cases.SHOWN", {name: SHOWN[name] for name in IN_FLOAT32})
        patch.setattr("parity.vectors.cases.PLANS", [replace(plan, mistakes=some(plan.mistakes)) for plan in PLANS])
        write_vectors(paths["float32"], "float32")
    return paths


def some(mistakes: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Those that are in the vectors in float32 here; None stays None."""
    return mistakes and tuple(name for name in mistakes if name in IN_FLOAT32)


@pytest.fixture(scope="session", params=DTYPES)
def folder(request, folders) -> Path:
    return folders[request.param]


@pytest.fixture(scope="session")
def vectors(folders) -> dict[str, Vector]:
    """Those in float64."""
    return {vector.name: vector for vector in load_vectors(folders["float64"])}


@pytest.fixture
def float64(folders) -> Path:
    return folders["float64"]


@pytest.fixture
def results(tmp_path):
    """Writes a file of answers."""

    def write(answers) -> Path:
        path = tmp_path / "RESULTS.json"
        path.write_text(answers if isinstance(answers, str) else json.dumps(answers))
        return path

    return write


def steps_of(factory, vector, fields=("loss", "logits", "grads", "m", "v", "params"), **options) -> list[dict]:
    subject = factory(vector.case.config, vector.case.hyper, **options)
    subject.load(vector.case.state)
    messages = [step_message(subject.train_step(batch)) for batch in vector.case.batches()]
    return [{field: message[field] for field in fields} for message in messages]


def answers_of(factory, folder: Path, *names: str, **options) -> dict[str, list]:
    vectors = load_vectors(folder)
    return {v.name: steps_of(factory, v, **options) for v in vectors if not names or v.name in names}


def printed(verification) -> str:
    terminal = console()
    terminal.file = io.StringIO()
    terminal.print(verification_table(verification))
    return " ".join(terminal.file.getvalue().split())


@pytest.mark.parametrize(("number", "name"), list(enumerate(IMPLEMENTATIONS)), ids=IMPLEMENTATIONS)
def test_correct_implementation_has_parity(folders, results, number, name):
    folder = folders[DTYPES[number % len(DTYPES)]]
    found = verify(folder, results(answers_of(IMPLEMENTATIONS[name], folder, dtype=folder.name)))
    assert found.verdict is Verdict.PARITY, found.reason
    assert [case.vector.name for case in found.cases] == [plan.name for plan in PLANS]
    assert re.fullmatch(r"Rounding explains every difference in all 7 cases: largest z [\d.]+\.", found.reason)
    assert not found.mistakes


def test_reference_itself_is_identical(float64, results):
    answers = {v.name: [{**vars(step)} for step in v.expected] for v in load_vectors(float64)}
    answers = {name: [{f: x for f, x in step.items() if x is not None} for step in a] for name, a in answers.items()}
    found = verify(float64, results(answers))
    assert (found.verdict, found.reason) == (Verdict.IDENTICAL, "Every bit is the same in all 7 cases.")


def test_every_mistake_has_its_places(vectors):
    places = [(vector.name, mistake.name) for vector in vectors.values() for mistake in vector.mistakes]
    assert places == PLACES
    assert {name for _, name in places} == SHOWN.keys()


@pytest.mark.parametrize(("name", "mutant"), PLACES, ids=["-".join(place) for place in PLACES])
def test_every_mistake_is_refused_and_named(float64, vectors, results, name, mutant):
    found = verify(float64, results({name: steps_of(MUTANTS[mutant].make, vectors[name])}))
    assert found.verdict is Verdict.DIVERGED
    assert [mistake.name for mistake in found.mistakes] == [mutant]
    assert f"It behaves like the reference with this mistake: {MUTANTS[mutant].mistake}" in found.reason
    assert MUTANTS[mutant].mistake in printed(found)


def test_every_mistake_is_named_in_float32(folders):
    named = set()
    for vector in load_vectors(folders["float32"]):
        for mistake in vector.mistakes:
            answers = [Step(**step) for step in steps_of(MUTANTS[mistake.name].make, vector)]
            assert [fitting.name for fitting in vector.fitting(answers)] == [mistake.name]
            named.add(mistake.name)
    assert named == set(IN_FLOAT32)


def test_mistake_is_named_from_losses_alone(float64, vectors, results):
    for name in ("never_updated", "scores_not_scaled", "loss_summed_over_positions", "rate_constant"):
        answers = {"small": steps_of(MUTANTS[name].make, vectors["small"], fields=["loss"])}
        assert [mistake.name for mistake in verify(float64, results(answers)).mistakes] == [name]


def test_mistake_that_does_not_fit_every_case_is_not_named(float64, vectors, results):
    answers = {
        "small": steps_of(MUTANTS["gelu"].make, vectors["small"]),
        "squared": steps_of(MUTANTS["rate_constant"].make, vectors["squared"]),
    }
    found = verify(float64, results(answers))
    assert [[mistake.name for mistake in case.mistakes] for case in found.cases if case.mistakes] == [
        ["gelu"],
        ["rate_constant"],
    ]
    assert not found.mistakes
    assert "2 of 7 cases: small, squared." in found.reason


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_fault_planted_in_the_twin_is_outside_of_some_case(vectors, fault):
    def outside(vector):
        answers = [Step(**step) for step in steps_of(make, vector)]
        return vector.outside(answers, vector.expected, vector.allowed)

    with planted(*fault.edits) as make:
        assert any(map(outside, vectors.values()))


def test_unknown_mistake_is_refused_without_a_name(float64, results):
    answers = answers_of(TWIN, float64)
    answers["layers"][1]["params"]["wte"][0][0] += 1e-9
    found = verify(float64, results(answers))
    assert found.verdict is Verdict.DIVERGED
    assert found.reason.startswith("1 of 7 cases: layers. step 1: param wte[0,0]: ")
    assert not any(case.mistakes for case in found.cases)
    assert [case.verdict for case in found.cases] == [Verdict.PARITY] * 5 + [Verdict.DIVERGED, Verdict.PARITY]


def test_first_failure_is_told_tensor_by_tensor(float64, vectors, results):
    answers = {name: steps_of(TWIN, vectors[name]) for name in ("small", "batch")}
    answers["batch"] = steps_of(MUTANTS["keys_detached"].make, vectors["batch"])
    text = printed(verify(float64, results(answers)))
    assert (
        "case batch, step 0, in the order of computation (relative errors in parentheses): logits, loss right" in text
    )
    assert text.endswith("begins at grad layer0.attn_wk: what it is computed from is not seen to be wrong")


def without_the_square(config, hyper):
    """A port that has ReLU and the linear schedule, whatever it is asked for."""
    return TWIN(replace(config, activation="relu"), replace(hyper, lr_schedule="linear"))


def test_port_without_an_activation_is_told_how_to_say_so(float64, results):
    answers = answers_of(TWIN, float64)
    answers["squared"] = answers_of(without_the_square, float64, "squared")["squared"]
    found = verify(float64, results(answers))
    assert found.verdict is Verdict.DIVERGED
    assert found.reason.endswith(
        " There the model has the activation relu2 and the schedule cosine, and all other cases pass: a port that does "
        'not have that answers "unsupported" in place of the list of steps.'
    )
    assert "NotImplementedError" not in json.dumps(found.to_dict())


def test_port_that_fails_in_other_cases_too_is_told_nothing_of_its_activation(float64, results):
    answers = answers_of(MUTANTS["scores_not_scaled"].make, float64)
    found = verify(float64, results(answers))
    assert found.verdict is Verdict.DIVERGED
    assert "unsupported" not in found.reason
    assert "NotImplementedError" not in json.dumps(found.to_dict())


def test_losses_alone_are_judged_and_the_rest_is_listed(folder, results):
    found = verify(folder, results(answers_of(TWIN, folder, fields=["loss"], dtype=folder.name)))
    assert found.verdict is Verdict.PARITY
    assert "so not checked throughout: logits, grad, m, v, param." in found.reason
    assert found.cases[0].result.unchecked == ["logits", "grad", "m", "v", "param"]


def test_case_without_answers_is_inconclusive(float64, results):
    found = verify(float64, results(answers_of(TWIN, float64, "small", "batch")))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason == "5 of 7 cases: squared, resumed, thin-heads, layers, default. There are no answers."
    assert found.cases[2].reason == "There are no answers."
    assert verify(float64, results({})).verdict is Verdict.INCONCLUSIVE


def test_port_of_one_size_passes_by_the_default_case_and_the_rest_is_not_exercised(float64, results):
    others = {plan.name: "unsupported" for plan in PLANS if plan.name != "default"}
    found = verify(float64, results(answers_of(TWIN, float64, "default") | others))
    assert found.verdict is Verdict.PARITY
    said, _, left = found.reason.partition(" Not exercised, for the port has no such models: ")
    assert re.fullmatch(r"Rounding explains every difference in the case default: largest z [\d.]+\.", said)
    assert all(f"{name} (" in left for name in others)
    assert [case["verdict"] for case in found.to_dict()["cases"]] == [None] * 6 + ["PARITY"]
    assert re.search(r"small - - 3 batch - - 2 ", printed(found))


def test_port_without_any_model_is_inconclusive(float64, results):
    found = verify(float64, results({plan.name: "unsupported" for plan in PLANS}))
    assert found.verdict is Verdict.INCONCLUSIVE


def test_tensors_left_out_of_answers_are_named(float64, results):
    answers = answers_of(TWIN, float64)
    for step in (step for steps in answers.values() for step in steps):
        del step["grads"]["wpe"]
    found = verify(float64, results(answers))
    assert found.verdict is Verdict.PARITY
    assert found.reason.endswith("so not checked throughout: grad of wpe.")


def test_mistake_is_named_though_tensors_are_left_out(float64, vectors, results):
    steps = steps_of(MUTANTS["m_with_beta2"].make, vectors["resumed"])
    for step in steps:
        del step["m"]["wte"], step["params"]["lm_head"]
    found = verify(float64, results({"resumed": steps}))
    assert [mistake.name for mistake in found.mistakes] == ["m_with_beta2"]


def test_mistake_that_shows_only_in_what_is_left_out_is_not_named(vectors):
    vector = vectors["small"]
    expected, allowed = vector.expected[0], vector.allowed[0]
    wrong = {**expected.grads, "wpe": [[3 * x + 1 for x in row] for row in expected.grads["wpe"]]}
    mistake = Mistake("planted", "grad wpe is wrong", [Step(grads=wrong)], [Step(grads=allowed.grads)])
    one = replace(
        vector, case=replace(vector.case, steps=1), expected=[expected], allowed=[allowed], mistakes=[mistake]
    )
    left_out = {name: grad for name, grad in expected.grads.items() if name != "wpe"}
    assert one.fitting([Step(grads=left_out)]) == []
    assert one.fitting([Step(grads=wrong)]) == [mistake]


def test_steps_without_a_field_are_inconclusive(float64, results):
    answers = answers_of(TWIN, float64)
    answers["small"] = [{}, {}, {}]
    found = verify(float64, results(answers))
    assert (found.verdict, found.cases[0].reason) == (Verdict.INCONCLUSIVE, "Nothing was compared.")


def test_answers_in_float32_to_vectors_in_float64_are_told_what_to_do(float64, results):
    found = verify(float64, results(answers_of(TWIN, float64, dtype="float32")))
    assert found.verdict is Verdict.DIVERGED
    assert "In float32 rounding would explain it" in found.reason
    assert "--dtype float32" in found.reason


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([], "There are answers to 0 steps of the case small, which has 3."),
        ([{"loss": 1.0}], "There are answers to 1 step of the case small, which has 3."),
        ([{"loss": 1.0}] * 4, "There are answers to 4 steps of the case small, which has 3."),
        ({"loss": 1.0}, "The answers to the case small must be a list of objects, one for each step."),
        (3, "The answers to the case small must be a list of objects, one for each step."),
        ([1.0, 2.0, 3.0], "The answers to the case small must be a list of objects, one for each step."),
        ([{"losses": 1.0}] * 3, "The subject's step has the unknown field 'losses'"),
        ([{"loss": "low"}] * 3, "not numbers"),
        ([{"loss": [1.0, 2.0]}] * 3, "has the shape (2,), expected a single number"),
        ([{"logits": 1.0}] * 3, "cannot be read as a Step"),
        ([{"logits": [[1.0], [1.0, 2.0]]}] * 3, "The subject's logits"),
        ([{"grads": [1.0]}] * 3, "The subject's grads must be a dict"),
        ([{"grads": {"wte": [[1.0]]}}] * 3, "The subject's grads, wte, have the shape (1, 1), expected (6, 4)"),
        ([{"grads": {"wtf": [[1.0]]}}] * 3, "The subject's grads have the unknown wtf (is it wte?)"),
        ([{"grads": {}}] * 3, "The subject's grads hold no tensor"),
        ([{"loss": 1.0}, {}, {"loss": 1.0}], "exposes loss at some steps and not at others"),
    ],
)
def test_answers_that_are_none_are_an_error(float64, results, steps, reason):
    found = verify(float64, results({"small": steps}))
    assert found.verdict is Verdict.ERROR
    assert reason in found.cases[0].reason
    assert "small" in found.reason


@pytest.mark.parametrize("value", [None, "Infinity", "-Infinity"])
def test_answer_that_is_not_finite_is_refused(float64, results, value):
    answers = answers_of(TWIN, float64, "small")
    answers["small"][1]["grads"]["wte"][1][0] = value
    found = verify(float64, results(answers))
    assert found.verdict is Verdict.DIVERGED
    assert "step 1: grad wte[1,0]" in found.cases[0].reason
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not json", "is not JSON"),
        ("", "is not JSON"),
        ('{"small": [', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "must be an object with a list of steps for each case, not list"),
        ('{"smal": []}', "has the unknown case 'smal' (did you mean 'small'?); the cases are small, batch"),
    ],
)
def test_file_without_answers_is_bad_input(float64, results, text, said):
    with pytest.raises(UsageError, match=re.escape(said)) as error:
        verify(float64, results(text))
    assert str(error.value).endswith(".")


def test_file_that_is_missing_is_bad_input(float64, tmp_path):
    with pytest.raises(UsageError, match=r"absent.json cannot be read: No such file"):
        verify(float64, tmp_path / "absent.json")
    with pytest.raises(UsageError, match=r"There is no folder .*absent\."):
        verify(tmp_path / "absent", tmp_path / "RESULTS.json")
    with pytest.raises(UsageError, match=r"holds no conformance vectors; `parity vectors"):
        verify(tmp_path, tmp_path / "RESULTS.json")


def copied(folder: Path, to: Path) -> Path:
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            VECTOR_FORMAT,
            "microgpt-parity vector 9",
            "has the format 'microgpt-parity vector 9', and this version of parity",
        ),
        ('"batches"', '"bunches"', "is damaged"),
        ('"n_embd": 4', '"n_embd": 5', "is damaged"),
        ('"mistakes": [', '"mistakes": [3, ', "is damaged"),
        ('"expected": [', '"expected": [{}, ', "is damaged"),
        ('"values": [{"', '"values": [{"ross": 3, "', "is damaged"),
        ('"name": "small"', '"name": "smaller"', "does not hold one whole set of vectors"),
        ('"dtype": "float64"', '"dtype": "float32"', "does not hold one whole set of vectors"),
    ],
)
def test_vectors_of_another_version_or_damaged_are_bad_input(float64, tmp_path, results, old, new, said):
    folder = copied(float64, tmp_path / "copy")
    path = folder / "small.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UsageError, match=re.escape(said)):
        verify(folder, results({}))


def test_missing_vector_is_bad_input_and_answers_may_lie_beside_them(float64, tmp_path):
    folder = copied(float64, tmp_path / "copy")
    (folder / "RESULTS.json").write_text(json.dumps(answers_of(TWIN, folder)))
    assert verify(folder, folder / "RESULTS.json").verdict is Verdict.PARITY
    (folder / "batch.json").unlink()
    with pytest.raises(UsageError, match="does not hold one whole set"):
        verify(folder, folder / "RESULTS.json")


def test_result_is_data_and_a_table(float64, results):
    path = results(answers_of(TWIN, float64, "small"))
    found = verify(float64, path)
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (record["verdict"], record["dtype"], record["results"]) == ("INCONCLUSIVE", "float64", str(path))
    assert [case["name"] for case in record["cases"]] == [plan.name for plan in PLANS]
    assert record["cases"][0]["result"]["verdict"] == record["cases"][0]["verdict"] == "PARITY"
    assert record["cases"][1]["result"] is None
    text = printed(found)
    assert text.startswith("INCONCLUSIVE: 6 of 7 cases: ")
    assert "in float64 answers " in text
    for plan in PLANS:
        assert plan.name in text
    assert re.search(r"small PARITY [\d.]+ 3 batch INCONCLUSIVE - 2 ", text)
    assert text.count("There are no answers") == 1


def by_hand(actual: Step, expected: Step, allowed: Step) -> bool:
    """As the README tells a reader without Python to judge: element by element."""

    def right(actual, expected, allowed) -> bool:
        if isinstance(expected, dict):
            return all(right(actual[name], expected[name], allowed[name]) for name in expected)
        if isinstance(expected, list):
            return all(map(right, actual, expected, allowed))
        return abs(actual - expected) <= allowed

    fields = [name for name, value in vars(expected).items() if value is not None]
    return all(right(getattr(actual, name), getattr(expected, name), getattr(allowed, name)) for name in fields)


def test_judging_by_hand_as_the_readme_says_gives_the_same(folder):
    for vector in load_vectors(folder):
        answers = [Step(**step) for step in steps_of(TWIN, vector, dtype=folder.name)]
        assert all(map(by_hand, answers, vector.expected, vector.allowed))
        for mistake in vector.mistakes:
            answers = [Step(**step) for step in steps_of(MUTANTS[mistake.name].make, vector)]
            assert all(map(by_hand, answers, mistake.values, mistake.allowed))
            assert not all(map(by_hand, answers, vector.expected, vector.allowed))
            assert not all(map(by_hand, vector.expected, mistake.values, mistake.allowed))


def test_cases_exercise_what_they_say(folder):
    vectors = {vector.name: vector for vector in load_vectors(folder)}
    cases = {name: vector.case for name, vector in vectors.items()}
    assert all(len(set(tokens[1:-1])) < len(tokens[1:-1]) for tokens in cases["small"].documents[:2])
    assert 4 not in {token for tokens in cases["small"].documents for token in tokens}
    assert {x for step in vectors["small"].expected for x in step.grads["wte"][4]} == {0.0}
    assert {x for step in vectors["small"].allowed for x in step.grads["wte"][4]} == {0.0}
    lengths = [len(tokens) - 2 for tokens in cases["batch"].documents]
    assert cases["batch"].batch_size == 3
    assert {0, 1} < set(lengths)
    assert max(lengths) + 1 > cases["batch"].config.block_size
    assert (cases["squared"].config.activation, cases["squared"].hyper.lr_schedule) == ("relu2", "cosine")
    assert cases["resumed"].state.step > 0
    assert np.count_nonzero(cases["resumed"].state.v["wte"])
    assert cases["thin-heads"].config.head_dim == 1
    assert (cases["layers"].config.n_layer, cases["layers"].config.n_head) == (2, 4)
    assert (cases["default"].config, cases["default"].hyper) == (Config(), Hyper())
    assert max(map(len, cases["default"].documents)) > Config().block_size + 2


def test_weights_are_exact_in_every_format(folder):
    for vector in load_vectors(folder):
        for part in (vector.case.state.params, vector.case.state.m, vector.case.state.v):
            for matrix in part.values():
                assert (FORMATS["float32"].rounded(matrix) == np.array(matrix)).all()


def test_folder_is_small(folder):
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3_000_000


def test_example_of_the_readme_is_real(folder, results):
    text = (folder / "README.md").read_text()
    (example,) = re.findall(r"```json\n(.*?)```", text, flags=re.DOTALL)
    found = verify(folder, results(example))
    assert found.cases[0].verdict in (Verdict.IDENTICAL, Verdict.PARITY)
    assert f"microgpt-parity: {folder.name}\n" in text
    assert "$" not in text


def test_readme_names_every_part_of_a_file(folder):
    text = (folder / "README.md").read_text()
    parts = json.loads((folder / "small.json").read_text())
    names = {*parts, *parts["expected"][0], *parts["mistakes"][0], *parts["config"]} - {"format", "dtype", "n_layer"}
    for name in names:
        assert re.search(rf"\b{name}\b", text), name
    for name in [*(SHOWN if folder.name == "float64" else IN_FLOAT32), *(plan.name for plan in PLANS)]:
        assert f"`{name}`" in text


def test_shapes_of_the_readme_are_those_of_the_tensors(folder, vectors):
    text = (folder / "README.md").read_text()
    table = re.findall(r"^\| (`.*`.*) \| (\w+|4 \* n_embd), (\w+|4 \* n_embd) \|$", text, flags=re.MULTILINE)
    config = vectors["batch"].case.config
    shapes = {
        name: tuple(eval(size, {}, vars(config)) for size in sizes)
        for names, *sizes in table
        for name in re.findall(r"`([\w.]+)`", names)
    }
    assert shapes == {name: config.shapes()[name] for name in shapes}
    assert len(shapes) == len(config.shapes())


@pytest.fixture
def quick(monkeypatch):
    """One case and one mistake, since what is tested is the folder."""
    monkeypatch.setattr("parity.vectors.cases.PLANS", (SMALL,))
    monkeypatch.setattr("parity.vectors.cases.SHOWN", {"gelu": MUTANTS["gelu"]})


@pytest.mark.usefixtures("quick")
def test_same_bytes_at_every_run(tmp_path):
    first, second = (write_vectors(tmp_path / name) for name in ("one", "two"))
    assert [path.name for path in first] == ["small.json", "README.md"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.usefixtures("quick")
def test_folder_of_vectors_is_replaced_as_a_whole(tmp_path):
    (path, readme) = write_vectors(tmp_path)
    before = path.read_bytes()
    (tmp_path / "gone.json").write_bytes(before.replace(VECTOR_FORMAT.encode(), b"microgpt-parity vector 0"))
    path.write_bytes(before[:200])
    readme.write_text(readme.read_text() + "\nA note.\n")
    done: list[int] = []
    write_vectors(tmp_path, progress=done.append)
    assert done == [1]
    assert path.read_bytes() == before
    assert sorted(found.name for found in tmp_path.iterdir()) == ["README.md", "small.json"]
    assert "A note" not in readme.read_text()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["RESULTS.json", "README.md", "notes.txt", "small.json"])
def test_folder_that_holds_other_things_is_refused(tmp_path, name):
    (tmp_path / name).write_text('{"small": []}')
    with pytest.raises(UsageError, match=f"holds {name}, which is no conformance vector; name an empty or new folder"):
        write_vectors(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.usefixtures("quick")
def test_folder_that_cannot_be_one_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is not a folder"):
        write_vectors(tmp_path / "file")
    with pytest.raises(UsageError, match="cannot be"):
        write_vectors(tmp_path / "file" / "below")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "small.json").mkdir()
    with pytest.raises(UsageError, match=r"holds small\.json"):
        write_vectors(tmp_path / "in")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
def test_format_in_which_rounding_decides_relus_is_refused(tmp_path, dtype):
    with pytest.raises(UsageError, match=f"There are vectors for float64 and float32, not for {dtype}"):
        write_vectors(tmp_path / "vectors", dtype)
    assert not (tmp_path / "vectors").exists()


def test_mistake_that_no_case_shows_is_not_written_over(tmp_path, monkeypatch):
    monkeypatch.setattr("parity.vectors.cases.PLANS", (SMALL,))
    monkeypatch.setattr("parity.vectors.cases.SHOWN", {"neutral": NEUTRAL})
    with pytest.raises(UsageError, match=r"No case would catch this mistake in float64: There is no mistake\."):
        write_vectors(tmp_path / "vectors")
    monkeypatch.setattr("parity.vectors.cases.PLANS", (replace(SMALL, mistakes=("neutral",)),))
    with pytest.raises(UsageError, match=r"The case small would not catch this mistake in float64: There is no"):
        write_vectors(tmp_path / "vectors")
    assert not (tmp_path / "vectors").exists()


def test_weights_at_a_kink_or_with_an_update_of_either_sign_are_not_taken(monkeypatch):
    limit = 10.0
    assert _calm_steps(SMALL.drawn(0), FORMATS["float64"], limit)
    assert _calm_steps(SMALL.drawn(0), FORMATS["bfloat16"], limit) is None
    # At a single position the gradients of queries and keys are 0 but for rounding.
    alone = Plan("alone", "", Config(n_embd=4, n_head=2, block_size=4, vocab_size=5, init_std=0.3), Hyper(), ((),), ())
    assert _calm_steps(alone.drawn(0), FORMATS["float64"], limit) is None
    monkeypatch.setattr("parity.vectors.cases.TRIED_SEEDS", 3)
    with pytest.raises(UsageError, match="No weights were found for the case alone in float64"):
        make_vectors("float64", [alone])


def test_nothing_written_holds_what_json_does_not(folder):
    def refused(constant):
        raise AssertionError(constant)

    for path in folder.glob("*.json"):
        parts = json.loads(path.read_text(), parse_constant=refused)
        assert math.isfinite(parts["limit"])
