"""What became of the function, by how head and base differ and by what each is against the reference."""

from parity.gate.revisions import Revisions
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


def change_of(revisions: Revisions, head: Result, base: Result | None) -> tuple[Verdict, str]:
    """What became of the function, and why."""
    if head.verdict is Verdict.ERROR:
        return Verdict.ERROR, head.reason
    if revisions.identical and head.verdict.passes:
        return Verdict.IDENTICAL, "Every bit of every answer is the same."
    assert base is not None
    if revisions.failure or base.verdict is Verdict.ERROR:
        return Verdict.INCONCLUSIVE, revisions.failure or f"At base: {base.reason}"
    if revisions.dropped:
        gone = ", ".join(revisions.dropped)
        return Verdict.INCONCLUSIVE, f"The subject no longer exposes {gone}, which it did at base."
    if not revisions.changed:
        return Verdict.INCONCLUSIVE, "Head and base expose nothing in common."
    if revisions.identical and head.verdict is base.verdict and not revisions.newly_outside:
        wrong = f"Against the reference it is {head.verdict}: {head.reason}"
        return Verdict.IDENTICAL, f"Every bit of every answer is the same. {wrong}"
    if revisions.given_up and not revisions.identical:
        gone = ", ".join(revisions.given_up)
        return Verdict.DIVERGED, f"At base the subject is without {gone}, and at head it is not: two functions."
    if head.verdict.passes and base.verdict.passes:
        now, before = (FORMATS[name] for name in revisions.formats)
        if now.digits < before.digits:
            return Verdict.PRECISION_LOSS, f"It computes in {now.name}, and did so in {before.name} at base."
        return Verdict.PARITY, f"{_rounding(revisions)} Both agree with the reference."
    alike = not revisions.far and not revisions.newly_outside and revisions.carries
    if head.verdict is base.verdict is Verdict.DIVERGED and alike:
        return Verdict.PARITY, f"{_rounding(revisions)} Both differ from the reference in the same way: {head.reason}"
    if head.verdict.passes:
        return Verdict.DIVERGED, f"Base differs from the reference, and head agrees with it. Base: {base.reason}"
    if head.verdict is Verdict.DIVERGED:
        agreement = "agrees" if base.verdict.passes else "does not agree either"
        where = revisions.first or revisions.drift
        if not where and revisions.newly_outside:
            return Verdict.DIVERGED, (
                f"What head exposes and base does not differs from the reference: {revisions.newly_outside}. Base "
                f"{agreement} with the reference."
            )
        limit = revisions.limits["lock-step" if revisions.first else "free-running"]
        first = f"First at head against base, {where} (limit {limit:.1f})." if where else head.reason
        site = next((mode.first_site for mode in head.modes if mode.first_site), None)
        at = f" First site outside at head: {site.tensor}." if site else ""
        return Verdict.DIVERGED, f"{first}{at} Base {agreement} with the reference."
    return head.verdict, head.reason


def _rounding(revisions: Revisions) -> str:
    largest = max((row.largest for row in revisions.rows if row.largest), key=lambda difference: difference.z)
    different, compared = (sum(getattr(row, part) for row in revisions.rows) for part in ("different", "compared"))
    if revisions.first:  # both agree with the reference by floors of their own, and base's may be the wider one
        return f"{different:,} of {compared:,} elements have other bits."
    return (
        f"{different:,} of {compared:,} elements have other bits; rounding explains every difference: largest z "
        f"{largest.z:.2g} at {largest.key.described(largest.index)}, limit {revisions.head.judge.limit:.1f}."
    )
