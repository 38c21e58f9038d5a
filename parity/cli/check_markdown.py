"""A check's result as Markdown, for a summary or a pull request."""

from parity.cli import check_tables
from parity.cli.check_tables import Cells
from parity.judging.result import Result


def check_markdown(result: Result, source: str) -> str:
    """The whole result as a section; source says where the documents came from."""
    lines = [f"### {result.verdict}", "", result.reason, ""]
    lines += [result.named, ""] if result.named else []
    if result.last_words:
        lines += ["```", *result.last_words, "```", ""]
    lines += [*(f"- {label}: {text}" for label, text in check_tables.heading(result, source)), ""]
    if result.located:
        lines += _failure(result)
    else:
        table = check_tables.overview(result)
        lines += [*markdown_table(table), ""] if table.rows else []
    lines += [line for remark in check_tables.remarks(result) for line in (f"{remark}", "")]
    for mode in result.modes:
        if mode.truth:
            lines += [check_tables.truth_title(result), "", *markdown_table(check_tables.truth(mode.truth)), ""]
            lines += [mode.truth.sentence(result.judge.limit), ""]
    if result.not_exercised and result.verdict.exit_status != 1:
        lines += ["Not exercised:", "", *(f"- {phrase}" for phrase in result.not_exercised), ""]
    return "\n".join(lines)


def _failure(result: Result) -> list[str]:
    lines = []
    for mode in result.deciding.modes:
        lines += [f"**{check_tables.mode_title(mode, result)}**", ""]
        if mode.first_divergence is None or check_tables.says_the_same(mode, result.deciding):
            continue
        lines += [*markdown_table(check_tables.failure(mode, result.deciding.judge.limit)), ""]
        if mode.location:
            lines += [check_tables.located_title(mode.location), ""]
            lines += [*(f"- {what} {said}" for what, said in mode.location_lines), ""]
        if mode.first_site:
            lines += [check_tables.first_site(mode.first_site, result.deciding.judge.limit), ""]
    return lines


def markdown_table(table: Cells) -> list[str]:
    """The lines of a table."""
    rule = "| " + " | ".join("---" if column in table.words else "---:" for column in table.columns) + " |"
    return [_row(table.columns), rule, *map(_row, table.rows)]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
