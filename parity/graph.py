"""Recording the scalar graph from a run of the reference itself.

`Node` is a `Value` whose data is not a number but a place on a tape: `reference.microgpt.document_loss` runs on
nodes, and `Value.backward` walks them, so that operations, their operands and the order in which gradients are
added up all come from the reference. The graph of a document depends on the config and on its number of positions
n; its tokens only choose the rows of wte and the targets, which stay open here (see `Token`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from reference import microgpt
from reference.config import Config

LEAF, ADD, ADD_CONST, ADD_DETACHED, MUL, MUL_CONST, POW, LOG, EXP, RELU, NEG_MAX = range(11)


@dataclass
class Tape:
    """The nodes in the order of their creation, and the order in which the reference's backward uses them.

    op, left, right, const: one entry per node; right is -1 where there is no second operand, and an index into
    groups for NEG_MAX. edges: (node, operand) in the order in which gradients flow.
    """

    op: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    const: list[float] = field(default_factory=list)
    groups: list[list[int]] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)

    def add(self, op: int, left: int = -1, right: int = -1, const: float = 0.0) -> int:
        """A new node; its index."""
        self.op.append(op)
        self.left.append(left)
        self.right.append(right)
        self.const.append(const)
        return len(self.op) - 1


class Node(microgpt.Value):
    """A scalar of the reference that records what is done to it."""

    __slots__ = ("index", "tape")

    def __init__(self, tape: Tape, index: int, children: tuple["Node", ...] = ()) -> None:
        self.tape = tape
        self.index = index
        self.children = children
        self.grad: Any = None

    def _unary(self, op: int, const: float = 0.0) -> "Node":
        return Node(self.tape, self.tape.add(op, self.index, const=const), (self,))

    def _binary(self, op: int, other: "Node") -> "Node":
        return Node(self.tape, self.tape.add(op, self.index, other.index), (self, other))

    def __add__(self, other: Any) -> "Node":
        if isinstance(other, Node):
            return self._binary(ADD, other)
        if isinstance(other, NegativeMaximum):
            return Node(self.tape, self.tape.add(ADD_DETACHED, self.index, other.index), (self,))
        return self._unary(ADD_CONST, float(other))

    def __mul__(self, other: Any) -> "Node":
        return self._binary(MUL, other) if isinstance(other, Node) else self._unary(MUL_CONST, float(other))

    def __pow__(self, exponent: float) -> "Node":
        return self._unary(POW, float(exponent))

    def log(self) -> "Node":
        """Record a logarithm."""
        return self._unary(LOG)

    def exp(self) -> "Node":
        """Record an exponential."""
        return self._unary(EXP)

    def relu(self) -> "Node":
        """Record a rectifier."""
        return self._unary(RELU)

    __radd__ = __add__
    __rmul__ = __mul__

    @property
    def data(self) -> "Datum":
        """What softmax looks at to find its shift."""
        return Datum(self)

    @property
    def local_grads(self) -> "Node":
        """What backward indexes with the number of the operand."""
        return self

    def __getitem__(self, operand: int) -> float:
        self.tape.edges.append((self.index, operand))
        return 0.0


class Datum:
    """The number in a node as far as max() is concerned: comparing two puts them in one group."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.group = [node.index]
        self.negative: NegativeMaximum | None = None

    def __gt__(self, first: "Datum") -> bool:
        # max() holds on to the first of its items and compares every other one with it.
        first.group.append(self.node.index)
        return False

    def __neg__(self) -> "NegativeMaximum":
        if self.negative is None:
            tape = self.node.tape
            tape.groups.append(self.group)
            self.negative = NegativeMaximum(tape.add(NEG_MAX, right=len(tape.groups) - 1))
        return self.negative


@dataclass(frozen=True)
class NegativeMaximum:
    """Minus the largest of a group of nodes; no gradient flows into it."""

    index: int


class Token(int):
    """A token that is not yet known: it picks its position's own row of wte, and probability 0 as the target."""

    def __new__(cls, position: int) -> "Token":
        """The token at a position."""
        token = super().__new__(cls, 0)
        token.position = position
        return token

    position: int


class OpenRows(list[Any]):
    """The rows of wte, one for each position, until the tokens are known."""

    def __getitem__(self, token: Any) -> Any:
        return super().__getitem__(token.position)


@dataclass
class Graph:
    """What a document of n positions makes of a config.

    params: the first node of every tensor, whose elements follow row by row; wte has n open rows. sites: the
    nodes of every named intermediate, for each position a (nested) list. loss: a node. logits: (n, vocab_size)
    nodes.
    """

    config: Config
    n: int
    tape: Tape
    params: dict[str, int]
    sites: dict[str, list[Any]]
    loss: int
    logits: list[list[int]]


def record(config: Config, n: int) -> Graph:
    """The graph of a document with n positions, forward and backward."""
    tape = Tape()
    params: dict[str, Any] = {}
    starts: dict[str, int] = {}
    for name, (rows, columns) in config.shapes().items():
        starts[name] = len(tape.op)
        rows = n if name == "wte" else rows
        matrix = [[Node(tape, tape.add(LEAF)) for _ in range(columns)] for _ in range(rows)]
        params[name] = OpenRows(matrix) if name == "wte" else matrix
    sites: dict[str, list[Any]] = {}

    def tap(site: str, value: Any) -> Any:
        sites.setdefault(site, []).append(_indices(value))
        return value

    loss, logits = _forward_and_backward([Token(position) for position in range(n + 1)], params, config, tap)
    return Graph(config, n, tape, starts, sites, loss.index, [_indices(row) for row in logits])


@microgpt.without_gc  # type: ignore[untyped-decorator]
def _forward_and_backward(tokens: list[Token], params: dict[str, Any], config: Config, tap: Any) -> Any:
    loss, logits = microgpt.document_loss(tokens, params, config, tap)
    loss.backward()
    return loss, logits


def _indices(nested: Any) -> Any:
    return [_indices(entry) for entry in nested] if isinstance(nested, Iterable) else nested.index
