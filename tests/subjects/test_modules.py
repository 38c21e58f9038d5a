"""Any torch module as a subject: modules as people write them are at parity, mistakes in them or in the map are not.

The modules differ in how they keep the weights: queries, keys and values in one matrix, one after another or head by
head, matrices transposed, or one small matrix for each head.
"""

import random
from dataclasses import replace
from functools import cache, partial

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from parity import Case, Verdict, check
from parity.errors import UsageError
from parity.modules import Arranged, ModuleSubject, stacked
from reference.config import State
from tests.subjects.torch_modules import GPT2, GPT2_NAMES, NANO, QKV, LectureGPT, NanoGPT, lecture_names
from torch_twin.tools.threads import threads


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors this small gain nothing from several threads, and lose much where the cores are busy."""
    with threads(1):
        yield


@cache
def case(n_layer: int = 1, schedule: str = "linear") -> Case:
    config = {"n_embd": 8, "n_head": 2, "block_size": 8, "n_layer": n_layer}
    return Case.from_names(steps=3, batch_size=2, config=config, hyper={"num_steps": 4, "lr_schedule": schedule})


def nano(names=NANO, **options):
    """A factory of subjects made of NanoGPT; options for it, or for the subject."""
    of_module = {name: options.pop(name) for name in ("dropout", "by_head", "eps") if name in options}

    def make(config, hyper, dtype="float64", device="cpu"):
        return ModuleSubject(
            NanoGPT(config, **of_module).eval(), config, hyper, names, dtype=dtype, device=device, **options
        )

    return make


def gpt2(names=GPT2_NAMES, frozen=("*.bias", "*ln*"), change=lambda module: module, **options):
    def make(config, hyper, dtype="float64"):
        return ModuleSubject(change(GPT2(config)), config, hyper, names, frozen=frozen, dtype=dtype, **options)

    return make


def lecture(config, hyper, dtype="float64"):
    return ModuleSubject(LectureGPT(config), config, hyper, lecture_names(config.n_head), dtype=dtype)


def test_module_with_another_optimizer_is_checked_without_its_update():
    result = check(nano(optimizer=None), case())
    assert result.verdict is Verdict.PARITY, result.reason
    assert [mode.mode for mode in result.modes] == ["lock-step"]
    assert result.unchecked == ["m", "v", "param"]


def first(result):
    """What diverged first in lock-step: step, quantity and tensor."""
    assert result.verdict is Verdict.DIVERGED, result.reason
    difference = result.modes[0].first_divergence
    return difference.step, difference.quantity, difference.tensor


def refusal(make, n_layer: int = 1) -> str:
    with pytest.raises(UsageError) as caught:
        make(case(n_layer).config, case(n_layer).hyper)
    return str(caught.value)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("n_layer", [1, 2])
@pytest.mark.parametrize(
    "make",
    [nano(), nano(NANO | {"h.{i}.attn.qkv.weight": stacked(*QKV, heads=2)}, by_head=True), gpt2(), lecture],
    ids=["q, k, v fused", "fused by head", "transposed", "every head by itself"],
)
def test_module_is_at_parity(make, n_layer, dtype):
    result = check(make, case(n_layer), dtype=dtype)
    assert result.verdict is Verdict.PARITY, result.reason
    assert [mode.verdict for mode in result.modes] == [Verdict.PARITY] * len(result.modes)
    assert set(result.unchecked) == set()


@pytest.mark.parametrize(
    "optimizer",
    [
        partial(torch.optim.Adam, foreach=True),
        partial(torch.optim.Adam, fused=True),
        partial(torch.optim.AdamW, weight_decay=0),
        partial(torch.optim.AdamW, weight_decay=0, fused=True),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_way_to_compute_adam_is_at_parity(optimizer, dtype):
    assert check(nano(optimizer=optimizer), case(), dtype=dtype).verdict is Verdict.PARITY


def test_whole_numbers_as_betas_are_taken():
    without_memory = replace(case(), hyper=replace(case().hyper, beta1=0, beta2=0))
    assert check(nano(), without_memory).verdict is Verdict.PARITY


class Scribbling(torch.optim.Adam):
    def step(self, closure=None):
        super().step(closure)
        for parameter in self.state:
            parameter.grad.zero_()


def test_gradients_are_those_before_the_update():
    assert check(nano(optimizer=Scribbling), case()).verdict is Verdict.PARITY


def test_state_in_the_midst_of_training_is_taken_up():
    rng = random.Random(1)
    start = case(2).state
    m, v = (
        {name: [[sign * rng.random() * 1e-3 for _ in row] for row in rows] for name, rows in start.params.items()}
        for sign in (-1, 1)
    )
    midway = replace(case(2), state=State(start.params, m, v, step=1))
    for schedule in ("linear", "cosine"):
        resumed = replace(midway, hyper=replace(midway.hyper, lr_schedule=schedule))
        assert check(gpt2(), resumed).verdict is Verdict.PARITY


def test_what_is_loaded_lies_where_the_map_says_and_comes_back_bit_for_bit():
    subject = gpt2()(case().config, case().hyper)
    subject.load(case().state)
    params = {name: torch.tensor(rows, dtype=torch.float64) for name, rows in case().state.params.items()}
    fused = torch.cat([params[f"layer0.attn_w{letter}"] for letter in "qkv"]).T
    assert torch.equal(subject.module.h[0].c_attn.weight, fused)
    assert torch.equal(subject.module.head.weight, params["lm_head"].T)
    back = subject.layout.read(subject.parameters)
    assert list(back) == list(params)
    assert all(torch.equal(back[name], params[name]) for name in params)


def test_step_holds_copies_that_the_next_step_does_not_change():
    subject = nano()(case().config, case().hyper)
    subject.load(case().state)
    step, kept = (subject.train_step(next(case().batches())) for _ in range(2))
    before = {field: {name: t.clone() for name, t in getattr(kept, field).items()} for field in ("grads", "params")}
    subject.train_step(next(case().batches()))
    assert all(torch.equal(getattr(kept, field)[name], t) for field in before for name, t in before[field].items())
    assert not torch.equal(step.params["wte"], kept.params["wte"])
    assert not any(rows.requires_grad for rows in kept.logits)


def test_compiled_module_keeps_its_names():
    def make(config, hyper):
        return ModuleSubject(torch.compile(NanoGPT(config), backend="eager"), config, hyper, NANO)

    result = check(make, case())
    assert result.verdict is Verdict.PARITY, result.reason


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, partial(torch.optim.Adam, fused=True)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_module_on_cuda_is_at_parity(dtype, optimizer):
    assert check(nano(optimizer=optimizer), case(2), dtype=dtype, device="cuda").verdict is Verdict.PARITY


def padded_loss(module, batch):
    """All documents at once, the shorter ones filled up."""
    block_size = module.wpe.num_embeddings
    rows = [torch.tensor(tokens[: block_size + 1]) for tokens in batch]
    inputs = nn.utils.rnn.pad_sequence([row[:-1] for row in rows], batch_first=True)
    targets = nn.utils.rnn.pad_sequence([row[1:] for row in rows], batch_first=True, padding_value=-1)
    logits = module(inputs)
    losses = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=-1, reduction="none").sum(1)
    lengths = torch.tensor([len(row) - 1 for row in rows])
    return (losses / lengths).mean(), [found[:n] for found, n in zip(logits, lengths)]


def test_loss_of_the_user_is_at_parity_and_may_keep_its_logits():
    result = check(nano(loss=padded_loss), case(2))
    assert (result.verdict, result.unchecked) == (Verdict.PARITY, [])
    result = check(nano(loss=lambda module, batch: padded_loss(module, batch)[0]), case(2))
    assert (result.verdict, result.unchecked) == (Verdict.PARITY, ["logits"])


def test_logits_of_the_wrong_shape_are_named():
    result = check(nano(loss=lambda *given: (padded_loss(*given)[0], [torch.zeros(1, 27)] * 2)), case())
    assert result.verdict is Verdict.ERROR
    assert "logits, document 0, have the shape (1, 27), expected (" in result.reason


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda logits: logits[:, -1:], "logits of shape (1, 1, 27), expected shape (1, "),
        (lambda logits: logits[0], "pass loss="),
        (lambda logits: {"scores": logits}, "logits of dict, expected shape (1, "),
    ],
)
def test_module_that_answers_with_something_else_is_told_of_loss(answer, said):
    class Other(NanoGPT):
        def forward(self, tokens):
            return answer(super().forward(tokens))

    result = check(lambda config, hyper: ModuleSubject(Other(config), config, hyper, NANO), case())
    assert result.verdict is Verdict.ERROR
    assert said in result.reason


def summed(module, batch):
    loss, logits = padded_loss(module, batch)
    return loss * len(batch), logits


def averaged_over_all_positions(module, batch):
    lengths = torch.tensor([min(module.wpe.num_embeddings, len(tokens) - 1) for tokens in batch])
    losses = torch.stack([padded_loss(module, [tokens])[0] for tokens in batch])
    return (losses * lengths).sum() / lengths.sum()


def adam(**wrong):
    return lambda params, **options: torch.optim.Adam(params, **(options | wrong))


def with_gain(module):
    nn.init.constant_(module.h[0].ln_2.weight, 1 + 1e-6)
    return module


def with_bias(module):
    nn.init.constant_(module.h[0].c_fc.bias, 1e-9)
    return module


def detached(module):
    module.h[0].c_proj.register_forward_hook(lambda layer, inputs, output: output.detach())
    return module


QUERIES, KEYS, VALUES = QKV
MISTAKES = {
    "keys and values swapped in the map": (
        nano(NANO | {"h.{i}.attn.qkv.weight": stacked(QUERIES, VALUES, KEYS)}),
        (0, "logits", "document 0"),
    ),
    "queries and keys swapped in the map": (
        nano(NANO | {"h.{i}.attn.qkv.weight": stacked(KEYS, QUERIES, VALUES)}),
        (0, "logits", "document 0"),
    ),
    "fused by head, mapped one after another": (nano(by_head=True), (0, "logits", "document 0")),
    "fused one after another, mapped by head": (
        nano(NANO | {"h.{i}.attn.qkv.weight": stacked(*QKV, heads=2)}),
        (0, "logits", "document 0"),
    ),
    "square matrix not transposed": (
        gpt2(GPT2_NAMES | {"h.{i}.c_proj.weight": "layer{i}.attn_wo"}),
        (0, "logits", "document 0"),
    ),
    "eps of the norm": (nano(eps=1e-6), (0, "logits", "document 0")),
    "dropout": (nano(dropout=0.1), (0, "logits", "document 0")),
    "frozen gain that is not 1": (gpt2(change=with_gain), (0, "logits", "document 0")),
    "frozen bias that is not 0": (gpt2(change=with_bias), (0, "logits", "document 0")),
    "loss summed over the documents": (nano(loss=summed), (0, "loss", "loss")),
    "loss averaged over all positions": (nano(loss=averaged_over_all_positions), (0, "loss", "loss")),
    "no gradient behind the attention": (gpt2(change=detached), (0, "grad", "layer0.attn_wo")),
    "weight decay": (nano(optimizer=partial(torch.optim.AdamW, weight_decay=1e-3)), (0, "param", "lm_head")),
    "weight decay in the gradient": (nano(optimizer=adam(weight_decay=1e-3)), (0, "m", "lm_head")),
    "eps of Adam": (nano(optimizer=adam(eps=1e-7)), (0, "param", "lm_head")),
    "beta1 of Adam": (nano(optimizer=adam(betas=(0.9, 0.99))), (0, "m", "lm_head")),
    "beta2 of Adam": (nano(optimizer=adam(betas=(0.85, 0.999))), (0, "v", "lm_head")),
    "the largest second moment": (nano(optimizer=adam(amsgrad=True)), (1, "param", "lm_head")),
    "Nesterov's momentum": (nano(optimizer=torch.optim.NAdam), (0, "param", "lm_head")),
    "gradients followed upwards": (nano(optimizer=adam(maximize=True)), (0, "m", "lm_head")),
}


@pytest.mark.parametrize(("make", "place"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_diverges_where_it_was_made(make, place):
    assert first(check(make, case(), modes="lock-step")) == place


def test_layers_swapped_in_the_map_diverge():
    swapped = {"h.0.mlp.up.weight": "layer1.mlp_fc1", "h.1.mlp.up.weight": "layer0.mlp_fc1"}
    make = nano(without(NANO, "h.{i}.mlp.up.weight") | swapped)
    assert first(check(make, case(2), modes="lock-step")) == (0, "logits", "document 0")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mistake", ["keys and values swapped in the map", "square matrix not transposed"])
def test_wrong_map_diverges_in_narrower_formats(mistake, dtype):
    assert first(check(MISTAKES[mistake][0], case(), modes="lock-step", dtype=dtype)) == MISTAKES[mistake][1]


def without(names, *left_out):
    return {name: entry for name, entry in names.items() if name not in left_out}


def test_what_is_unmatched_is_named_on_both_sides():
    wrong = without(GPT2_NAMES, "h.{i}.c_fc.weight", "wte.weight") | {"wet.weight": "wte", "h.{i}.c_attn.weight": "wq"}
    assert refusal(gpt2(wrong, frozen="*ln*")) == (
        "The name map does not fit. Unmatched among the module's trained parameters: "
        "wte.weight, h.0.c_attn.bias, h.0.c_proj.bias, h.0.c_fc.weight, h.0.c_fc.bias, h.0.c_out.bias, head.bias. "
        "Unmatched among the reference's matrices: layer0.attn_wq, layer0.attn_wk, layer0.attn_wv, layer0.mlp_fc1. "
        "Not among the module's trained parameters: wet.weight (is it wte.weight?). "
        "Not among the reference's matrices: wq. "
        "What the reference lacks, such as the gain 1 of a norm, is to be named in frozen."
    )


def of_depth(n_layer):
    return lambda config, hyper: ModuleSubject(NanoGPT(replace(config, n_layer=n_layer)), config, hyper, NANO)


def test_module_with_more_layers_than_the_config_is_unmatched():
    assert refusal(of_depth(2), n_layer=1) == (
        "The name map does not fit. Unmatched among the module's trained parameters: "
        "h.1.attn.qkv.weight, h.1.attn.proj.weight, h.1.mlp.up.weight, h.1.mlp.down.weight. "
        "What the reference lacks, such as the gain 1 of a norm, is to be named in frozen."
    )


def test_module_with_fewer_layers_than_the_config_is_unmatched():
    said = refusal(of_depth(1), n_layer=2)
    assert "Not among the module's trained parameters: h.1.attn.qkv.weight (is it h.0.attn.qkv.weight?), " in said


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            GPT2_NAMES | {"h.{i}.c_fc.weight": "layer{i}.mlp_fc1"},
            "h.0.c_fc.weight has the shape (8, 32), the map gives it (32, 8) from layer0.mlp_fc1; "
            "transposed (.T) it would fit.",
        ),
        (
            GPT2_NAMES | {"h.{i}.c_attn.weight": stacked(*QKV)},
            "h.0.c_attn.weight has the shape (8, 24), the map gives it (24, 8) from layer0.attn_wq, layer0.attn_wk, "
            "layer0.attn_wv; transposed (.T) it would fit.",
        ),
        (
            GPT2_NAMES | {"wpe.weight": "wte", "wte.weight": "wpe"},
            "wte.weight has the shape (27, 8), the map gives it (8, 8) from wpe. "
            "wpe.weight has the shape (8, 8), the map gives it (27, 8) from wte.",
        ),
        (
            GPT2_NAMES | {"wte.weight": "lm_head"},
            "Unmatched among the reference's matrices: wte. "
            "lm_head is mapped more than once: to wte.weight, head.weight.",
        ),
        (
            GPT2_NAMES | {"h.{i}.c_proj.weight": Arranged(("layer{i}.attn_wo",), lambda matrix: matrix[:4])},
            "h.0.c_proj.weight has the shape (8, 8), the map gives it (4, 8) from layer0.attn_wo. "
            "layer0.attn_wo is mapped only in part: to h.0.c_proj.weight.",
        ),
    ],
)
def test_map_that_does_not_fit_says_why(names, said):
    assert refusal(gpt2(names)) == f"The name map does not fit. {said}"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (stacked("layer{i}.attn_wo", "layer{i}.mlp_fc2"), "layer0.attn_wo (8, 8), layer0.mlp_fc2 (8, 32): Sizes of"),
        (Arranged(("layer{i}.attn_wo",), lambda matrix: matrix * 0.5), "layer0.attn_wo (8, 8): they may be rearranged"),
        (Arranged(("layer{i}.attn_wo",), lambda: None), "layer0.attn_wo (8, 8): "),
        (("layer{i}.attn_wo",), "gives h.{i}.c_proj.weight a tuple, expected a name or stacked(...)."),
    ],
)
def test_entry_that_cannot_be_followed_says_why(entry, said):
    assert said in refusal(gpt2(GPT2_NAMES | {"h.{i}.c_proj.weight": entry}))


def test_pattern_that_freezes_nothing_is_refused():
    assert refusal(gpt2(frozen=("*.bias", "norm.*"))) == (
        "No parameter of the module fits 'norm.*', which is to be frozen."
    )


def test_frozen_parameters_keep_their_values_and_are_not_trained():
    subject = gpt2()(case().config, case().hyper)
    subject.load(case().state)
    subject.train_step(next(case().batches()))
    frozen = {name: p for name, p in subject.module.named_parameters() if "bias" in name or "ln" in name}
    assert len(frozen) == 8
    assert not any(parameter.requires_grad for parameter in frozen.values())
    assert all((parameter == (0 if "bias" in name else 1)).all() for name, parameter in frozen.items())


def test_frozen_parameter_in_the_map_is_refused():
    assert "Not among the module's trained parameters: head.weight" in refusal(gpt2(frozen=("*.bias", "*ln*", "head*")))


@pytest.mark.parametrize("scale", [1.0, 1.001])
def test_module_whose_head_is_tied_is_checked_but_for_what_it_shares(scale):
    class TiedGPT(NanoGPT):
        def __init__(self, config):
            super().__init__(config)
            self.lm_head.weight = self.wte.weight

        def forward(self, tokens):
            return scale * super().forward(tokens)

    def make(config, hyper, dtype="float64"):
        return ModuleSubject(TiedGPT(config), config, hyper, NANO, dtype=dtype)

    result = check(make, case())
    assert result.verdict is (Verdict.PARITY if scale == 1 else Verdict.DIVERGED), result.reason
    assert {name.partition(" ")[2] for name in result.unchecked} == {"wte", "lm_head"}


def test_other_tied_weights_are_refused():
    def make(config, hyper):
        module = NanoGPT(config)
        module.h[1].attn.proj.weight = module.h[0].attn.proj.weight
        return ModuleSubject(module, config, hyper, NANO)

    assert refusal(make, n_layer=2) == (
        "h.0.attn.proj.weight and h.1.attn.proj.weight are one parameter; the reference ties no weights, and a check "
        "only lm_head to wte: untie them."
    )


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        (torch.optim.SGD, "The optimizer cannot be made with params, lr, betas and eps: "),
        (
            lambda params, lr, **rest: torch.optim.SGD(params, lr=lr, momentum=0.9),
            "The optimizer SGD does not keep exp_avg, exp_avg_sq and step, as torch.optim.Adam does, for wte.weight, ",
        ),
        (torch.optim.Adamax, "The optimizer Adamax does not keep "),
        (
            lambda params, **options: torch.optim.Adam(params[1:], **options),
            "The optimizer Adam does not keep exp_avg, exp_avg_sq and step, as torch.optim.Adam does, for wte.weight.",
        ),
    ],
)
def test_optimizer_without_moments_as_in_adam_is_refused(optimizer, said):
    assert refusal(nano(optimizer=optimizer)).startswith(said)


def test_unknown_number_format_is_refused():
    with pytest.raises(UsageError, match="float16, not in 'int8'"):
        nano()(case().config, case().hyper, dtype="int8")


def test_refusal_ends_a_check_with_its_sentence():
    with pytest.raises(UsageError, match="The name map does not fit"):
        check(nano(without(NANO, "wte.weight")), case())


def with_gain(module, value=1.5):
    for block in module.h:
        nn.init.constant_(block.ln_1.weight, value)
    return module


def with_bias(module):
    nn.init.constant_(module.h[0].c_fc.bias, 0.1)
    return module


ODD = {
    "Frozen, h.0.ln_1.weight is a gain other than 1, which the reference does not have: ": with_gain,
    "Frozen, h.0.c_fc.bias is a bias other than 0, which the reference does not have: ": with_bias,
    "Frozen, h.0.ln_1.weight is a gain other than 1, and h.0.c_fc.bias is a bias other than 0, which the ": (
        lambda module: with_bias(with_gain(module))
    ),
}


@pytest.mark.parametrize(("said", "change"), ODD.items(), ids=["gain", "bias", "both"])
def test_frozen_gains_and_biases_that_explain_a_failure_are_told(said, change):
    result = check(gpt2(change=change), case(), modes="lock-step")
    assert result.verdict is Verdict.DIVERGED
    (warning,) = result.warnings
    assert warning.startswith(said)
    assert warning.endswith("the module computes another function for that alone.")


def test_several_are_counted():
    subject = gpt2(change=with_gain)(case(n_layer=5).config, case().hyper)
    (warning,) = subject.warnings
    assert "h.0.ln_1.weight, h.1.ln_1.weight, h.2.ln_1.weight and 2 more are gains other than 1" in warning


def test_gain_that_is_added_to_one_is_nothing_to_warn_of():
    """As some norms keep it, of which a pass says that all is well."""

    def change(module):
        for norm in (module.ln, *(ln for block in module.h for ln in (block.ln_1, block.ln_2))):
            nn.init.zeros_(norm.weight)
            norm.forward = lambda x, norm=norm: F.rms_norm(x, x.shape[-1:], 1 + norm.weight, eps=norm.eps)
        return module

    assert gpt2(change=change)(case().config, case().hyper).warnings
    result = check(gpt2(change=change), case(), modes="lock-step", probes=False)
    assert (result.verdict, result.warnings) == (Verdict.PARITY, [])
    assert gpt2()(case().config, case().hyper).warnings == ()
