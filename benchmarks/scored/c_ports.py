"""The example in C with mistakes, stage by stage; pairs of them; and mistakes that the catalogue has not."""

from pathlib import Path

from benchmarks.scored.implementation import Implementation

EXAMPLE = Path(__file__).parents[2] / "tests" / "examples" / "port.c"

_TOKEN = "add(pass[t].embedding, model->tensors[WTE].param + token * embd, 1, embd);"
_TOKEN_BACKWARD = "add(model->tensors[WTE].grad + token * embd, d[t].embedding, 1, embd);"
_POSITION = "    add(pass[t].embedding, model->tensors[WPE].param + t * embd, 1, embd);\n"
_POSITION_BACKWARD = "    add(model->tensors[WPE].grad + t * embd, d[t].embedding, 1, embd);\n"
_EPS = "dot(x, x, n) / n + 1e-5"
_NORM_BACKWARD = "mean = s * dot(d_y, x, n) / n;"
_SCORES = "pass[s].layers[i].k + h, dim) / sqrt(dim);"
_TO_QUERY = "add(d->q + h, pass[s].layers[i].k + h, d_scores[s] / sqrt(dim), dim);"
_TO_KEY = "add(d_pass[s].layers[i].k + h, layer->q + h, d_scores[s] / sqrt(dim), dim);"
_TO_VALUE = "            add(d_pass[s].layers[i].v + h, d->heads + h, weights[s], dim);\n"
_RESIDUAL = "    add(layer->middle, layer->x, 1, embd);\n"
_RESIDUAL_BACKWARD = "    add(d->x, d->middle, 1, embd);\n"
_RELU = "layer->pre[j] > 0 ? layer->pre[j] : 0;"
_RELU_BACKWARD = "layer->pre[j] > 0 ? d->post[j] * (model->relu2 ? 2 * layer->pre[j] : 1) : 0;"
_MLP_RESIDUAL = "    add(layer->output, layer->middle, 1, embd);\n"
_MLP_RESIDUAL_BACKWARD = "    add(d->middle, d->output, 1, embd);\n"
_TO_FC2 = "linear_backward(d->post, d->output, &w[FC2], layer->post);"
_OF_LAYER = (
    "const Tensor *w = model->tensors + FIRST_LAYER + i * PER_LAYER;\n    const Layer *layer = &pass[t].layers[i]"
)
_HEAD = "linear(pass[t].logits, &model->tensors[LM_HEAD]"
_HEAD_BACKWARD = "linear_backward(d[t].layers[last].output, d[t].logits, &model->tensors[LM_HEAD]"
_LOSS = "loss -= log(p[tokens[t + 1]]) * share / n;"
_LOSS_BACKWARD = "p[j] *= share / n;"
_PROGRESS = "progress = model->step / model->num_steps;"
_DECAY = "decay = model->cosine ? (1 + cos(acos(-1) * progress)) / 2 : 1 - progress;"
_COUNTED = "    model->step++;\n"
_M_CORRECTION = "m_correction = 1 - pow(model->beta1, model->step)"
_V_CORRECTION = "v_correction = 1 - pow(model->beta2, model->step);"
_GRADIENT = "const double g = model->grads[j];\n"
_UPDATE = "model->learning_rate * decay * m_hat / (sqrt(v_hat) + model->eps_adam);"
_LOADED = '    model->step = (double)whole(member(message, "step", NUMBER), "step", 0, 1e15);\n'


def _first_layer(edited: str) -> str:
    """Weights without the layer's place among them."""
    return edited.replace(" + i * PER_LAYER", "")


_FORWARD_LAYER = f"const size_t embd = model->n_embd, dim = model->head_dim;\n    {_OF_LAYER};\n"
_BACKWARD_LAYER = f"const size_t embd = model->n_embd, dim = model->head_dim;\n    {_OF_LAYER}, *d ="

SINGLES = (
    # Embedding.
    Implementation(
        "counts positions from 1",
        ("positions_from_one",),
        "logits",
        {
            _POSITION: _POSITION.replace("t * embd", "(t + 1) * embd"),
            _POSITION_BACKWARD: _POSITION_BACKWARD.replace("t * embd", "(t + 1) * embd"),
        },
    ),
    Implementation(
        "multiplies the tokens' embeddings by the square root of their size",
        ("tokens_scaled_by_root_n_embd",),
        "logits",
        {
            _TOKEN: _TOKEN.replace("1, embd", "sqrt(embd), embd"),
            _TOKEN_BACKWARD: _TOKEN_BACKWARD.replace("1, embd", "sqrt(embd), embd"),
        },
    ),
    # Norm.
    Implementation(
        "takes the norm's eps from another model", ("norm_eps_slightly_smaller",), "logits", {"+ 1e-5);": "+ 1e-6);"}
    ),
    Implementation(
        "forgets a factor in the norm's gradient",
        ("norm_backward_squared",),
        "grad attn_wo",
        {_NORM_BACKWARD: "mean = dot(d_y, x, n) / n;"},
    ),
    # Attention and cache.
    Implementation(
        "forgets the residual connection around attention",
        ("attention_residual_missing",),
        "logits",
        {_RESIDUAL: "", _RESIDUAL_BACKWARD: ""},
    ),
    Implementation(
        "writes 2 for the root of a head's size",
        ("scores_halved",),
        "logits",
        {
            _SCORES: _SCORES.replace("sqrt(dim)", "2"),
            _TO_QUERY: _TO_QUERY.replace("sqrt(dim)", "2"),
            _TO_KEY: _TO_KEY.replace("sqrt(dim)", "2"),
        },
    ),
    Implementation(
        "keeps no gradient for the cached keys and values",
        ("earlier_positions_detached",),
        "grad attn_wk, grad attn_wv",
        {
            _TO_VALUE: f"            if (s == t)\n    {_TO_VALUE}",
            _TO_KEY: f"if (s == t)\n                {_TO_KEY}",
        },
    ),
    # MLP, layers, head.
    Implementation(
        "takes a leaky ReLU",
        ("leaky_relu",),
        "logits",
        {
            _RELU: _RELU.replace(": 0", ": 0.01 * layer->pre[j]"),
            _RELU_BACKWARD: "d->post[j] * (layer->pre[j] > 0 ? 1 : 0.01);",
        },
    ),
    Implementation(
        "forgets the ReLU in backward",
        ("relu_always_open",),
        "grad mlp_fc1",
        {_RELU_BACKWARD: "d->post[j] * (model->relu2 ? 2 * layer->pre[j] : 1);"},
    ),
    Implementation(
        "adds the layer's input after the MLP",
        ("mlp_residual_from_layer_input",),
        "logits",
        {
            _MLP_RESIDUAL: _MLP_RESIDUAL.replace("layer->middle", "layer->x"),
            _MLP_RESIDUAL_BACKWARD: _MLP_RESIDUAL_BACKWARD.replace("d->middle", "d->x"),
        },
    ),
    Implementation(
        "forgets a layer's place among the weights",
        ("layers_share_weights",),
        "logits",
        {_FORWARD_LAYER: _first_layer(_FORWARD_LAYER), _BACKWARD_LAYER: _first_layer(_BACKWARD_LAYER)},
    ),
    Implementation(
        "ties the head to the embeddings",
        ("lm_head_tied",),
        "logits",
        {_HEAD: _HEAD.replace("LM_HEAD", "WTE"), _HEAD_BACKWARD: _HEAD_BACKWARD.replace("LM_HEAD", "WTE")},
    ),
    # Loss and backward.
    Implementation(
        "takes the sum over a document's positions",
        ("loss_summed_over_positions",),
        "loss",
        {_LOSS: _LOSS.replace(" / n", ""), _LOSS_BACKWARD: "p[j] *= share;"},
    ),
    Implementation(
        "forgets a document's share in the gradient",
        ("gradient_summed_over_batch",),
        "grad lm_head",
        {_LOSS_BACKWARD: "p[j] /= n;"},
    ),
    Implementation(
        "keeps the logarithm from numbers next to 0",
        ("probability_clamped",),
        "loss",
        {
            _LOSS: "const int clamped = p[tokens[t + 1]] < 1e-7;\n"
            "        loss -= log(clamped ? 1e-7 : p[tokens[t + 1]]) * share / n;",
            _LOSS_BACKWARD: "p[j] *= clamped ? 0 : share / n;",
        },
    ),
    Implementation(
        "clips gradients by value",
        ("gradients_clipped_by_value",),
        "grad",
        {
            "    adam(model);\n": "    for (size_t j = 0; j < model->n_params; j++)\n"
            "        model->grads[j] = fmax(-1, fmin(1, model->grads[j]));\n    adam(model);\n"
        },
    ),
    # Adam and schedule.
    Implementation(
        "counts the step before the bias correction, and in it",
        ("correction_one_step_ahead",),
        "param",
        {
            _M_CORRECTION: _M_CORRECTION.replace("model->step)", "model->step + 1)"),
            _V_CORRECTION: _V_CORRECTION.replace("model->step)", "model->step + 1)"),
        },
    ),
    Implementation(
        "goes past weights without a gradient",
        ("sparse_adam",),
        "m, v",
        {_GRADIENT: f"{_GRADIENT}        if (g == 0)\n            continue;\n"},
    ),
    Implementation(
        "defines the number of steps as 1000",
        ("num_steps_hard_coded",),
        "param",
        {_PROGRESS: "progress = model->step / 1000;"},
    ),
    Implementation(
        "knows no schedule but the cosine",
        ("schedule_always_cosine",),
        "param",
        {_DECAY: "decay = (1 + cos(acos(-1) * progress)) / 2;"},
        same=("schedule_confused",),
    ),
    # Loop.
    Implementation("does not load the step", ("step_kept",), "param", {_LOADED: ""}),
    Implementation(
        "adds 1 to the step without keeping it",
        ("step_not_counted",),
        "param",
        {
            _COUNTED: "",
            _M_CORRECTION: _M_CORRECTION.replace("model->step)", "model->step + 1)"),
            _V_CORRECTION: _V_CORRECTION.replace("model->step)", "model->step + 1)"),
        },
        step=1,
    ),
)

PAIRS = (
    Implementation(
        "ties the head to the embeddings, and leaves the schedule out",
        ("lm_head_tied", "rate_constant"),
        "logits",
        {
            _HEAD: _HEAD.replace("LM_HEAD", "WTE"),
            _HEAD_BACKWARD: _HEAD_BACKWARD.replace("LM_HEAD", "WTE"),
            _DECAY: "decay = 1 + 0 * progress;",
        },
    ),
    Implementation(
        "forgets the positions' gradient, and beta's power in the bias correction",
        ("positions_not_trained", "correction_without_power"),
        "grad wpe",
        {
            _POSITION_BACKWARD: "",
            _M_CORRECTION: "m_correction = 1 - model->beta1",
            _V_CORRECTION: "v_correction = 1 - model->beta2;",
        },
    ),
    Implementation(
        "takes the norm's eps from another model, and forgets a factor in its gradient",
        ("norm_eps_smaller", "norm_backward_squared"),
        "logits",
        {"+ 1e-5);": "+ 1e-8);", _NORM_BACKWARD: "mean = dot(d_y, x, n) / n;"},
    ),
    Implementation(
        "takes the sum over a document's positions, and leaves out Adam's eps",
        ("loss_summed_over_positions", "eps_missing"),
        "loss",
        {
            _LOSS: _LOSS.replace(" / n", ""),
            _LOSS_BACKWARD: "p[j] *= share;",
            _UPDATE: "v_hat > 0 ? model->learning_rate * decay * m_hat / sqrt(v_hat) : 0;",
        },
    ),
    Implementation(
        "adds no input after attention or after the MLP",
        ("attention_residual_missing", "mlp_residual_missing"),
        "logits",
        {_RESIDUAL: "", _RESIDUAL_BACKWARD: "", _MLP_RESIDUAL: "", _MLP_RESIDUAL_BACKWARD: ""},
    ),
    Implementation(
        "forgets the positions, and weighs the whole squared gradient",
        ("positions_missing", "v_gradient_not_weighted"),
        "logits",
        {_POSITION: "", _POSITION_BACKWARD: "", "(1 - model->beta2) * g * g": "g * g"},
    ),
)

UNKNOWN = (
    Implementation("forgets the root in Adam", (), "param", {_UPDATE: _UPDATE.replace("sqrt(v_hat)", "v_hat")}),
    Implementation(
        "takes the MLP's input of the ReLU for its output in backward",
        (),
        "grad mlp_fc2",
        {_TO_FC2: _TO_FC2.replace("layer->post", "layer->pre")},
    ),
    Implementation(
        "sums up one number too few in the norm",
        (),
        "logits",
        {_EPS: "dot(x, x, n - 1) / n + 1e-5"},
    ),
)

IMPLEMENTATIONS = (*SINGLES, *PAIRS, *UNKNOWN)
