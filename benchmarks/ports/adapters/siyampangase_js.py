"""siyampangase234-arch/microgpt.js: the training loop asks for documents and shows what it computed."""

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
        "const learning_rate": f"const learning_rate = {hyper.learning_rate!r}, beta1 = {hyper.beta1!r}, "
        f"beta2 = {hyper.beta2!r}, eps_adam = {hyper.eps_adam!r};",
        "const num_steps": f"const num_steps = {hyper.num_steps};",
        "for (let step": "for (;;) { const step = parity.next(params, m_buf, v_buf);",
        "const tokens": "const tokens = parity.tokens;",
        "const loss_t": "parity.logits(logits.map(l => l.data)); @@",
        "loss.backward()": "@@ parity.gradients(params);",
        "`step ${": "parity.answer(loss.data, params, m_buf, v_buf); @@",
    }


PORT = Port(
    repository="siyampangase234-arch/microgpt.js",
    commit="27caf01461793b5497eb50e8bd933744f9755ae2",
    language="JavaScript",
    file="microgpt.js",
    blob="51e1cf9b373a9131b82c5a760c1afbeacad28df4",
    limits="its shuffling, tokenizer, initialisation and sampling",
    needs="node",
    command=("node", "--stack-size=7000", "--require", "./lines.cjs", "{file}"),
    helpers=("lines.cjs",),
    extra={"package.json": '{"type": "module"}'},
    edits=edits,
)
