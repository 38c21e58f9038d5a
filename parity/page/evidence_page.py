"""The page of the evidence: every stored result that there is, each with the command that repeats it."""

from collections import Counter
from typing import Any

from parity.page.calibration_view import calibration_view
from parity.page.campaign_view import campaign_view
from parity.page.curves import drift_chart, scaling_chart
from parity.page.detection_view import detection_view
from parity.page.evidence_view import Intervals, directions, in_words
from parity.page.ladder_view import LadderView, ladder_view, ports_view, times
from parity.page.listing import listing
from parity.page.matrix_view import matrix_view, right_answers
from parity.page.quantities import overview, power_chart, power_table
from parity.page.rendering import number, render
from parity.page.scores_view import scores_view
from parity.page.stored import COMMANDS, Stored
from parity.page.tables import Table
from parity.verdict import Verdict
from parity.words import counted

_WORDS = {"parity": "parity {}", "cpu": "{}", "cores": "{} cores", "system": "{}", "python": "{}", "torch": "torch {}"}
"""How a page writes what is known of a machine."""


def evidence_page(stored: Stored) -> str:
    """One file of HTML; UsageError where a stored result is not what its name says."""
    ports = stored.part("ports", lambda found: found["ports"])
    ladder = stored.part("ladder", lambda found: ladder_view(found, ports or []))
    right = stored.part("calibration_evidence", right_answers)
    claims = stored.part("claims", lambda found: [(c["statement"], c["measured"], c["holds"]) for c in found["claims"]])
    return render(
        "evidence.html",
        sentences=_sentences(ladder, claims),
        ladder=ladder,
        claims=claims,
        ports=stored.part("ports", ports_view),
        twin=stored.part("twin", _twin),
        blocks=stored.part("twin", listing),
        drift=stored.part("twin", drift_chart),
        calibration=stored.part("calibration", lambda found: calibration_view(found, _limit(stored))),
        campaign=stored.part("campaign_calibration", campaign_view),
        detection=stored.part("probes", detection_view),
        matrix=stored.part("mutants", lambda found: matrix_view(found, right)),
        scores=stored.part("scores", scores_view),
        seen=stored.part("twin", _seen),
        scaling=stored.part("scaling", scaling_chart),
        machines=_machines(stored),
        made={name: COMMANDS[name].replace("FILE", f"{name}.json") for name in stored.results},
    )


def _limit(stored: Stored) -> float | None:
    """Of the twin's check, if it is known."""
    return stored.part("twin", lambda found: float(found["check"]["limit"]))


def _seen(found: dict[str, Any]) -> tuple[Intervals, Table] | None:
    """What the twin's check sees along directions: a chart of the shortest format, and a table of all."""
    evidence: dict[str, list[dict[str, Any]]] = found.get("evidence", {})
    if not evidence:
        return None
    table = Table(["direction", *evidence], ["direction"])
    by_format = [{in_words(along): along["allowed"] for along in of_format} for of_format in evidence.values()]
    for name in dict.fromkeys(name for known in by_format for name in known):
        cells = [f"{number(known[name]):.2g}" if name in known else "-" for known in by_format]
        table.rows.append([name, *cells])
    form, shortest = list(evidence.items())[-1]
    return directions(form, shortest), table


def _sentences(ladder: LadderView | None, claims: list[tuple[str, str, str]] | None) -> list[str]:
    """What stands on top: how many claims hold, and how much faster the fastest thing is that computes the same."""
    said = []
    if claims:
        holds = Counter(holds for _, _, holds in claims)
        rest = f"; {holds['not measured']} were not measured" if holds["not measured"] else ""
        said.append(f"Of {len(claims)} statements about microGPT {holds['yes']} hold and {holds['no']} do not{rest}.")
    if ladder:
        best = ladder.best
        said.append(
            f"{ladder.passed} of {ladder.ran} rungs that ran compute the same function as 200 lines of pure Python, "
            f"but for rounding. The fastest, “{best['technique']}”, takes a document "
            f"{times(max(best['speed_up_over_reference']))} times as fast, in {best['dtype']}, at {best['verdict']}."
        )
        if ladder.parallel:
            passed = sum(Verdict(verdict).passes for _, verdict, _ in ladder.parallel)
            said.append(f"{passed} of {len(ladder.parallel)} techniques over ranks compute what one process does.")
    return said


def _twin(found: dict[str, Any]) -> dict[str, Any]:
    check = found["check"]
    return {
        "steps": found["lock_steps"],
        "limit": found["limit"],
        "drift_limit": found["drift_limit"],
        "drift_steps": found["drift"][-1]["step"],
        "verdict": check["verdict"],
        "verdict_steps": counted(check["run"]["steps"], "step"),
        "overview": overview(check["modes"], check["limit"]),
        "power": power_table(check["modes"]),
        "power_chart": power_chart(check["modes"]),
    }


def _machines(stored: Stored) -> Table:
    """Where each result was measured, and what repeats it."""
    table = Table(["result", "machine", "repeated by"], ["result", "machine", "repeated by"])
    for name, found in stored.results.items():
        machine = found.get("machine") or found.get("machine_info") if isinstance(found, dict) else None
        known = (machine or {}).items()
        words = [_WORDS[what].format(value) for what, value in known if what in _WORDS]
        table.rows.append([f"{name}.json", ", ".join(words) or "-", COMMANDS[name].replace("FILE", f"{name}.json")])
    return table
