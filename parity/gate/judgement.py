"""What became of the function, by how head and base differ and by what each is against the reference."""

from parity.gate.revisions import First, Revisions
from parity.judging.result import Result
from parity.judging.sentences import in_probe
from parity.number_formats import FORMATS
from parity.verdict import Verdict
from parity.words import counted

CHANGES = {
    Verdict.IDENTICAL: "bitwise the same",
    Verdict.PARITY: "only rounding changed",
    Verdict.PRECISION_LOSS: "precision lost",
    Verdict.DIVERGED: "the function changed",
    Verdict.ERROR: "the subject fails",
    Verdict.INCONCLUSIVE: "nothing could be decided",
}
"""What a verdict says of a refactor."""

_WRONG = (Verdict.DIVERGED, Verdict.PRECISION_LOSS)


def change_of(revisions: Revisions, head: Result, base: Result | None) -> tuple[Verdict, str]:
    """What became of the function, and why."""
    if head.verdict is Verdict.ERROR:
        return Verdict.ERROR, head.reason
    if revisions.identical and head.verdict.passes:
        return Verdict.IDENTICAL, "Every bit of every answer is the same."
    assert base is not None
    if revisions.failure or base.verdict is Verdict.ERROR:
        return Verdict.INCONCLUSIVE, revisions.failure or f"At base: {base.reason}"
    if revisions.exposure.dropped:
        gone = ", ".join(revisions.exposure.dropped)
        return Verdict.INCONCLUSIVE, f"The subject no longer exposes {gone}, which it did at base."
    if not revisions.changed:
        return Verdict.INCONCLUSIVE, "Head and base expose nothing in common."
    if revisions.identical and head.verdict is base.verdict and not revisions.newly_outside:
        wrong = f"Against the reference it is {head.verdict}: {head.reason}"
        return Verdict.IDENTICAL, f"Every bit of every answer is the same. {wrong}"
    if revisions.exposure.given_up and not revisions.identical:
        gone = ", ".join(revisions.exposure.given_up)
        return Verdict.DIVERGED, f"At base the subject is without {gone}, and at head it is not: two functions."
    if head.verdict.passes and base.verdict.passes:
        now, before = (FORMATS[name] for name in revisions.formats)
        if now.digits < before.digits:
            return Verdict.PRECISION_LOSS, f"It computes in {now.name}, and did so in {before.name} at base."
        return Verdict.PARITY, f"{_rounding(revisions)} Both agree with the reference."
    alike = not revisions.far and not revisions.newly_outside and revisions.carries
    if head.verdict in _WRONG and base.verdict in _WRONG and alike:
        return Verdict.PARITY, f"{_rounding(revisions)} Both differ from the reference in the same way: {head.reason}"
    if head.verdict.passes:
        return Verdict.DIVERGED, f"Base differs from the reference, and head agrees with it. Base: {base.reason}"
    if head.verdict is Verdict.DIVERGED:
        agreement = f"{'agrees' if base.verdict.passes else 'does not agree'} with the reference"
        either = "" if base.verdict.passes else " either"
        where = revisions.first or revisions.drift
        if not where and revisions.newly_outside:
            new = f"What head exposes and base does not differs from the reference: {_first(revisions.newly_outside)}."
            return Verdict.DIVERGED, f"{new} Base {agreement}{either}."
        first = f"First at head against base, {_first(where)}." if where else head.reason
        site = next((mode.first_site for mode in head.modes if mode.first_site), None)
        at = f" First site outside at head: {site.tensor}." if site else ""
        return Verdict.DIVERGED, f"{first}{at} Base {agreement}{either}."
    return head.verdict, head.reason


def _first(found: First) -> str:
    probe = f"{in_probe(found.probe)} " if found.probe else ""
    return f"{probe[:1].lower()}{probe[1:]}{found.difference} (limit {found.limit:.1f})"


def _rounding(revisions: Revisions) -> str:
    row = max((row for row in revisions.rows if row.largest), key=lambda row: row.largest.z if row.largest else 0.0)
    different, compared, free = (
        sum(getattr(row, part) for row in revisions.rows) for part in ("different", "compared", "free_running")
    )
    if free and not different:
        have = "has" if free == 1 else "have"
        return f"In lock-step every bit is the same; in free-running {counted(free, 'element')} {have} other bits."
    if revisions.first:  # both agree with the reference by floors of their own, and base's may be the wider one
        return f"{different:,} of {compared:,} elements have other bits."
    assert row.largest
    probe = f" in the probe {row.largest_in}" if row.largest_in else ""
    return (
        f"{different:,} of {compared:,} elements have other bits; rounding explains every difference: largest z "
        f"{row.largest.z:.2g} at {row.largest.key.described(row.largest.index)}{probe}, limit {row.limit:.1f}."
    )
