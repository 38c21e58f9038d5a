"""A gate's result as text, as Markdown for a pull request, and as annotations of its files."""

from rich.console import Group, RenderableType
from rich.text import Text

from parity.cli.terminal import table_of, verdict_line
from parity.gate import GateResult
from parity.gate.revisions import Changed
from parity.gate.speed import Speed
from parity.quantities import in_short
from parity.words import counted

_COLUMNS = ("quantity", "compared", "other bits", "beyond rounding", "largest z", "ULPs")


def gate_report(result: GateResult) -> Group:
    """The whole result for a terminal or a log."""
    parts: list[RenderableType] = [Text(_heading(result)), ""]
    if result.changed:
        table = table_of(_COLUMNS, words=("quantity",), title="head against base")
        for row in result.changed:
            table.add_row(*_cells(row))
        parts.append(table)
    if result.speed:
        parts.append(Text(f"speed: {_ratio_in_words(result.speed)}"))
    if result.files:
        parts.append(Text(f"changed: {_places(result)}"))
    if result.head.unchecked:
        parts.append(Text(f"not exposed by the subject, so not checked: {in_short(result.head.unchecked)}"))
    if result.head.not_exercised:
        parts.append(Text(f"not exercised: {'; '.join(result.head.not_exercised)}"))
    if result.speed or result.files or result.head.unchecked or result.head.not_exercised:
        parts.append("")
    return Group(*parts, verdict_line(result.verdict, f"{result.change}. {result.reason}"))


def _heading(result: GateResult) -> str:
    """What was compared, in three lines."""
    base = f"{result.base.verdict} against the reference" if result.base else "not checked by itself"
    return (
        f"subject: {result.subject} in {result.head.judge.form.name}, {counted(result.head.case.steps, 'step')}\n"
        f"head:    {result.head_name}: {result.head.verdict} against the reference\n"
        f"base:    {result.base_name}: {base}"
    )


def _ratio_in_words(found: Speed) -> str:
    """The ratio in words."""
    return (
        f"a step at head takes {found.ratio:.2f} of the time at base (quartiles {found.low:.2f} to {found.high:.2f} of "
        f"{counted(found.pairs, 'interleaved pair')}; medians {found.head_seconds * 1e3:.3g} and "
        f"{found.base_seconds * 1e3:.3g} ms)" + ("; no difference can be told" if found.low <= 1 <= found.high else "")
    )


def gate_markdown(result: GateResult) -> str:
    """A section for a pull request."""
    lines = [f"### {result.verdict}: {result.change}", "", result.reason, "", "| | revision | against the reference |"]
    lines += ["| --- | --- | --- |", f"| head | {result.head_name} | {result.head.verdict} |"]
    lines += [f"| base | {result.base_name} | {result.base.verdict if result.base else 'not checked by itself'} |", ""]
    if result.changed:
        lines += [f"| {' | '.join(_COLUMNS)} |", "| --- " + "| ---: " * (len(_COLUMNS) - 1) + "|"]
        lines += [f"| {' | '.join(_cells(row))} |" for row in result.changed] + [""]
    if result.speed:
        lines += [f"Speed: {_ratio_in_words(result.speed)}.", ""]
    if result.files:
        lines += [f"Changed: {_places(result)}.", ""]
    if result.head.unchecked:
        lines += [f"Not exposed by the subject, so not checked: {in_short(result.head.unchecked)}.", ""]
    if result.head.not_exercised:
        lines += [f"Not exercised: {'; '.join(result.head.not_exercised)}.", ""]
    run = f"{counted(result.head.case.steps, 'step')} in {result.head.judge.form.name}"
    return "\n".join([*lines, f"Subject `{result.subject}`, {run}, limit {result.head.judge.limit:.1f}.", ""])


def annotations(result: GateResult) -> list[str]:
    """Workflow commands of GitHub Actions that mark the changed files of a subject that does not pass."""
    if result.verdict.passes:
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
