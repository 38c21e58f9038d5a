"""A gate's result as text, as Markdown for a pull request, and as annotations of its files."""

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from parity.cli.check_report import counted, style
from parity.gate import GateResult
from parity.gate.revisions import Changed
from parity.gate.speed import Speed

COLUMNS = ("quantity", "compared", "other bits", "beyond rounding", "largest z", "ULPs")


def rendered(result: GateResult) -> Group:
    """The whole result for a terminal or a log."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left", title_style="bold")
    table.title = "head against base"
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "quantity" else "right")
    for row in result.changed:
        table.add_row(*_cells(row))
    verdict = Text.assemble((result.verdict.value, style(result.verdict)), f": {result.change}. {result.reason}")
    return Group(
        Text(heading(result)),
        *(["", table] if result.changed else [""]),
        *([Text(f"speed: {speed(result.speed)}")] if result.speed else []),
        *([Text(f"changed: {_places(result)}")] if result.files else []),
        *([""] if result.speed or result.files else []),
        verdict,
    )


def heading(result: GateResult) -> str:
    """What was compared, in three lines."""
    against = [f"{result.head.verdict} against the reference"]
    against.append(f"{result.base.verdict} against the reference" if result.base else "not checked by itself")
    return (
        f"subject: {result.subject} in {result.head.judge.form.name}, {counted(result.head.case.steps, 'step')}\n"
        f"head:    {result.head_name}: {against[0]}\n"
        f"base:    {result.base_name}: {against[1]}"
    )


def speed(found: Speed) -> str:
    """The ratio in words."""
    return (
        f"a step at head takes {found.ratio:.2f} of the time at base (quartiles {found.low:.2f} to {found.high:.2f} of "
        f"{counted(found.pairs, 'interleaved pair')}; medians {found.head_seconds * 1e3:.3g} and "
        f"{found.base_seconds * 1e3:.3g} ms)" + ("; no difference can be told" if found.low <= 1 <= found.high else "")
    )


def markdown(result: GateResult) -> str:
    """A section for a pull request."""
    lines = [f"### {result.verdict}: {result.change}", "", result.reason, "", "| | revision | against the reference |"]
    lines += ["| --- | --- | --- |", f"| head | {result.head_name} | {result.head.verdict} |"]
    lines += [f"| base | {result.base_name} | {result.base.verdict if result.base else 'not checked by itself'} |", ""]
    if result.changed:
        lines += [f"| {' | '.join(COLUMNS)} |", "| --- " + "| ---: " * (len(COLUMNS) - 1) + "|"]
        lines += [f"| {' | '.join(_cells(row))} |" for row in result.changed] + [""]
    if result.speed:
        lines += [f"Speed: {speed(result.speed)}.", ""]
    if result.files:
        lines += [f"Changed: {_places(result)}.", ""]
    run = f"{counted(result.head.case.steps, 'step')} in {result.head.judge.form.name}"
    return "\n".join([*lines, f"Subject `{result.subject}`, {run}, limit {result.head.judge.limit:.1f}.", ""])


def annotations(result: GateResult) -> list[str]:
    """Workflow commands of GitHub Actions that mark the changed files of a subject that does not pass."""
    if result.verdict.exit_status == 0:
        return []
    kind = "error" if result.verdict.exit_status == 1 else "warning"
    message = _escaped(f"{result.verdict}: {result.change}. {result.reason}")
    places = [f"file={_escaped(file, ',:')},line={line}," for file, line in result.files.items()]
    return [f"::{kind} {place}title=parity gate::{message}" for place in places or [""]]


def _places(result: GateResult) -> str:
    return ", ".join(f"{file}:{line}" for file, line in result.files.items())


def _cells(row: Changed) -> tuple[str, ...]:
    z = f"{row.largest.z:.2g}" if row.largest and row.largest.z >= 0 else "-"
    return row.quantity, f"{row.compared:,}", f"{row.different:,}", f"{row.outside:,}", z, f"{row.ulps:.2g}"


def _escaped(text: str, more: str = "") -> str:
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text
