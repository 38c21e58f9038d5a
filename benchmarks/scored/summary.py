"""The scores of many checks: counts, rates and a table."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any

NAMES = ("wrong", "none", "in part", "among others", "first", "right")
"""What names may be, the worst first."""
KINDS = ("one mistake", "several mistakes", "not in the catalogue")
MOST = 4
"""Tensors of a quantity that are named one by one."""


def kind(row: dict[str, Any]) -> str:
    """Which of KINDS it is of."""
    return KINDS[min(len(row["mistakes"]) - 1, 1)]


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each kind of mistakes how many there are, and how many of them are what they should be."""
    found = []
    for which in KINDS:
        some = [row for row in rows if kind(row) == which]
        named = Counter(row["named"] for row in some)
        found.append(
            {
                "kind": which,
                "checks": len(some),
                "refused": sum(row["verdict"] in ("DIVERGED", "ERROR") for row in some),
                "located": sum(row["located"] for row in some),
                **{name: named[name] for name in NAMES},
            }
        )
    return found


def headline(rows: Sequence[dict[str, Any]]) -> str:
    """The rates, wrong names first, in a sentence."""
    wrong = sum(row["named"] == "wrong" for row in rows)
    placed = _rate([row["located"] for row in rows])
    of_one, of_several = (
        _rate([row["named"] in ("first", "right") for row in rows if kind(row) == which]) for which in KINDS[:2]
    )
    number = len({(row["how"], row["language"]) for row in rows})
    return (
        f"{len(rows)} checks of {number} implementations: {wrong} wrong names; named first: {of_one} of one mistake, "
        f"{of_several} of several; placed: {placed}."
    )


def _rate(met: Sequence[bool]) -> str:
    return f"{sum(met)} of {len(met)} ({sum(met) / max(1, len(met)):.0%})"


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The rates and counts, and below them each implementation, wrong names first."""
    columns = ("kind", "checks", "refused", "located", *NAMES)
    lines = table(("mistakes", "checks", "refused", "located", *(f"named: {name}" for name in NAMES)),
                  [[row[column] for column in columns] for row in summary(rows)])  # fmt: skip
    ordered = sorted(rows, key=lambda row: (NAMES.index(row["named"]), row["located"]))
    lines += ["", *table(
        ("implementation", "in", "mistakes", "named", "", "begins at", "", "seconds"), map(_cells, ordered)
    )]  # fmt: skip
    return "\n".join([headline(rows), "", *lines]) + "\n"


def table(head: Sequence[str], rows: Any) -> list[str]:
    """The lines of a table."""
    return [f"| {' | '.join(map(str, cells))} |" for cells in (head, ["---"] * len(head), *rows)]


def _cells(row: dict[str, Any]) -> list[str]:
    begins = _places(row["begins_at"]) or row["verdict"]
    step = "" if row["step"] is None else f" (step {row['step']} of {row['shows_in']})"
    named = ", ".join(row["names"]) or ("given up" if row["gave_up"] else "none")
    return [
        row["how"],
        f"{row['language']}, {row['dtype']}",
        ", ".join(row["mistakes"]) or "none of the known",
        named,
        row["named"],
        begins + step,
        "right" if row["located"] else f"should be {row['should_begin_at']}",
        f"{row['check_seconds']:.0f} + {row['naming_seconds']:.1f}",
    ]


def _places(begins: Sequence[str]) -> str:
    """The tensors, many of a quantity by their number."""
    parts = []
    for quantity, some in groupby(begins, key=lambda place: place.partition(" ")[0]):
        tensors = list(some)
        parts.append(f"{quantity} of {len(tensors)} tensors" if len(tensors) > MOST else ", ".join(tensors))
    return ", ".join(parts)
