"""What a mode found, for its part of a page: the first divergence, right and wrong tensors, drawing and maps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parity.page.drawing import Drawing, drawing
from parity.page.heat_map import HeatMap, heat_map
from parity.page.quantities import failures
from parity.page.rendering import number
from parity.page.tables import Table
from parity.words import told_apart

_PLACES = ("begins at", "in ")
"""What the sentences that say where it begins are labelled with; all others say what the strip shows."""


@dataclass(frozen=True)
class Element:
    """One element on both sides, in words."""

    title: str
    where: str
    step: int
    beside: str
    """What it is held to: what is expected, or the truth."""
    expected: str
    actual: str
    error: str
    allowed: str
    """Empty where nobody knows."""
    z: str


@dataclass(frozen=True)
class Chip:
    """A tensor of the step that diverged first.

    state: "right", "wrong", "origin" where the wrong begins, or "follows" where Adam makes it of wrong gradients.
    """

    name: str
    state: str
    amount: str
    counts: str


@dataclass(frozen=True)
class Module:
    """A module of a training of which something is wrong. amounts: by quantity, the largest relative error there."""

    name: str
    kind: str
    amounts: dict[str, str]
    origin: bool


@dataclass(frozen=True)
class ModeView:
    """A mode on a page; all but the first three are empty where it did not diverge."""

    title: str
    verdict: str
    reason: str
    elements: list[Element]
    strip: dict[str, list[Chip]]
    """By quantity, in the order of computation."""
    right: int | None
    """How many tensors are inside, where only the others are kept."""
    modules: list[Module]
    """Of a training, the same module by module."""
    step: int | None
    """The one whose tensors the strip shows."""
    located: list[tuple[str, str]]
    """Where the wrong begins, in words."""
    at_site: bool
    """Whether it begins at a site, before all tensors."""
    drawing: Drawing | None
    maps: list[HeatMap]
    table: Table
    same: bool
    """Whether it diverges in the very element in which the first mode does."""


def mode_views(modes: Sequence[dict[str, Any]], limit: Any, config: dict[str, Any]) -> list[ModeView]:
    """Of every mode."""
    earlier = modes[0].get("first_divergence") if modes else None
    return [
        _view(mode, limit, config, number > 0 and bool(earlier) and mode.get("first_divergence") == earlier)
        for number, mode in enumerate(modes)
    ]


def _view(mode: dict[str, Any], limit: Any, config: dict[str, Any], same: bool) -> ModeView:
    first, site, location = mode.get("first_divergence"), mode.get("first_site"), mode.get("location")
    beside = "truth" if mode.get("truth") else "expected"
    elements = [_element("first tensor outside", first, mode.get("allowed"), beside)] if first else []
    elements += [_element("first site outside", site, mode.get("site_allowed"))] if site and site != first else []
    return ModeView(
        title=mode["mode"],
        verdict=mode.get("verdict") or ("DIVERGED" if first else ""),
        reason=mode.get("reason", ""),
        elements=elements,
        strip=_strip(location) if location else _training_strip(mode),
        right=mode.get("right"),
        modules=_modules(mode.get("wrong", ())),
        step=location["step"] if location else first["step"] if first else None,
        located=[(what, said) for what, said in mode.get("located", ()) if what.startswith(_PLACES)],
        at_site=site is not None and site["quantity"] == "site",
        drawing=drawing(mode, config) if first and config else None,
        maps=[heat_map(stored, number(limit)) for stored in mode.get("z_maps", ())],
        table=failures(mode, mode.get("limit", limit)),
        same=same,
    )


def _element(title: str, found: dict[str, Any], allowed: Any, beside: str = "expected") -> Element:
    actual, expected = told_apart(number(found["actual"]), number(found["expected"]))
    quantity = found["quantity"]
    where = found["where"] if found["where"] == quantity else f"{quantity} {found['where']}"
    z, error = number(found["z"]), number(found["error"])
    floor = "" if math.isnan(number(allowed)) else f"{number(allowed):.2g}"
    return Element(title, where, found["step"], beside, expected, actual, f"{error:.2g}", floor, f"{z:.2g}")


def _strip(location: dict[str, Any]) -> dict[str, list[Chip]]:
    strip: dict[str, list[Chip]] = {}
    for tensor in location["tensors"]:
        state = "right" if tensor["right"] else "follows" if tensor["follows"] else "wrong"
        counts = f"{tensor['outside']:,} of {tensor['elements']:,} elements outside"
        chip = Chip(
            tensor["tensor"],
            "origin" if tensor["origin"] else state,
            "" if state == "right" else f"{number(tensor['relative_error']):.2g}",
            counts,
        )
        strip.setdefault(tensor["quantity"], []).append(chip)
    return strip


def _training_strip(mode: dict[str, Any]) -> dict[str, list[Chip]]:
    """Of a training only the wrong tensors are kept, module by module in the order of computation."""
    strip: dict[str, list[Chip]] = {}
    for place, wrong in enumerate(mode.get("wrong", ())):
        quantity = wrong["key"][0]
        name = wrong["tensor"].removeprefix(f"{quantity} ") + (f" ({wrong['module']})" if wrong["module"] else "")
        counts = f"{wrong['outside']:,} of {wrong['elements']:,} elements outside"
        amount = f"{number(wrong['relative_error']):.2g}"
        strip.setdefault(quantity, []).append(Chip(name, "wrong" if place else "origin", amount, counts))
    return strip


def _modules(wrong: Sequence[dict[str, Any]]) -> list[Module]:
    """In the order of computation; a module's are its output, that one's gradient, and all tensors that it holds."""
    kinds: dict[str, str] = {}
    amounts: dict[str, dict[str, float]] = {}
    for tensor in wrong:
        quantity = tensor["key"][0]
        name = tensor["tensor"].removeprefix(f"{quantity} ")
        module = name if tensor["module"] or "." not in name else name.rpartition(".")[0]
        kinds[module] = kinds.get(module) or tensor["module"] or ""
        found, error = amounts.setdefault(module, {}), number(tensor["relative_error"])
        found[quantity] = max(found.get(quantity, 0.0), error)
    shown = {name: {quantity: f"{error:.2g}" for quantity, error in of.items()} for name, of in amounts.items()}
    return [Module(name, kinds[name], of, not place) for place, (name, of) in enumerate(shown.items())]
