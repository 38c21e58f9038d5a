"""The optimised script of DanHouseman/microgpt-optimizations: fused dot products and log-sum-exp in its graph."""

import sys
from collections.abc import Mapping

from benchmarks.ports.port import Port
from reference.config import Config, Hyper


def edits(config: Config, hyper: Hyper) -> Mapping[str, str]:
    """Sizes, hyper-parameters, and four places in the loop."""
    return {
        "import os": "import os, sys, lines_in_python as parity; sys.setrecursionlimit(1000000)",
        "n_layer = ": f"n_layer = {config.n_layer}",
        "n_embd = ": f"n_embd = {config.n_embd}",
        "block_size = ": f"block_size = {config.block_size}",
        "n_head = ": f"n_head = {config.n_head}",
        "learning_rate, beta1": f"learning_rate, beta1, beta2, eps_adam = {hyper.learning_rate!r}, {hyper.beta1!r}, "
        f"{hyper.beta2!r}, {hyper.eps_adam!r}",
        "num_steps = ": f"num_steps = {hyper.num_steps}",
        "for step in": "while True:\n    step = parity.next_step(params, m, v)",
        "tokens = [": "    tokens = parity.tokens",
        "losses.append(": "        parity.logits(logits)\n@@",
        "loss.backward()": "@@; parity.gradients(params)",
        'f"step {': "    parity.answer(loss.data, params, m, v)\n@@",
    }


PORT = Port(
    repository="DanHouseman/microgpt-optimizations",
    commit="054f56b0a243a433744cc88b5e3d630923b46840",
    language="Python",
    file="microgpt_optimized.py",
    blob="0cb69f729f756637cdf84a58ef07c453b5ffc18d",
    limits="its shuffling, tokenizer, initialisation and sampling",
    command=(sys.executable, "{file}"),
    helpers=("lines_in_python.py",),
    edits=edits,
)
