"""A drawing of the model: what is computed from what, and where the wrong begins."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from parity.judging.computation_order import sites_after

_ROWS = (
    ("embedding",),
    ("norm",),
    ("attn.norm",),
    ("attn.q", "attn.k", "attn.v"),
    ("attn.scores",),
    ("attn.weights",),
    ("attn.heads",),
    ("attn.residual",),
    ("mlp.norm",),
    ("mlp.pre",),
    ("mlp.post",),
    ("mlp.residual",),
    ("logits",),
    ("probs",),
    ("loss",),
    ("update",),
)
"""Sites from the top to the bottom, those of the layer without its name; the update is none of them."""
_FORMULAS = {
    "embedding": "wte[token] + wpe[position]",
    "norm": "rmsnorm",
    "attn.norm": "rmsnorm",
    "attn.q": "attn_wq · x",
    "attn.k": "attn_wk · x",
    "attn.v": "attn_wv · x",
    "attn.scores": "q · k / √head_dim",
    "attn.weights": "softmax, causal",
    "attn.heads": "Σ weights · v",
    "attn.residual": "attn_wo · x + residual",
    "mlp.norm": "rmsnorm",
    "mlp.pre": "mlp_fc1 · x",
    "mlp.post": "ReLU",
    "mlp.residual": "mlp_fc2 · x + residual",
    "logits": "lm_head · x",
    "probs": "softmax",
    "loss": "−log probs[next token]",
    "update": "Adam: m, v, param",
}
_OF_WEIGHT = {
    "wte": "embedding",
    "wpe": "embedding",
    "lm_head": "logits",
    "attn_wq": "attn.q",
    "attn_wk": "attn.k",
    "attn_wv": "attn.v",
    "attn_wo": "attn.residual",
    "mlp_fc1": "mlp.pre",
    "mlp_fc2": "mlp.residual",
}
"""By weight, the site that it helps to compute."""
_LAYER = re.compile(r"∂?layer(\d+)\.")
WIDTH, _STEP, _HEIGHT, _MIDDLE, _WIDE, _NARROW = 360, 50, 38, 160, 190, 92


@dataclass(frozen=True)
class Node:
    """A box of the drawing. state: "lit" where the wrong begins, "after" where it is computed from that, or empty."""

    name: str
    formula: str
    x: float
    y: float
    width: float
    state: str

    height = _HEIGHT


@dataclass(frozen=True)
class Drawing:
    """Boxes, and the lines between them as paths of SVG."""

    nodes: list[Node]
    edges: list[tuple[str, bool]]
    """Each with whether what is wrong flows along it."""
    layer: str
    """Which of the layers is drawn, in words."""
    lit: list[str]

    width, height = WIDTH, len(_ROWS) * _STEP + 4


def drawing(mode: dict[str, Any], config: dict[str, Any]) -> Drawing | None:
    """The model with what is lit where a mode diverged; None where nobody knows where that begins."""
    begins = list(_begins(mode))
    if not begins:
        return None
    layer = min((int(number[1]) for name in begins if (number := _LAYER.match(name))), default=0)
    lit = {short for name in begins if (short := _short(name, layer)) is not None}
    forward = not any(name.startswith("∂") for name in begins)
    lit = {name.removeprefix("∂") for name in lit}
    after = _after(lit) if forward else set[str]()
    nodes = [node for number, row in enumerate(_ROWS) for node in _row(number, row, lit, after)]
    by_name = {node.name: node for node in nodes}
    edges = [
        (_edge(by_name[above], by_name[below]), forward and (above in lit or above in after))
        for above, below in _pairs()
    ]
    n_layer = config["n_layer"]
    where = f"layer {layer} of {n_layer} (counted from 0)" if n_layer > 1 else "the only layer"
    return Drawing(nodes, edges, where, sorted(lit))


def _begins(mode: dict[str, Any]) -> Iterable[str]:
    """The sites that the wrong begins at; a gradient's with a ∂, for what is wrong then is only backward."""
    site, location = mode.get("first_site"), mode.get("location")
    if site and site["quantity"] == "site":
        yield site["tensor"].split(" at ")[0]
        return
    for tensor in location["tensors"] if location else ():
        if not tensor["origin"]:
            continue
        quantity, name = tensor["quantity"], tensor["tensor"]
        if quantity in ("logits", "loss"):
            yield quantity
        elif quantity == "grad":
            yield f"∂{_site_of(name)}"
        else:
            yield "∂update"


def _site_of(weight: str) -> str:
    layer, _, name = weight.rpartition(".")
    site = _OF_WEIGHT.get(name, "update")
    return f"{layer}.{site}" if layer and site != "update" else site


def _short(name: str, layer: int) -> str | None:
    """A site's name in the drawing; None where it is in a layer that is not drawn."""
    gradient, plain = ("∂" if name.startswith("∂") else ""), name.removeprefix("∂")
    inside = plain.removeprefix(f"layer{layer}.")
    return gradient + inside if not inside.startswith("layer") else None


def _pairs() -> list[tuple[str, str]]:
    """What is computed from what, as a run of the reference has it."""
    inside = [
        (above.removeprefix("layer0."), below.removeprefix("layer0."))
        for above, following in sites_after(1).items()
        for below in sorted(following)
    ]
    return [*inside, ("loss", "update")]


def _after(lit: set[str]) -> set[str]:
    found, edge = set[str](), set(lit)
    while edge:
        edge = {below for above, below in _pairs() if above in edge} - found - lit
        found |= edge
    return found


def _row(number: int, names: tuple[str, ...], lit: set[str], after: set[str]) -> Iterable[Node]:
    width = _WIDE if len(names) == 1 else _NARROW
    left = _MIDDLE - (len(names) * width + (len(names) - 1) * 8) / 2
    for place, name in enumerate(names):
        state = "lit" if name in lit else "after" if name in after else ""
        yield Node(name, _FORMULAS[name], left + place * (width + 8), 2 + number * _STEP, width, state)


def _edge(above: Node, below: Node) -> str:
    """A straight line to the next row; around the right side to one further down."""
    if below.y - above.y <= _STEP:
        start, end = above.x + above.width / 2, below.x + below.width / 2
        return f"M{start:g} {above.y + _HEIGHT:g}L{end:g} {below.y:g}"
    bulge = max(above.x + above.width, below.x + below.width) + 10 + 8 * (below.y - above.y) / _STEP
    bulge = min(bulge, WIDTH - 4)
    first, last = above.y + _HEIGHT / 2, below.y + _HEIGHT / 2
    return (
        f"M{above.x + above.width:g} {first:g}C{bulge:g} {first:g} {bulge:g} {first:g} {bulge:g} {first + 24:g}"
        f"L{bulge:g} {last - 24:g}C{bulge:g} {last:g} {bulge:g} {last:g} {below.x + below.width:g} {last:g}"
    )
