"""SaemonZixel/microgpt.php: the training loop asks for documents and shows what it computed."""

from collections.abc import Mapping

from benchmarks.ports.port import Port
from reference.config import Config, Hyper


def edits(config: Config, hyper: Hyper) -> Mapping[str, str]:
    """Sizes, hyper-parameters, and four places in the loop."""
    return {
        "$n_layer = ": f"$n_layer = {config.n_layer};",
        "$n_embd = ": f"$n_embd = {config.n_embd};",
        "$block_size = ": f"$block_size = {config.block_size};",
        "$n_head = ": f"$n_head = {config.n_head};",
        "$learning_rate = ": f"$learning_rate = {hyper.learning_rate!r}; $beta1 = {hyper.beta1!r}; "
        f"$beta2 = {hyper.beta2!r}; $eps_adam = {hyper.eps_adam!r};",
        "$num_steps = ": f"$num_steps = {hyper.num_steps};",
        "for ($step": "while (true) { $step = Parity::next($params, $m, $v);",
        "$n = min(": "$tokens = Parity::$tokens; @@",
        "$losses[] =": "Parity::logits($logits); @@",
        "$loss->backward": "@@ Parity::gradients($params);",
        'println("step': "Parity::answer($loss->data, $params, $m, $v); @@",
    }


PORT = Port(
    repository="SaemonZixel/microgpt.php",
    commit="e3171435d70f5fabd7006c9610947e091995dfb3",
    language="PHP",
    file="microgpt.php",
    blob="297bc6cbc9610fbb41f54191e29d81677be5aea2",
    limits="its shuffling, tokenizer, initialisation and sampling",
    needs="php",
    command=("php", "-d", "auto_prepend_file=lines.php", "{file}"),
    helpers=("lines.php",),
    edits=edits,
)
