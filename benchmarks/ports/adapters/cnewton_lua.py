"""1554cN3wt0n/microGPT.lua, of the early revision: the training loop asks for documents and shows what it computed."""

from collections.abc import Mapping

from benchmarks.ports.port import Port
from reference.config import Config, Hyper


def edits(config: Config, hyper: Hyper) -> Mapping[str, str]:
    """Sizes, hyper-parameters, and four places in the loop."""
    return {
        "local n_layer": f"local n_layer = {config.n_layer}",
        "local n_embd": f"local n_embd = {config.n_embd}",
        "local block_size": f"local block_size = {config.block_size}",
        "local n_head": f"local n_head = {config.n_head}",
        "local learning_rate": f"local learning_rate = {hyper.learning_rate!r}",
        "local beta1": f"local beta1 = {hyper.beta1!r}",
        "local beta2": f"local beta2 = {hyper.beta2!r}",
        "local eps_adam": f"local eps_adam = {hyper.eps_adam!r}",
        "local num_steps": f"local num_steps = {hyper.num_steps}",
        "for step =": "while true do local step = 1 + parity.next(params, m_buf, v_buf, state_dict, n_layer)",
        "local n = math.min": "tokens = parity.tokens @@",
        "local loss_t": "parity.logits(logits) @@",
        "loss:backward()": "@@ parity.gradients(params)",
        '"step %4d': "parity.answer(loss.data, params, m_buf, v_buf) @@",
    }


PORT = Port(
    repository="1554cN3wt0n/microGPT.lua",
    commit="5bed6b008fe2c8e5a8bdf179ebe1d3dd6b608ddc",
    language="Lua",
    file="gpt.lua",
    blob="6bd5d2d7b8c996fb50ec4e3fe5dbca80f88d2bc2",
    limits="its shuffling, tokenizer, initialisation and sampling",
    preset="microgpt_early",
    needs="lua5.4",
    command=("lua5.4", "-l", "lines", "{file}"),
    helpers=("lines.lua",),
    edits=edits,
)
