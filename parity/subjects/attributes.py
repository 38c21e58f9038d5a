"""What a subject says of itself by attributes that may be missing, and that may raise as properties do."""

from typing import Any

from parity.errors import SubjectError
from parity.subjects.calls import guarded

NOTHING = object()
"""In place of what an object does not have."""


def attribute(subject: Any, name: str, default: Any = None) -> Any:
    """What a subject has under a name; SubjectError where looking it up raises, as a property may."""
    return guarded(f"its {name}", getattr, subject, name, default)


def has_sites(subject: Any) -> bool:
    """Whether a subject can be asked for its sites."""
    return attribute(subject, "expose_sites", NOTHING) is not NOTHING


def show_sites(subject: Any, shown: bool) -> None:
    """Ask a subject for its sites, or no longer, where it has any."""
    if has_sites(subject):
        guarded("setting its expose_sites", setattr, subject, "expose_sites", shown)


def shown_by(subject: Any) -> dict[str, str]:
    """What a subject says shows each of its sites, such as the names of modules; nothing where it does not say."""
    said = attribute(subject, "shown_by", {})
    return {str(site): str(name) for site, name in said.items()} if isinstance(said, dict) else {}


def warnings(subject: Any) -> tuple[str, ...]:
    """Sentences of a subject about itself that a result repeats; SubjectError where they are no list of texts."""
    return _texts(subject, "warnings")


def left_out(subject: Any) -> tuple[str, ...]:
    """What a subject says that it does not exercise; SubjectError where that is no text or list of texts."""
    return _texts(subject, "not_exercised")


def _texts(subject: Any, name: str) -> tuple[str, ...]:
    said = attribute(subject, name, ())
    if isinstance(said, str):
        return (said,)
    if not isinstance(said, (list, tuple)) or not all(isinstance(phrase, str) for phrase in said):
        raise SubjectError(f"The subject's {name} is {said!r}, and is to be a list of strings.")
    return tuple(said)


def without_update(subject: Any) -> str:
    """The attribute by which a subject says that it has no update to be checked; empty where it does not say so."""
    names = ("forward_only", "without_update")
    return next((name for name in names if attribute(subject, name, False) is True), "")


def tied_head(subject: Any) -> bool:
    """Whether a subject says that its lm_head is its wte."""
    return attribute(subject, "tied_head", False) is True


def single_steps(subject: Any) -> str:
    """The attribute for which a subject is asked for single steps alone; empty where it may run freely."""
    return without_update(subject) or ("tied_head" if tied_head(subject) else "")
