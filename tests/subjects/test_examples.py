"""The examples that users copy: a port to NumPy with gradients by hand, and one to C that speaks the protocol."""

import json
import os
import random
import shutil
import subprocess
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.stats import chisquare

from parity import Case, Config, Hyper, Step, Verdict, check
from parity.strategies import cases
from parity.subjects.messages import PROTOCOL
from parity.subjects.subject import make_subject
from parity.testing import assert_parity
from parity.verdict import FALSE_ALARM
from reference import microgpt
from tests.examples import numpy_port

NUMPY_PORT = Path(numpy_port.__file__)
PORT_IN_C = NUMPY_PORT.with_name("port.c")
COMPILER = os.environ.get("CC", "cc")
QUANTITIES = {"logits", "loss", "grad", "m", "v", "param"}


def edited(source: Path, edits: tuple[tuple[str, str], ...], folder: Path) -> Path:
    """A copy of a source in the folder, with the edits made."""
    text = source.read_text(encoding="utf-8")
    for old, new in edits:
        assert text.count(old) == 1, f"{old!r} does not stand in {source.name} exactly once."
        text = text.replace(old, new)
    copy = folder / source.name
    copy.write_text(text, encoding="utf-8")
    return copy


def compiled(source: Path, folder: Path) -> list[str]:
    """The command that a C source makes; what the compiler says of it is an error."""
    if not shutil.which(COMPILER):
        pytest.skip(f"there is no C compiler {COMPILER!r}")
    program = folder / source.stem
    options = ["-O2", "-Wall", "-Wextra", "-pedantic", "-std=c99"]
    built = subprocess.run(
        [COMPILER, *options, "-o", program, source, "-lm"], capture_output=True, text=True, timeout=120
    )
    assert (built.returncode, built.stderr) == (0, "")
    return [str(program)]


@pytest.fixture(scope="session")
def port(tmp_path_factory) -> list[str]:
    """The command of the port in C."""
    return compiled(PORT_IN_C, tmp_path_factory.mktemp("port"))


@pytest.fixture(params=["numpy", "c"])
def example(request):
    """Either example, as the subject that `check` takes."""
    return f"{NUMPY_PORT}:make" if request.param == "numpy" else request.getfixturevalue("port")


def small_case(**options) -> Case:
    """Two layers and heads, batches of two with a repeated token, and documents longer than the block."""
    config = Config(n_layer=2, n_embd=8, n_head=2, block_size=4, vocab_size=5, init_std=0.4)
    state = microgpt.init_state(microgpt.init_params(config, random.Random(3)))
    documents = [[4, 1, 1, 2, 4], [4, 3, 0, 3, 0, 1, 4], [4, 0, 4]]
    return replace(Case(config, Hyper(num_steps=50), state, documents, batch_size=2, steps=3), **options)


CASES = {
    "default": lambda: Case.from_names(steps=3),
    "batches of two layers past the block": small_case,
    "relu2 and cosine": lambda: Case.from_names(preset="microgpt_early", steps=3, batch_size=2),
}


@pytest.mark.parametrize("make_case", CASES.values(), ids=CASES)
def test_example_has_parity_in_everything(example, make_case):
    result = check(example, make_case())
    assert result.verdict is Verdict.PARITY, result.reason
    assert result.unchecked == []
    for mode in result.modes:
        assert {row.quantity for row in mode.quantities.values()} == QUANTITIES


@settings(max_examples=10)
@given(case=cases())
def test_numpy_port_has_parity_on_drawn_cases(case):
    assert_parity(numpy_port.make, case)


@settings(max_examples=10)
@given(case=cases())
def test_port_in_c_has_parity_on_drawn_cases(port, case):
    assert_parity(port, case)


@pytest.mark.parametrize("make_case", CASES.values(), ids=CASES)
def test_numpy_port_has_parity_in_float32(make_case):
    result = check(numpy_port.make, make_case(), dtype="float32")
    assert result.verdict is Verdict.PARITY, result.reason


def test_numpy_port_in_float32_stays_in_float32():
    case = small_case()
    subject = numpy_port.make(case.config, case.hyper, dtype="float32")
    subject.load(case.state)
    step = subject.train_step(case.documents)
    tensors = [step.loss, *step.logits]
    for part in (step.grads, step.params, step.m, step.v):
        tensors += part.values()
    assert {np.asarray(tensor).dtype for tensor in tensors} == {np.dtype("float32")}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_example_says_which_formats_it_cannot_compute_in(example, dtype):
    result = check(example, small_case(), dtype=dtype)
    assert result.verdict is Verdict.ERROR
    assert "float64" in result.reason


NUMPY_FAULTS = {
    "the gradient of a repeated token is overwritten": (
        (('np.add.at(grads["wte"], tape.tokens, d_embedding)', 'grads["wte"][tape.tokens] = d_embedding'),),
        ("grad", "wte"),
    ),
    "the scale of rmsnorm is taken for a constant": (
        (("scale * (d_y - y * (d_y * y).mean(axis=-1, keepdims=True))", "scale * d_y"),),
        ("grad", "layer1.attn_wo"),
    ),
    "the gradient of softmax lacks its sum": (
        (("p * (d_p - (p * d_p).sum(axis=-1, keepdims=True))", "p * d_p"),),
        ("grad", "layer1.attn_wk"),
    ),
    "each position sees the next one": ((("k=1 + so_far", "k=2 + so_far"),), ("logits", "document 0")),
    "gradients of a batch are summed": ((("d_logits / (n * len(batch))", "d_logits / n"),), ("grad", "lm_head")),
    "the slope of relu2 is that of relu": (
        (('if config.activation == "relu2" else tape.pre > 0', "if False else tape.pre > 0"),),
        ("grad", "layer1.mlp_fc1"),
    ),
}

C_FAULTS = {
    "scores are not scaled": (
        (("pass[s].layers[i].k + h, dim) / sqrt(dim)", "pass[s].layers[i].k + h, dim)"),),
        ("logits", "document 0"),
    ),
    "no gradient reaches the keys": (
        (("            add(d_pass[s].layers[i].k + h, layer->q + h, d_scores[s] / sqrt(dim), dim);\n", ""),),
        ("grad", "layer1.attn_wk"),
    ),
    "backward goes through the positions in the order of forward": (
        (("for (size_t t = n; t-- > 0;)", "for (size_t t = 0; t < n; t++)"),),
        ("grad", "layer1.attn_wv"),
    ),
    "gradients of the step before stay": (
        (("    memset(model->grads, 0, model->n_params * sizeof(double));\n", ""),),
        ("grad", "lm_head"),
    ),
    "epsilon is inside the root": (
        (("(sqrt(v_hat) + model->eps_adam)", "sqrt(v_hat + model->eps_adam)"),),
        ("param", "lm_head"),
    ),
    "numbers are written with six digits": ((("%.17g", "%g"),), ("logits", "document 0")),
}


@pytest.mark.parametrize(("edits", "where"), NUMPY_FAULTS.values(), ids=NUMPY_FAULTS)
def test_fault_planted_in_the_numpy_port_is_caught(edits, where, tmp_path):
    case = small_case(config=replace(small_case().config, activation="relu2"))
    copy = edited(NUMPY_PORT, edits, tmp_path)
    result = check(f"{copy}:make", case, modes="lock-step")
    first = result.modes[0].first_divergence
    assert (result.verdict, first.quantity, first.tensor) == (Verdict.DIVERGED, *where)


@pytest.mark.parametrize(("edits", "where"), C_FAULTS.values(), ids=C_FAULTS)
def test_fault_planted_in_the_port_in_c_is_caught(edits, where, tmp_path):
    result = check(compiled(edited(PORT_IN_C, edits, tmp_path), tmp_path), small_case(), modes="lock-step")
    first = result.modes[0].first_divergence
    assert (result.verdict, first.quantity, first.tensor) == (Verdict.DIVERGED, *where)


class Decoding:
    """A subject whose logits are those that another one decodes, token by token."""

    def __init__(self, subject, config):
        self.subject, self.block_size = subject, config.block_size
        self.load, self.dtype = subject.load, subject.dtype

    def train_step(self, batch):
        return Step(logits=[self.subject.decode(tokens[:-1][: self.block_size]) for tokens in batch])


def decoding(named):
    """The factory of Decoding subjects around the one so named."""
    return lambda config, hyper, dtype=None: Decoding(make_subject(named, config, hyper, dtype=dtype), config)


@pytest.mark.parametrize("make_case", CASES.values(), ids=CASES)
def test_decoding_token_by_token_gives_the_logits_of_the_step(example, make_case):
    result = check(decoding(example), make_case(), modes="lock-step")
    assert result.verdict is Verdict.PARITY, result.reason


def test_decoding_in_float32_gives_the_logits_of_the_step():
    result = check(decoding(numpy_port.make), small_case(), modes="lock-step", dtype="float32")
    assert result.verdict is Verdict.PARITY, result.reason


def test_decoding_that_forgets_the_past_is_caught(tmp_path):
    copy = edited(NUMPY_PORT, (("self._next(token, tape)", "self._next(token, None)"),), tmp_path)
    result = check(decoding(f"{copy}:make"), small_case(), modes="lock-step")
    assert result.verdict is Verdict.DIVERGED
    assert result.modes[0].first_divergence.index == (1, 0)


def loaded(named, case: Case, dtype: str | None = None):
    subject = make_subject(named, case.config, case.hyper, dtype=dtype)
    subject.load(case.state)
    return subject


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_sampling_at_temperature_0_takes_the_likeliest_path(dtype):
    case = Case.from_names(config={"init_std": 0.5})
    likeliest = microgpt.sample(case.state.params, case.config, random.Random(0), temperature=0)
    assert 0 < len(likeliest) <= case.config.block_size
    assert loaded(numpy_port.make, case, dtype).sample(0, count=3, seed=1) == [likeliest] * 3


def test_samples_end_with_the_block_and_hold_no_bos():
    case = small_case()
    documents = loaded(numpy_port.make, case).sample(temperature=1.0, count=200, seed=1)
    assert {len(tokens) for tokens in documents} == set(range(case.config.block_size + 1))
    assert {token for tokens in documents for token in tokens} == set(range(case.config.vocab_size - 1))


def test_samples_follow_from_the_seed():
    subject = loaded(numpy_port.make, small_case())
    assert subject.sample(0.5, 50, seed=1) == subject.sample(0.5, 50, seed=1) != subject.sample(0.5, 50, seed=2)


def chance_of_first_tokens(named, case: Case, temperature: float) -> float:
    """The p-value of the first tokens of samples, given the logits that the reference computes."""
    subject, bos, count = loaded(named, case), case.config.vocab_size - 1, 4000
    found = Counter((*tokens, bos)[0] for tokens in subject.sample(temperature, count, seed=1))
    _, logits = microgpt.document_loss([bos, bos], microgpt_params(case), case.config)
    powers = np.exp([logit.data / temperature for logit in logits[0]])
    return chisquare([found[token] for token in range(bos + 1)], count * powers / powers.sum()).pvalue


def microgpt_params(case: Case):
    return {name: microgpt.elementwise(microgpt.Value, matrix) for name, matrix in case.state.params.items()}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_first_tokens_are_drawn_as_the_logits_say(temperature):
    assert chance_of_first_tokens(numpy_port.make, small_case(), temperature) > FALSE_ALARM


def test_sampling_that_ignores_the_temperature_is_caught(tmp_path):
    copy = edited(NUMPY_PORT, (('logits.astype("float64") / temperature', 'logits.astype("float64")'),), tmp_path)
    assert chance_of_first_tokens(f"{copy}:make", small_case(), 0.5) < FALSE_ALARM


def hello(**changes) -> dict:
    case = small_case()
    config = {key: changes.pop(key, value) for key, value in asdict(case.config).items()}
    return {
        "type": "hello",
        "protocol": PROTOCOL,
        "config": config,
        "hyper": asdict(case.hyper),
        "options": {},
        **changes,
    }


def load(**changes) -> dict:
    return {"type": "load", **vars(small_case().state), **changes}


def answers(command: list[str], *messages) -> tuple[int, list[dict]]:
    """The exit status, and what the command answers to the messages, or lines of bytes."""
    lines = [message if isinstance(message, bytes) else json.dumps(message).encode() for message in messages]
    run = subprocess.run(command, input=b"\n".join(lines), capture_output=True, timeout=60)
    assert run.stderr == b""
    return run.returncode, [json.loads(line) for line in run.stdout.splitlines()]


def test_port_in_c_leaves_when_its_input_ends(port):
    assert answers(port) == (0, [])
    status, (ready, _) = answers(port, hello(), load())
    assert status == 0
    assert ready == {"type": "ready", "protocol": PROTOCOL, "dtype": "float64", "methods": ["decode"]}


def test_port_in_c_takes_another_model_after_a_new_greeting(port):
    train = {"type": "train_step", "batch": small_case().documents, "sites": False}
    other = {"type": "decode", "tokens": [1]}
    status, found = answers(port, hello(), load(), train, hello(activation="relu2"), other)
    assert status == 1
    assert [answer["type"] for answer in found] == ["ready", "loaded", "step", "ready", "error"]


def test_port_in_c_writes_numbers_that_json_lacks_as_the_protocol_says(port):
    params = dict(small_case().state.params)
    params["lm_head"] = [[1e308 * (-1) ** j for j in range(8)]] * 2 + [[0.0] * 8] * 3
    params["layer1.mlp_fc2"] = [[100.0 * (-1) ** j] * 32 for j in range(8)]
    train = {"type": "train_step", "batch": [[4, 1, 4]], "sites": False}
    status, found = answers(port, hello(), load(params=params), train)
    assert status == 0
    assert found[-1]["loss"] is None
    assert {"Infinity", "-Infinity"} & {found[-1]["logits"][0][t][0] for t in (0, 1)}
    assert set(found[-1]["logits"][0][0][2:]) == {0}


REFUSED = {
    "garbage": ([b"what?"], "not JSON: there should be a value at 'what?'"),
    "half a message": ([b'{"type": "he'], "a string has no end"),
    "half an escape": ([b'{"type": "he\\'], "a string has no end"),
    "a message with more behind it": ([b'{"type": "hello"} {}'], "one JSON object on a line"),
    "a list": ([[1, 2]], "one JSON object on a line"),
    "a tower": ([b"[" * 100_000], "more than 16 levels deep"),
    "infinity as a word": ([b'{"type": -inf}'], "there should be a value at '-inf}'"),
    "a blank line": ([b"", hello()], "there should be a value"),
    "no type": ([{}], "type is missing or not a string"),
    "an unknown type": ([hello(), {"type": 'dan"ce\n'}], "cannot answer a message of type dan?ce? here"),
    "weights before the greeting": ([load()], "of type load here"),
    "a step before the weights": ([hello(), {"type": "train_step", "batch": [[4, 4]]}], "of type train_step here"),
    "another protocol": ([hello(protocol="microgpt-parity 9")], "I speak the protocol microgpt-parity 1"),
    "another device": ([hello(options={"device": "cuda"})], "the option device asks for something else"),
    "no layers": ([hello(n_layer=0)], "n_layer must be a whole number from 1 to"),
    "half a layer": ([hello(n_layer=1.5)], "n_layer must be a whole number from 1 to"),
    "sizes of nothing": ([hello(n_embd=None)], "n_embd is missing or not a number"),
    "a size past all bounds": ([hello(vocab_size=1e300)], "vocab_size must be a whole number from 1 to"),
    "sizes whose product is": ([hello(n_embd=10**9, n_layer=10**9)], "parameters are more than I can do"),
    "heads that do not fit": ([hello(n_head=3)], "n_embd 8 cannot be split evenly over n_head 3"),
    "another activation": ([hello(activation="gelu")], "activation must be relu or relu2, not gelu"),
    "weights of another shape": ([hello(vocab_size=6), load()], "params wte must be 6 rows of 8 numbers"),
    "weights that are words": ([hello(), load(m={"wte": [["x"] * 8] * 5})], "m wte must be 5 rows of 8 numbers"),
    "weights that are missing": ([hello(), load(v={})], "wte is missing or not a list"),
    "no documents": ([hello(), load(), {"type": "train_step", "batch": []}], "no documents to train on"),
    "an empty document": ([hello(), load(), {"type": "train_step", "batch": [[4]]}], "at least two tokens"),
    "a strange token": ([hello(), load(), {"type": "train_step", "batch": [[4, 5, 4]]}], "whole number from 0 to 4"),
    "a negative token": ([hello(), load(), {"type": "decode", "tokens": [-1]}], "whole number from 0 to 4"),
    "more tokens than the block": ([hello(), load(), {"type": "decode", "tokens": [1] * 5}], "1 to 4 tokens, not 5"),
}


@pytest.mark.parametrize(("messages", "sentence"), REFUSED.values(), ids=REFUSED)
def test_port_in_c_answers_what_it_cannot_do_with_a_sentence(port, messages, sentence):
    status, found = answers(port, *messages)
    assert status == 1
    assert [answer["type"] for answer in found].count("error") == 1
    assert found[-1]["type"] == "error"
    assert sentence in found[-1]["message"]


def test_what_the_port_in_c_says_is_the_reason_of_the_verdict(port):
    case = small_case()
    result = check(port, replace(case, documents=[[4, 1, 4]]), dtype="float32")
    assert result.verdict is Verdict.ERROR
    assert "I compute in float64 on the cpu" in result.reason
