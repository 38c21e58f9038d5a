"""A case with a gradient within its noise floor, and a twin that turns its sign."""

import random

import numpy as np

from parity import Case, Config, Hyper, State
from parity.number_formats import FORMATS
from parity.oracle.oracle import Oracle
from reference.microgpt import adam, init_params, init_state
from torch_twin.microgpt import Twin

CONFIG = Config(n_embd=4, n_head=2, block_size=3, vocab_size=4, init_std=0.5)


def case_and_weakest() -> tuple[Case, str, tuple[int, int], float]:
    """One bfloat16 step, and the gradient element that lies nearest to zero in units of its noise."""
    case = Case(CONFIG, Hyper(), init_state(init_params(CONFIG, random.Random(5))), [[3, 0, 1, 3]], steps=1)
    form = FORMATS["bfloat16"]
    state = State(
        *(
            {n: form.rounded(m).tolist() for n, m in part.items()}
            for part in (case.state.params, case.state.m, case.state.v)
        )
    )
    oracle = Oracle(CONFIG, case.hyper, form, limit=0.0)
    expectation = oracle.expect(oracle.start(state), case.documents)
    exact, sigma = expectation.step, expectation.sigma
    found = []
    for name, grad in exact.grads.items():
        ratios = np.divide(
            np.abs(grad), sigma.grads[name], out=np.full(grad.shape, np.inf), where=sigma.grads[name] > 0
        )
        ratios[grad == 0] = np.inf
        index = np.unravel_index(np.argmin(np.where(ratios > 3.5, ratios, np.inf)), grad.shape)
        found.append((ratios[index], name, tuple(int(i) for i in index), -float(grad[index])))
    ratio, name, index, flipped = min(found)
    assert 3.5 < ratio < 8, "the case holds no gradient whose sign no replica turns and rounding might"
    return case, name, index, flipped


class Flipped(Twin):
    """A twin whose gradient at one place has the other sign; its Adam follows it, or does not."""

    def __init__(self, config, hyper, place, consistent=True):
        super().__init__(config, hyper, "bfloat16")
        self.place, self.consistent = place, consistent

    def load(self, state):
        self.before = state
        super().load(state)

    def train_step(self, batch):
        step = super().train_step(batch)
        name, index, flipped = self.place
        grads = {n: grad.double().tolist() for n, grad in step.grads.items()}
        if self.consistent:
            grads[name][index[0]][index[1]] = flipped
        step.grads = grads
        update = dict(grads)
        update[name] = [list(row) for row in grads[name]]
        update[name][index[0]][index[1]] = flipped
        after = adam(self.before, update, self.hyper)
        step.params, step.m, step.v = after.params, after.m, after.v
        return step
