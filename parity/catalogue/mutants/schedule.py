"""Mistakes in the learning-rate schedule."""

from parity.catalogue.mutants.mutant import Mutant, of_stage

_PROGRESS = "progress = step / hyper.num_steps"
_DECAYED = "hyper.learning_rate * decay"
_COSINE = "0.5 * (1 + math.cos(math.pi * progress))"


SCHEDULE = of_stage(
    "schedule",
    Mutant(
        "schedule_confused",
        "The learning rate falls linearly where it should fall as a cosine, or as a cosine where it should linearly.",
        (('hyper.lr_schedule == "cosine"', 'hyper.lr_schedule != "cosine"'),),
        in_vectors=True,
        place="param",
    ),
    Mutant(
        "schedule_always_linear",
        "The learning rate falls linearly even where a cosine is asked for.",
        (('hyper.lr_schedule == "cosine"', "False"),),
        place="param",
    ),
    Mutant(
        "schedule_always_cosine",
        "The learning rate falls as a cosine even where a line is asked for.",
        (('hyper.lr_schedule == "cosine"', "True"),),
        sources=("port: enjector/microgpt-c",),
        place="param",
    ),
    Mutant(
        "cosine_of_quarter",
        "The learning rate falls as the first quarter of a cosine instead of the first half, moved above 0.",
        ((_COSINE, "math.cos(math.pi / 2 * progress)"),),
        sources=("goodfire-ai/spd#311", "goodfire-ai/spd#236"),
        place="param",
    ),
    Mutant(
        "rate_one_step_ahead",
        "The learning rate decays one step too early: it is that of step + 1.",
        ((_PROGRESS, "progress = (step + 1) / hyper.num_steps"),),
        in_vectors=True,
        sources=("port: smimram/ocaml-microgpt", "port: dewmal/microgpt-rusty", "port: MeKo-Christian/go-microgpt"),
        place="param",
    ),
    Mutant(
        "rate_ends_one_step_early",
        "The learning rate reaches 0 in the last step instead of after it: progress is step / (num_steps - 1).",
        ((_PROGRESS, "progress = step / max(1, hyper.num_steps - 1)"),),
        sources=("pytorch/torchtitan#1010",),
        place="param",
    ),
    Mutant(
        "rate_ends_above_zero",
        "The learning rate falls as if there were one step more: it does not reach 0 after the last one.",
        ((_PROGRESS, "progress = step / (hyper.num_steps + 1)"),),
        sources=("EleutherAI/gpt-neox#1039", "pytorch/torchtitan#1261"),
        place="param",
    ),
    Mutant(
        "rate_decays_twice_as_fast",
        "The learning rate is 0 after half of the steps: each step counts for two processes.",
        ((_PROGRESS, "progress = min(1.0, 2 * step / hyper.num_steps)"),),
        sources=("axolotl-ai-cloud/axolotl#157",),
        place="param",
    ),
    Mutant(
        "rate_constant",
        "The learning rate does not decay.",
        ((_DECAYED, "hyper.learning_rate"),),
        in_vectors=True,
        sources=("thu-ml/tianshou#774", "facebookresearch/ParlAI#4384", "hiyouga/LlamaFactory#2495"),
        place="param",
    ),
    Mutant(
        "rate_hard_coded",
        "The learning rate starts at 0.01, whatever was asked for.",
        ((_DECAYED, "0.01 * decay"),),
        sources=("buriburisuri/sugartensor#40", "yifita/DSS#25", "david-vazquez/mcv-m5#7"),
        place="param",
    ),
    Mutant(
        "num_steps_hard_coded",
        "The learning rate decays over 1000 steps, whatever was asked for.",
        ((_PROGRESS, "progress = step / 1000"),),
        sources=("lucidrains/imagen-pytorch#71", "port: mauropm/gomicrogpt"),
        place="param",
    ),
    Mutant(
        "rate_floored",
        "The learning rate never falls below a tenth of where it started.",
        ((_DECAYED, "hyper.learning_rate * max(0.1, decay)"),),
        sources=("EleutherAI/gpt-neox#1008", "ml-explore/mlx#1138"),
        place="param",
    ),
    Mutant(
        "rate_decays_to_a_tenth",
        "The learning rate decays to a tenth of where it started instead of to 0.",
        ((_DECAYED, "hyper.learning_rate * (0.1 + 0.9 * decay)"),),
        place="param",
    ),
    Mutant(
        "rate_warms_up",
        "The learning rate rises over the first ten steps.",
        ((_DECAYED, f"{_DECAYED} * min(1.0, (step + 1) / 10)"),),
        sources=("port: enjector/microgpt-c",),
        place="param",
    ),
    Mutant(
        "rate_warms_up_from_zero",
        "The learning rate rises over the first ten steps, from 0 in the first one, which changes nothing.",
        ((_DECAYED, f"{_DECAYED} * min(1.0, step / 10)"),),
        sources=("google-research/bert#1293", "EleutherAI/gpt-neox#1379"),
        place="param",
    ),
    Mutant(
        "rate_starts_over",
        "The learning rate starts over every hundred steps.",
        ((_PROGRESS, "progress = step % 100 / hyper.num_steps"),),
        sources=("tracel-ai/burn#5191",),
        place="param",
    ),
)
