"""What became of the function, by how head and base differ and by what each is against the reference."""

from parity.gate.revisions import Pair
from parity.judging.result import Result
from parity.number_formats import FORMATS
from parity.verdict import Verdict

CHANGES = {
    Verdict.IDENTICAL: "bitwise the same",
    Verdict.PARITY: "only rounding changed",
    Verdict.PRECISION_LOSS: "precision lost",
    Verdict.DIVERGED: "the function changed",
    Verdict.ERROR: "the subject fails",
    Verdict.INCONCLUSIVE: "nothing could be decided",
}
"""What a verdict says of a refactor."""


def judged(pair: Pair, head: Result, base: Result | None) -> tuple[Verdict, str]:
    """What became of the function, and why."""
    if head.verdict is Verdict.ERROR:
        return Verdict.ERROR, head.reason
    if pair.identical:
        same = "" if head.verdict.passes else f" Against the reference it is {head.verdict}: {head.reason}"
        return Verdict.IDENTICAL, f"Every bit of every answer is the same.{same}"
    assert base is not None
    if pair.failure or base.verdict is Verdict.ERROR:
        return Verdict.INCONCLUSIVE, pair.failure or f"At base: {base.reason}"
    if pair.dropped:
        gone = ", ".join(pair.dropped)
        return Verdict.INCONCLUSIVE, f"The subject no longer exposes {gone}, which it did at base."
    if not pair.changed:
        return Verdict.INCONCLUSIVE, "Head and base expose nothing in common."
    if head.verdict.passes and base.verdict.passes:
        now, before = (FORMATS[name] for name in pair.formats)
        if now.digits < before.digits:
            return Verdict.PRECISION_LOSS, f"It computes in {now.name}, and did so in {before.name} at base."
        return Verdict.PARITY, f"{_rounding(pair)} Both agree with the reference."
    if head.verdict is Verdict.DIVERGED and base.verdict is Verdict.DIVERGED and not pair.far and pair.carries:
        return Verdict.PARITY, f"{_rounding(pair)} Both differ from the reference in the same way: {head.reason}"
    if head.verdict.passes:
        return Verdict.DIVERGED, f"Base differs from the reference, and head agrees with it. Base: {base.reason}"
    if head.verdict is Verdict.DIVERGED:
        agreement = "agrees" if base.verdict.passes else "does not agree either"
        where = pair.first or pair.drift
        first = f"First at head against base, {where} (limit {pair.judge.limit:.1f})." if where else head.reason
        site = next((mode.first_site for mode in head.modes if mode.first_site), None)
        at = f" First site outside at head: {site.tensor}." if site else ""
        return Verdict.DIVERGED, f"{first}{at} Base {agreement} with the reference."
    return head.verdict, head.reason


def _rounding(pair: Pair) -> str:
    largest = max((row.largest for row in pair.rows if row.largest), key=lambda difference: difference.z)
    different, compared = (sum(getattr(row, part) for row in pair.rows) for part in ("different", "compared"))
    if pair.first:  # both agree with the reference by floors of their own, and base's may be the wider one
        return f"{different:,} of {compared:,} elements have other bits."
    return (
        f"{different:,} of {compared:,} elements have other bits; rounding explains every difference: largest z "
        f"{largest.z:.2g} at {largest.quantity} {largest.where}, limit {pair.judge.limit:.1f}."
    ).replace("loss loss", "loss")
