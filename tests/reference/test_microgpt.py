import gc
import hashlib
import json
import math
import os
import platform
import random
import struct
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st

from parity.oracle.replay import Replay
from parity.tensors import listed_state
from reference.config import PRESETS, Config, Hyper
from reference.data import load_documents
from reference.microgpt import (
    Tokenizer,
    Value,
    activate,
    adam,
    batch_loss,
    elementwise,
    gpt,
    init_params,
    init_state,
    learning_rate,
    linear,
    rmsnorm,
    sample,
    softmax,
    split_heads,
    train,
    train_step,
)

GOLDEN = Path(__file__).parents[1] / "golden"
SMALL = Config(n_layer=2, n_embd=8, n_head=2, block_size=4, vocab_size=6, init_std=0.5)
BOS = SMALL.vocab_size - 1

same_libm = pytest.mark.skipif(
    (platform.system(), platform.machine(), platform.libc_ver()[0]) != ("Linux", "x86_64", "glibc"),
    reason="the golden bits come from the exp, log and pow of glibc on x86-64",
)


def close(expected):
    return pytest.approx(expected, rel=1e-12, abs=1e-12)


def small_state(config=SMALL, seed=0):
    return init_state(init_params(config, random.Random(seed)))


def flat(params):
    return [number for matrix in params.values() for row in matrix for number in row]


class TestTokenizer:
    def test_tokens_are_in_code_point_order_with_bos_last(self):
        tokenizer = Tokenizer(["ba", "éa"])
        assert tokenizer.encode("abé") == [3, 0, 1, 2, 3]
        assert (tokenizer.bos, tokenizer.vocab_size) == (3, 4)

    def test_empty_document_is_two_bos(self):
        assert Tokenizer(["a"]).encode("") == [1, 1]

    @given(data=st.data())
    def test_decoding_gives_the_document_back(self, data):
        docs = data.draw(st.lists(st.text(), min_size=1), label="documents")
        tokenizer = Tokenizer(docs)
        assert [tokenizer.decode(tokenizer.encode(doc)) for doc in docs] == docs


class TestInitialisation:
    def test_weights_are_drawn_row_by_row_in_the_documented_order(self):
        names = ["wte", "wpe", "lm_head"]
        for layer in (0, 1):
            names += [f"layer{layer}.{name}" for name in ("attn_wq", "attn_wk", "attn_wv", "attn_wo")]
            names += [f"layer{layer}.{name}" for name in ("mlp_fc1", "mlp_fc2")]
        actual = init_params(SMALL, random.Random(7))
        rng = random.Random(7)
        assert list(actual) == names
        assert flat(actual) == [rng.gauss(0, 0.5) for _ in range(SMALL.num_params())]

    def test_matrices_are_shaped_for_w_times_x(self):
        params = init_params(SMALL, random.Random(7))
        actual = {name.removeprefix("layer0."): (len(w), len(w[0])) for name, w in params.items()}
        assert (actual["wte"], actual["wpe"], actual["lm_head"]) == ((6, 8), (4, 8), (6, 8))
        assert (actual["attn_wq"], actual["mlp_fc1"], actual["mlp_fc2"]) == ((8, 8), (32, 8), (8, 32))

    def test_zero_projections_still_consume_their_draws(self):
        rng, other_rng = random.Random(7), random.Random(7)
        actual = init_params(replace(SMALL, zero_init_projections=True), rng)
        expected = init_params(SMALL, other_rng)
        for name, matrix in expected.items():
            zero = name.endswith(("attn_wo", "mlp_fc2"))
            assert actual[name] == ([[0.0] * len(row) for row in matrix] if zero else matrix)
        assert rng.getstate() == other_rng.getstate()

    def test_default_size_has_4192_parameters(self):
        config, _ = PRESETS["microgpt_200"]
        assert config.num_params() == len(flat(init_params(config, random.Random(0)))) == 4192

    def test_moments_start_at_zero(self):
        state = small_state()
        assert set(flat(state.m) + flat(state.v)) == {0.0}
        assert state.step == 0


class TestLayers:
    """Each against torch, with gradients weighted at random: under a plain sum softmax would have none."""

    def assert_same(self, function, torch_function, *shapes):
        rng = random.Random(0)
        numbers = [[rng.gauss(0, 1) for _ in range(math.prod(shape))] for shape in shapes]
        values = [[Value(number) for number in vector] for vector in numbers]
        tensors = [torch.tensor(vector, dtype=torch.float64, requires_grad=True) for vector in numbers]
        actual = function(*values)
        expected = torch_function(*(tensor.view(shape) for tensor, shape in zip(tensors, shapes)))
        upstream = [rng.gauss(0, 1) for _ in actual]
        sum(a * weight for a, weight in zip(actual, upstream)).backward()
        (expected * torch.tensor(upstream, dtype=torch.float64)).sum().backward()
        assert [a.data for a in actual] == close(expected.tolist())
        for vector, tensor in zip(values, tensors):
            assert [value.grad for value in vector] == close(tensor.grad.tolist())

    @pytest.mark.parametrize("size", [1, 2, 27])
    def test_softmax(self, size):
        self.assert_same(softmax, lambda x: x.softmax(dim=0), (size,))

    @pytest.mark.parametrize("size", [1, 2, 16])
    def test_rmsnorm_has_epsilon_inside_the_root_and_no_gain(self, size):
        self.assert_same(rmsnorm, lambda x: F.rms_norm(x, (size,), eps=1e-5), (size,))

    @pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 5), (5, 3)])
    def test_linear_is_the_matrix_times_the_vector(self, rows, columns):
        def by_rows(x, w):
            return linear(x, [w[start : start + columns] for start in range(0, len(w), columns)])

        self.assert_same(by_rows, F.linear, (columns,), (rows, columns))

    @pytest.mark.parametrize(("activation", "power"), [("relu", 1), ("relu2", 2)])
    def test_activation(self, activation, power):
        config = replace(SMALL, activation=activation)
        self.assert_same(lambda x: activate(x, config), lambda x: F.relu(x) ** power, (16,))

    @pytest.mark.parametrize("logits", [(0.0, 1e4), (1e4, 0.0), (-1e4, 0.0), (0.0, -1e4)])
    def test_softmax_of_logits_far_apart_neither_overflows_nor_fails(self, logits):
        actual = [prob.data for prob in softmax([Value(logit) for logit in logits])]
        assert actual == [float(logit == max(logits)) for logit in logits]

    def test_heads_are_consecutive_slices(self):
        assert split_heads(list(range(8)), SMALL) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def torch_loss(batch, params, config):
    """Independent of both models: all positions at once, torch's own attention, normalisation and cross entropy."""

    def norm(x):
        return F.rms_norm(x, (config.n_embd,), eps=1e-5)

    def heads(x):
        return x.view(len(x), config.n_head, config.head_dim).transpose(0, 1)

    losses = []
    for tokens in batch:
        inputs, targets = torch.tensor(tokens[:-1][: config.block_size]), torch.tensor(tokens[1:][: config.block_size])
        x = norm(params["wte"][inputs] + params["wpe"][: len(inputs)])
        for i in range(config.n_layer):
            w = {name.removeprefix(f"layer{i}."): matrix.T for name, matrix in params.items()}
            q, k, v = (heads(norm(x) @ w[name]) for name in ("attn_wq", "attn_wk", "attn_wv"))
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + attended.transpose(0, 1).reshape(len(inputs), config.n_embd) @ w["attn_wo"]
            hidden = F.relu(norm(x) @ w["mlp_fc1"])
            x = x + (hidden**2 if config.activation == "relu2" else hidden) @ w["mlp_fc2"]
        losses.append(F.cross_entropy(x @ params["lm_head"].T, targets))
    return torch.stack(losses).mean()


class TestModel:
    @pytest.mark.parametrize("activation", ["relu", "relu2"])
    @pytest.mark.parametrize("n_head", [1, 2, 8])
    def test_loss_and_gradients_are_those_of_a_vectorised_torch_model(self, activation, n_head):
        config = replace(SMALL, activation=activation, n_head=n_head)
        batch = [[BOS, 0, 1, 1, BOS], [BOS, 2, BOS], [BOS, 3, 3, 3, 3, 3, 4, BOS]]
        state = small_state(config)
        params = {name: torch.tensor(w, dtype=torch.float64).requires_grad_() for name, w in state.params.items()}
        expected = torch_loss(batch, params, config)
        expected.backward()
        _, step = train_step(state, batch, config, Hyper())
        assert step.loss == close(expected.item())
        for name, tensor in params.items():
            assert flat({name: step.grads[name]}) == close(tensor.grad.flatten().tolist())
            assert tensor.grad.count_nonzero() > 0

    def test_document_longer_than_the_block_fills_block_size_positions(self):
        document = [BOS, 0, 1, 2, 3, 4, 0, 1, BOS]
        _, actual = train_step(small_state(), [document], SMALL, Hyper())
        _, expected = train_step(small_state(), [document[: SMALL.block_size + 1]], SMALL, Hyper())
        assert len(actual.logits[0]) == SMALL.block_size
        assert actual == expected

    def test_token_that_is_never_an_input_has_no_embedding_gradient(self):
        _, step = train_step(small_state(), [[BOS, 0, 1, BOS]], SMALL, Hyper())
        assert [any(row) for row in step.grads["wte"]] == [True, True, False, False, False, True]
        assert [any(row) for row in step.grads["wpe"]] == [True, True, True, False]

    def test_repeated_token_gradients_accumulate(self):
        once, twice = [BOS, 0, 1, BOS], [BOS, 0, 0, BOS]
        params = {name: elementwise(Value, matrix) for name, matrix in small_state().params.items()}
        seen = []
        loss, _ = batch_loss([once, twice], params, SMALL, lambda site, x: seen.append((site, x)) or x)
        loss.backward()
        embeddings = [x for site, x in seen if site == "embedding"]
        inputs = once[:-1] + twice[:-1]
        for token in (0, 1, BOS):
            grads = [[a.grad for a in x] for x, at in zip(embeddings, inputs, strict=True) if at == token]
            expected = [sum(column) for column in zip(*grads)]
            assert [weight.grad for weight in params["wte"][token]] == close(expected)

    def test_batch_of_one_document_twice_is_that_document(self):
        document = [BOS, 0, 1, BOS]
        _, actual = train_step(small_state(), [document, document], SMALL, Hyper())
        _, expected = train_step(small_state(), [document], SMALL, Hyper())
        assert actual.loss == close(expected.loss)
        assert flat(actual.grads) == close(flat(expected.grads))


class TestOptimizer:
    @pytest.mark.parametrize(
        ("schedule", "expected"),
        [("linear", [1.0, 0.75, 0.5, 0.0]), ("cosine", [1.0, (2 + math.sqrt(2)) / 4, 0.5, 0.0])],
    )
    def test_learning_rate_falls_to_zero(self, schedule, expected):
        hyper = Hyper(learning_rate=0.02, num_steps=8, lr_schedule=schedule)
        actual = [learning_rate(step, hyper) for step in (0, 2, 4, 8)]
        assert actual == pytest.approx([0.02 * decay for decay in expected], rel=1e-15, abs=1e-17)

    @pytest.mark.parametrize(("_", "hyper"), PRESETS.values(), ids=PRESETS)
    def test_adam_is_that_of_torch(self, _, hyper):
        rng = random.Random(0)
        shape = (3, 5)

        def matrix():
            return [[rng.gauss(0, 1) if rng.random() < 0.8 else 0.0 for _ in range(shape[1])] for _ in range(shape[0])]

        state = init_state({"w": matrix()})
        weight = torch.tensor(state.params["w"], dtype=torch.float64, requires_grad=True)
        torch_adam = torch.optim.Adam([weight], betas=(hyper.beta1, hyper.beta2), eps=hyper.eps_adam)
        for step in range(6):
            grad = matrix()
            state = adam(state, {"w": grad}, hyper)
            torch_adam.param_groups[0]["lr"] = learning_rate(step, hyper)
            weight.grad = torch.tensor(grad, dtype=torch.float64)
            torch_adam.step()
            moments = torch_adam.state[weight]
            assert flat(state.params) == close(weight.flatten().tolist())
            assert flat(state.m) == close(moments["exp_avg"].flatten().tolist())
            assert flat(state.v) == close(moments["exp_avg_sq"].flatten().tolist())
            assert state.step == step + 1

    def test_update_leaves_the_state_before_it_as_it_was(self):
        state = small_state()
        train_step(state, [[BOS, 0, BOS]], SMALL, Hyper())
        assert state == small_state()


class TestGarbageCollector:
    @pytest.fixture(autouse=True)
    def _collector_runs_before_and_after(self):
        gc.enable()
        yield
        gc.enable()

    def test_it_runs_again_after_a_step(self):
        train_step(small_state(), [[BOS, 0, BOS]], SMALL, Hyper())
        assert gc.isenabled()

    def test_it_runs_again_after_a_step_that_raises(self):
        with pytest.raises(IndexError):
            train_step(small_state(), [[BOS, 99, BOS]], SMALL, Hyper())
        assert gc.isenabled()

    def test_it_stays_off_where_it_was_off(self):
        gc.disable()
        train_step(small_state(), [[BOS, 0, BOS]], SMALL, Hyper())
        assert not gc.isenabled()

    def test_it_pauses_during_the_step(self):
        seen = []
        train_step(
            small_state(), [[BOS, 0, BOS]], SMALL, Hyper(), lambda site, value: seen.append(gc.isenabled()) or value
        )
        assert set(seen) == {False}

    def test_it_runs_between_the_steps_of_training(self):
        steps = train([[BOS, 0, BOS]], SMALL, Hyper(num_steps=2), random.Random(0))
        assert [gc.isenabled() for _ in steps] == [True, True]


class TestSampling:
    def test_temperature_0_takes_the_likeliest_token(self):
        for seed in range(5):
            params = small_state(seed=seed).params
            values = {name: elementwise(Value, matrix) for name, matrix in params.items()}
            keys, cached_values, token, expected = [[], []], [[], []], BOS, []
            for position in range(SMALL.block_size):
                logits = [logit.data for logit in gpt(token, position, keys, cached_values, values, SMALL)]
                token = logits.index(max(logits))
                if token == BOS:
                    break
                expected.append(token)
            assert sample(params, SMALL, random.Random(0), temperature=0) == expected

    def test_temperature_0_draws_nothing(self):
        rng = random.Random(0)
        before = rng.getstate()
        sample(small_state().params, SMALL, rng, temperature=0)
        assert rng.getstate() == before

    def test_sample_ends_after_block_size_tokens(self):
        zeros = {name: elementwise(lambda p: 0.0, matrix) for name, matrix in small_state().params.items()}
        assert sample(zeros, SMALL, random.Random(0), temperature=0) == [0] * SMALL.block_size

    def test_same_seed_gives_the_same_samples(self):
        params = small_state().params
        actual, expected = (
            [sample(params, SMALL, rng) for _ in range(5)] for rng in (random.Random(3), random.Random(3))
        )
        assert actual == expected

    def test_high_temperature_draws_almost_evenly(self):
        params, rng = small_state().params, random.Random(0)
        first = [(sample(params, SMALL, rng, temperature=1e6) or [BOS])[0] for _ in range(300)]
        assert all(first.count(token) > 20 for token in range(SMALL.vocab_size))


OWN_STEPS = 500 if os.environ.get("PARITY_PROFILE") == "thorough" else 25
"""What the reference does itself of a thousand steps, at the start and again at the end: all take it minutes."""


def golden_run(preset, names_file):
    """The run of the golden file. Between its own steps, the recorded replay goes on, which is the reference's bits."""
    golden = json.loads((GOLDEN / f"{preset}.json").read_text())
    config, hyper = PRESETS[preset]
    docs = load_documents(names_file)
    rng = random.Random(42)
    rng.shuffle(docs)
    tokenizer = Tokenizer(docs)
    hyper = replace(hyper, num_steps=golden["hyper"]["num_steps"])
    tokens = [tokenizer.encode(doc) for doc in docs]
    replay, losses = Replay(config, hyper), []
    for after, step in islice(train(tokens, config, hyper, rng), OWN_STEPS):
        losses.append(step.loss)
        state = after
    replay.load(state)
    for number in range(OWN_STEPS, hyper.num_steps):
        if number < hyper.num_steps - OWN_STEPS:
            step = replay.train_step([tokens[number]])
            state = replay.state
        else:
            state, step = train_step(listed_state(config, state), [tokens[number]], config, hyper)
        losses.append(float(step.loss))
    samples = [tokenizer.decode(sample(state.params, config, rng)) for _ in range(20)]
    return golden, losses, state, samples


@pytest.fixture(scope="module")
def golden_200(names_file):
    return golden_run("microgpt_200", names_file)


@pytest.fixture(scope="module")
def golden_early(names_file):
    return golden_run("microgpt_early", names_file)


class TestGolden200:
    """The unmodified 200-line revision on names.txt, 1,000 steps."""

    def test_names_are_those_of_the_golden_run(self, names_file):
        expected = json.loads((GOLDEN / "microgpt_200.json").read_text())["names_sha256"]
        assert hashlib.sha256(names_file.read_bytes()).hexdigest() == expected

    def test_preset_is_that_of_the_golden_run(self):
        golden = json.loads((GOLDEN / "microgpt_200.json").read_text())
        config, hyper = PRESETS["microgpt_200"]
        assert {name: getattr(config, name) for name in golden["config"]} == golden["config"]
        assert {name: getattr(hyper, name) for name in golden["hyper"]} == golden["hyper"]

    def test_losses_of_all_steps(self, golden_200):
        golden, losses, _, _ = golden_200
        expected = [float.fromhex(loss) for loss in golden["loss_hex"]]
        assert len(losses) == 1000
        assert losses == pytest.approx(expected, rel=0, abs=1e-9)

    @same_libm
    def test_losses_of_all_steps_bit_for_bit(self, golden_200):
        golden, losses, _, _ = golden_200
        assert [loss.hex() for loss in losses] == golden["loss_hex"]

    @same_libm
    def test_final_parameters_bit_for_bit(self, golden_200):
        golden, _, state, _ = golden_200
        numbers = flat({name: state.params[name] for name in golden["final_params_order"].split(";")[0].split(", ")})
        actual = hashlib.sha256(struct.pack(f"<{len(numbers)}d", *numbers)).hexdigest()
        assert len(numbers) == golden["num_params"] == 4192
        assert actual == golden["final_params_sha256_le_f64"]

    def test_final_parameters(self, golden_200):
        golden, _, state, _ = golden_200
        numbers = flat(state.params)
        assert math.fsum(numbers) == pytest.approx(golden["final_params_sum"], rel=0, abs=1e-9)
        assert math.hypot(*numbers) == pytest.approx(golden["final_params_l2"], rel=0, abs=1e-9)

    def test_samples(self, golden_200):
        golden, _, _, samples = golden_200
        assert samples == golden["samples_temperature_0.5"]


class TestGoldenEarly:
    """An early revision on names.txt: squared ReLU, cosine decay, projections that start at zero; 30 steps."""

    def test_preset_is_that_of_the_golden_run(self):
        golden = json.loads((GOLDEN / "microgpt_early.json").read_text())
        config, hyper = PRESETS["microgpt_early"]
        hyper = replace(hyper, num_steps=30)
        assert config.num_params() == golden["num_params"]
        assert {name: getattr(config, name) for name in golden["config"]} == golden["config"]
        assert {name: getattr(hyper, name) for name in golden["hyper"]} == golden["hyper"]

    def test_losses_of_all_steps(self, golden_early):
        golden, losses, _, _ = golden_early
        assert len(losses) == 30
        assert losses == pytest.approx(golden["loss"], rel=0, abs=1e-9)

    def test_sum_of_the_final_parameters(self, golden_early):
        golden, _, state, _ = golden_early
        assert math.fsum(flat(state.params)) == pytest.approx(golden["final_params_sum"], rel=0, abs=1e-9)

    def test_samples(self, golden_early):
        golden, _, _, samples = golden_early
        assert samples == golden["samples_temperature_0.5"]
