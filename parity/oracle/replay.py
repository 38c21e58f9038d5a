"""Replaying recorded graphs exactly, which gives *expected*; `parity.oracle.noisy_replay` does the same with noise.

Both work on flat arrays: the parameters in the order of `Config.shapes`, each tensor row by row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.number_formats import Floats
from parity.oracle import exact_kernels as kernels
from parity.oracle.adam import record_update
from parity.oracle.graph import record
from parity.oracle.program import Program, compile_graph
from parity.tensors import TensorViews, named_state, vectors
from reference.config import Config, Hyper, State, Step

Gates = Sequence[NDArray[np.int8]]
"""What each document's ReLUs do, by slot: NATURAL, CLOSED or OPEN, as `parity.oracle.exact_kernels` says."""


@lru_cache(maxsize=4096)
def program(config: Config, n: int) -> Program:
    """The program of a document with n positions, recorded once for all configs that differ in no operation."""
    return _program(replace(config, block_size=n, init_std=0.0, zero_init_projections=False), n)


@lru_cache(maxsize=1024)
def _program(config: Config, n: int) -> Program:
    return compile_graph(record(config, n))


@lru_cache(maxsize=4096)
def _leaves(config: Config, n: int) -> tuple[tuple[slice, slice], ...]:
    """Where the parameters other than wte lie: in the slots of a document, and in the vector of all."""
    own, whole = n * config.n_embd, config.vocab_size * config.n_embd
    rest = whole + config.block_size * config.n_embd
    leaves = 2 * own + config.num_params() - rest
    return (slice(own, 2 * own), slice(whole, whole + own)), (slice(2 * own, leaves), slice(rest, None))


class DocumentReplay:
    """One document on its program: values and gradients of all slots, (slots,) or with replicas (slots, R)."""

    def __init__(self, config: Config, tokens: Sequence[int], shape: tuple[int, ...] = ()) -> None:
        self.n = min(config.block_size, len(tokens) - 1)
        self.program = program(config, self.n)
        self.inputs = list(tokens[: self.n])
        self.targets = np.array(tokens[1 : self.n + 1], dtype=np.int64)
        self.vocabulary = (config.vocab_size, config.n_embd)
        self.places = _leaves(config, self.n)
        self.values = np.empty((self.program.slots, *shape))
        self.grads = np.empty((self.program.slots, *shape))
        self.gates = np.zeros(self.program.slots, dtype=np.int8)

    def put(self, params: Floats) -> None:
        """Fill the slots of the parameters, those of wte with the rows of the tokens."""
        rows, columns = self.vocabulary
        for slots, elements in self.places:
            self.values[slots] = params[elements]
        wte = params[: rows * columns].reshape(rows, columns, *params.shape[1:])
        self.values[: self.n * columns] = wte[self.inputs].reshape(self.n * columns, *params.shape[1:])

    def start_backward(self, seed: float, grads: Floats) -> None:
        """Set the gradient of the loss, and those of the parameters to what other documents added up so far."""
        self.grads[:] = 0.0
        for slots, elements in self.places:
            self.grads[slots] = grads[elements]
        self.grads[self.program.loss] = seed

    def collect(self, grads: Floats) -> Iterable[tuple[Floats, Floats]]:
        """Take the gradients of the parameters back; yields pairs of a row of wte and what to add to it."""
        columns = self.vocabulary[1]
        for slots, elements in self.places:
            grads[elements] = self.grads[slots]
        for position in self.program.wte_order:
            token = self.inputs[position]
            own = slice(position * columns, (position + 1) * columns)
            yield grads[token * columns : (token + 1) * columns], self.grads[own]

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What both directions of a kernel need besides the code."""
        p = self.program
        return p.table, p.consts, self.gates, self.targets, p.exps

    def decisions(self) -> NDArray[np.int8]:
        """The gates as this document's exact values decide them."""
        slots, inputs = self.program.relus.T
        natural = np.where(self.values[inputs] > 0, kernels.OPEN, kernels.CLOSED)
        gates = self.gates.copy()
        gates[slots] = np.where(gates[slots] == kernels.NATURAL, natural, gates[slots])
        return gates

    def sites(self, array: Floats) -> dict[str, list[Floats]]:
        """The values, or gradients, of the named intermediates; those of probs are not slots."""
        return {site: [array[slots] for slots in entries] for site, entries in self.program.sites.items()}

    def exps(self, position: int) -> NDArray[np.int64]:
        """The slots of the exponentials of the softmax over the vocabulary."""
        return np.asarray(self.program.exp_slots[position])

    def probability_grads(self) -> list[Floats]:
        """The gradients of the probabilities of each position: only the target's is not zero."""
        grads = []
        for position, target in enumerate(self.targets):
            grads.append(np.zeros((self.vocabulary[0], *self.grads.shape[1:])))
            grads[-1][target] = self.grads[self.program.target_muls[position]]
        return grads


@dataclass
class Outcome:
    """What one step computed on flat arrays: exactly, or with noise; every shape then ends with the replicas, R."""

    before: Floats
    """Parameters, m and v, (3, elements)."""
    documents: list[DocumentReplay]
    """All values and gradients of each document."""
    loss: Floats
    """The mean of the documents' losses, ()."""
    grads: Floats
    """(elements,)"""
    after: Floats
    """Parameters, m and v after the update, (3, elements)."""
    probs: list[Floats]
    """The probabilities of each position of each document, (vocab_size,); empty where no sites were asked for."""

    def as_step(self, config: Config, sites: bool) -> Step:
        """The step by name; sites and their gradients where asked for."""
        step = Step(
            loss=self.loss if self.loss.ndim else float(self.loss),
            logits=[document.values[document.program.logits] for document in self.documents],
            grads=TensorViews(config, self.grads),
            params=TensorViews(config, self.after[0]),
            m=TensorViews(config, self.after[1]),
            v=TensorViews(config, self.after[2]),
        )
        if sites:
            values = [document.sites(document.values) for document in self.documents]
            grads = [document.sites(document.grads) for document in self.documents]
            step.sites, step.site_grads = (
                {site: [entry for document in all_sites for entry in document[site]] for site in all_sites[0]}
                for all_sites in (values, grads)
            )
            step.sites["probs"] = self.probs
            step.site_grads["probs"] = [g for document in self.documents for g in document.probability_grads()]
            for tapped in (step.sites, step.site_grads):
                tapped["loss"] = tapped.pop("loss")  # in the order of execution: probs before loss
        return step


class Replay:
    """The reference replayed exactly: the same bits, and the same interface, as `parity.subjects.subject.Reference`."""

    dtype = "float64"

    def __init__(self, config: Config, hyper: Hyper) -> None:
        self.config, self.hyper = config, hyper
        self.expose_sites = False

    def load(self, state: State) -> None:
        """Start from this state."""
        self.tensors, self.number = vectors(self.config, state), state.step

    @property
    def state(self) -> State:
        """Where the run stands; the tensors are arrays."""
        return named_state(self.config, self.tensors, self.number)

    def train_step(self, batch: list[list[int]], gates: Gates | None = None) -> Step | None:
        """The step, None where Python would have raised in it. gates: forced decisions of ReLUs."""
        outcome = self.outcome(batch, gates)
        if outcome is None:
            return None
        self.move_on(outcome)
        return outcome.as_step(self.config, self.expose_sites)

    def move_on(self, outcome: Outcome) -> None:
        """Go to where a step led."""
        self.tensors, self.number = outcome.after, self.number + 1

    def outcome(self, batch: list[list[int]], gates: Gates | None = None) -> Outcome | None:
        """One step, without moving on."""
        params = self.tensors[0]
        documents = [DocumentReplay(self.config, tokens) for tokens in batch]
        force(documents, gates)
        for document in documents:
            document.put(params)
            if not kernels.forward(document.values, document.program.forward, *document.arguments):
                return None
        losses = [document.values[document.program.loss] for document in documents]
        total = 0.0
        for loss in losses:
            total += loss
        share = 1 / len(batch)
        grads = np.zeros_like(params)
        for document in reversed(documents):
            document.start_backward(share, grads)
            kernels.backward(document.values, document.grads, document.program.backward, *document.arguments)
            for row, own in document.collect(grads):
                row += own
        after = self.adam(self.number, self.tensors, grads)
        if after is None:
            return None
        probs = []
        if self.expose_sites:
            probs = [
                document.values[document.exps(position)] * document.values[pow_slot]
                for document in documents
                for position, pow_slot in enumerate(document.program.pows)
            ]
        return Outcome(self.tensors, documents, np.array(share * total), grads, after, probs)

    def adam(self, number: int, before: Floats, grads: Floats) -> Floats | None:
        """The update alone, of parameters, m and v, (3, elements), by gradients, (elements,); None as in outcome."""
        update = record_update(self.hyper, number)
        after = np.empty_like(before)
        fine = kernels.apply_update(update.code, update.exact, update.results, before, grads, after)
        return after if fine else None


def force(documents: Sequence[DocumentReplay], gates: Gates | None) -> None:
    """Set the gates of all documents."""
    if gates is not None:
        for document, forced in zip(documents, gates, strict=True):
            document.gates = forced
