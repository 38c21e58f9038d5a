import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from parity import Case, Config, Hyper, State, Verdict, check
from parity.oracle.python_reference import Reference
from parity.oracle.replay import Replay
from parity.quantities import FIELDS
from parity.subjects.subject import TWIN
from reference import microgpt as reference
from reference.config import PRESETS
from reference.data import load_documents
from tests.thinning import THOROUGH
from torch_twin import microgpt as twin

SMALL = Config(n_layer=1, n_embd=8, n_head=2, block_size=5, vocab_size=7, init_std=0.3)
BOS = SMALL.vocab_size - 1
WORD = [BOS, 0, 1, 2, 3, BOS]

CASES = {
    "one layer": (SMALL, [WORD]),
    "two layers": (replace(SMALL, n_layer=2), [WORD]),
    "three layers": (replace(SMALL, n_layer=3), [WORD]),
    "one head": (replace(SMALL, n_head=1), [WORD]),
    "head size 1": (replace(SMALL, n_head=8), [WORD]),
    "embedding size 1": (replace(SMALL, n_embd=1, n_head=1), [WORD]),
    "block size 1": (replace(SMALL, block_size=1), [WORD]),
    "one character": (SMALL, [[BOS, 4, BOS]]),
    "longer than the block": (SMALL, [[BOS, 0, 1, 2, 3, 4, 5, 0, 1, BOS]]),
    "as long as the block": (SMALL, [[BOS, 0, 1, 2, 3, BOS]]),
    "repeated characters": (SMALL, [[BOS, 2, 2, 2, 2, BOS]]),
    "empty document": (SMALL, [[BOS, BOS]]),
    "BOS inside": (SMALL, [[BOS, 1, BOS, 1, BOS]]),
    "squared ReLU": (replace(SMALL, activation="relu2"), [WORD]),
    "small vocabulary": (replace(SMALL, vocab_size=2), [[1, 0, 0, 1]]),
}


def trained_case(config, documents, hyper=None, **options):
    """A case in the midst of training: no weight or moment is zero, so that no gradient hides behind one."""
    rng = random.Random(5)

    def drawn(std):
        return {
            name: [[rng.gauss(0, std) for _ in range(columns)] for _ in range(rows)]
            for name, (rows, columns) in config.shapes().items()
        }

    v = {name: [[1e-4 + x * x for x in row] for row in matrix] for name, matrix in drawn(0.05).items()}
    return Case(config, hyper or Hyper(), State(drawn(0.3), drawn(0.05), v, step=9), documents, steps=3, **options)


def assert_parity(case, subject=TWIN, **options):
    result = check(subject, case, sites=True, **options)
    assert result.verdict in (Verdict.PARITY, Verdict.IDENTICAL), result.reason
    assert result.unchecked == []
    lock_step, free, *exact = result.modes  # exact arithmetic in formats shorter than float64
    assert [lock_step.mode, free.mode] == ["lock-step", "free-running"]
    assert not [mode.reason for mode in exact if mode.verdict is not Verdict.PARITY]
    for mode in (lock_step, free):
        assert mode.steps == case.steps
        assert list(mode.quantities) == list(FIELDS.values())
        assert all(row.compared > row.zero_in_both for row in mode.quantities.values())


@pytest.mark.parametrize("name", CASES)
def test_twin_is_at_parity_on(name):
    config, documents = CASES[name]
    assert_parity(trained_case(config, documents))


def test_twin_is_at_parity_on_batches_of_three():
    documents = [WORD, [BOS, 4, BOS], [BOS, 2, 2, BOS], [BOS, BOS], [BOS, 5, 0, 5, 0, 5, 0, 5, BOS]]
    assert_parity(trained_case(replace(SMALL, n_layer=2), documents, batch_size=3))


@pytest.mark.parametrize("preset", PRESETS)
def test_twin_is_at_parity_from_fresh_weights_of(preset):
    assert_parity(Case.from_names(preset=preset, steps=3))


@pytest.mark.parametrize("preset", PRESETS)
def test_twin_is_at_parity_in_the_midst_of_training_of(preset):
    config, hyper = PRESETS[preset]
    config = replace(config, n_layer=2, n_embd=8, n_head=4, block_size=5, vocab_size=7)
    assert_parity(trained_case(config, [WORD], replace(hyper, num_steps=12)))


@pytest.mark.parametrize("name", ["two layers", "longer than the block", "squared ReLU"])
def test_twin_in_float32_is_at_parity(name):
    config, documents = CASES[name]
    assert_parity(trained_case(config, documents), dtype="float32")


def test_twin_in_float32_computes_in_float32():
    subject = twin.make(SMALL, Hyper(), dtype="float32")
    subject.load(trained_case(SMALL, [WORD]).state)
    step = subject.train_step([WORD])
    tensors = [*step.logits, *step.grads.values(), *step.params.values(), *step.m.values(), *step.v.values()]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_twin_on_cuda_is_at_parity(dtype):
    config, documents = CASES["two layers"]
    assert_parity(trained_case(config, documents), dtype=dtype, device="cuda")


def test_unknown_dtype_is_refused():
    with pytest.raises(ValueError, match="not in 'int8'"):
        twin.make(SMALL, Hyper(), dtype="int8")


def test_both_expose_the_same_sites_in_the_same_order():
    config, batch = replace(SMALL, n_layer=2), [WORD, [BOS, 1, BOS]]
    steps = []
    for subject in (twin.make(config, Hyper()), Reference(config, Hyper())):
        subject.expose_sites = True
        subject.load(trained_case(config, batch).state)
        steps.append(subject.train_step(batch))
    actual, expected = steps
    assert list(actual.sites) == list(actual.site_grads) == list(expected.sites) == list(expected.site_grads)
    assert len(expected.sites) == 2 + 2 * 12 + 3


def test_sites_are_off_unless_asked_for():
    subject = twin.make(SMALL, Hyper())
    subject.load(trained_case(SMALL, [WORD]).state)
    step = subject.train_step([WORD])
    assert (step.sites, step.site_grads) == (None, None)


def test_loaded_state_is_not_changed_by_training():
    case = trained_case(SMALL, [WORD])
    subject = twin.make(SMALL, Hyper())
    subject.load(case.state)
    subject.train_step([WORD])
    assert case == trained_case(SMALL, [WORD])


def test_earlier_step_is_not_changed_by_a_later_one():
    subject = twin.make(SMALL, Hyper())
    subject.load(trained_case(SMALL, [WORD]).state)
    first = subject.train_step([WORD])
    kept = {name: {key: t.clone() for key, t in getattr(first, name).items()} for name in ("grads", "params", "m", "v")}
    subject.train_step([[BOS, 4, BOS]])
    for field, tensors in kept.items():
        for name, expected in tensors.items():
            assert torch.equal(getattr(first, field)[name], expected)


@pytest.mark.parametrize("preset", PRESETS)
def test_training_and_sampling_on_embedded_names_give_the_references_losses_and_names(preset):
    config, hyper = PRESETS[preset]
    hyper = replace(hyper, num_steps=12)
    docs = load_documents()
    tokenizer = reference.Tokenizer(docs)
    outcomes = []
    for model in (twin, reference):
        rng = random.Random(42)
        losses = []
        for after, step in model.train([tokenizer.encode(doc) for doc in docs], config, hyper, rng):
            losses.append(step.loss)
            state = after
        samples = [model.sample(state.params, config, rng) for _ in range(8)]
        samples.append(model.sample(state.params, config, rng, temperature=0))
        outcomes.append((losses, samples, rng.getstate()))
    (actual, actual_samples, actual_rng), (expected, expected_samples, expected_rng) = outcomes
    assert len(actual) == 12
    assert all(math.isclose(a, e, rel_tol=1e-13) for a, e in zip(actual, expected, strict=True))
    assert actual_samples == expected_samples
    assert actual_rng == expected_rng


def test_many_free_running_steps_end_where_the_reference_does(names_file):
    case = Case.from_names(names_file, steps=1000 if THOROUGH else 150)
    replay, subject = Replay(case.config, case.hyper), twin.make(case.config, case.hyper)
    replay.load(case.state)
    subject.load(case.state)
    for batch in case.batches():
        expected, actual = replay.train_step(batch), subject.train_step(batch)
        assert abs(actual.loss - expected.loss) <= 1e-13
        for name, matrix in expected.params.items():
            assert np.abs(actual.params[name].numpy() - matrix).max() <= 1e-12
