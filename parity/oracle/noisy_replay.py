"""Replaying recorded graphs with noise, many times at once: how far apart they come is the noise floor."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from parity.number_formats import Floats, Format
from parity.oracle import noisy_kernels
from parity.oracle.adam import Replicas, record_update
from parity.oracle.replay import DocumentReplay, Gates, Outcome, force
from parity.oracle.rounding import Rounding
from parity.tensors import vectors
from reference.config import Config, Hyper, State

REPLICAS = 64
"""Noisy replays from which a standard deviation is taken."""

_UPDATED_AT_A_TIME = 8
"""Elements to which Adam's noisy operations are done at a time, each with random generators of its own."""


@lru_cache(maxsize=16)
def _generators(seed: int, number: int) -> NDArray[np.uint32]:
    return np.random.default_rng(seed).integers(1, 2**32, number, dtype=np.uint32)


class Noise:
    """Noisy replays of one run in a number format, all replicas at once, by the rules of `parity.oracle.rounding`."""

    def __init__(self, config: Config, hyper: Hyper, form: Format, seed: int = 0, replicas: int = REPLICAS) -> None:
        self.config, self.hyper, self.replicas = config, hyper, replicas
        self.rounding = Rounding.of(form)
        self.seeds = _generators(seed, replicas * (1 + _UPDATED_AT_A_TIME))
        self.bits = self.seeds.copy()
        self.expose_sites = False

    def load(self, state: State) -> None:
        """Start all replicas from the same state, and the noise anew."""
        self.bits = self.seeds.copy()
        self.tensors = self.repeated(vectors(self.config, state))
        self.number = state.step

    def train_step(self, batch: list[list[int]], gates: Gates | None = None) -> Outcome:
        """One step of every replica; the outcome, replicas last."""
        outcome = self.outcome(batch, gates)
        self.tensors, self.number = outcome.after, self.number + 1
        return outcome

    def outcome(self, batch: list[list[int]], gates: Gates | None = None) -> Outcome:
        """One step, without moving on."""
        params, noise = self.tensors[0], (self.bits[: self.replicas], self.rounding.u, self.rounding.tiny)
        documents = [DocumentReplay(self.config, tokens, (self.replicas,)) for tokens in batch]
        force(documents, gates)
        loss = np.zeros(self.replicas)
        for document in documents:
            document.put(params)
            noisy_kernels.noisy_forward(document.values, document.program.forward, *document.arguments, *noise)
            noisy_kernels.add_to(loss, document.values[document.program.loss], *noise)
        noisy_kernels.scale(loss, loss, 1 / len(batch), *noise)
        grads = np.zeros_like(params)
        for document in reversed(documents):
            document.start_backward(1 / len(batch), grads)
            noisy_kernels.noisy_backward(
                document.values, document.grads, document.program.backward, *document.arguments, *noise
            )
            for row, own in document.collect(grads):
                noisy_kernels.add_rows_to(row, own, *noise)
        after = self.adam(self.number, self.tensors, grads)
        probs = []
        if self.expose_sites:
            for document in documents:
                for position, pow_slot in enumerate(document.program.pows):
                    probs.append(np.empty((self.config.vocab_size, self.replicas)))
                    for row, slot in zip(probs[-1], document.exps(position), strict=True):
                        noisy_kernels.multiply(row, document.values[slot], document.values[pow_slot], *noise)
        return Outcome(self.tensors, documents, loss, grads, after, probs)

    def adam(self, number: int, before: Floats, grads: Floats) -> Floats:
        """The update of every replica, of parameters, m and v, (3, elements, R), by gradients, (elements, R)."""
        update = record_update(self.hyper, number)
        shared = update.noisy(Replicas(self.replicas, self._perturb, self.rounding.hypers_round))
        after = np.empty_like(before)
        noise = (self.bits[self.replicas :], self.rounding.u, self.rounding.tiny)
        noisy_kernels.noisy_update(update.code, shared, update.results, before, grads, after, *noise)
        return after

    def repeated(self, vector: Floats) -> Floats:
        """The same numbers for every replica, which come last."""
        return np.repeat(vector[..., None], self.replicas, axis=-1)

    def _perturb(self, values: Floats) -> Floats:
        values = np.array(values, dtype=np.float64)
        noisy_kernels.perturb(values, self.bits[: self.replicas], self.rounding.shared_u, self.rounding.tiny)
        return values
