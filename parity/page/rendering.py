"""Templates filled in: one file with its style inside and no script, and a policy that lets it ask for nothing else."""

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from parity import __version__
from parity.page.tables import Table
from parity.verdict import Verdict
from parity.words import beside_limit

if TYPE_CHECKING:
    from jinja2 import Environment

_MARKS = {
    "IDENTICAL": ("=", "identical"),
    "PARITY": ("✓", "right"),
    "INCONCLUSIVE": ("?", "unsure"),
    "PRECISION LOSS": ("≈", "loss"),
    "DIVERGED": ("✗", "wrong"),
    "ERROR": ("!", "error"),
}
"""Of a verdict: a mark, so that no reader depends on colours, and the name of its colour."""
_NO_VERDICT = ("–", "none")
assert _MARKS.keys() == {verdict.value for verdict in Verdict}


def render(template: str, **values: Any) -> str:
    """The page of a template; whatever comes from a result is escaped."""
    return _environment().get_template(template).render(values, version=__version__)


@lru_cache(maxsize=1)
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("parity.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"z": z_text, "order": order, "short": short, "count": count, "beside": beside}
    made.globals |= {"mark": mark, "Table": Table}
    return made


def mark(verdict: str | None) -> tuple[str, str]:
    """The mark of a verdict, and the name of its colour."""
    return _MARKS.get(verdict or "", _NO_VERDICT)


def number(value: Any) -> float:
    """A number of a result; NaN and infinities stand there as texts, and what is not known as None."""
    return math.nan if value is None else float(value)


def z_text(value: Any) -> str:
    """A z, in two digits."""
    return "-" if value is None else f"{number(value):.2g}"


def beside(value: Any, limit: Any) -> str:
    """A z in as many digits as tell it from the limit."""
    return "-" if value is None else beside_limit(number(value), number(limit))


def order(value: Any) -> str:
    """A relative error, in one digit."""
    found = number(value)
    return "-" if math.isnan(found) else f"{found:.0e}" if found else "0"


def short(value: Any) -> str:
    """A number in three digits."""
    return "-" if value is None else f"{number(value):.3g}"


def count(value: Any) -> str:
    """A whole number."""
    return "-" if value is None else f"{int(value):,}"
