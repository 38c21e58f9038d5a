"""In which order a step computes its tensors, and from which others each is computed, as the reference has it.

Forward comes first, then the gradients, from the loss backwards, then what Adam makes of them. Whose gradients come
before whose is read off a run of the reference's own forward pass on a model of one dimension.
"""

import random
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from parity.quantities import FIELDS, MATRICES, SITES, TensorKey
from reference.config import Config
from reference.microgpt import Value, document_loss, elementwise, init_params

_FORWARD = (*SITES, "logits", "loss")


@lru_cache(maxsize=16)
def sites_after(n_layer: int) -> dict[str, frozenset[str]]:
    """By name, in the order of computation, the sites that are next computed from a site.

    Read off a run of the reference's forward pass on a model of one dimension; the loss of a position comes last.
    """
    config = Config(n_layer=n_layer, n_embd=1, n_head=1, block_size=2, vocab_size=2)
    params = {name: elementwise(Value, matrix) for name, matrix in init_params(config, random.Random(0)).items()}
    names: dict[int, str] = {}
    after: dict[str, set[str]] = {}

    def tap(site: str, value: Any) -> Any:
        after.setdefault(site, set())
        names.update((id(x), site) for x in _scalars(value))
        return value

    loss, _ = document_loss([1, 0, 1], params, config, tap)
    latest: dict[int, frozenset[str]] = {}
    for node in _inputs_first(loss):
        before = frozenset[str]().union(*(latest[id(child)] for child in node.children))
        site = names.get(id(node))
        for earlier in before if site else ():
            after[earlier].add(str(site))
        latest[id(node)] = frozenset({site}) if site else before
    return {site: frozenset(after[site] - {site}) for site in after}


def _scalars(value: Any) -> Iterator[Any]:
    """The numbers of a site."""
    if isinstance(value, list):
        for part in value:
            yield from _scalars(part)
    else:
        yield value


@lru_cache(maxsize=16)
def gradients_before(n_layer: int) -> dict[str, frozenset[str]]:
    """By name, the tensors whose gradients a tensor's gradient is computed from, directly or not.

    These are all that work on what the tensor has helped to compute. The names stand in the order of backward; what
    backward reaches at the same time stands as it does in `Config.shapes`, turned round.
    """
    config = Config(n_layer=n_layer, n_embd=1, n_head=1, block_size=2, vocab_size=2)
    params = {name: elementwise(Value, matrix) for name, matrix in init_params(config, random.Random(0)).items()}
    weights = {id(x): name for name, matrix in params.items() for row in matrix for x in row}
    helped: dict[int, frozenset[str]] = {}
    before: dict[str, set[str]] = {name: set() for name in params}
    loss, _ = document_loss([1, 0, 1], params, config)
    for node in _inputs_first(loss):
        helped[id(node)] = frozenset[str]().union(*(helped[id(child)] for child in node.children))
        if id(node) in weights:
            helped[id(node)] = frozenset({weights[id(node)]})
        if len(node.children) == 2 and (id(node.children[0]) in weights) != (id(node.children[1]) in weights):
            left, right = node.children  # a weight, and what it works on; the sum of both embeddings is neither
            weight, other = (left, right) if id(left) in weights else (right, left)
            for name in helped[id(other)]:
                before[name].add(weights[id(weight)])
    at = {name: number for number, name in enumerate(params)}
    return {name: frozenset(before[name]) for name in sorted(params, key=lambda name: (len(before[name]), -at[name]))}


def _inputs_first(loss: Any) -> Iterator[Any]:
    """Every node of the graph once, after those that it is computed from."""
    seen, path = {id(loss)}, [(loss, iter(loss.children))]
    while path:
        node, children = path[-1]
        child = next(children, None)
        if child is None:
            path.pop()
            yield node
        elif id(child) not in seen:
            seen.add(id(child))
            path.append((child, iter(child.children)))


def in_order_of_computation(keys: Sequence[TensorKey]) -> list[int]:
    """The places of these tensors, in the order in which a step computes them; sites stay as they are given.

    Tensors that the reference does not have come last in their quantity.
    """
    quantities = {quantity: number for number, quantity in enumerate(FIELDS.values())}
    ranks = {name: rank for rank, name in enumerate(gradients_before(_layers(keys)))}

    def rank(place: int) -> tuple[int, int, int]:
        key = keys[place]
        return quantities[key.quantity], 0 if key.quantity in _FORWARD else ranks.get(key.name, len(ranks)), place

    return sorted(range(len(keys)), key=rank)


def computed_from(key: TensorKey, keys: Collection[TensorKey]) -> list[TensorKey]:
    """Those of these tensors that a tensor is next computed from within a step; sites are left out.

    Of a gradient these are the ones that backward reaches just before it.
    """
    match key.quantity:
        case "loss":
            return [other for other in keys if other.quantity == "logits"]
        case "param":
            sources: tuple[str, ...] = ("m", "v")
        case "m" | "v":
            sources = ("grad",)
        case "grad":
            before = gradients_before(_layers(keys))
            known = [other for other in keys if other.quantity == "grad" and other.name in before.get(key.name, ())]
            further = frozenset[str]().union(*(before[other.name] for other in known))
            next_to_it = [other for other in known if other.name not in further]
            return next_to_it or [other for other in keys if other.quantity in ("logits", "loss")]
        case _:
            return []
    own = [TensorKey(quantity, key.name) for quantity in sources]
    return [other for other in own if other in keys] or computed_from(TensorKey(_EARLIER[key.quantity], key.name), keys)


def knows_what_comes_before(key: TensorKey, keys: Collection[TensorKey], n_layer: int) -> bool:
    """Whether all that a tensor of a model with so many layers is next computed from is among these tensors."""
    names = gradients_before(n_layer)
    exposed = [TensorKey("logits", "logits"), TensorKey("loss", "loss")]
    exposed += [TensorKey(quantity, name) for quantity in MATRICES for name in names]
    known = {(other.quantity, other.name) for other in keys}
    return known.issuperset((other.quantity, other.name) for other in computed_from(key, exposed))


_EARLIER = {"param": "m", "m": "grad", "v": "grad"}
"""In place of a quantity of the update, what it is computed from where nothing nearer is known."""


def _layers(keys: Iterable[TensorKey]) -> int:
    """How many layers tensors so named belong to."""
    numbers = (re.match(r"layer(\d+)\.", key.name) for key in keys)
    return max((int(number[1]) + 1 for number in numbers if number), default=1)
