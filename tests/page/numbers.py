"""The numbers that a page shows but for listings, and those that JSON holds, however a page writes them."""

import html
import re
from collections.abc import Iterator
from typing import Any

_SHOWN = re.compile(
    r"""<(?:td(?! class="(?:code|n)")|dd|th scope="row"|span class="(?:text|amount)[^"]*")[^>]*>([^<]*)<"""
)
NUMBER = re.compile(r"(?<![\w.])[-−]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]\d+)?(?![\w.]*\w)")
FORMATS = ("{:.2g}", "{:.3g}", "{:.4g}", "{:.5g}", "{:.6g}", "{:.0e}", "{:.1e}", "{:.1f}", "{:.2f}", "{:g}", "{:,}")


def shown_numbers(page: str) -> set[str]:
    """In cells of tables, lists of facts and beside bars."""
    return {number for text in _SHOWN.findall(page) for number in NUMBER.findall(html.unescape(text))}


def stored_numbers(data: Any) -> set[str]:
    """Those of JSON, and those that its texts name."""
    return {text for value in _leaves(data) for text in _written(value)}


def _leaves(data: Any) -> Iterator[Any]:
    if isinstance(data, dict):
        yield from data
        data = data.values()
    if isinstance(data, str) or not hasattr(data, "__iter__"):
        yield data
    else:
        for part in data:
            yield from _leaves(part)


def _written(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from NUMBER.findall(value)
    elif isinstance(value, (int, float)):
        yield from (form.format(value) for form in FORMATS)
        yield from (f"{value:.{digits}g}" for digits in range(7, 18))
