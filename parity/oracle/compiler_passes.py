"""The passes of `parity.oracle.program.compile_graph`: fusing sums, putting operations in order, and assembling."""

from heapq import heappop, heappush
from typing import Any

import numpy as np

from parity.machine_code import compiled
from parity.oracle.graph import ADD, ADD_CONST, MUL, NEG_MAX
from parity.oracle.instructions import (
    COLUMNS,
    COUNT,
    D_DST,
    D_LEFT,
    D_RIGHT,
    DOT,
    DST,
    GATHER,
    LEFT,
    MUL_TARGET,
    OP,
    POSITION,
    RIGHT,
    S_LEFT,
    S_RIGHT,
    SIZE,
    SUM,
)


@compiled
def fused(op: Any, left: Any, right: Any, const: Any, edges: Any, groups: Any, starts: Any, kept: Any) -> Any:
    """The operations that the loss depends on, sums in one piece.

    op, left, right, const: of each node. edges: the nodes that gradients flow from. groups, starts: the nodes of each
    group of a NEG_MAX. kept: whether a node must stay an operation of its own. Returns for each operation its op, its
    last node, and where its operands begin and end among the left ones and the right ones, which follow; and the
    operation that each node belongs to, -1 if none.
    """
    nodes = len(op)
    alive = np.zeros(nodes, dtype=np.bool_)
    for node in edges:
        alive[node] = True
    uses = np.zeros(nodes, dtype=np.int64)
    for node in range(nodes):
        if op[node] == NEG_MAX:
            alive[node] = True
        elif alive[node]:
            uses[left[node]] += 1
            if right[node] >= 0:
                uses[right[node]] += 1
    inner = np.zeros(nodes, dtype=np.bool_)
    for node in range(nodes):
        inner[node] = uses[node] == 1 and not kept[node]

    # Chains of additions: for the last node of each so far its number of terms (0 for a node that is no such end), its
    # first term, and whether the terms are products of its own. The last term of a node is its right operand.
    terms = np.zeros(nodes, dtype=np.int64)
    first = np.full(nodes, -1)
    products = np.zeros(nodes, dtype=np.bool_)
    inside = np.full(nodes, -1)  # the last node of the sum that a node is part of
    for node in range(nodes):
        if not alive[node]:
            continue
        before, term = left[node], right[node]
        if op[node] == ADD_CONST and const[node] == 0.0:
            terms[node], first[node] = 1, before
            products[node] = op[before] == MUL and inner[before]
        elif (
            op[node] == ADD
            and terms[before]
            and inner[before]
            and (not products[before] or (op[term] == MUL and inner[term]))
        ):
            terms[node], first[node], products[node] = terms[before] + 1, first[before], products[before]
            terms[before] = 0
    for last in range(nodes):
        node = last
        for _ in range(terms[last] - 1):
            if products[last]:
                inside[right[node]] = last
            node = left[node]
            inside[node] = last
        if terms[last] and products[last]:
            inside[first[last]] = last

    owner = np.full(nodes, -1)
    ops, ends = np.empty(nodes, dtype=np.int64), np.empty(nodes, dtype=np.int64)
    bounds = np.zeros((nodes + 1, 2), dtype=np.int64)
    lefts, rights = np.empty(nodes + len(groups), dtype=np.int64), np.empty(nodes + len(groups), dtype=np.int64)
    number = n_left = n_right = 0
    for node in range(nodes):
        if not alive[node] or inside[node] >= 0:
            continue
        size = terms[node]
        if size:
            ops[number] = DOT if products[node] else SUM
            at = node
            for j in range(size - 1, -1, -1):
                term = right[at] if j else first[node]
                lefts[n_left + j] = left[term] if products[node] else term
                if products[node]:
                    rights[n_right + j] = right[term]
                at = left[at]
            n_left += size
            n_right += size if products[node] else 0
        elif op[node] == NEG_MAX:
            ops[number] = NEG_MAX
            for j in range(starts[right[node]], starts[right[node] + 1]):
                lefts[n_left] = groups[j]
                n_left += 1
        else:
            ops[number] = op[node]
            lefts[n_left] = left[node]
            n_left += 1
            if right[node] >= 0:
                rights[n_right] = right[node]
                n_right += 1
        owner[node], ends[number] = number, node
        number += 1
        bounds[number, 0], bounds[number, 1] = n_left, n_right
    for node in range(nodes):
        if inside[node] >= 0:
            owner[node] = owner[inside[node]]
    return ops[:number], ends[:number], bounds[: number + 1], lefts[:n_left], rights[:n_right], owner


@compiled
def forward_dependencies(bounds: Any, lefts: Any, rights: Any, owner: Any) -> Any:
    """Pairs of operations, the first of which must come before the second: an operand before its use."""
    pairs = np.empty((len(lefts) + len(rights), 2), dtype=np.int64)
    number = 0
    for i in range(len(bounds) - 1):
        for side, operands in enumerate((lefts, rights)):
            for j in range(bounds[i, side], bounds[i + 1, side]):
                if owner[operands[j]] >= 0:
                    pairs[number, 0], pairs[number, 1] = owner[operands[j]], i
                    number += 1
    return pairs[:number]


@compiled
def backward_dependencies(edges: Any, children: Any, owner: Any, operations: int) -> Any:
    """What makes every gradient add up as in the reference, given the edges (node, child) in the order of its own.

    Returns the operations in the order in which the edges reach them; pairs of operations, the first before the
    second; and for each piece that an operation adds to a node's gradient a number, the same for two pieces of one
    operation and node.
    """
    sequence, reached = np.empty(operations, dtype=np.int64), np.zeros(operations, dtype=np.bool_)
    last = np.full(len(owner), -1)  # the latest operation that contributed to a node
    pairs, pieces = np.empty((len(edges) + len(owner), 2), dtype=np.int64), np.empty(len(edges), dtype=np.int64)
    number = length = contributions = 0
    for i in range(len(edges)):
        by, child = owner[edges[i]], children[i]
        if not reached[by]:
            reached[by] = True
            sequence[length] = by
            length += 1
        if owner[child] == by or last[child] == by:  # within a sum, or of the same piece
            continue
        if last[child] >= 0:
            pairs[number, 0], pairs[number, 1] = last[child], by
            number += 1
        last[child] = by
        pieces[contributions] = child * operations + by
        contributions += 1
    for child in range(len(owner)):
        if last[child] >= 0 and owner[child] >= 0:
            pairs[number, 0], pairs[number, 1] = last[child], owner[child]
            number += 1
    return sequence[:length], pairs[:number], pieces[:contributions]


@compiled
def ordered(sequence: Any, pairs: Any, kinds: Any) -> Any:
    """The sequence with as many as possible of one kind in a row, each after all that must come before it.

    kinds: of each operation, numbered from 0. Among the kinds of which one is ready, it is the turn of the one whose
    first comes first in the sequence; and within a kind they come in the sequence's order, from a binary heap.
    """
    operations = len(kinds)
    rank = np.full(operations, -1)
    for i in range(len(sequence)):
        rank[sequence[i]] = i
    waiting, starts = np.zeros(operations, dtype=np.int64), np.zeros(operations + 1, dtype=np.int64)
    for i in range(len(pairs)):
        waiting[pairs[i, 1]] += 1
        starts[pairs[i, 0] + 1] += 1
    starts = np.cumsum(starts)
    after, filled = np.empty(len(pairs), dtype=np.int64), starts[:-1].copy()
    for i in range(len(pairs)):
        after[filled[pairs[i, 0]]] = pairs[i, 1]
        filled[pairs[i, 0]] += 1
    # The ranks of what is ready, a heap for each kind.
    heaps = [[0 for _ in range(0)] for _ in range(kinds.max() + 1)]
    for i in sequence:
        if waiting[i] == 0:
            heappush(heaps[kinds[i]], rank[i])
    order, length = np.empty(len(sequence), dtype=np.int64), 0
    while True:
        kind, least = -1, len(sequence)
        for candidate, heap in enumerate(heaps):
            if len(heap) and heap[0] < least:
                kind, least = candidate, heap[0]
        if kind < 0:
            return order[:length]
        ready = heaps[kind]
        while len(ready):
            i = sequence[heappop(ready)]
            order[length] = i
            length += 1
            for j in range(starts[i], starts[i + 1]):
                later = after[j]
                waiting[later] -= 1
                if waiting[later] == 0:
                    heappush(heaps[kinds[later]], rank[later])


@compiled
def _stride(places: Any) -> Any:
    """The constant distance of places, and whether it is constant."""
    if len(places) < 2:
        return 0, True
    for j in range(2, len(places)):
        if places[j] - places[j - 1] != places[1] - places[0]:
            return 0, False
    return places[1] - places[0], True


@compiled
def _same_shape(places: Any, others: Any) -> Any:
    """Whether places lie as others do, seen from the first of each."""
    same = len(places) == len(others)
    for j in range(len(places) if same else 0):
        same &= places[j] - places[0] == others[j] - others[0]
    return same


@compiled
def assembled(order: Any, ops: Any, positions: Any, results: Any, bounds: Any, lefts: Any, rights: Any) -> Any:
    """Instructions for operations in an order, runs of equal ones as one, and the table that they gather from.

    results, lefts, rights: slots.
    """
    code = np.zeros((len(order), COLUMNS), dtype=np.int64)
    table = np.empty(len(lefts) + len(rights), dtype=np.int64)
    rows = entries = 0
    before = -1
    for i in order:
        left, right = lefts[bounds[i, 0] : bounds[i + 1, 0]], rights[bounds[i, 1] : bounds[i + 1, 1]]
        s_left, regular_left = _stride(left)
        s_right, regular_right = _stride(right)
        gather = not (regular_left and regular_right)
        places = (results[i], left[0], right[0] if len(right) else 0)
        if before >= 0 and ops[i] != MUL_TARGET and ops[i] == ops[before] and positions[i] == positions[before]:
            row = code[rows - 1]
            left_before = lefts[bounds[before, 0] : bounds[before + 1, 0]]
            right_before = rights[bounds[before, 1] : bounds[before + 1, 1]]
            same = len(left) == len(left_before) and gather == row[GATHER]
            if gather:
                same = same and _same_shape(left, left_before) and _same_shape(right, right_before)
            else:
                same = same and row[S_LEFT] == s_left and row[S_RIGHT] == s_right
            moves = (
                places[0] - results[before],
                places[1] - left_before[0],
                places[2] - (right_before[0] if len(right_before) else 0),
            )
            if same and (row[COUNT] == 1 or moves == (row[D_DST], row[D_LEFT], row[D_RIGHT])):
                row[COUNT] += 1
                row[D_DST], row[D_LEFT], row[D_RIGHT] = moves
                before = i
                continue
        row = code[rows]
        rows += 1
        row[OP], row[COUNT], row[SIZE], row[GATHER], row[POSITION] = ops[i], 1, len(left), gather, positions[i]
        row[DST], row[LEFT], row[RIGHT] = places
        if gather:
            row[LEFT], row[RIGHT] = entries, entries + len(left)
            for places_of in (left, right):
                for place in places_of:
                    table[entries] = place
                    entries += 1
        else:
            row[S_LEFT], row[S_RIGHT] = s_left, s_right
        before = i
    return code[:rows], table[:entries]
