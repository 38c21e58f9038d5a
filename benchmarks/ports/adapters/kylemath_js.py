"""kylemath/microgptJS, the npm package: its class trains on the document that comes in."""

from collections.abc import Mapping

from benchmarks.ports.port import Port
from reference.config import Config, Hyper

LOOP = """
const port = new MicroGPT();
port.loadData(Array.from({ length: VOCABULARY - 1 }, (_, i) => String.fromCharCode(33 + i)).join("\\n"));
port.initParams();
for (;;) {
  port.step = parity.next(port.params, port.m, port.v);
  parity.answer(port.trainStep().loss, port.params, port.m, port.v);
}
"""


def edits(config: Config, hyper: Hyper) -> Mapping[str, str]:
    """Sizes, hyper-parameters, three places in a step, and a loop at the end."""
    return {
        "options.nLayer": f"nLayer: {config.n_layer},",
        "options.nEmbd": f"nEmbd: {config.n_embd},",
        "options.blockSize": f"blockSize: {config.block_size},",
        "options.nHead": f"nHead: {config.n_head},",
        "options.learningRate": f"this.learningRate = {hyper.learning_rate!r};",
        "this.beta1 = ": f"this.beta1 = {hyper.beta1!r};",
        "this.beta2 = ": f"this.beta2 = {hyper.beta2!r};",
        "this.epsAdam = ": f"this.epsAdam = {hyper.eps_adam!r};",
        "options.numSteps": f"this.numSteps = {hyper.num_steps};",
        "const tokens": "const tokens = parity.tokens;",
        "const lossT": "parity.logits(logits.map(l => l.data)); @@",
        "   loss.backward();": "@@ parity.gradients(this.params);",
        "export { Value": LOOP.replace("VOCABULARY", f"{config.vocab_size}"),
    }


PORT = Port(
    repository="kylemath/microgptJS",
    commit="0ddd7304075bafd29c36feee05948d2bdf9c520d",
    language="JavaScript",
    file="packages/microgptjs/src/microgpt.js",
    blob="806b0f4de4fb1cecc4cb43d2058f7a7271e61375",
    limits="its shuffling, tokenizer, initialisation and sampling",
    needs="node",
    command=("node", "--stack-size=7000", "--require", "./lines.cjs", "{file}"),
    helpers=("lines.cjs",),
    name="microgpt.mjs",
    edits=edits,
)
