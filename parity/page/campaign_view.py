"""A campaign that calibrated: what was drawn, and what of it was refused, by number format and by implementation."""

from dataclasses import dataclass
from typing import Any

from parity.page.rendering import z_text
from parity.page.tables import Table

_COUNTED = {
    "cases": "cases",
    "comparisons": "comparisons",
    "refused": "false alarms",
    "undecided": "undecided",
    "not_finite_in_the_format": "not finite",
}
"""Keys of the stored summary, and what they are called."""


@dataclass(frozen=True)
class CampaignView:
    """comparisons, cases, alarms: of all. refused: each refusal in words. exercised: in how many cases, in words."""

    comparisons: int
    cases: int
    alarms: int
    refused: list[str]
    formats: Table
    subjects: Table
    exercised: list[str]


def campaign_view(found: dict[str, Any]) -> CampaignView:
    """The calibration as `parity campaign show` writes it; ValueError where there is none."""
    (data,) = (one for one in found["campaigns"] if one["kind"] == "calibrate" and not one["guided"])
    return CampaignView(
        data["comparisons"],
        data["different_cases"],
        data["refused"],
        [f"{found['subject']} in {found['dtype']}: {found['reason']}" for found in data["failures"]],
        _table(data["formats"], "dtype", "format"),
        _table(data["subjects"], "subject", "implementation"),
        [f"{words} {count:,}" for words, count in data["exercised"].items()],
    )


def _table(rows: list[dict[str, Any]], key: str, called: str) -> Table:
    table = Table([called, *_COUNTED.values(), "largest z", "rate below"], [called])
    for row in rows:
        rate = "-" if row["rate_below"] is None else f"{row['rate_below']:.1e}"
        counts = (f"{row[counted]:,}" for counted in _COUNTED)
        table.rows.append([row[key], *counts, z_text(row["largest_z"]), rate])
    return table
