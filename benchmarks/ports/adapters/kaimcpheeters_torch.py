"""The PyTorch script of kaimcpheeters/microgpt, in float32: its loop asks for documents and shows what it computed."""

import sys
from collections.abc import Mapping

from benchmarks.ports.port import Port
from reference.config import Config, Hyper

VIEWS = """
import lines_in_python as parity
torch.set_num_threads(1)
class Number:
    def __init__(self, data, grad=0.0): self.data, self.grad = float(data), float(grad)
def flat(tensors): return [x for tensor in tensors for x in tensor.flatten().tolist()]
def fill(tensors, numbers):
    rest = iter(numbers)
    for tensor in tensors:
        tensor.data.copy_(torch.tensor([next(rest) for _ in range(tensor.numel())]).view_as(tensor))
def next_step():
    for p in params:
        if not optimizer.state[p]:
            optimizer.state[p].update(step=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
    p, m, v = [Number(x) for x in flat(params)], flat(moments("m")), flat(moments("v"))
    step = parity.next_step(p, m, v)
    fill([*params, *moments("m"), *moments("v")], [*(x.data for x in p), *m, *v])
    for p in params: optimizer.state[p]["step"] = step
    return step
def moments(name): return [optimizer.state[p][name] for p in params]
def gradients():
    found = [Number(0.0, x) for x in flat(p.grad for p in params)]
    parity.gradients(found)
    fill([p.grad for p in params], [x.grad for x in found])
def answer(loss): parity.answer(loss.item(), [Number(x) for x in flat(params)], flat(moments("m")), flat(moments("v")))
"""


def edits(config: Config, hyper: Hyper) -> Mapping[str, str]:
    """Where its input lies, sizes, hyper-parameters, and four places in the loop."""
    return {
        "docs = load_dataset()": 'torch.set_default_dtype(torch.@dtype@); docs = open("input.txt").read().split()',
        "n_layer = ": f"n_layer = {config.n_layer}",
        "n_embd = ": f"n_embd = {config.n_embd}",
        "block_size = ": f"block_size = {config.block_size}",
        "n_head = ": f"n_head = {config.n_head}",
        "learning_rate, beta1": f"{VIEWS}\nlearning_rate, beta1, beta2, eps_adam = {hyper.learning_rate!r}, "
        f"{hyper.beta1!r}, {hyper.beta2!r}, {hyper.eps_adam!r}",
        "def train(": f"def train(num_steps={hyper.num_steps}):",
        "for step in": "    while True:\n        step = next_step()",
        "tokens = [": "        tokens = parity.tokens",
        "losses.append(": "            parity.logits([Number(x) for x in logits.tolist()])\n@@",
        "loss.backward()": "@@; gradients()",
        'f"step {': "        answer(loss)",
    }


PORT = Port(
    repository="kaimcpheeters/microgpt",
    commit="370ff3f058797cb9e90e07902eed9e7f0247ac1b",
    language="Python, PyTorch",
    file="src/microgpt_pytorch.py",
    blob="6d2dfa3646b0ee8b0cd62ad073f0615e75593fb4",
    deviates="gradients flow through the maximum that the softmax subtracts: 0 in exact arithmetic, and rounding here",
    limits="its shuffling, tokenizer, initialisation and sampling",
    command=(sys.executable, "{file}"),
    helpers=("lines_in_python.py",),
    edits=edits,
    dtype="float32",
    dtypes=("float64",),
    corrected={"logits.max()": "logits.max().detach()"},
)
