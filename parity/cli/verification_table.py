"""A verification as a table: a line for each case, and the verdict."""

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from parity.cli.check_report import style
from parity.vectors.verify import Verification


def rendered(verification: Verification) -> Group:
    """The outcome as a table with a line for each case, and the verdict."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("case", "verdict", "z", "steps", "reason"):
        table.add_column(column, justify="right" if column in ("z", "steps") else "left")
    for case in verification.cases:
        z = case.largest_z
        table.add_row(
            case.vector.name,
            Text(case.verdict.value, style=style(case.verdict)),
            "-" if z is None else f"{z:.2g}",
            str(case.vector.case.steps),
            case.reason,
        )
    verdict = verification.verdict
    parts: list[RenderableType] = [Text(_heading(verification)), table]
    return Group(*parts, Text.assemble((verdict.value, style(verdict)), f": {verification.reason}"))


def _heading(verification: Verification) -> str:
    return f"vectors: {verification.folder} in {verification.cases[0].vector.dtype}\nanswers: {verification.results}"
