"""huambda/microgpt.lua: the training loop asks for documents and shows what it computed."""

from collections.abc import Mapping

from benchmarks.ports.port import Port
from reference.config import Config, Hyper


def edits(config: Config, hyper: Hyper) -> Mapping[str, str]:
    """Sizes, hyper-parameters, and four places in the loop."""
    return {
        "local n_layer=": f"local n_layer = {config.n_layer}",
        "local n_embd=": f"local n_embd = {config.n_embd}",
        "local block_size=": f"local block_size = {config.block_size}",
        "local n_head=": f"local n_head = {config.n_head}",
        "local learning_rate": f"local learning_rate, b1, b2, eps = {hyper.learning_rate!r}, {hyper.beta1!r}, "
        f"{hyper.beta2!r}, {hyper.eps_adam!r}",
        "local num_steps": f"local num_steps = {hyper.num_steps}",
        "for step=": "while true do local step = parity.next(params, m, v, state_dict, n_layer)",
        "local n=math.min": "tokens = parity.tokens @@",
        "softmax(gpt(tokens": "local logits = gpt(tokens[pos + 1], pos, keys, vals) parity.logits(logits) "
        "local probs = softmax(logits)",
        "loss:backward()": "@@ parity.gradients(params)",
        "local line = (": "parity.answer(loss.data, params, m, v) @@",
    }


PORT = Port(
    repository="huambda/microgpt.lua",
    commit="dfdab597408887ead17fd0d042073732e7c1e997",
    language="Lua",
    file="microgpt.lua",
    blob="c2f4a166d03ab4472c9b6aabbaeb40eda850d6be",
    limits="its shuffling, tokenizer, initialisation and sampling",
    needs="lua5.4",
    command=("lua5.4", "-l", "lines", "{file}"),
    helpers=("lines.lua",),
    edits=edits,
)
