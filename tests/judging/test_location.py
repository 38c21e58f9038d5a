"""Where a check says that a step goes wrong: in the order of computation, and first where what goes in is right."""

import random
from functools import cache

import pytest

from parity import Case, Config, Hyper, Step, check
from parity.catalogue.mutants import MUTANTS
from parity.catalogue.together import combined
from parity.judging.computation_order import computed_from, gradients_before, in_order_of_computation
from parity.judging.sentences import located
from parity.quantities import TensorKey
from reference.microgpt import init_params, init_state
from tests.faults import planted
from tests.implementations import Vectorised
from torch_twin.microgpt import Twin

LAYER = ("mlp_fc2", "mlp_fc1", "attn_wo", "attn_wv", "attn_wk", "attn_wq")
"""In the order of backward."""

GRADIENT_MUTANTS = {
    "positions_not_trained": ("wpe",),
    "position_zero_not_trained": ("wpe",),
    "token_zero_not_trained": ("wte",),
    "repeated_token_overwritten": ("wte",),
    "norm_scale_constant": ("layer1.attn_wo",),
    "norm_backward_squared": ("layer1.attn_wo",),
    "residual_gradient_through_norm": ("layer1.attn_wo",),
    "score_gradient_not_scaled": ("layer1.attn_wk", "layer1.attn_wq"),
    "cache_detached": ("layer1.attn_wv", "layer1.attn_wk"),
    "earlier_positions_detached": ("layer1.attn_wv", "layer1.attn_wk"),
    "earlier_inputs_detached": ("layer0.mlp_fc2",),
    "keys_detached": ("layer1.attn_wk",),
    "relu_open_at_zero": ("layer1.mlp_fc1",),
    "relu_half_open_at_zero": ("layer1.mlp_fc1",),
    "relu_always_open": ("layer1.mlp_fc1",),
    "relu_gradient_alone": ("layer1.mlp_fc1",),
    "square_gradient_halved": ("layer1.mlp_fc1",),
    "gradient_summed_over_batch": ("lm_head",),
    "gradient_of_first_document": ("lm_head",),
    "gradient_of_last_document": ("lm_head",),
    "gradients_overwritten": ("lm_head",),
    "backward_without_order": ("lm_head",),
    "softmax_total_constant": ("lm_head",),
    "gradients_clipped_by_value": ("lm_head", "wpe", "wte"),
    "gradient_norm_clipped": ("lm_head",),
    "gradients_not_zeroed": ("lm_head",),
}
"""Mistakes in backward alone, and the tensors whose gradients backward reaches first after them, in a model of two
layers: what cuts off at 1 leaves gradients that are small as they are."""

UPDATE_MUTANTS = {
    "m_with_beta2": "m",
    "v_of_magnitudes": "v",
    "eps_inside_root": "param",
    "weight_decay": "param",
    "weight_decay_in_gradient": "m",
    "rate_one_step_ahead": "param",
    "corrected_moments_kept": "m",
}


@cache
def case(n_layer: int = 2, activation: str = "relu", zero: str = "") -> Case:
    """Sizes that all differ, a repeated token, and a batch of two documents, one of them longer than the block."""
    config = Config(n_layer, n_embd=6, n_head=3, block_size=4, vocab_size=5, init_std=0.4, activation=activation)
    params = init_params(config, random.Random(3))
    for name in params:
        if zero and name.endswith(zero):
            params[name] = [[0.0] * len(row) for row in params[name]]
    hyper = Hyper(num_steps=50, beta1=0.8, beta2=0.95, eps_adam=1e-6)
    documents = [[4, 1, 1, 2, 4], [4, 3, 0, 3, 4], [4, 0, 4], [4, 2, 2, 1, 0, 3, 4]]
    return Case(config, hyper, init_state(params), documents, batch_size=2, steps=2)


def located_by(subject, case: Case):
    mode = check(subject, case, modes=["lock-step"]).modes[0]
    assert mode.location is not None, mode.reason
    return mode


def origins(mode) -> list[str]:
    return [tensor.key.described() for tensor in mode.location.origins]


class Wrong(Twin):
    """The twin with some of the gradients that it shows doubled, and what Adam makes of the right ones."""

    doubled: tuple[str, ...] = ()

    def train_step(self, batch) -> Step:
        """A step."""
        answer = super().train_step(batch)
        answer.grads = {name: 2 * grad if name in self.doubled else grad for name, grad in answer.grads.items()}
        return answer


def doubling(*names: str):
    return type("Doubling", (Wrong,), {"doubled": names})


@pytest.mark.parametrize("n_layer", [1, 2, 3])
def test_backward_goes_from_the_loss_through_the_layers_to_the_embeddings(n_layer):
    layers = [f"layer{layer}.{name}" for layer in reversed(range(n_layer)) for name in LAYER]
    before = gradients_before(n_layer)
    assert list(before) == ["lm_head", *layers, "wpe", "wte"]
    assert before["lm_head"] == set()
    assert before["wte"] == before["wpe"] == {"lm_head", *layers}
    siblings = {f"layer0.{name}" for name in ("attn_wq", "attn_wk", "attn_wv")}
    for name in siblings:
        assert before[name] == before["layer0.attn_wo"] | {"layer0.attn_wo"}


def test_step_goes_forward_backward_and_through_adam():
    names = ("wte", "wpe", "lm_head", *(f"layer0.{name}" for name in LAYER))
    keys = [TensorKey(quantity, name) for quantity in ("param", "v", "m", "grad") for name in names]
    keys += [TensorKey("loss", "loss"), TensorKey("logits", "logits", 1), TensorKey("logits", "logits", 0)]
    ordered = [keys[place].described() for place in in_order_of_computation(keys)]
    assert ordered[:5] == ["logits document 1", "logits document 0", "loss", "grad lm_head", "grad layer0.mlp_fc2"]
    assert ordered[11:13] == ["grad wte", "m lm_head"]
    assert ordered[-1] == "param wte"


def test_tensors_of_an_unknown_model_keep_their_order_after_the_known():
    keys = [TensorKey("grad", name) for name in ("gain", "bias", "wte", "lm_head")]
    assert in_order_of_computation(keys) == [3, 2, 0, 1]
    assert computed_from(keys[0], keys) == []


@pytest.mark.parametrize(
    ("key", "known", "expected"),
    [
        ("param wte", ("grad", "m", "v", "param"), ["m wte", "v wte"]),
        ("param wte", ("grad", "param"), ["grad wte"]),
        ("param wte", ("param",), ["loss"]),
        ("m wte", ("grad", "m"), ["grad wte"]),
        ("v wte", ("v", "param"), ["loss"]),
        ("grad lm_head", ("grad",), ["loss"]),
        ("grad layer0.mlp_fc1", ("grad",), ["grad layer0.mlp_fc2"]),
        ("grad wpe", ("grad",), ["grad layer0.attn_wv", "grad layer0.attn_wk", "grad layer0.attn_wq"]),
        ("loss loss", (), []),
    ],
)
def test_tensor_is_computed_from_what_is_nearest_to_it(key, known, expected):
    names = gradients_before(1)
    keys = [TensorKey("loss", "loss"), *(TensorKey(quantity, name) for quantity in known for name in names)]
    assert [other.described() for other in computed_from(TensorKey(*key.split()), keys)] == expected


@pytest.mark.parametrize(("name", "expected"), GRADIENT_MUTANTS.items(), ids=GRADIENT_MUTANTS)
def test_mistake_in_backward_begins_where_it_was_made(name, expected):
    at_zero = name.endswith("_at_zero")
    asked = case(activation="relu2" if "square" in name else "relu", zero="layer1.mlp_fc1" if at_zero else "")
    mode = located_by(MUTANTS[name].make, asked)
    assert origins(mode) == [f"grad {tensor}" for tensor in expected]
    first = mode.first_divergence
    assert (first.quantity, first.tensor) == ("grad", expected[0])
    assert dict(located(mode.location))["m, v, param"] == "as Adam makes them of these gradients"


@pytest.mark.parametrize(("name", "quantity"), UPDATE_MUTANTS.items(), ids=UPDATE_MUTANTS)
def test_mistake_in_the_update_begins_in_what_adam_makes(name, quantity):
    mode = located_by(MUTANTS[name].make, case())
    first = mode.first_divergence
    assert (first.quantity, first.tensor) == (quantity, "lm_head")
    assert mode.location.origins[0].key == first.key
    assert not [tensor for tensor in mode.location.tensors if tensor.follows]


@pytest.mark.parametrize("name", ["gelu", "scores_not_scaled", "cache_kept_between_documents"])
def test_mistake_in_forward_begins_in_the_logits(name):
    begins = origins(located_by(MUTANTS[name].make, case()))
    assert {what.split()[0] for what in begins} == {"logits"}


@pytest.mark.parametrize("tensor", list(gradients_before(1)))
def test_tensor_that_is_wrong_alone_is_the_only_one_named(tensor):
    mode = located_by(doubling(tensor), case(n_layer=1))
    assert [found.key.described() for found in mode.location.tensors if not found.right] == [f"grad {tensor}"]
    assert origins(mode) == [f"grad {tensor}"]
    (wrong,) = [found for found in mode.location.tensors if not found.right]
    assert wrong.relative_error == pytest.approx(1.0)
    assert 0 < wrong.outside <= wrong.elements


def test_two_mistakes_are_both_told():
    lines = located(located_by(doubling("layer1.attn_wo", "layer0.attn_wk"), case()).location)
    grad = [said for what, said in lines if what == "grad"]
    assert grad[0].startswith("right: lm_head to layer1.mlp_fc1") or "lm_head" in grad[0]
    assert grad[1] == "wrong: layer1.attn_wo (1), layer0.attn_wk (1)"
    assert lines[-1] == (
        "begins at",
        "grad layer1.attn_wo, layer0.attn_wk: what it is computed from is not seen to be wrong",
    )


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (
            ["lm_head", "layer0.attn_wk", "layer0.attn_wq"],
            "as far as it was compared, what it is computed from is not seen to be wrong",
        ),
        (["layer0.attn_wo", "layer0.attn_wk"], "what it is computed from is not seen to be wrong"),
    ],
    ids=["something between is not shown", "what is next to it is shown"],
)
def test_what_is_not_shown_is_not_called_right(kept, said):
    class Partial(Wrong):
        doubled = ("layer0.attn_wk",)

        def train_step(self, batch):
            step = super().train_step(batch)
            return Step(step.loss, step.logits, {name: step.grads[name] for name in kept})

    lines = located(located_by(Partial, case()).location)
    assert lines[-1] == ("begins at", f"grad layer0.attn_wk: {said}")


@pytest.mark.parametrize(("name", "follows"), [("keys_detached", True), ("betas_of_pytorch", False)])
def test_update_of_what_is_shown_follows_though_other_gradients_are_not(name, follows):
    def make(config, hyper):
        subject = MUTANTS[name].make(config, hyper)
        train_step = subject.train_step

        def without_wpe(batch):
            step = train_step(batch)
            del step.grads["wpe"]
            return step

        subject.train_step = without_wpe
        return subject

    tensors = located_by(make, case()).location.tensors
    assert any(tensor.follows for tensor in tensors) is follows


def test_wrong_update_of_a_wrong_gradient_does_not_follow():
    mode = located_by(MUTANTS["betas_of_pytorch"].make, case())
    assert not any(tensor.follows for tensor in mode.location.tensors)

    class Both(Wrong):
        doubled = ("lm_head",)

    # What it shows is doubled, and what Adam is given is not: the update is right, and the gradient is not.
    told = dict(located(located_by(Both, case()).location))
    assert told["m, v, param"] == "right"


@pytest.mark.parametrize(
    ("update", "said"),
    [
        ("betas_of_pytorch", "m and v, too: they are not what Adam makes of these gradients, wrong as they are"),
        ("eps_missing", "param, too: it is not what Adam makes of these gradients, wrong as they are"),
    ],
)
def test_mistake_in_the_update_is_told_besides_one_in_the_forward_pass(update, said):
    lines = located(located_by(combined((MUTANTS["gelu"], MUTANTS[update])).make, case()).location)
    first, second = [what for label, what in lines if label == "begins at"]
    assert first.startswith("logits of ")
    assert second == said


@pytest.mark.parametrize("name", ["gelu", "scores_not_scaled", "keys_detached", "betas_of_pytorch"])
def test_update_is_not_told_besides_where_it_follows_or_is_all_that_is_wrong(name):
    assert located_by(MUTANTS[name].make, case()).location.wrong_by_itself == []


def test_many_tensors_are_told_by_the_ends_of_their_runs():
    lines = located(located_by(MUTANTS["norm_scale_constant"].make, case(n_layer=3)).location)
    grad = [said for what, said in lines if what == "grad"]
    assert grad[0] == "right: lm_head, layer2.mlp_fc2, layer2.mlp_fc1"
    assert grad[1].startswith("wrong: layer2.attn_wo (")
    assert " to wte (" in grad[1]


def test_location_is_in_the_json_with_the_names_that_were_there():
    result = check(MUTANTS["keys_detached"].make, case(), modes=["lock-step"])
    (mode,) = result.to_dict()["modes"]
    assert {"mode", "steps", "quantities", "first_divergence", "first_site", "first_z", "verdict", "reason"} <= set(
        mode
    )
    assert {"step", "tensors"} == set(mode["location"])
    begins = [tensor["tensor"] for tensor in mode["location"]["tensors"] if tensor["origin"]]
    assert begins == ["layer1.attn_wk"]
    (grad,) = [row for row in mode["quantities"] if row["quantity"] == "grad"]
    assert grad["first_outside"]["tensor"] == "layer1.attn_wk"
    assert grad["first_outside"]["relative_error"] == 1.0
    assert grad["outside"] > 0


class OutputsScaled(Vectorised):
    """One whose attention gives a quarter more, which shows in no logit in bfloat16; it has no sites."""

    def load(self, state) -> None:
        """Take a state."""
        super().load(state)
        self.params["layer0.attn_wo"] *= 1.25


def outputs_scaled(config, hyper, dtype="bfloat16"):
    return OutputsScaled(config, hyper, dtype)


def outputs_scaled_in_bfloat16(config, hyper):
    return outputs_scaled(config, hyper)


def below_the_floor(make):
    return located_by(make, Case.from_names(steps=2))


def test_what_rounding_hides_is_looked_for_in_a_wider_format():
    mode = below_the_floor(outputs_scaled)
    lines = dict(mode.location_lines)
    assert not mode.location.of_quantity("logits")[0].outside
    assert lines["begins at"].startswith("grad ")
    assert lines["begins at"].endswith(": what it is computed from is not seen to be wrong")
    assert lines["in float64"].startswith("begins at logits, so somewhere in the forward pass")
    assert lines["in float64"].endswith("(--dtype float64 shows all of it)")
    assert mode.to_dict()["wider"]["dtype"] == "float64"
    assert mode.to_dict()["wider"]["location"]["tensors"][0]["origin"]


def test_what_rounding_hides_is_seen_in_exact_arithmetic_where_there_is_no_wider_format():
    lines = dict(below_the_floor(outputs_scaled_in_bfloat16).location_lines)
    assert lines["in exact arithmetic"].startswith("begins at logits, so somewhere in the forward pass")


def test_what_rounding_hides_is_said_where_nothing_wider_can_be_asked(monkeypatch):
    monkeypatch.setattr("parity.judging.checking._may_run_exactly", lambda result, options: False)
    *_, (label, hint) = below_the_floor(outputs_scaled_in_bfloat16).location_lines
    assert label == ""
    assert hint.startswith("what is below the noise floor of bfloat16 is not seen: a wider format shows more of it ")


def test_site_that_is_outside_is_where_it_begins():
    mode = located_by(MUTANTS["gelu"].make, case())
    assert dict(mode.location_lines)["begins at"].startswith("logits")
    with planted(("x = x.relu()", "x = torch.nn.functional.gelu(x)")) as make:
        mode = located_by(make, case())
    begins = dict(mode.location_lines)["begins at"]
    assert begins.startswith("site layer0.mlp.post at document 0, position 0: of the sites that are shown, none ")


def test_site_that_is_outside_is_found_in_a_short_format_too(monkeypatch):
    monkeypatch.setattr("parity.judging.checking._may_run_exactly", lambda result, options: False)
    with planted(("x = x.relu()", "x = 2 * x.relu()")) as make:
        mode = check(make, case(), dtype="bfloat16", modes="lock-step").modes[0]
    assert (mode.first_site.quantity, mode.first_site.key.name) == ("site", "layer0.mlp.post")


def test_site_that_comes_later_does_not_take_the_place_of_the_tensors():
    with planted(("(1 / n) * sum(losses)", "sum(losses)")) as make:
        mode = located_by(make, case())
    assert mode.first_site.quantity == "site grad"
    assert dict(mode.location_lines)["begins at"].startswith("loss, so somewhere in the forward pass")
