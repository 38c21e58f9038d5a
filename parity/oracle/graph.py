"""Recording the scalar graph from a run of the reference itself.

`_Node` is a `Value` whose data is not a number but a place on a tape: `reference.microgpt.document_loss` runs on
nodes, and `Value.backward` walks them, so that operations, their operands and the order in which gradients are
added up all come from the reference. The graph of a document depends on the config and on its number of positions
n; its tokens only choose the rows of wte and the targets, which stay open here (see `_Token`).
"""

from array import array
from dataclasses import dataclass, field
from typing import Any

from reference import microgpt
from reference.config import Config

LEAF, ADD, ADD_CONST, ADD_DETACHED, MUL, MUL_CONST, POW, LOG, EXP, RELU, NEG_MAX = range(11)
"""The operations of a tape: a parameter; the sum of two nodes, of a node and a constant, and of a node and a NEG_MAX,
into which no gradient flows; products; functions of one node (POW has a constant exponent); minus the maximum of a
group."""


@dataclass
class Tape:
    """The nodes in the order of their creation, and the order in which the reference's backward uses them."""

    op: "array[int]" = field(default_factory=lambda: array("b"))
    """The operation of every node."""
    left: "array[int]" = field(default_factory=lambda: array("q"))
    """Its first operand, a node; -1 where it has none."""
    right: "array[int]" = field(default_factory=lambda: array("q"))
    """Its second operand; -1 where it has none. Of a NEG_MAX the index of its group."""
    consts: dict[int, float] = field(default_factory=dict)
    """The constant of each node that has one."""
    groups: list[list[int]] = field(default_factory=list)
    """The nodes of which each NEG_MAX is the maximum."""
    edges: "array[int]" = field(default_factory=lambda: array("q"))
    """2 · node + operand (0 or 1), in the order in which gradients flow."""


class _Node(microgpt.Value):
    """A scalar of the reference that records what is done to it."""

    __slots__ = ("index", "tape")

    def __init__(
        self, tape: Tape, op: int, left: int = -1, right: int = -1, children: tuple["_Node", ...] = ()
    ) -> None:
        self.tape = tape
        self.index = len(tape.op)
        tape.op.append(op)
        tape.left.append(left)
        tape.right.append(right)
        self.children = children
        self.grad: Any = None

    def _with_const(self, op: int, const: float) -> "_Node":
        node = _Node(self.tape, op, self.index, -1, (self,))
        self.tape.consts[node.index] = float(const)
        return node

    def __add__(self, other: Any) -> "_Node":
        if isinstance(other, _Node):
            return _Node(self.tape, ADD, self.index, other.index, (self, other))
        if isinstance(other, _NegativeMaximum):
            return _Node(self.tape, ADD_DETACHED, self.index, other.index, (self,))
        return self._with_const(ADD_CONST, other)

    def __mul__(self, other: Any) -> "_Node":
        if isinstance(other, _Node):
            return _Node(self.tape, MUL, self.index, other.index, (self, other))
        return self._with_const(MUL_CONST, other)

    def __pow__(self, exponent: float) -> "_Node":
        return self._with_const(POW, exponent)

    def log(self) -> "_Node":
        """Record a logarithm."""
        return _Node(self.tape, LOG, self.index, -1, (self,))

    def exp(self) -> "_Node":
        """Record an exponential."""
        return _Node(self.tape, EXP, self.index, -1, (self,))

    def relu(self) -> "_Node":
        """Record a rectifier."""
        return _Node(self.tape, RELU, self.index, -1, (self,))

    __radd__ = __add__
    __rmul__ = __mul__

    @property
    def data(self) -> "_Datum":
        """What softmax looks at to find its shift."""
        return _Datum(self)

    @property
    def local_grads(self) -> "_Node":
        """What backward indexes with the number of the operand."""
        return self

    def __getitem__(self, operand: int) -> float:
        self.tape.edges.append(2 * self.index + operand)
        return 0.0


class _Datum:
    """The number in a node as far as max() is concerned: comparing two puts them in one group."""

    def __init__(self, node: _Node) -> None:
        self.node = node
        self.group = [node.index]
        self.negative: _NegativeMaximum | None = None

    def __gt__(self, first: "_Datum") -> bool:
        # max() holds on to the first of its items and compares every other one with it.
        first.group.append(self.node.index)
        return False

    def __neg__(self) -> "_NegativeMaximum":
        if self.negative is None:
            tape = self.node.tape
            tape.groups.append(self.group)
            self.negative = _NegativeMaximum(_Node(tape, NEG_MAX, right=len(tape.groups) - 1).index)
        return self.negative


@dataclass(frozen=True)
class _NegativeMaximum:
    """Minus the largest of a group of nodes; no gradient flows into it."""

    index: int


class _Token(int):
    """A token that is not yet known: it picks its position's own row of wte, and probability 0 as the target."""

    def __new__(cls, position: int) -> "_Token":
        """The token at a position."""
        token = super().__new__(cls, 0)
        token.position = position
        return token

    position: int


class _OpenRows(list[Any]):
    """The rows of wte, one for each position, until the tokens are known."""

    def __getitem__(self, token: Any) -> Any:
        return super().__getitem__(token.position)


@dataclass
class Graph:
    """What a document of n positions makes of a config."""

    config: Config
    n: int
    tape: Tape
    params: dict[str, int]
    """The first node of every tensor, whose elements follow row by row; of wte and wpe there are n rows, one for each
    position."""
    sites: dict[str, list[tuple[int, ...]]]
    """The shapes that every named intermediate has, position by position."""
    site_nodes: dict[str, list[int]]
    """The nodes of all of them, in the order of sites."""
    loss: int
    """Its node."""
    logits: list[list[int]]
    """Their nodes, (n, vocab_size)."""


def record(config: Config, n: int) -> Graph:
    """The graph of a document with n positions, forward and backward."""
    tape = Tape()
    params: dict[str, Any] = {}
    starts: dict[str, int] = {}
    for name, (rows, columns) in config.shapes().items():
        starts[name] = len(tape.op)
        rows = n if name in ("wte", "wpe") else rows
        matrix = [[_Node(tape, LEAF) for _ in range(columns)] for _ in range(rows)]
        params[name] = _OpenRows(matrix) if name == "wte" else matrix
    sites: dict[str, list[tuple[int, ...]]] = {}
    site_nodes: dict[str, list[int]] = {}

    def tap(site: str, value: Any) -> Any:
        nodes = site_nodes.setdefault(site, [])
        sites.setdefault(site, []).append(_shape(value))
        if isinstance(value, _Node):
            nodes.append(value.index)
        elif isinstance(value[0], _Node):
            nodes += [node.index for node in value]
        else:
            nodes += [node.index for row in value for node in row]
        return value

    loss, logits = _forward_and_backward([_Token(position) for position in range(n + 1)], params, config, tap)
    return Graph(
        config, n, tape, starts, sites, site_nodes, loss.index, [[node.index for node in row] for row in logits]
    )


@microgpt.without_gc  # type: ignore[untyped-decorator]
def _forward_and_backward(tokens: list[_Token], params: dict[str, Any], config: Config, tap: Any) -> Any:
    loss, logits = microgpt.document_loss(tokens, params, config, tap)
    loss.backward()
    return loss, logits


def _shape(value: Any) -> tuple[int, ...]:
    if isinstance(value, _Node):
        return ()
    return (len(value),) if isinstance(value[0], _Node) else (len(value), len(value[0]))
