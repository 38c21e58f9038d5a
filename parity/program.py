"""Turning a recorded graph into a short program for `parity.kernels`, without changing a bit of what it computes.

A sum of products becomes one DOT, any other sum of many terms one SUM. Operations are then put in an order that
brings equal ones together, and runs of equal ones whose operands lie at constant distances become one instruction.
Two things must stay as recorded: a node is computed before it is used, and the contributions to each gradient are
added up in the order in which the reference adds them. Everything else is free, and does not change the result.
"""

import heapq
import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.graph import ADD, ADD_CONST, LEAF, MUL, NEG_MAX, RELU, Graph
from reference.config import Config

DOT, SUM, DOT_TARGET, MUL_TARGET = range(11, 15)
"""Operations beyond those of the tape; the last two depend on the target of their position."""

# The columns of an instruction. It is done COUNT times; the places of its result and operands move on by D_DST,
# D_LEFT and D_RIGHT each time. An operand is SIZE slots, S_LEFT or S_RIGHT apart; with GATHER they follow no rule,
# and LEFT and RIGHT point to SIZE entries of a table instead.
OP, COUNT, DST, D_DST, LEFT, D_LEFT, RIGHT, D_RIGHT, SIZE, S_LEFT, S_RIGHT, GATHER, POSITION = range(13)

Integers = NDArray[np.int64]


@dataclass
class Operation:
    """One operation on nodes: dst = op(left, right)."""

    op: int
    dst: int
    left: list[int]
    right: list[int]
    position: int = -1

    @property
    def kind(self) -> tuple[int, int]:
        """What must be equal for two operations to be parts of one instruction."""
        return self.op, len(self.left)


@dataclass
class Program:
    """A compiled graph.

    Slots hold values, and in another array gradients: first the parameters, tensor after tensor in the order of
    `Config.shapes` except that wte has one open row for each position, then everything that is computed. forward
    and backward: one instruction a row. table: see GATHER. consts: the constant of the operation behind each slot.
    loss, logits, sites: slots. relus: the slots of each ReLU and of its input. exps: the first
    exponential and their distance, for each position's softmax.
    pows: 1 / total of each position's softmax. wte_order: positions, in the order in which the gradients of their
    open rows are added to those of wte. nodes: how many scalar operations were recorded.
    """

    config: Config
    n: int
    slots: int
    params: dict[str, slice]
    forward: Integers
    backward: Integers
    table: Integers
    consts: NDArray[np.float64]
    loss: int
    logits: Integers
    sites: dict[str, list[Integers]]
    relus: Integers
    exps: Integers
    pows: Integers
    wte_order: list[int]
    nodes: int


def compile_graph(graph: Graph) -> Program:
    """The program of a graph."""
    operations, owner = _fused(graph)
    leaves = graph.tape.op.count(LEAF)
    forward = _forward_order(operations, owner)
    slot = dict(zip(range(leaves), range(leaves), strict=True))
    for i in forward:
        slot[operations[i].dst] = len(slot)
    table: list[int] = []
    forward_code = _assembled((operations[i] for i in forward), slot, table)
    position_of_logit = {node: position for position, row in enumerate(graph.logits) for node in row}
    for operation in operations:
        if operation.dst in position_of_logit:
            operation.op, operation.position = DOT_TARGET, position_of_logit[operation.dst]
    backward = _backward_order(graph, operations, owner)
    backward_code = _assembled((operations[i] for i in backward), slot, table)
    rows = backward_code[backward_code[:, OP] == DOT_TARGET]
    assert sorted(rows[:, POSITION]) == list(range(graph.n)), "each position's logits must be one instruction"
    consts = np.zeros(len(slot))
    for operation in operations:
        consts[slot[operation.dst]] = graph.tape.const[operation.dst]
    ends = [*list(graph.params.values())[1:], leaves]
    targets = [operations[owner[row[0]]] for row in graph.sites["probs"]]
    exps = [[slot[graph.tape.left[node]] for node in row] for row in graph.sites["probs"]]
    assert all(len(set(np.diff(row))) <= 1 for row in exps), "the exponentials of a softmax must be evenly spaced"
    return Program(
        config=graph.config,
        n=graph.n,
        slots=len(slot),
        params={name: slice(start, end) for (name, start), end in zip(graph.params.items(), ends, strict=True)},
        forward=forward_code,
        backward=backward_code,
        table=np.array(table or [0], dtype=np.int64),
        consts=consts,
        loss=slot[graph.loss],
        logits=_slots(graph.logits, slot),
        sites={
            site: [_slots(entry, slot) for entry in entries] for site, entries in graph.sites.items() if site != "probs"
        },
        relus=_slots([[op.dst, *op.left] for op in operations if op.op == RELU], slot).reshape(-1, 2),
        exps=np.array([[row[0], row[1] - row[0] if len(row) > 1 else 0] for row in exps], dtype=np.int64),
        pows=_slots([operation.right[0] for operation in targets], slot),
        wte_order=_wte_order(graph),
        nodes=len(graph.tape.op) - leaves,
    )


def _slots(nested: Any, slot: dict[int, int]) -> Integers:
    if isinstance(nested, int):
        return np.array(slot[nested], dtype=np.int64)
    return np.array([_slots(entry, slot) for entry in nested], dtype=np.int64)


def _fused(graph: Graph) -> tuple[list[Operation], dict[int, int]]:
    """The operations that the loss depends on, sums in one piece, and the operation that each node belongs to."""
    tape = graph.tape
    alive = sorted({node for node, _ in tape.edges} | {node for node, op in enumerate(tape.op) if op == NEG_MAX})
    uses: dict[int, int] = defaultdict(int)
    for node in alive:
        if tape.op[node] != NEG_MAX:
            uses[tape.left[node]] += 1
            uses[tape.right[node]] += 1
    kept = set(_flat(graph.sites.values()))

    def inner(node: int) -> bool:
        return uses[node] == 1 and node not in kept

    # chains: from the last node of a sum so far to its terms; a term is the node of a product, or any other.
    chains: dict[int, list[int]] = {}
    for node in alive:
        left, right = tape.left[node], tape.right[node]
        if tape.op[node] == ADD_CONST and tape.const[node] == 0.0:
            chains[node] = [left]
        elif tape.op[node] == ADD and left in chains and inner(left):
            product = tape.op[chains[left][0]] == MUL and inner(chains[left][0])
            if not product or (tape.op[right] == MUL and inner(right)):
                chains[node] = [*chains.pop(left), right] if len(chains[left]) == 1 else _extended(chains, left, right)
    operations: list[Operation] = []
    owner: dict[int, int] = {}
    inside: dict[int, int] = {}  # from a node within a sum to the last node of that sum
    for last, terms in chains.items():
        product = tape.op[terms[0]] == MUL and inner(terms[0])
        node = last
        for _ in terms[1:]:
            node = tape.left[node]
            inside[node] = last
        if product:
            inside.update(dict.fromkeys(terms, last))
    probs = {row[0]: position for position, row in enumerate(graph.sites["probs"])}
    for node in alive:
        if node in inside:
            continue
        owner[node] = len(operations)
        if node in chains:
            terms = chains[node]
            if terms[0] in inside:
                left_nodes, right_nodes = [tape.left[t] for t in terms], [tape.right[t] for t in terms]
                operations.append(Operation(DOT, node, left_nodes, right_nodes))
            else:
                operations.append(Operation(SUM, node, terms, []))
        elif tape.op[node] == NEG_MAX:
            operations.append(Operation(NEG_MAX, node, tape.groups[tape.right[node]], []))
        else:
            right_nodes = [tape.right[node]] if tape.right[node] >= 0 else []
            operation = Operation(tape.op[node], node, [tape.left[node]], right_nodes)
            if node in probs:
                operation.op, operation.position = MUL_TARGET, probs[node]
            operations.append(operation)
    owner.update({node: owner[last] for node, last in inside.items()})
    return operations, owner


def _extended(chains: dict[int, list[int]], left: int, right: int) -> list[int]:
    terms = chains.pop(left)
    terms.append(right)
    return terms


def _flat(nested: Any) -> Iterator[int]:
    if isinstance(nested, int):
        yield nested
    else:
        for entry in nested:
            yield from _flat(entry)


def _forward_order(operations: Sequence[Operation], owner: dict[int, int]) -> list[int]:
    before = [
        {owner[node] for node in (*operation.left, *operation.right) if node in owner} for operation in operations
    ]
    return _ordered(range(len(operations)), before, [operation.kind for operation in operations])


def _backward_order(graph: Graph, operations: Sequence[Operation], owner: dict[int, int]) -> list[int]:
    """Operations in an order that adds every gradient up as the reference does."""
    tape = graph.tape
    first: dict[int, int] = {}
    last: dict[int, int] = {}  # the latest operation that contributed to a node
    before: list[set[int]] = [set() for _ in operations]
    done: set[tuple[int, int]] = set()
    for node, operand in tape.edges:
        by = owner[node]
        first.setdefault(by, len(first))
        child = tape.left[node] if operand == 0 else tape.right[node]
        if owner.get(child) == by:  # within a sum
            continue
        if last.get(child, by) != by:
            assert (child, by) not in done, "a sum would add to a gradient in two pieces"
            before[by].add(last[child])
        last[child] = by
        done.add((child, by))
    for child, by in last.items():
        if child in owner:
            before[owner[child]].add(by)
    kinds = [(*operation.kind, operation.position) for operation in operations]
    return _ordered(first, before, kinds)


def _ordered(sequence: Iterable[int], before: Sequence[set[int]], kinds: Sequence[Hashable]) -> list[int]:
    """The sequence with as many as possible of one kind in a row, each after all that must come before it."""
    rank = {i: number for number, i in enumerate(sequence)}
    waiting = {i: len(before[i]) for i in rank}
    after: dict[int, list[int]] = defaultdict(list)
    for i in rank:
        for earlier in before[i]:
            after[earlier].append(i)
    ready: dict[Hashable, list[tuple[int, int]]] = defaultdict(list)
    for i, number in waiting.items():
        if number == 0:
            heapq.heappush(ready[kinds[i]], (rank[i], i))
    order: list[int] = []
    while ready:
        kind = min(ready, key=lambda kind: ready[kind][0])
        while ready[kind]:
            _, i = heapq.heappop(ready[kind])
            order.append(i)
            for later in after[i]:
                waiting[later] -= 1
                if waiting[later] == 0:
                    heapq.heappush(ready[kinds[later]], (rank[later], later))
        del ready[kind]
    assert len(order) == len(rank), "the operations depend on each other in a circle"
    return order


def _assembled(operations: Iterable[Operation], slot: dict[int, int], table: list[int]) -> Integers:
    """Instructions for operations on nodes, runs of equal ones as one."""
    code: list[list[int]] = []
    previous: tuple[Any, ...] = ()
    for operation in operations:
        dst = slot[operation.dst]
        left = [slot[node] for node in operation.left]
        right = [slot[node] for node in operation.right]
        s_left, s_right = _stride(left), _stride(right)
        gather = s_left is None or s_right is None
        if gather:  # the shape of both operands, from their first places on
            shape: tuple[Any, ...] = (tuple(p - left[0] for p in left), tuple(p - right[0] for p in right))
        else:
            shape = (s_left, s_right)
        places = (dst, left[0], right[0] if right else 0)
        same = previous and previous[0] == (operation.kind, operation.position, shape)
        if same and operation.op != MUL_TARGET:
            row, moves = code[-1], [now - then for now, then in zip(places, previous[1], strict=True)]
            if row[COUNT] == 1 or moves == [row[D_DST], row[D_LEFT], row[D_RIGHT]]:
                row[COUNT] += 1
                row[D_DST], row[D_LEFT], row[D_RIGHT] = moves
                previous = (previous[0], places)
                continue
        row = [0] * 13
        row[OP], row[COUNT], row[DST], row[SIZE] = operation.op, 1, dst, len(left)
        row[LEFT], row[RIGHT], row[GATHER], row[POSITION] = places[1], places[2], int(gather), operation.position
        if gather:
            row[LEFT], row[RIGHT] = len(table), len(table) + len(left)
            table += left + right
        else:
            row[S_LEFT], row[S_RIGHT] = s_left or 0, s_right or 0
        code.append(row)
        previous = ((operation.kind, operation.position, shape), places)
    return np.array(code, dtype=np.int64)


def _stride(places: Sequence[int]) -> int | None:
    """The constant distance of places, None if it is not constant."""
    if len(places) < 2:
        return 0
    stride = places[1] - places[0]
    return stride if all(b - a == stride for a, b in itertools.pairwise(places)) else None


def _wte_order(graph: Graph) -> list[int]:
    tape, start, columns = graph.tape, graph.params["wte"], graph.config.n_embd
    first = {start + position * columns: position for position in range(graph.n)}
    children = ((tape.left if operand == 0 else tape.right)[node] for node, operand in tape.edges)
    return [first[child] for child in children if child in first]
