"""A verification as a table: a line for each case, and the verdict."""

from rich.console import Group
from rich.text import Text

from parity.cli.terminal import coloured, table_of, verdict_line
from parity.vectors.verify import Verification


def verification_table(verification: Verification) -> Group:
    """The outcome as a table with a line for each case, and the verdict."""
    table = table_of(("case", "verdict", "z", "steps", "reason"), words=("case", "verdict", "reason"))
    for case in verification.cases:
        table.add_row(
            case.vector.name,
            "-" if case.unsupported else coloured(case.verdict),
            "-" if case.largest_z is None else f"{case.largest_z:.2g}",
            str(case.vector.case.steps),
            case.reason,
        )
    files = f"vectors: {verification.folder} in {verification.cases[0].vector.dtype}\nanswers: {verification.results}"
    return Group(Text(files), table, verdict_line(verification.verdict, verification.reason))
