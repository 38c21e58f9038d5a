"""thdtjsdn/microgpt.js: its stream of lines gives way to documents that come in, with the betas that it has."""

from collections.abc import Mapping

from benchmarks.ports.port import Port
from reference.config import Config, Hyper


def edits(config: Config, hyper: Hyper) -> Mapping[str, str]:
    """Sizes, the first calls, and four places in the loop; other hyper-parameters stand in the update itself."""
    if (hyper.learning_rate, hyper.beta1, hyper.beta2, hyper.eps_adam) != (0.01, 0.9, 0.99, 1e-8):
        raise NotImplementedError("its rate is 0.01, its betas are 0.9 and 0.99, its eps 1e-8")
    return {
        "n_layer: 1,": f"var config = {{ n_layer: {config.n_layer}, n_embd: {config.n_embd}, "
        f"block_size: {config.block_size}, n_head: {config.n_head} }};",
        "var params =": f"numSteps = {hyper.num_steps}; @@",
        "var doc =": "step = parity.next(params, m, v); var doc = '.';",
        "for await (const line of trainRl)": "for (;;) {",
        "if (step >= numSteps)": "",
        "var n = Math.min": "tokens = parity.tokens; @@",
        "losses.push(": "parity.logits(logits.map(l => l.data)); @@",
        "loss.backward()": "@@ parity.gradients(params);",
        "if (step % 5": "parity.answer(loss.data, params, m, v); if (false) {",
        "var model =": "var model = null;",
    }


PORT = Port(
    repository="thdtjsdn/microgpt.js",
    commit="9f59accd4a88c68d5055860dae4ba9838bace0f5",
    language="JavaScript",
    file="microgpt.js",
    blob="3113c8416e46bcff935f6bc8e73a03dfc215b3de",
    deviates="1e-10 is added to each probability before its logarithm, in the loss and in its gradient",
    limits="other hyper-parameters than its own; its tokenizer, initialisation, storing and sampling",
    hyper={"beta1": 0.9},
    corrected={" + 1e-10": ""},
    needs="node",
    command=("node", "--stack-size=7000", "--require", "./lines.cjs", "{file}"),
    helpers=("lines.cjs",),
    edits=edits,
)
