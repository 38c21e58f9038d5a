"""Mistakes in the MLP, in the layers as a whole, and in the head."""

from parity.catalogue.mutants.mutant import Mutant, of_stage

_RELU = "max(0.0, self.data), (self,), (float(self.data > 0),)"
_SQUARED = '[a**2 for a in x] if config.activation == "relu2" else x'
_ACTIVATED = 'tap(f"{layer}.mlp.post", activate(x, config))'
_SECOND = 'linear(x, params[f"{layer}.mlp_fc2"])'
_MLP_RESIDUAL = 'residual = x\n        x = tap(f"{layer}.mlp.norm", rmsnorm(x))'
_LAYER = 'layer = f"layer{i}"'
_EVERY_LAYER = "for i in range(config.n_layer):\n        layer"
_LOGITS = 'linear(x, params["lm_head"])'

MLP = of_stage(
    "MLP",
    Mutant(
        "gelu",
        "The activation is GELU (its tanh form) instead of ReLU.",
        (("a.relu()", "a / (1 + (-1.5957691216057308 * (a + 0.044715 * a**3)).exp())"),),
        in_vectors=True,
        sources=("EleutherAI/gpt-neo#79", "waybarrios/vllm-mlx#486"),
        place="site layer0.mlp.post",
    ),
    Mutant(
        "silu",
        "The activation is SiLU instead of ReLU.",
        (("a.relu()", "a / (1 + (-a).exp())"),),
        sources=("microsoft/BitNet#602", "ggml-org/llama.cpp#26751"),
        place="site layer0.mlp.post",
    ),
    Mutant(
        "leaky_relu",
        "Of what ReLU makes 0 a hundredth is left.",
        (("a.relu()", "(0.99 * a.relu() + 0.01 * a)"),),
        sources=("titu1994/Keras-ResNeXt#8",),
        place="site layer0.mlp.post",
    ),
    Mutant(
        "relu6",
        "The activation is ReLU6, which is cut off at 6.",
        ((_RELU, "min(6.0, max(0.0, self.data)), (self,), (float(0 < self.data < 6),)"),),
        place="site layer0.mlp.post",
    ),
    Mutant(
        "relu_capped",
        "The activation is cut off at 100.",
        ((_RELU, "min(100.0, max(0.0, self.data)), (self,), (float(0 < self.data < 100),)"),),
        place="site layer0.mlp.post",
    ),
    Mutant(
        "relu_open_at_zero",
        "The gradient of ReLU at exactly 0 is 1 instead of 0.",
        (("float(self.data > 0)", "float(self.data >= 0)"),),
        sources=("tensorflow/playground#19", "pytorch/tutorials#269"),
        place="grad mlp_fc1",
    ),
    Mutant(
        "relu_half_open_at_zero",
        "The gradient of ReLU at exactly 0 is a half instead of 0.",
        (("float(self.data > 0)", "0.5 * (self.data > 0) + 0.5 * (self.data >= 0)"),),
        sources=("jax-ml/jax#37821", "jax-ml/jax#2342"),
        place="grad mlp_fc1",
    ),
    Mutant(
        "relu_always_open",
        "Backward lets the gradient through every ReLU, whether it is open or shut.",
        (("float(self.data > 0)", "1.0"),),
        sources=("iamtrask/Grokking-Deep-Learning#56", "iamtrask/Grokking-Deep-Learning#13"),
        place="grad mlp_fc1",
    ),
    Mutant(
        "activation_confused",
        "The activation is the square of ReLU where it should be ReLU, or ReLU where it should be its square.",
        (('config.activation == "relu2"', 'config.activation != "relu2"'),),
        in_vectors=True,
        place="site layer0.mlp.post",
    ),
    Mutant(
        "activation_never_squared",
        "The activation is ReLU even where its square is asked for.",
        ((_SQUARED, "x"),),
        place="site layer0.mlp.post",
    ),
    Mutant(
        "activation_always_squared",
        "The activation is the square of ReLU even where ReLU is asked for.",
        ((_SQUARED, "[a**2 for a in x]"),),
        place="site layer0.mlp.post",
    ),
    Mutant(
        "square_without_relu",
        "The square of ReLU is taken without ReLU.",
        (("a.relu()", '(a if config.activation == "relu2" else a.relu())'),),
        place="site layer0.mlp.post",
    ),
    Mutant(
        "square_gradient_halved",
        "Backward of the square of ReLU lacks the factor 2.",
        (("[a**2 for a in x]", "[a * a.data for a in x]"),),
        place="grad mlp_fc1",
    ),
    Mutant(
        "mlp_residual_missing",
        "The residual connection around the MLP is missing.",
        (('mlp_fc2"])\n        x = [a + b for a, b in zip(x, residual)]', 'mlp_fc2"])'),),
        in_vectors=True,
        sources=("yilundu/improved_contrastive_divergence#7",),
        place="site layer0.mlp.residual",
    ),
    Mutant(
        "mlp_residual_after_norm",
        "The residual connection around the MLP starts after the norm instead of before it.",
        (
            (
                'residual = x\n        x = tap(f"{layer}.mlp.norm", rmsnorm(x))',
                'x = tap(f"{layer}.mlp.norm", rmsnorm(x))\n        residual = x',
            ),
        ),
        sources=("SHI-Labs/Compact-Transformers#25", "Project-MONAI/MONAI#9011"),
        place="site layer0.mlp.residual",
    ),
    Mutant(
        "relu_gradient_alone",
        "Backward of ReLU gives 1 or 0 itself instead of the gradient from above times that.",
        (
            ("class Value:", "class Alone(float):\n    __mul__ = lambda self, other: float(self)\n\n\nclass Value:"),
            (_RELU, "max(0.0, self.data), (self,), (Alone(self.data > 0),)"),
        ),
        sources=("haifengl/smile#528",),
        place="grad mlp_fc1",
    ),
    Mutant(
        "activation_missing",
        "There is no activation between the two layers of the MLP.",
        ((_ACTIVATED, _ACTIVATED.replace("activate(x, config)", "x")),),
        sources=("leffff/graphormer-pyg#23", "stanfordnlp/stanza#1610"),
        place="site layer0.mlp.post",
    ),
    Mutant(
        "activation_last",
        "The activation comes after the second layer of the MLP instead of between the two.",
        ((_ACTIVATED, _ACTIVATED.replace("activate(x, config)", "x")), (_SECOND, f"activate({_SECOND}, config)")),
        sources=("spring-media/TransformerTTS#102",),
        place="site layer0.mlp.post",
    ),
    Mutant(
        "mlp_residual_from_layer_input",
        "The residual connection around the MLP starts before attention instead of after it.",
        ((_MLP_RESIDUAL, _MLP_RESIDUAL.removeprefix("residual = x\n        ")),),
        sources=("strutive07/transformer-tensorflow2.0#14", "JanSchm/CapMarket#8"),
        place="site layer0.mlp.residual",
    ),
)

LAYERS = of_stage(
    "layers",
    Mutant(
        "layers_share_weights",
        "Every layer takes the weights of the first one.",
        ((_LAYER, 'layer = "layer0"'),),
        sources=("zalandoresearch/pytorch-vq-vae#2", "linkedin/Liger-Kernel#269", "espnet/espnet#1278"),
        place="site layer1.attn.q",
    ),
    Mutant(
        "first_layer_only",
        "Only the first layer is run.",
        ((_EVERY_LAYER, "for i in range(1):\n        layer"),),
        sources=("tonyzhaozh/act#25",),
        place="site layer1.attn.norm",
    ),
    Mutant(
        "last_layer_skipped",
        "The last of several layers is not run.",
        ((_EVERY_LAYER, "for i in range(max(1, config.n_layer - 1)):\n        layer"),),
        sources=("LukasHedegaard/continual-inference#70", "shiyu-coder/Kronos#219"),
        place="site layer1.attn.norm",
    ),
    Mutant(
        "at_most_two_layers",
        "Of more than two layers only two are run.",
        ((_EVERY_LAYER, "for i in range(min(2, config.n_layer)):\n        layer"),),
        sources=("LukasHedegaard/continual-inference#70",),
        place="site layer2.attn.norm",
    ),
    Mutant(
        "layers_reversed",
        "The layers are run from the last one to the first one.",
        ((_LAYER, 'layer = f"layer{config.n_layer - 1 - i}"'),),
        place="site layer0.attn.norm",
    ),
    Mutant(
        "last_layer_only",
        "Every layer is given the embeddings, so that all but the last one are for nothing.",
        ((_EVERY_LAYER, "for i in range(config.n_layer - 1, config.n_layer):\n        layer"),),
        sources=("Atcold/NYU-DLSP20#270", "simon-ging/coot-videotext#5", "17385/TreeBERT#5"),
        place="site layer1.attn.norm",
    ),
    Mutant(
        "layers_share_last_weights",
        "Every layer takes the weights of the last one: a closure made in a loop sees how the loop ended.",
        ((_LAYER, 'layer = f"layer{config.n_layer - 1}"'),),
        sources=("TrenTorch/TrenTorch#141",),
        place="site layer0.attn.q",
    ),
    Mutant(
        "layers_share_mlp",
        "Every layer takes the MLP of the first one.",
        (
            ('params[f"{layer}.mlp_fc1"]', 'params["layer0.mlp_fc1"]'),
            ('params[f"{layer}.mlp_fc2"]', 'params["layer0.mlp_fc2"]'),
        ),
        sources=("habla-liaa/encodecmae#3",),
        place="site layer1.mlp.pre",
    ),
)

HEAD = of_stage(
    "head",
    Mutant(
        "final_norm_added",
        "There is a norm before lm_head, where the reference has none.",
        ((_LOGITS, _LOGITS.replace("(x", "(rmsnorm(x)")),),
        in_vectors=True,
        sources=("pytorch/pytorch#50086", "Helsinki-NLP/mammoth#3", "port: ani03sha/microgpt-java"),
        place="site logits",
    ),
    Mutant(
        "lm_head_tied",
        "The logits are computed with wte instead of lm_head: the weights are tied.",
        ((_LOGITS, _LOGITS.replace("lm_head", "wte")),),
        in_vectors=True,
        sources=("nntrainer/nntrainer#4183",),
        place="site logits",
    ),
    Mutant(
        "logits_soft_capped",
        "Logits are soft-capped at 30: 30·tanh(logit/30).",
        ((_LOGITS, f"[30 - 60 / ((logit / 15).exp() + 1) for logit in {_LOGITS}]"),),
        place="site logits",
    ),
    Mutant(
        "logits_capped",
        "Logits are cut off at -10 and 10, and so are their gradients.",
        (
            (
                _LOGITS,
                f"[logit if abs(logit.data) < 10 else Value(math.copysign(10.0, logit.data)) for logit in {_LOGITS}]",
            ),
        ),
        place="site logits",
    ),
    Mutant(
        "logits_over_temperature",
        "Logits are divided by the temperature of sampling, 0.5, in training, too.",
        ((_LOGITS, f"[logit / 0.5 for logit in {_LOGITS}]"),),
        sources=("GMISWE/tinker-cloud#26",),
        place="site logits",
    ),
    Mutant(
        "logits_scaled",
        "Logits are divided by the square root of n_embd.",
        ((_LOGITS, f"[logit / config.n_embd**0.5 for logit in {_LOGITS}]"),),
        sources=("ml-explore/mlx-examples#591",),
        place="site logits",
    ),
)
