"""The example in NumPy with mistakes, stage by stage; pairs of them; and mistakes that the catalogue has not."""

from pathlib import Path

from benchmarks.scored.implementation import Implementation

EXAMPLE = Path(__file__).parents[2] / "tests" / "examples" / "numpy_port.py"

_TAPE = "logits, tape = forward(tokens[:n]"
_EMBEDDED = 'params["wte"][tokens] + params["wpe"][start : start + len(tokens)]'
_TO_POSITIONS = 'grads["wpe"][: len(tape.tokens)] = d_embedding'
_TO_TOKENS = 'np.add.at(grads["wte"], tape.tokens, d_embedding)'
_NORM = "return x * rms_scale(x)"
_NORM_BACKWARD = "return scale * (d_y - y * (d_y * y).mean(axis=-1, keepdims=True))"
_MEAN_SQUARE = "(x * x).mean(axis=-1, keepdims=True) + 1e-5"
_FIRST_NORM = "x = rmsnorm(embedding)"
_FIRST_NORM_BACKWARD = "d_embedding = rmsnorm_backward(d_x, tape.embedding)"
_SCALE = "k.swapaxes(1, 2) / config.head_dim**0.5"
_SCALE_BACKWARD = "softmax_backward(d_weights, tape.weights) / config.head_dim**0.5"
_MASK = "k=1 + so_far - n"
_HIDDEN = "scores[:, np.triu(np.ones((n, so_far), dtype=bool), k=1 + so_far - n)] = -np.inf"
_SPLIT = "split_heads(linear(norm, w[name]), config.n_head)"
_SPLIT_BACKWARD = "linear_backward(join_heads(d), tape.norm, w[name])"
_HEADS = "heads = join_heads(weights @ v)"
_HEADS_BACKWARD = "d_heads = split_heads(d_heads, config.n_head)"
_SOFTMAX_BACKWARD = "return p * (d_p - (p * d_p).sum(axis=-1, keepdims=True))"
_KEYS_BACKWARD = "d_q, d_k = d_scores @ tape.k, d_scores.swapaxes(1, 2) @ tape.q"
_RELU = 'post = relu**2 if config.activation == "relu2" else relu'
_RELU_BACKWARD = "else tape.pre > 0"
_HEAD = 'return linear(x, params["lm_head"]), Tape'
_HEAD_BACKWARD = 'd_x, grads["lm_head"] = linear_backward(d_logits, tape.x, params["lm_head"])'
_LOSS = "loss += -np.log(probs[target]).mean() / len(batch)"
_LOSS_BACKWARD = "backward(d_logits / (n * len(batch))"
_ADAM = "self.adam(grads)\n"
_FIRST = "m = hyper.beta1 * self.m[name] + (1 - hyper.beta1) * grad\n"
_SECOND = "v = hyper.beta2 * self.v[name] + (1 - hyper.beta2) * grad**2"
_FIRST_HAT = "m_hat = m / (1 - hyper.beta1**self.step)"
_SECOND_HAT = "v_hat = v / (1 - hyper.beta2**self.step)"
_UPDATE = "p = self.params[name] - hyper.learning_rate * decay * m_hat / (np.sqrt(v_hat) + hyper.eps_adam)"
_DECAY = "else 1 - progress"
_PROGRESS = "progress = self.hyper, self.step / self.hyper.num_steps"
_LOADED = "self.params, self.m, self.v = (self._arrays(part) for part in (state.params, state.m, state.v))"
_CARRIED = "self.params, self.m, self.v = after"
_MADE = "self.config, self.hyper, self.dtype = config, hyper, dtype"
_ZEROED = "grads = {name: np.zeros_like(p) for name, p in self.params.items()}\n"
_ADDED = "grads[name] += grad"
_TO_LAYER = 'grads |= {f"layer{i}.{name}"'
_FORWARD_LAYER = "w = of_layer(params, i)\n        x, attention_tape"
_BACKWARD_LAYER = "w = of_layer(params, i)\n        d_x, of_mlp"

_GELU = "post = 0.5 * pre * (1 + np.tanh(np.sqrt(2 / np.pi) * (pre + 0.044715 * pre**3)))"
_GELU_SLOPE = """slope = tape.pre > 0
    tanh = np.tanh(np.sqrt(2 / np.pi) * (tape.pre + 0.044715 * tape.pre**3))
    inner = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * tape.pre**2)
    slope = 0.5 * (1 + tanh) + 0.5 * tape.pre * (1 - tanh**2) * inner"""
_SLOPE = 'slope = 2 * np.maximum(tape.pre, 0) if config.activation == "relu2" else tape.pre > 0'

SINGLES = (
    # Data and embedding.
    Implementation(
        "takes the end of a document that is too long",
        ("last_block",),
        "logits",
        {_TAPE: f"tokens = tokens[-n - 1 :]\n            {_TAPE}"},
    ),
    Implementation(
        "counts BOS when it cuts a document off",
        ("block_one_short",),
        "logits",
        {"n = min(self.config.block_size, len(tokens) - 1)": "n = min(self.config.block_size, len(tokens)) - 1"},
    ),
    Implementation(
        "forgets the positions",
        ("positions_missing",),
        "logits",
        {_EMBEDDED: 'params["wte"][tokens]', _TO_POSITIONS: ""},
    ),
    Implementation(
        "adds to the embeddings' gradients with +=",
        ("repeated_token_overwritten",),
        "grad wte",
        {_TO_TOKENS: 'grads["wte"][tape.tokens] += d_embedding'},
    ),
    Implementation(
        "leaves out the gradient of position 0 with a slice",
        ("position_zero_not_trained",),
        "grad wpe",
        {_TO_POSITIONS: 'grads["wpe"][1 : len(tape.tokens)] = d_embedding[1:]'},
    ),
    # Norm.
    Implementation(
        "writes LayerNorm",
        ("norm_subtracts_mean",),
        "logits",
        {
            _NORM: "x = x - x.mean(axis=-1, keepdims=True)\n    return x * rms_scale(x)",
            "scale = rms_scale(x)\n": "x = x - x.mean(axis=-1, keepdims=True)\n    scale = rms_scale(x)\n",
            _NORM_BACKWARD: _NORM_BACKWARD.replace("return", "d_x =")
            + "\n    return d_x - d_x.mean(axis=-1, keepdims=True)",
        },
    ),
    Implementation(
        "differentiates the norm as a mere scale",
        ("norm_scale_constant",),
        "grad attn_wo",
        {_NORM_BACKWARD: "return scale * d_y"},
    ),
    Implementation(
        "leaves out the axis of the norm's mean",
        ("norm_of_document",),
        "logits",
        {_MEAN_SQUARE: "(x * x).mean() + 1e-5", _NORM_BACKWARD: "return scale * (d_y - y * (d_y * y).mean())"},
    ),
    Implementation(
        "divides by n - 1 in the norm, as a variance does",
        ("norm_of_sample",),
        "logits",
        {
            _MEAN_SQUARE: "(x * x).sum(axis=-1, keepdims=True) / (x.shape[-1] - 1) + 1e-5",
            _NORM_BACKWARD: "return scale * (d_y - y * (d_y * y).sum(axis=-1, keepdims=True) / (x.shape[-1] - 1))",
        },
    ),
    # Attention and cache.
    Implementation(
        "scales scores by the model's size instead of a head's",
        ("scores_scaled_by_n_embd",),
        "logits",
        {_SCALE: _SCALE.replace("head_dim", "n_embd"), _SCALE_BACKWARD: _SCALE_BACKWARD.replace("head_dim", "n_embd")},
    ),
    Implementation(
        "reshapes into heads without swapaxes",
        ("heads_split_untransposed",),
        "logits",
        {
            _SPLIT: "linear(norm, w[name]).reshape(config.n_head, len(x), -1)",
            _SPLIT_BACKWARD: "linear_backward(d.reshape(len(tape.x), -1), tape.norm, w[name])",
        },
    ),
    Implementation(
        "normalises attention over the wrong axis",
        ("softmax_over_queries",),
        "logits",
        {
            "weights = softmax(scores)": "weights = softmax(scores.swapaxes(1, 2)).swapaxes(1, 2)",
            _SCALE_BACKWARD: "softmax_backward(d_weights.swapaxes(1, 2), tape.weights.swapaxes(1, 2)).swapaxes(1, 2)"
            " / config.head_dim**0.5",
        },
    ),
    Implementation(
        "masks by adding -10,000",
        ("mask_of_minus_10000",),
        "logits",
        {_HIDDEN: "scores -= 1e4 * np.triu(np.ones((n, so_far)), k=1 + so_far - n)"},
        float32=False,
    ),
    Implementation(
        "starts the mask one diagonal too late", ("next_position_visible",), "logits", {_MASK: "k=2 + so_far - n"}
    ),
    Implementation(
        "forgets the scale in the scores' gradient",
        ("score_gradient_not_scaled",),
        "grad attn_wq, grad attn_wk",
        {_SCALE_BACKWARD: "softmax_backward(d_weights, tape.weights)"},
    ),
    Implementation(
        "weighs keys instead of values",
        ("keys_for_values",),
        "logits",
        {
            _HEADS: "heads = join_heads(weights @ k)",
            "d_weights, d_v = d_heads @ tape.v.swapaxes(1, 2), tape.weights.swapaxes(1, 2) @ d_heads": (
                "d_weights, d_v = d_heads @ tape.k.swapaxes(1, 2), np.zeros_like(tape.v)"
            ),
            _KEYS_BACKWARD: f"{_KEYS_BACKWARD} + tape.weights.swapaxes(1, 2) @ d_heads",
        },
    ),
    Implementation(
        "takes cached keys for constants in backward",
        ("keys_detached",),
        "grad attn_wk",
        {_KEYS_BACKWARD: "d_q, d_k = d_scores @ tape.k, np.zeros_like(tape.k)"},
    ),
    # MLP, layers, head.
    Implementation("takes GELU for the activation", ("gelu",), "logits", {_RELU: _GELU, _SLOPE: _GELU_SLOPE}),
    Implementation(
        "opens the ReLU at 0 in backward",
        ("relu_open_at_zero",),
        "grad mlp_fc1",
        {_RELU_BACKWARD: "else tape.pre >= 0"},
    ),
    Implementation(
        "takes the layers' weights from the last to the first",
        ("layers_reversed",),
        "logits",
        {
            _FORWARD_LAYER: _FORWARD_LAYER.replace("params, i", "params, config.n_layer - 1 - i"),
            _BACKWARD_LAYER: _BACKWARD_LAYER.replace("params, i", "params, config.n_layer - 1 - i"),
            _TO_LAYER: _TO_LAYER.replace("{i}", "{config.n_layer - 1 - i}"),
        },
    ),
    Implementation(
        "adds a norm before lm_head, as GPT-2 has",
        ("final_norm_added",),
        "logits",
        {
            _HEAD: _HEAD.replace("(x,", "(rmsnorm(x),"),
            _HEAD_BACKWARD: _HEAD_BACKWARD.replace("tape.x", "rmsnorm(tape.x)")
            + "\n    d_x = rmsnorm_backward(d_x, tape.x)",
        },
    ),
    # Loss and backward.
    Implementation(
        "takes the logarithm to base 2",
        ("loss_in_bits",),
        "loss",
        {_LOSS: _LOSS.replace("np.log", "np.log2"), _LOSS_BACKWARD: "backward(d_logits / (n * len(batch)) / np.log(2)"},
    ),
    Implementation(
        "pads the loss to the block, and takes the mean over all of it",
        ("loss_over_block_size",),
        "loss",
        {
            _LOSS: "loss += -np.log(probs[target]).sum() / self.config.block_size / len(batch)",
            _LOSS_BACKWARD: "backward(d_logits / (self.config.block_size * len(batch))",
        },
    ),
    Implementation(
        "joins a batch's positions before it takes their mean",
        ("loss_mean_over_tokens",),
        "loss",
        {
            "loss, all_logits = 0.0, []\n": "loss, all_logits = 0.0, []\n"
            "        total = sum(min(self.config.block_size, len(tokens) - 1) for tokens in batch)\n",
            _LOSS: "loss += -np.log(probs[target]).sum() / total",
            _LOSS_BACKWARD: "backward(d_logits / total",
        },
    ),
    Implementation(
        "sets a batch's gradients where it should add to them",
        ("gradient_of_last_document",),
        "grad lm_head",
        {_ADDED: "grads[name] = grad"},
    ),
    Implementation(
        "clips the norm of the gradients",
        ("gradient_norm_clipped",),
        "grad lm_head",
        {
            _ADAM: "norm = np.sqrt(sum((grad**2).sum() for grad in grads.values()))\n"
            "        grads = {name: grad / norm if norm > 1 else grad for name, grad in grads.items()}\n"
            f"        {_ADAM}"
        },
    ),
    # Adam and schedule.
    Implementation(
        "corrects the step's size instead of the moments",
        ("eps_before_correction",),
        "param",
        {
            _FIRST_HAT: "correction = np.sqrt(1 - hyper.beta2**self.step) / (1 - hyper.beta1**self.step)",
            _SECOND_HAT: "rate = hyper.learning_rate * decay * correction",
            _UPDATE: "p = self.params[name] - rate * m / (np.sqrt(v) + hyper.eps_adam)",
        },
    ),
    Implementation(
        "adds eps inside of the root",
        ("eps_inside_root",),
        "param",
        {_UPDATE: _UPDATE.replace("np.sqrt(v_hat) + hyper.eps_adam", "np.sqrt(v_hat + hyper.eps_adam)")},
    ),
    Implementation(
        "adds up squares as Adagrad does",
        ("v_gradient_not_weighted",),
        "v",
        {_SECOND: "v = hyper.beta2 * self.v[name] + grad**2"},
    ),
    Implementation(
        "writes AdamW, with its usual decay",
        ("weight_decay",),
        "param",
        {_UPDATE: f"{_UPDATE} - hyper.learning_rate * decay * 0.01 * self.params[name]"},
    ),
    Implementation(
        "unpacks the betas the wrong way round",
        ("betas_swapped",),
        "m, v",
        {
            "        self.step += 1\n": "        self.step += 1\n        beta2, beta1 = hyper.beta1, hyper.beta2\n",
            _FIRST: "m = beta1 * self.m[name] + (1 - beta1) * grad\n",
            _SECOND: "v = beta2 * self.v[name] + (1 - beta2) * grad**2",
            _FIRST_HAT: "m_hat = m / (1 - beta1**self.step)",
            _SECOND_HAT: "v_hat = v / (1 - beta2**self.step)",
        },
    ),
    Implementation(
        "looks the rate up in a linspace that ends at 0",
        ("rate_ends_one_step_early",),
        "param",
        {_DECAY: "else np.linspace(1, 0, hyper.num_steps)[self.step]"},
    ),
    Implementation(
        "counts the step before it takes the rate",
        ("rate_one_step_ahead",),
        "param",
        {_PROGRESS: "progress = self.hyper, (self.step + 1) / self.hyper.num_steps"},
    ),
    # Loop.
    Implementation(
        "makes new moments when weights are loaded",
        ("moments_not_loaded",),
        "m, v",
        {
            _LOADED: "self.params = self._arrays(state.params)\n"
            "        self.m = {name: np.zeros_like(p) for name, p in self.params.items()}\n"
            "        self.v = {name: np.zeros_like(p) for name, p in self.params.items()}"
        },
        step=1,
    ),
    Implementation(
        "shows the new weights, and keeps the old ones",
        ("weights_not_carried",),
        "logits",
        {
            _CARRIED: "_, self.m, self.v = after\n        return after[0]",
            _ADAM: "params = self.adam(grads)\n",
            "grads, self.params, self.m": "grads, params, self.m",
            "def adam(self, grads: Tensors) -> None": "def adam(self, grads: Tensors) -> Tensors",
        },
        step=1,
    ),
    Implementation(
        "makes the gradients once, and never sets them to zero",
        ("gradients_not_zeroed",),
        "grad lm_head",
        {
            _MADE: f"{_MADE}\n        shapes = config.shapes()\n"
            "        self.grads = {name: np.zeros(shape, dtype) for name, shape in shapes.items()}",
            _ZEROED: "grads = self.grads\n",
        },
    ),
)

PAIRS = (
    Implementation(
        "forgets to scale scores, and the bias correction",
        ("scores_not_scaled", "no_bias_correction"),
        "logits",
        {
            _SCALE: "k.swapaxes(1, 2)",
            _SCALE_BACKWARD: "softmax_backward(d_weights, tape.weights)",
            _FIRST_HAT: "m_hat = m",
            _SECOND_HAT: "v_hat = v",
        },
    ),
    Implementation(
        "joins heads without swapaxes, and adds to the embeddings' gradients with +=",
        ("heads_merged_untransposed", "repeated_token_overwritten"),
        "logits",
        {
            _HEADS: "heads = (weights @ v).reshape(n, -1)",
            _HEADS_BACKWARD: "d_heads = d_heads.reshape(config.n_head, len(d_heads), -1)",
            _TO_TOKENS: 'grads["wte"][tape.tokens] += d_embedding',
        },
    ),
    Implementation(
        "takes the logarithm to base 2, and counts the step before it takes the rate",
        ("loss_in_bits", "rate_one_step_ahead"),
        "loss",
        {
            _LOSS: _LOSS.replace("np.log", "np.log2"),
            _LOSS_BACKWARD: "backward(d_logits / (n * len(batch)) / np.log(2)",
            _PROGRESS: "progress = self.hyper, (self.step + 1) / self.hyper.num_steps",
        },
    ),
    Implementation(
        "writes betas of its own, and adds eps inside of the root",
        ("betas_of_pytorch", "eps_inside_root"),
        "m, v",
        {
            _FIRST: "m = 0.9 * self.m[name] + (1 - 0.9) * grad\n",
            _SECOND: "v = 0.999 * self.v[name] + (1 - 0.999) * grad**2",
            _FIRST_HAT: "m_hat = m / (1 - 0.9**self.step)",
            _SECOND_HAT: "v_hat = v / (1 - 0.999**self.step)",
            _UPDATE: _UPDATE.replace("np.sqrt(v_hat) + hyper.eps_adam", "np.sqrt(v_hat + hyper.eps_adam)"),
        },
    ),
    Implementation(
        "scales scores without the root, and starts the mask one diagonal too late",
        ("scores_scaled_by_head_dim", "next_position_visible"),
        "logits",
        {
            _SCALE: "k.swapaxes(1, 2) / config.head_dim",
            _SCALE_BACKWARD: "softmax_backward(d_weights, tape.weights) / config.head_dim",
            _MASK: "k=2 + so_far - n",
        },
    ),
    Implementation(
        "moves the first norm to the end",
        ("first_norm_missing", "final_norm_added"),
        "logits",
        {
            _FIRST_NORM: "x = embedding",
            _FIRST_NORM_BACKWARD: "d_embedding = d_x",
            _HEAD: _HEAD.replace("(x,", "(rmsnorm(x),"),
            _HEAD_BACKWARD: _HEAD_BACKWARD.replace("tape.x", "rmsnorm(tape.x)")
            + "\n    d_x = rmsnorm_backward(d_x, tape.x)",
        },
    ),
    Implementation(
        "takes GELU for the activation, and the mean over the tokens, BOS included",
        ("gelu", "loss_over_length"),
        "logits",
        {
            _RELU: _GELU,
            _SLOPE: _GELU_SLOPE,
            _LOSS: "loss += -np.log(probs[target]).sum() / len(tokens) / len(batch)",
            _LOSS_BACKWARD: "backward(d_logits / (len(tokens) * len(batch))",
        },
    ),
    Implementation(
        "differentiates the norm as a mere scale, and clips gradients by value",
        ("norm_scale_constant", "gradients_clipped_by_value"),
        "grad attn_wo",
        {
            _NORM_BACKWARD: "return scale * d_y",
            _ADAM: f"grads = {{name: np.clip(grad, -1, 1) for name, grad in grads.items()}}\n        {_ADAM}",
        },
    ),
)

UNKNOWN = (
    Implementation(
        "takes every n_head-th element for a head, and puts heads together the same way",
        (),
        "logits",
        {
            "return x.reshape(len(x), n_head, -1).swapaxes(0, 1)": (
                "return x.reshape(len(x), -1, n_head).transpose(2, 0, 1)"
            ),
            "return x.swapaxes(0, 1).reshape(x.shape[1], -1)": ("return x.transpose(1, 2, 0).reshape(x.shape[1], -1)"),
        },
    ),
    Implementation(
        "takes the softmax's denominator for a constant, in attention alone",
        (),
        "grad attn_wq, grad attn_wk",
        {_SOFTMAX_BACKWARD: "return p * d_p"},
    ),
    Implementation("takes GELU for the activation, and keeps the gradient of ReLU", (), "logits", {_RELU: _GELU}),
    Implementation(
        "adds 1e-12 in the logarithm of the loss alone",
        (),
        "loss",
        {_LOSS: _LOSS.replace("probs[target]", "probs[target] + 1e-12")},
        float32=False,
    ),
)

IMPLEMENTATIONS = (*SINGLES, *PAIRS, *UNKNOWN)
