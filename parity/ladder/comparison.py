"""How many times as fast as the rung below: a view of what was measured of each, so that it can be made anew."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from parity.ladder.rungs import Rung


def compared(found: Sequence[Mapping[str, Any]], ladder: Iterable[Rung]) -> list[dict[str, Any]]:
    """What was found of rungs, as `RungResult.to_dict` gives it, each beside the rung below.

    rung_below: the one that it builds on; if that has no timing here, the one that that builds on, and so on. None if
    there is none. speed_up_over_rung_below: the ratio of their ratios to the reference, with which each was timed in
    turns: of a step, and in batches, each None where one of the two does no more than the forward pass; or None, if
    the rung has no timing itself.
    """
    below = {rung.name: rung.below for rung in ladder}
    timed = {fields["rung"]: fields for fields in found if fields["timing"]}
    result = []
    for fields in found:
        name = below.get(fields["rung"])
        while name is not None and name not in timed:
            name = below.get(name)
        ratios = _ratios(fields, timed.get(name)) if fields["timing"] else None
        result.append({**fields, "rung_below": name, "speed_up_over_rung_below": ratios})
    return result


def _ratios(fields: Mapping[str, Any], below: Mapping[str, Any] | None) -> list[float | None]:
    if below is None or fields["timing"]["forward_only"] != below["timing"]["forward_only"]:
        return [None, None]
    own, others = fields["speed_up_over_reference"], below["speed_up_over_reference"]
    return [mine / other for mine, other in zip(own, others, strict=True)]
