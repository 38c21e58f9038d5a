"""A verification as text: the verdict, a row for each case, and where the first failure begins."""

from rich.console import Group, RenderableType
from rich.text import Text

from parity.cli.check_tables import located_title
from parity.cli.terminal import Rows, coloured, labelled, verdict_line
from parity.vectors.verify import Verification


def verification_table(verification: Verification) -> Group:
    """The outcome, its verdict first: a row for each case, and why one fails, if the verdict does not say so."""
    rows = [
        (
            case.vector.name,
            Text("-") if case.unsupported else coloured(case.verdict),
            "-" if case.largest_z is None else f"{case.largest_z:.2g}",
            str(case.vector.case.steps),
        )
        for case in verification.cases
    ]
    files = [
        ("vectors", f"{verification.folder} in {verification.cases[0].vector.dtype}"),
        ("answers", str(verification.results)),
    ]
    table = Rows(("case", "verdict", "z", "steps"), ("case", "verdict"), rows)
    said = verification.reason
    failing = [case for case in verification.cases if not (case.unsupported or case.verdict.passes)]
    reasons = [(case.vector.name, case.reason) for case in failing if case.reason not in said]
    verdict = verdict_line(verification.verdict, said)
    return Group(verdict, "", labelled(files), "", table, labelled(reasons), *_located(verification))


def _located(verification: Verification) -> list[RenderableType]:
    """Tensor by tensor what is right and what is wrong in the first case that diverged."""
    for case in verification.cases:
        for mode in case.result.modes if case.result else ():
            if mode.location:
                title = f"\ncase {case.vector.name}, {located_title(mode.location)}"
                return [Text(title), labelled(mode.location_lines)]
    return []
