"""A verification as a table: a line for each case, the verdict, and where the first failure begins."""

from rich.console import Group, RenderableType
from rich.text import Text

from parity.cli.check_tables import located_title
from parity.cli.terminal import coloured, labelled, table_of, verdict_line
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
    return Group(Text(files), table, verdict_line(verification.verdict, verification.reason), *_located(verification))


def _located(verification: Verification) -> list[RenderableType]:
    """Tensor by tensor what is right and what is wrong in the first case that diverged."""
    for case in verification.cases:
        for mode in case.result.modes if case.result else ():
            if mode.location:
                title = f"\ncase {case.vector.name}, {located_title(mode.location)}"
                return [Text(title), labelled(mode.location_lines)]
    return []
