"""What is drawn as curves: drift over a training, and steps of larger models."""

from typing import Any

from parity.page.line_chart import Curve, LineChart
from parity.page.rendering import number, short, z_text
from parity.page.tables import Table


def drift_chart(found: dict[str, Any]) -> LineChart:
    """Free-running errors of the parameters beside their noise floor, by step; in the table those of the loss, too."""
    rows = found["drift"]
    table = Table(
        ["step", "loss: error", "its floor", "largest z", "parameters: error", "their floor", "largest z of them"]
    )
    for row in rows:
        cells = [
            text
            for name in ("loss", "param")
            for text in (short(row[name]["error"]), short(row[name]["floor"]), z_text(row[name]["largest_z"]))
        ]
        table.rows.append([f"{row['step']:,}", *cells])

    def points(what: str) -> list[tuple[float, float]]:
        return [(row["step"], number(row["param"][what])) for row in rows if number(row["param"][what]) > 0]

    curves = [
        Curve("their noise floor: rounding alone, carried on from step to step", points("floor"), 1),
        Curve("parameters of the twin, against the reference's", points("error"), 0),
    ]
    return LineChart("drift", "step", "root mean square over all parameters", curves, table)


def scaling_chart(found: dict[str, Any]) -> LineChart:
    """Seconds of a step by n_embd, of the reference and of rungs; what is extrapolated of the reference is dashed."""
    rows = [
        (bench["params"]["shape"]["n_embd"], bench["extra_info"])
        for bench in found["benchmarks"]
        if bench["group"] == "step by shape" and "n_embd" in bench["params"]["shape"]
    ]
    names = [name for name in rows[0][1]["median_seconds"] if name != "reference"]
    table = Table(["n_embd", "reference, ms", *(f"{name}, ms" for name in names), "reference"], ["reference"])
    reference, dashed = [], len(rows)
    for place, (size, info) in enumerate(rows):
        measured = info["median_seconds"].get("reference")
        dashed = min(dashed, place) if measured is None else dashed
        reference.append((size, measured or info["reference_extrapolated_seconds"]))
        cells = [short(seconds * 1e3) for seconds in (reference[-1][1], *(info["median_seconds"][n] for n in names))]
        table.rows.append([str(size), *cells, "measured" if measured else "extrapolated by its operations"])
    curves = [Curve("reference", reference, 1, dashed if dashed < len(rows) else None)]
    curves += [
        Curve(name, [(size, info["median_seconds"][name]) for size, info in rows], colour)
        for name, colour in zip(names, (0, 2, 3, 4), strict=False)
    ]
    sizes = [(size, str(size)) for size, _ in rows]
    return LineChart("scaling", "n_embd", "seconds for a step of one document", curves, table, sizes)
