"""1duo/microgpts in TypeScript, whose types Node strips: the loop asks for documents and shows what it computed."""

from collections.abc import Mapping

from benchmarks.ports.port import Port
from reference.config import Config, Hyper


def edits(config: Config, hyper: Hyper) -> Mapping[str, str]:
    """Sizes, hyper-parameters, and four places in the loop."""
    return {
        "const n_layer": f"const n_layer = {config.n_layer};",
        "const n_embd": f"const n_embd = {config.n_embd};",
        "const block_size": f"const block_size = {config.block_size};",
        "const n_head": f"const n_head = {config.n_head};",
        "const learning_rate": f"const learning_rate = {hyper.learning_rate!r};",
        "const beta1": f"const beta1 = {hyper.beta1!r};",
        "const beta2": f"const beta2 = {hyper.beta2!r};",
        "const eps_adam": f"const eps_adam = {hyper.eps_adam!r};",
        "const num_steps": f"const num_steps = {hyper.num_steps};",
        "for (let step": "for (;;) { const step = parity.next(all_params, m, v);",
        "const tokens": "const tokens = parity.tokens;",
        "losses.push": "parity.logits(logits.map(l => l.data)); @@",
        "loss.backward()": "@@ parity.gradients(all_params);",
        "p.grad = 0": "@@\n    }\n    parity.answer(loss.data, all_params, m, v);\n    {",
    }


PORT = Port(
    repository="1duo/microgpts",
    commit="5a17fc73bdc234052ea891f2a3021be1ed0ba959",
    language="TypeScript",
    file="TypeScript/microgpt.ts",
    blob="1dde43d153089a98e0b646a7f7440523fcdfb772",
    limits="its shuffling, tokenizer, initialisation and sampling",
    needs="node",
    command=("node", "--stack-size=7000", "--experimental-strip-types", "--require", "./lines.cjs", "{file}"),
    helpers=("lines.cjs",),
    edits=edits,
)
