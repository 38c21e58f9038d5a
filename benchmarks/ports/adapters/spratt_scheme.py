"""spratt/microgpt.scm under Guile, which has sorting elsewhere: the loop asks for documents and shows its results."""

from collections.abc import Mapping

from benchmarks.ports.port import HERE, Port
from reference.config import Config, Hyper

LINES = (HERE / "lines.scm").read_text(encoding="utf-8")


def edits(config: Config, hyper: Hyper) -> Mapping[str, str]:
    """Where sorting is, sizes, hyper-parameters, and four places in the loop."""
    return {
        "(srfi 132)": "(only (rnrs sorting) list-sort) (only (guile) string-index get-internal-real-time exit "
        "internal-time-units-per-second))",
        "(define n-layer": f"(define n-layer {config.n_layer})",
        "(define n-embd": f"(define n-embd {config.n_embd})",
        "(define block-size": f"(define block-size {config.block_size})",
        "(define n-head": f"(define n-head {config.n_head})",
        "(define learning-rate": f"(define learning-rate {hyper.learning_rate!r})",
        "(define beta1": f"(define beta1 {hyper.beta1!r})",
        "(define beta2": f"(define beta2 {hyper.beta2!r})",
        "(define eps-adam": f"(define eps-adam {hyper.eps_adam!r})",
        "(define num-steps": f"(define num-steps {hyper.num_steps})\n{LINES}",
        "(do ((step": "(do ((step (parity-next) (parity-next))) (#f)",
        "(tokens (tokenize": "(tokens parity-tokens)",
        "(probs (softmax logits))": "(shown (parity-logits logits)) @@",
        "   (backward loss)": "@@ (parity-gradients)",
        '(display "step ")': "(parity-answer loss) @@",
    }


PORT = Port(
    repository="spratt/microgpt.scm",
    commit="9a096db18e1b097d8a838e4ec95aa9cf67c462f5",
    language="Scheme",
    file="microgpt.scm",
    blob="ae283f00cdf2412d4d392f50ad27137e36b515f9",
    limits="its shuffling, tokenizer, initialisation and sampling",
    needs="guile",
    command=("guile", "--r7rs", "--no-auto-compile", "{file}"),
    edits=edits,
)
