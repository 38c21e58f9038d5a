"""What became of a training, by its bits, by what it is in exact arithmetic, and by what rounding makes of that."""

from parity.gate.training_result import TrainingGateResult
from parity.quantities import SITES
from parity.training.result import TrainingResult
from parity.verdict import Verdict
from parity.words import beside_limit

_WORSE = 2.0
"""How many times as far outside as base head may be in a quantity in which both are."""


def wrong_in_itself(found: TrainingResult) -> bool:
    """Whether it is base's function in exact arithmetic, and its own run is not its own exact arithmetic."""
    link_holds = found.link is not None and not found.link.wrong
    return link_holds and any(mode.wrong for mode in found.modes)


def judge(result: TrainingGateResult) -> None:
    """Set the verdict on head, and why."""
    found, bits = result.found, result.bits
    assert found is not None
    assert bits is not None
    result.verdict, result.reason = found.verdict, found.reason
    if found.link is not None and found.link.wrong:
        if bits.identical:
            result.reason += " In its own formats every bit is the same: rounding hides it there."
        return
    if bits.identical:
        result.verdict, result.reason = Verdict.IDENTICAL, "Every bit of every step is the same."
        if not found.verdict.passes:
            result.wrong_alike = found.verdict is not Verdict.INCONCLUSIVE
            result.reason += f" {found.reason}"
        return
    if result.base is not None:
        _beside_base(result, found, result.base)
    elif found.verdict.passes:
        result.verdict, result.reason = Verdict.PARITY, f"{_other_bits(result)} {_largest(found)}"


def _beside_base(result: TrainingGateResult, found: TrainingResult, base: dict[str, object]) -> None:
    """Of a head that is not its own exact arithmetic: base may be as far from its own."""
    if _no_worse(found, base):
        result.verdict, result.wrong_alike = Verdict.PARITY, True
        result.reason = (
            f"{_other_bits(result)} In exact arithmetic both are the same function, and as they are both are as far "
            f"from it: {found.reason}"
        )
    else:
        result.reason = f"{found.reason} At base: {base['verdict']}."


def _no_worse(found: TrainingResult, base: dict[str, object]) -> bool:
    """Whether base is outside wherever head is, and about as far."""
    modes = base["modes"]
    assert isinstance(modes, list)
    there = {
        (mode["mode"], row["quantity"]): float(row["largest_z"]["z"])
        for mode in modes
        for row in mode["quantities"]
        if row["outside"] and row["quantity"] not in SITES and isinstance(row["largest_z"], dict)
    }
    here = {
        (mode.mode, row.quantity): row.largest_z.z
        for mode in found.modes
        for row in mode.quantities.values()
        if row.outside and row.quantity not in SITES and row.largest_z
    }
    return bool(here) and all(key in there and z <= _WORSE * there[key] for key, z in here.items())


def _other_bits(result: TrainingGateResult) -> str:
    assert result.bits is not None
    different, compared = (sum(getattr(row, part) for row in result.bits.rows.values()) for part in _PARTS)
    return f"{different:,} of {compared:,} elements have other bits."


_PARTS = ("different", "compared")


def _largest(found: TrainingResult) -> str:
    """How near to the limit both comparisons come."""
    assert found.link is not None
    exact, own = (
        max((row.largest_z.z for mode in modes for row in mode.quantities.values() if row.largest_z), default=0.0)
        for modes in ([found.link], found.modes)
    )
    return (
        f"Rounding explains it: in exact arithmetic z is at most {beside_limit(exact, found.link_limit)}, and beside "
        f"that, as it is, {beside_limit(own, found.limit)} (limit {found.limit:.1f})."
    )
