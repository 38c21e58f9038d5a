"""Probes: no known mistake hides from all of them, and no correct implementation is refused by one."""

import json
from pathlib import Path

import pytest

from parity import Case, Verdict, check
from parity.catalogue.detection import AskedCase, cover
from parity.catalogue.mutants import ALL, MUTANTS, MutantSubject
from parity.judging.probes import CHOSEN, DOUBLE, EVERY_FORMAT, WIDE_RANGE, probes
from parity.options import MODES
from tests.implementations import IMPLEMENTATIONS
from tests.thinning import one_in

ROOT = Path(__file__).parents[2]
STORED = json.loads((ROOT / "benchmarks/results/probes.json").read_text(encoding="utf-8"))
RUNGS = ("padded", "packed", "fused_attention")
BY_NAME = {probe.name: probe for probe in probes()}


def in_format(mutant, dtype):
    """A factory of the mutant that says that it computes in a format; it computes more precisely than that."""

    known = []

    def make(config, hyper):
        subject = mutant.make(config, hyper)
        subject.dtype = dtype
        if mutant.subject is MutantSubject:
            remember_answers(subject, known)
        return subject

    return make


def remember_answers(subject, known):
    """A check that fails asks the same question four times over, which a mutant that keeps nothing answers alike."""
    train_step = subject.train_step

    def answer(batch):
        asked = (subject.config, subject.hyper, subject.state, batch)
        for question, after, step in known:
            if question == asked:
                subject.state = after
                return step
        step = train_step(batch)
        known.append((asked, subject.state, step))
        return step

    subject.train_step = answer


def smallest(names):
    """Of these probes, the one whose question is the least work."""

    def products(name):
        case = BY_NAME[name].case
        return case.config.num_params() * case.steps * sum(map(len, case.documents))

    return min(names, key=products)


@pytest.mark.parametrize(("number", "mutant"), list(enumerate(ALL)), ids=MUTANTS)
def test_every_mutant_is_refused_by_a_probe(number, mutant):
    dtype = ("float64", "float32")[number % 2]  # both for each mutant take minutes, and are in the stored matrix
    dtype = "float64" if mutant.name in STORED["nowhere"][dtype] else dtype
    shown = STORED["mutants"][mutant.name][dtype]
    letter, modes = ("l", ("lock-step",)) if "l" in shown else ("f", MODES)
    assert letter in shown, "It shows in no probe."
    probe = smallest(name for name, found in zip(STORED["probes"], shown, strict=True) if found == letter)
    result = check(in_format(mutant, dtype), BY_NAME[probe].case, modes=modes)
    assert result.verdict.exit_status == 1, result.reason


def test_stored_matrix_is_of_these_mutants_and_probes():
    assert list(STORED["mutants"]) == list(MUTANTS)
    assert STORED["probes"] == list(CHOSEN)
    assert STORED["nowhere"]["float64"] == []
    assert STORED["nowhere"]["float32"] == ["mask_of_minus_10000"]


def test_readme_counts_the_known_mistakes():
    assert f"Of the {len(MUTANTS)} known mistakes in" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("number", "probe"), list(enumerate(probes())), ids=BY_NAME)
@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_correct_implementation_passes_every_probe(name, number, probe):
    dtype = probe.formats[:2][(number + len(name)) % len(probe.formats[:2])]
    result = check(IMPLEMENTATIONS[name], probe.case, dtype=dtype, modes=MODES if probe.case.steps > 1 else "lock-step")
    assert result.verdict.exit_status == 0, result.reason


@pytest.mark.parametrize(("number", "name"), list(enumerate(RUNGS)), ids=RUNGS)
def test_rung_passes_every_probe_in_every_format(number, name):
    for place, probe in enumerate(probes()):
        for dtype in one_in(2, probe.formats, (number + place) % 2):  # so that a rung or two are asked in each
            # Of a single step free-running asks what lock-step has asked.
            modes = MODES if probe.case.steps > 1 and dtype in ("float64", "float32") else "lock-step"
            result = check(f"torch_twin.{name}:make", probe.case, dtype=dtype, modes=modes)
            assert result.verdict.exit_status == 0, (probe.name, dtype, result.reason)


def test_twin_passes_every_probe_in_narrow_formats():
    for dtype in ("bfloat16", "float16"):
        for probe in probes(dtype):
            result = check("torch_twin.microgpt:make", probe.case, dtype=dtype, modes="lock-step")
            assert result.verdict.exit_status == 0, (probe.name, dtype, result.reason)


def test_sizes_differ_from_each_other_in_every_probe():
    for probe in probes():
        config = probe.case.config
        sizes = (config.n_embd, config.n_head, config.head_dim, config.block_size, config.vocab_size)
        assert len(set(sizes)) == len(sizes), probe.name
        assert 4 * config.n_embd not in sizes


def test_probes_exercise_what_the_default_case_does_not():
    missing = Case.from_names().not_exercised()
    assert missing
    for what in missing:
        if not what.startswith("what the preset"):
            assert any(what not in probe.case.not_exercised() for probe in probes()), what
    assert {probe.case.config.activation for probe in probes()} == {"relu", "relu2"}
    assert {probe.case.hyper.lr_schedule for probe in probes()} == {"linear", "cosine"}
    assert {bool(probe.case.state.step) for probe in probes()} == {False, True}


def test_probes_are_selected_by_format():
    assert {probe.formats for probe in probes()} == {EVERY_FORMAT, WIDE_RANGE, DOUBLE}
    assert all("float16" in probe.formats for probe in probes("float16"))
    assert len(probes("float16")) < len(probes())


@pytest.mark.parametrize("activation", ["relu", "relu2"])
@pytest.mark.parametrize(
    ("name", "probe"),
    [
        ("mask_of_minus_10000", "repelled-attention"),
        ("small_losses_skipped", "learned"),
        ("update_clipped_at_10", "learned"),
    ],
)
def test_what_a_probe_was_made_for_shows_with_either_activation(name, probe, activation):
    case = CHOSEN[probe][0].case(activation=activation)
    assert check(MUTANTS[name].make, case, modes="lock-step").verdict is Verdict.DIVERGED


def test_cover_takes_what_shows_most_of_the_rest_and_stops_where_nothing_shows_more():
    shown_in = {"one": {"a", "b"}, "two": {"a", "b", "c"}, "three": {"d"}, "four": {"a"}}
    assert cover(shown_in, "abcd") == ["two", "three"]
    assert cover(shown_in, "abx") == ["one"]
    assert cover({}, "a") == []


def test_every_step_is_asked_of_a_loaded_state_in_lock_step_and_only_the_first_free_running():
    asked = AskedCase(BY_NAME["two-layers"].case, "float64")
    loaded = {mode: [question.state is not None for question in asked.modes[mode]] for mode in MODES}
    assert loaded == {"lock-step": [True, True], "free-running": [True, False]}
    assert asked.modes["lock-step"][1].state.step == 1
