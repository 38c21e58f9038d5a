"""Turning a recorded graph into a short program for the kernels, without changing a bit of what it computes.

A sum of products becomes one DOT, any other sum of many terms one SUM. Operations are then put in an order that
brings equal ones together, and runs of equal ones whose operands lie at constant distances become one instruction.
Two things must stay as recorded: a node is computed before it is used, and the contributions to each gradient are
added up in the order in which the reference adds them. Everything else is free, and does not change the result.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from parity.number_formats import Floats
from parity.oracle import compiler_passes as passes
from parity.oracle.graph import LEAF, RELU, Graph
from parity.oracle.instructions import DOT_TARGET, GATHER, LEFT, MUL_TARGET, OP, POSITION, RIGHT
from reference.config import Config

_Integers = NDArray[np.int64]


@dataclass
class Program:
    """A compiled graph.

    Slots hold values, and in another array gradients: first the parameters, tensor after tensor in the order of
    `Config.shapes` except that wte and wpe have one row for each position, then everything that is computed.
    """

    config: Config
    n: int
    """How many positions the document has."""
    slots: int
    """How many slots there are."""
    forward: _Integers
    """(instructions, COLUMNS), as `parity.oracle.instructions` says; fills the slots of values."""
    backward: _Integers
    """The same for the slots of gradients."""
    table: _Integers
    """The slots of operands that follow no rule (see GATHER), forward and backward; and a 0, lest it be empty."""
    consts: Floats
    """The constant of the operation behind each slot, (slots,); 0 where it has none."""
    loss: int
    """Its slot."""
    logits: _Integers
    """Their slots, (n, vocab_size)."""
    site_shapes: dict[str, list[tuple[int, ...]]]
    """The shape of every named intermediate but probs, position by position."""
    site_slots: dict[str, _Integers]
    """Their slots in one vector; see `sites`."""
    relus: _Integers
    """The slots of each ReLU and of its input, (ReLUs, 2)."""
    exps: _Integers
    """Of each position's softmax over the vocabulary the slot of the first exponential, and the distance from each to
    the next, (n, 2)."""
    pows: _Integers
    """The slot of 1 / total of each position's softmax over the vocabulary, (n,)."""
    target_muls: _Integers
    """The slot of each position's probability of its target, (n,): of all products with 1 / total the only one that is
    computed."""
    attention: _Integers
    """Of each softmax of the attention the slot of its total, in order, that of the negative maximum of its scores,
    and those of the head's outputs, (softmaxes, 2 + head_dim)."""
    wte_order: list[int]
    """Positions, in the order in which the gradients of their open rows are added to those of wte."""
    nodes: int
    """How many scalar operations were recorded."""

    @cached_property
    def sites(self) -> dict[str, list[_Integers]]:
        """The slots of every named intermediate, position by position."""
        return {site: _parts(self.site_slots[site], shapes) for site, shapes in self.site_shapes.items()}

    @cached_property
    def heads(self) -> _Integers:
        """The slots of the outputs of heads, in order, and of each its softmax, a row of attention, (outputs, 2)."""
        outputs = self.attention[:, 2:]
        found = np.stack([outputs.ravel(), np.repeat(np.arange(len(outputs)), outputs.shape[1])], axis=1)
        return np.ascontiguousarray(found[np.argsort(found[:, 0])])

    @cached_property
    def exp_slots(self) -> _Integers:
        """The slots of the exponentials of each position's softmax over the vocabulary, (n, vocab_size)."""
        return self.exps[:, :1] + self.exps[:, 1:] * np.arange(self.config.vocab_size)

    @cached_property
    def looked_at(self) -> tuple[_Integers, _Integers]:
        """The slots whose values, and those whose gradients, tell what a step without its sites gives, in order."""
        return np.unique(np.concatenate([self.logits.ravel(), self.relus[:, 1]])), np.unique(self.relus[:, 0])

    @cached_property
    def looked_at_with_sites(self) -> tuple[_Integers, _Integers]:
        """The same of a step with its sites."""
        values, grads = self.looked_at
        sites = self.site_slots.values()
        return (
            np.unique(np.concatenate([values, *sites, self.exp_slots.ravel(), self.pows])),
            np.unique(np.concatenate([grads, *sites, self.target_muls])),
        )


def _parts(slots: _Integers, shapes: list[tuple[int, ...]]) -> list[_Integers]:
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
    return [slots[start:end].reshape(shape) for (start, end), shape in zip(pairwise(ends), shapes, strict=True)]


def compile_graph(graph: Graph) -> Program:
    """The program of a graph."""
    tape, nodes = graph.tape, len(graph.tape.op)
    op, left, right = (np.array(column, dtype=np.int64) for column in (tape.op, tape.left, tape.right))
    edges, operands = np.divmod(np.array(tape.edges), 2)
    const = np.zeros(nodes)
    const[list(tape.consts.keys())] = list(tape.consts.values())
    kept = np.zeros(nodes, dtype=bool)
    for site_nodes in graph.site_nodes.values():
        kept[site_nodes] = True
    groups = np.array([node for group in tape.groups for node in group], dtype=np.int64)
    starts = np.cumsum([0, *map(len, tape.groups)])
    ops, ends, bounds, lefts, rights, owner = passes.fused(op, left, right, const, edges, groups, starts, kept)

    probs = np.array(graph.site_nodes["probs"], dtype=np.int64).reshape(graph.n, -1)
    positions = np.full(len(ops), -1)
    ops[owner[probs[:, 0]]], positions[owner[probs[:, 0]]] = MUL_TARGET, np.arange(graph.n)
    leaves = int(np.count_nonzero(op == LEAF))
    pairs = passes.forward_dependencies(bounds, lefts, rights, owner)
    forward = passes.ordered(np.arange(len(ops)), pairs, _kinds(ops, bounds))
    slot = np.full(nodes, -1)
    slot[:leaves] = np.arange(leaves)
    slot[ends[forward]] = leaves + np.arange(len(ops))
    places = slot[ends], bounds, slot[lefts], slot[rights]
    forward_code, table = passes.assembled(forward, ops, positions, *places)

    logits = np.array(graph.logits, dtype=np.int64)
    for position, row in enumerate(logits):
        of_row = owner[row][ends[owner[row]] == row]
        ops[of_row], positions[of_row] = DOT_TARGET, position
    children = np.where(operands == 0, left[edges], right[edges])
    sequence, pairs, pieces = passes.backward_dependencies(edges, children, owner, len(ops))
    assert len(np.unique(pieces)) == len(pieces), "a sum would add to a gradient in two pieces"
    backward = passes.ordered(sequence, pairs, _kinds(ops, bounds, positions))
    backward_code, backward_table = passes.assembled(backward, ops, positions, *places)
    gathers = backward_code[:, GATHER] == 1
    backward_code[gathers, LEFT] += len(table)
    backward_code[gathers, RIGHT] += len(table)
    rows = backward_code[backward_code[:, OP] == DOT_TARGET]
    assert sorted(rows[:, POSITION]) == list(range(graph.n)), "each position's logits must be one instruction"
    assert len(forward) == len(ops), "the operations depend on each other in a circle"
    assert len(backward) == len(sequence), "the operations depend on each other in a circle"

    exps = slot[left[probs]]
    assert all(len(set(np.diff(row))) <= 1 for row in exps), "the exponentials of a softmax must be evenly spaced"
    consts = np.zeros(leaves + len(ops))
    consts[slot[ends]] = const[ends]
    relus = ends[ops == RELU]
    first = children[(children < graph.params["wpe"]) & (children % graph.config.n_embd == 0)]
    return Program(
        config=graph.config,
        n=graph.n,
        slots=len(consts),
        forward=forward_code,
        backward=backward_code,
        table=np.concatenate([table, backward_table, [0]]),
        consts=consts,
        loss=int(slot[graph.loss]),
        logits=slot[logits],
        site_shapes={site: shapes for site, shapes in graph.sites.items() if site != "probs"},
        site_slots={site: slot[nodes] for site, nodes in graph.site_nodes.items() if site != "probs"},
        relus=np.stack([slot[relus], slot[left[relus]]], axis=1),
        exps=np.stack([exps[:, 0], (exps[:, -1] - exps[:, 0]) // max(1, exps.shape[1] - 1)], axis=1),
        pows=slot[right[probs[:, 0]]],
        target_muls=slot[probs[:, 0]],
        attention=_attention(graph, slot, left, right),
        wte_order=(first // graph.config.n_embd).tolist(),
        nodes=nodes - leaves,
    )


def _attention(graph: Graph, slot: _Integers, left: _Integers, right: _Integers) -> _Integers:
    config, rows = graph.config, []
    for layer in range(config.n_layer):
        weights = _parts(
            np.array(graph.site_nodes[f"layer{layer}.attn.weights"]), graph.sites[f"layer{layer}.attn.weights"]
        )
        heads = np.array(graph.site_nodes[f"layer{layer}.attn.heads"]).reshape(graph.n, config.n_head, config.head_dim)
        for at, outputs in zip(weights, heads, strict=True):
            totals = left[right[at[:, :1]]]  # a weight is an exponential times total ** -1
            maxima = right[left[left[at[:, :1]]]]  # and the exponential is of a score and the negative maximum
            rows.append(slot[np.concatenate([totals, maxima, outputs], axis=1)])
    found = np.concatenate(rows)
    return np.ascontiguousarray(found[np.argsort(found[:, 0])])


def _kinds(ops: _Integers, bounds: _Integers, positions: _Integers | None = None) -> _Integers:
    """Numbers for what must be equal for operations to be parts of one instruction."""
    sizes = np.diff(bounds[:, 0])
    kinds = ops * (sizes.max() + 1) + sizes
    if positions is not None:
        kinds = kinds * (positions.max() + 2) + positions + 1
    numbers: _Integers = np.unique(kinds, return_inverse=True)[1]
    return numbers
