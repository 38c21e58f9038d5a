"""Numbers and names in sentences."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from math import isfinite


def counted(number: int, what: str) -> str:
    """A number of things, in words: `1 step`, `1,000 steps`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def in_few(names: Sequence[str], most: int = 3) -> str:
    """The first few of some names, and how many there are besides."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The known name that is nearest to a word, for a sentence that refuses it; empty where none is near."""
    close = get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def told_apart(actual: float, expected: float) -> tuple[str, str]:
    """Both in as many digits as tell them apart, and two more."""
    digits = next((n for n in range(2, 15) if f"{actual:.{n}g}" != f"{expected:.{n}g}"), 15)
    return f"{actual:.{digits + 2}g}", f"{expected:.{digits + 2}g}"


def beside_limit(z: float, limit: float) -> str:
    """z in as many digits as tell it from the limit, which is shown with one decimal."""
    shown = float(f"{limit:.1f}")
    texts = [f"{z:.{digits}g}" for digits in range(2, 18)]
    if not isfinite(z):
        return texts[0]
    return next((text for text in texts if float(text) != shown and (float(text) > shown) == (z > limit)), texts[-1])
