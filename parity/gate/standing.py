"""What accepted changes are to a gate's result: which one it is, and why the others are not it."""

from collections.abc import Sequence

from parity.gate.acceptance import MERGED, AcceptedChange, case_digest, in_words
from parity.gate.result import GateResult


def hold_against(entries: Sequence[AcceptedChange], result: GateResult, subject: str) -> None:
    """Note the entry that accepts the change, the one that base has already, and why others do not apply.

    subject: as `spelled` has it. Of entries for other subjects, cases and formats something is said only where the
    gate fails, and they might have been meant.
    """
    digest = case_digest(result.head.case)
    for entry in entries:
        same_case = entry.case_sha256 == digest
        if entry.subject == subject and same_case and entry.formats[0] == result.formats[0]:
            _note(entry, result)
        elif not result.verdict.passes:
            why_not = _why_no_concern(entry, result, subject, same_case)
            result.stale += [f'The accepted change "{entry.reason}" does not count here: {why_not}.'] if why_not else []


def _note(entry: AcceptedChange, result: GateResult) -> None:
    if not result.fingerprints:  # of a subject that fails nothing is known
        return
    why_not = entry.why_not(result.fingerprints, result.formats, result.dropped, result.head.unchecked)
    if why_not == MERGED:
        result.merged = entry
    elif why_not:
        result.stale.append(f'The accepted change "{entry.reason}" no longer applies: {why_not}.')
    elif not result.verdict.passes:
        result.accepted = entry


def _why_no_concern(entry: AcceptedChange, result: GateResult, subject: str, same_case: bool) -> str:
    """Why an entry is not even of what is gated here; empty where nobody will have meant that it is."""
    if entry.subject != subject:
        found = result.fingerprints if same_case else {}
        alike = bool(found) and not entry.why_not(found, result.formats, result.dropped, result.head.unchecked)
        return f"it is of the subject {entry.subject}, and this one is called {subject}" if alike else ""
    if not same_case:
        here = in_words(result.head.case)
        then, now = (set(text.split(", ")) for text in (entry.case, here))
        if then == now:
            return "it is of other documents, weights or hyper-parameters; accept it for this case, too"
        return f"it is of {_listed(entry.case, then - now)}, and this gate of {_listed(here, now - then)}"
    form, other = result.formats[0], entry.formats[0]
    return f"it was accepted in {other}, and this is {form}" if form else ""


def _listed(text: str, those: set[str]) -> str:
    return ", ".join(part for part in text.split(", ") if part in those) or "the same otherwise"
