"""Numbers and names in sentences."""

from collections.abc import Iterable
from difflib import get_close_matches


def counted(number: int, what: str) -> str:
    """A number of things, in words: `1 step`, `1,000 steps`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The known name that is nearest to a word, for a sentence that refuses it; empty where none is near."""
    close = get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
