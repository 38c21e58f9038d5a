"""Lab 02 of danilop/micro-gpt-and-beyond: NumPy, every gradient by hand, matrices that stand to the right."""

import sys
from collections.abc import Mapping

from benchmarks.ports.port import Port
from reference.config import Config, Hyper

VIEWS = """
import lines_in_python as parity
names = ["wte", "wpe", "lm_head"]
names += [f"l{i}.{x}" for i in range(n_layer) for x in ("wq", "wk", "wv", "wo", "fc1", "fc2")]
turned = lambda x, name: x[name].T if "." in name else x[name]
flat = lambda x: [float(number) for name in names for number in turned(x, name).flat]
class Flat:
    def __init__(self, x): self.x = x
    def __setitem__(self, _, numbers):
        rest = iter(numbers)
        for name in names:
            matrix = turned(self.x, name)
            matrix[...] = [[next(rest) for _ in row] for row in matrix]
class Number:
    def __init__(self, data, grad=0.0): self.data, self.grad = float(data), float(grad)
def next_step():
    p = [Number(x) for x in flat(P)]
    step = parity.next_step(p, Flat(M), Flat(Vb))
    Flat(P)[:] = [x.data for x in p]
    return step
def gradients(cache):
    for row in cache["final"][1]: parity.logits([Number(x) for x in row])
    g = [Number(0.0, x) for x in flat(G)]
    parity.gradients(g)
    Flat(G)[:] = [x.grad for x in g]
num_steps ="""


def edits(config: Config, hyper: Hyper) -> Mapping[str, str]:
    """Where its input lies, sizes, hyper-parameters, and four places in the loop."""
    return {
        "input_path = ": 'input_path = "input.txt"',
        "n_layer = ": f"n_layer = {config.n_layer}",
        "n_embd = ": f"n_embd = {config.n_embd}",
        "block_size = ": f"block_size = {config.block_size}",
        "n_head = ": f"n_head = {config.n_head}",
        "learning_rate, beta1": f"learning_rate, beta1, beta2, eps_adam = {hyper.learning_rate!r}, {hyper.beta1!r}, "
        f"{hyper.beta2!r}, {hyper.eps_adam!r}",
        "num_steps = ": f"{VIEWS} {hyper.num_steps}",
        "for step in": "while True:\n    step = next_step()",
        "tokens = [": "    tokens = parity.tokens",
        "    backward(cache)": "@@; gradients(cache)",
        "if (step + 1)": "    parity.answer(float(loss), [Number(x) for x in flat(P)], flat(M), flat(Vb))\n@@",
    }


PORT = Port(
    repository="danilop/micro-gpt-and-beyond",
    commit="345b812dc30a4409cc725ae441fcd2685b9fb80e",
    language="Python, NumPy",
    file="labs/02_numpy_manual_backprop/main.py",
    blob="73c8b0597a12478ea65b3a5d78350227044f2f30",
    deviates="1e-10 is added to each probability before its logarithm, in the loss alone",
    limits="its shuffling, tokenizer, initialisation and sampling",
    command=(sys.executable, "{file}"),
    helpers=("lines_in_python.py",),
    edits=edits,
    corrected={" + 1e-10": ""},
)
