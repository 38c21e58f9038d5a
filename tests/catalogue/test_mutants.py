"""A mutant is the reference with one mistake: every one is caught, told from every other, and has a noise floor."""

import random
import re

import numpy as np
import pytest

from parity import Case, Config, Hyper, Verdict, check
from parity.catalogue.mutant_noise import NoisyMutant
from parity.catalogue.mutants import ALL, EQUIVALENT, MUTANTS, SOURCE, STAGES, Mutant, MutantSubject
from parity.catalogue.mutants.together import mixing
from parity.judging.probes import probes
from parity.number_formats import FORMATS
from parity.oracle.oracle import Oracle
from parity.verdict import FALSE_ALARM, limit
from reference.config import State, Step
from reference.microgpt import init_params, init_state
from tests.thinning import one_in

UNCHANGED = Mutant("unchanged", "There is no mistake.", ())
EVERY = (*ALL, *EQUIVALENT)
SOURCE_FORM = re.compile(r"[\w.-]+/[\w.-]+#[1-9]\d*|port: [\w.-]+/[\w.-]+")
"""An issue or a pull request, or a port as a whole."""
SMALL = [mutant for mutant in ALL if mutant.in_vectors]
"""Those that show in small cases, with small weights, and run on numbers that round at random."""
NAMES = [mutant.name for mutant in SMALL]


def case() -> Case:
    """Batches of unequal documents, one longer than the block, with repeated tokens, and weights that show it all."""
    config = Config(n_embd=4, n_head=2, block_size=4, vocab_size=5, init_std=0.4)
    documents = [[4, 1, 1, 2, 4], [4, 3, 0, 3, 3, 1, 4], [4, 1, 0, 4], [4, 4]]
    return Case(config, Hyper(num_steps=50), init_state(init_params(config, random.Random(3))), documents, 2, steps=2)


def flat(step: Step) -> np.ndarray:
    parts = [
        step.loss,
        *step.logits,
        *(matrix for name in ("grads", "m", "v", "params") for matrix in getattr(step, name).values()),
    ]
    return np.concatenate([np.ravel(part) for part in parts])


def free_running(subject) -> np.ndarray:
    subject.load(case().state)
    return np.concatenate([flat(subject.train_step(batch)) for batch in case().batches()])


@pytest.mark.parametrize("mutant", EVERY, ids=[mutant.name for mutant in EVERY])
def test_texts_of_every_edit_stand_in_the_reference_exactly_once(mutant):
    assert mutant.edits or mutant.subject is not MutantSubject
    for old, new in mutant.edits:
        assert SOURCE.count(old) == 1
        assert new != old


def test_edit_whose_text_the_reference_does_not_hold_is_refused():
    for text in ("no such text", "def ", ""):
        with pytest.raises(ValueError, match=r"exactly once \(planted\)"):
            Mutant("planted", "", ((text, ""),)).module  # noqa: B018


def test_edits_that_overlap_are_refused():
    with pytest.raises(ValueError, match=r"exactly once \(planted\)"):
        Mutant("planted", "", (("mean_square + 1e-5", ""), ("1e-5) ** -0.5", ""))).module  # noqa: B018


def test_edits_do_not_touch_what_other_edits_put_in():
    swapped = Mutant("planted", "", (("hyper.beta1 * m", "hyper.beta2 * v"), ("hyper.beta2 * v", "hyper.beta1 * m")))
    assert swapped.module.adam.__code__ != UNCHANGED.module.adam.__code__
    result = check(swapped.make, case(), modes=("lock-step",))
    assert result.verdict.exit_status == 1


def test_names_and_sentences_tell_the_mutants_apart():
    assert len(MUTANTS) == len(ALL)
    assert len({mutant.name for mutant in EVERY}) == len(EVERY) == len({mutant.mistake for mutant in EVERY})
    for mutant in EVERY:
        assert mutant.name.isidentifier()
        assert mutant.mistake[0].isupper()
        assert mutant.mistake.endswith(".")
        assert mutant.stage in STAGES
    assert len(STAGES) == len(set(STAGES)) == len({mutant.stage for mutant in ALL})


@pytest.mark.parametrize("mutant", EQUIVALENT, ids=[mutant.name for mutant in EQUIVALENT])
def test_mutant_that_is_equivalent_passes_and_differs_by_rounding(mutant):
    assert mutant.equivalent.endswith(".")
    assert check(mutant.make, case()).verdict is Verdict.PARITY


def test_no_two_mutants_make_the_same_edits():
    assert len({(frozenset(mutant.edits), mutant.subject) for mutant in EVERY}) == len(EVERY)


def test_sources_are_issues_or_ports():
    for mutant in EVERY:
        assert all(SOURCE_FORM.fullmatch(source) for source in mutant.sources), mutant.sources
        assert len(set(mutant.sources)) == len(mutant.sources) <= 3


@pytest.mark.parametrize(
    "source",
    ["", "transformers#1", "huggingface/transformers", "huggingface/transformers#0", "port: enjector", "a/b#1 "],
)
def test_what_leads_nowhere_is_no_source(source):
    assert not SOURCE_FORM.fullmatch(source)


def test_most_mutants_are_mistakes_that_somebody_made():
    assert sum(bool(mutant.sources) for mutant in EVERY) >= 80


@pytest.mark.parametrize("mutant", SMALL, ids=NAMES)
def test_every_mutant_that_shows_in_small_cases_diverges(mutant):
    result = check(mutant.make, case(), modes=("lock-step",))
    assert result.verdict is Verdict.DIVERGED
    assert result.modes[0].quantities["loss"].compared == case().steps


def test_mutant_without_an_edit_is_the_reference():
    assert check(UNCHANGED.make, case()).verdict is Verdict.IDENTICAL


def test_positions_computed_side_by_side_are_the_reference_until_they_are_mixed():
    heads = 'tap(f"{layer}.attn.heads", x)'
    for mixed, verdict in (("return rows", Verdict.IDENTICAL), ("return rows[::-1]", Verdict.DIVERGED)):
        mutant = Mutant("planted", "Positions change places.", mixing(f"    {mixed}", heads))
        assert check(mutant.make, case(), modes=("lock-step",)).verdict is verdict


def test_no_two_mutants_give_the_same_answers():
    alike, probed = [[*ALL, UNCHANGED]], {probe.name: probe.case for probe in probes()}
    # One question each tells most of them apart, and few are left for what takes long.
    for of, times in (
        (case(), 1),
        (probed["three-layers"], 1),
        *((of, 2) for of in (case(), *reversed(probed.values()))),
    ):
        alike = [group for mutants in alike for group in _groups(mutants, of, times) if len(group) > 1]
    assert alike == []


def _groups(mutants: list[Mutant], of: Case, times: int) -> list[list[Mutant]]:
    """The mutants whose answers are the same, together."""
    groups: list[tuple[np.ndarray, list[Mutant]]] = []
    for mutant in mutants:
        answers = _answers(mutant, of, times)
        known = next((group for first, group in groups if not _apart(first, answers)), None)
        if known is None:
            groups.append((answers, [mutant]))
        else:
            known.append(mutant)
    return [group for _, group in groups]


def _answers(mutant: Mutant, of: Case, times: int) -> np.ndarray:
    """To the case put so many times, from the same state; none where it fails."""
    subject, steps = mutant.make(of.config, of.hyper), []
    try:
        for _ in range(times):
            subject.load(of.state)
            steps += [flat(subject.train_step(batch)) for batch in of.batches()]
    except (ArithmeticError, ValueError):
        return np.zeros(0)
    return np.concatenate(steps)


def _apart(first: np.ndarray, second: np.ndarray) -> bool:
    return first.shape != second.shape or not bool(np.abs(first - second).max(initial=0.0) <= 1e-12)


def test_mutant_that_raises_is_a_subject_that_raises():
    planted = Mutant(
        "planted", "The loss is of a probability of 0.", (("-probs[", "-(0.0 * probs["), ("].log()", "]).log()"))
    )
    result = check(planted.make, case())
    assert result.verdict is Verdict.ERROR
    assert "The subject raised ValueError" in result.reason


def steps_of(noisy) -> tuple[np.ndarray, np.ndarray]:
    noisy.load(case().state)
    pairs = [noisy.train_step(batch) for batch in case().batches()]
    return np.concatenate([flat(values) for values, _ in pairs]), np.concatenate([flat(sigma) for _, sigma in pairs])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_noise_floor_of_no_mistake_is_that_of_the_reference(dtype):
    form, start = FORMATS[dtype], case().state
    params = {name: form.rounded(matrix).tolist() for name, matrix in start.params.items()}
    oracle = Oracle(case().config, case().hyper, form, limit=10.0)
    noisy = NoisyMutant(UNCHANGED, case().config, case().hyper, form)
    start = State(params, start.m, start.v, 0)
    point = oracle.start(start)
    noisy.load(start)
    for batch in case().batches():
        expectation = oracle.expect(point, batch)
        point, expected = expectation.after, flat(expectation.sigma)
        actual = flat(noisy.train_step(batch)[1])
        assert ((actual == 0) == (expected == 0)).all()
        ratio = actual[expected > 0] / expected[expected > 0]
        assert 0.8 < np.median(ratio) < 1.3
        assert 0.25 < ratio.min() <= ratio.max() < 3


@pytest.mark.parametrize("mutant", one_in(3, SMALL), ids=one_in(3, NAMES))
def test_mutant_lies_within_its_own_noise_floor_and_outside_of_the_references(mutant):
    """Of every one the tests of the vectors ask the same, at the floors that are written."""
    actual = free_running(mutant.make(case().config, case().hyper))
    values, sigma = steps_of(NoisyMutant(mutant, case().config, case().hyper, FORMATS["float64"]))
    assert (np.abs(actual - values) <= limit(FALSE_ALARM, actual.size, 64) * sigma).all()
    expected = free_running(UNCHANGED.make(case().config, case().hyper))
    assert (np.abs(expected - values) > 1e4 * sigma).any()


def test_noise_floor_grows_with_the_unit_roundoff():
    sizes = []
    for dtype in ("float64", "float32", "bfloat16"):
        noisy = NoisyMutant(MUTANTS["scores_not_scaled"], case().config, case().hyper, FORMATS[dtype])
        noisy.load(case().state)
        sizes.append(noisy.train_step([case().documents[0]])[1].loss)
    assert sizes[0] * 1e6 < sizes[1] < sizes[2] / 1e3
