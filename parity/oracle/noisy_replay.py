"""Replaying recorded graphs with noise, many times at once: how far apart they come is the noise floor."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from parity.number_formats import Floats, Format
from parity.oracle import noisy_kernels
from parity.oracle.adam import Replicas, record_update
from parity.oracle.program import Program
from parity.oracle.replay import DocumentReplay, Gates, program
from parity.oracle.rounding import Rounding
from reference.config import Config, Hyper

REPLICAS = 64
"""Noisy replays from which a standard deviation is taken."""

_UPDATED_AT_A_TIME = 8
"""Elements to which Adam's noisy operations are done at a time, each with random generators of its own."""

_BYTES_AT_A_TIME = 2**28
"""Values and gradients of a document in so many replicas are held at a time by each thread."""

_WORTH_A_THREAD = 2**18
"""Slots of a document from which on its replicas are shared out among threads."""

Generators = NDArray[np.uint32]


@lru_cache(maxsize=16)
def _generators(seed: int, number: int) -> Generators:
    return np.random.default_rng(seed).integers(1, 2**32, number, dtype=np.uint32)


class DocumentSamples:
    """Of one document, the values and gradients that somebody looks at, by slot; the replicas come last."""

    def __init__(self, program: Program, targets: Sequence[int], replicas: int, sites: bool) -> None:
        self.program, self.targets = program, targets
        self._of_values, self._of_grads = program.looked_at_with_sites if sites else program.looked_at
        self._values = np.empty((len(self._of_values), replicas))
        self._grads = np.empty((len(self._of_grads), replicas))

    def take(self, document: DocumentReplay, part: slice) -> None:
        """Keep what some of the replicas gave."""
        self._values[:, part] = document.values[self._of_values]
        self._grads[:, part] = document.grads[self._of_grads]

    @property
    def nbytes(self) -> int:
        """Of all that is kept."""
        return self._values.nbytes + self._grads.nbytes

    def values(self, slots: NDArray[np.int64]) -> Floats:
        """The values of slots, their shape and then the replicas."""
        return self._values[np.searchsorted(self._of_values, slots)]

    def grads(self, slots: NDArray[np.int64]) -> Floats:
        """The gradients of slots, their shape and then the replicas."""
        return self._grads[np.searchsorted(self._of_grads, slots)]


@dataclass
class NoisyStep:
    """What one step gave in every replica, which come last."""

    loss: Floats
    """(R,)"""
    documents: list[DocumentSamples]
    grads: Floats
    """(elements, R)"""
    after: Floats
    """Parameters, m and v, (3, elements, R)."""
    generators: Generators
    """Of the random numbers to come."""

    @property
    def nbytes(self) -> int:
        """Of what is held of documents."""
        return sum(document.nbytes for document in self.documents)


class Noise:
    """Noisy replays of one model in a number format, by the rules of `parity.oracle.rounding`.

    storage: the format that weights and moments lie in and are updated in, where that is another one: then weights are
    rounded once more where they are read. rounding: other rules than the formats'.
    """

    def __init__(
        self,
        config: Config,
        hyper: Hyper,
        form: Format,
        storage: Format | None = None,
        seed: int = 0,
        replicas: int = REPLICAS,
        rounding: Rounding | None = None,
    ) -> None:
        self.config, self.hyper, self.replicas = config, hyper, replicas
        self.rounding, self.stored = rounding or Rounding.of(form), rounding or Rounding.of(storage or form)
        self.seeds = _generators(seed, replicas * (1 + _UPDATED_AT_A_TIME))

    def step(
        self,
        number: int,
        before: Floats,
        generators: Generators,
        batch: Sequence[Sequence[int]],
        gates: Gates | None,
        sites: bool = False,
    ) -> NoisyStep:
        """One step, of which number updates were done before, from parameters, m and v, (3, elements, R).

        Documents are done one after another, and only what is looked at of each is kept.
        """
        generators = generators.copy()
        lengths = [min(self.config.block_size, len(tokens) - 1) for tokens in batch]
        samples = [
            DocumentSamples(program(self.config, n), tokens[1 : n + 1], self.replicas, sites)
            for n, tokens in zip(lengths, batch, strict=True)
        ]
        losses, grads = np.empty((len(batch), self.replicas)), np.zeros(before[0].shape)
        run = partial(self._replay, before[0], generators, batch, gates, samples, losses, grads)
        slots = max(found.program.slots for found in samples)
        if slots < _WORTH_A_THREAD:
            run(slice(0, self.replicas))
        else:
            self._share_out(run, slots)
        noise = (generators[: self.replicas], self.rounding.u, self.rounding.tiny)
        loss = np.zeros(self.replicas)
        for of_document in losses:
            noisy_kernels.add_to(loss, of_document, *noise)
        noisy_kernels.scale(loss, loss, 1 / len(batch), *noise)
        return NoisyStep(loss, samples, grads, self.adam(number, before, grads, generators), generators)

    def _share_out(self, run: Callable[[slice], None], slots: int) -> None:
        """Do some replicas at a time, on all cores: compiled code lets go of Python's lock."""
        threads = os.cpu_count() or 1
        width = max(1, min(self.replicas // threads, _BYTES_AT_A_TIME // (16 * slots)))
        parts = [slice(start, min(start + width, self.replicas)) for start in range(0, self.replicas, width)]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, parts))

    def _replay(
        self,
        params: Floats,
        generators: Generators,
        batch: Sequence[Sequence[int]],
        gates: Gates | None,
        samples: list[DocumentSamples],
        losses: Floats,
        grads: Floats,
        part: slice,
    ) -> None:
        """Forward and backward of some of the replicas, each of which has a generator of its own."""
        noise = (generators[part], self.rounding.u, self.rounding.tiny)
        own, added = params[:, part].copy(), np.zeros((len(params), part.stop - part.start))
        if self.stored.u < self.rounding.u:
            noisy_kernels.perturb_rows(own, *noise)
        # From the last to the first, as gradients are added up.
        for number in reversed(range(len(batch))):
            document = DocumentReplay(self.config, batch[number], added.shape[1:])
            document.gates = document.gates if gates is None else gates[number]
            document.put(own)
            noisy_kernels.noisy_forward(document.values, document.program.forward, *document.arguments, *noise)
            losses[number, part] = document.values[document.program.loss]
            document.start_backward(1 / len(batch), added)
            noisy_kernels.noisy_backward(
                document.values,
                document.grads,
                document.program.backward,
                *document.arguments,
                document.program.attention,
                document.program.heads,
                *noise,
            )
            for row, more in document.collect(added):
                noisy_kernels.add_rows_to(row, more, *noise)
            samples[number].take(document, part)
        grads[:, part] = added

    def probabilities(self, samples: DocumentSamples) -> list[Floats]:
        """The probabilities of each position of a document, (vocab_size, R)."""
        generators, found = self.seeds[: self.replicas].copy(), []
        for exps, power in zip(samples.program.exp_slots, samples.program.pows, strict=True):
            found.append(np.empty((len(exps), self.replicas)))
            for row, exp in zip(found[-1], samples.values(exps), strict=True):
                factors = exp, samples.values(power)
                noisy_kernels.multiply(row, *factors, generators, self.rounding.u, self.rounding.tiny)
        return found

    def adam(self, number: int, before: Floats, grads: Floats, generators: Generators) -> Floats:
        """The update of every replica, of parameters, m and v, (3, elements, R), by gradients, (elements, R)."""
        update = record_update(self.hyper, number)
        # What somebody gave is rounded once, and not anew at every step.
        replicas = Replicas(
            self.replicas,
            partial(self._perturb_shared, generators[: self.replicas]),
            partial(self._perturb_shared, self.seeds[: self.replicas].copy()),
            self.stored.hypers_round,
        )
        after = np.empty_like(before)
        noise = (generators[self.replicas :], self.stored.u, self.stored.tiny)
        noisy_kernels.noisy_update(update.code, update.noisy(replicas), update.results, before, grads, after, *noise)
        return after

    def repeated(self, vector: Floats) -> Floats:
        """The same numbers for every replica, which come last."""
        return np.repeat(vector[..., None], self.replicas, axis=-1)

    def _perturb_shared(self, generators: Generators, values: Floats) -> Floats:
        values = np.array(values, dtype=np.float64)
        noisy_kernels.perturb(values, generators, self.stored.shared_u, self.stored.shared_tiny)
        return values
