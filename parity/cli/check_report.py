"""A check's result as text for a terminal or a log: views of `parity.judging.result.Result`, nothing more."""

from rich.console import Group, RenderableType
from rich.text import Text

from parity.cli import check_tables
from parity.cli.terminal import FirstThatFits, Rows, labelled, listed, verdict_line
from parity.judging.mode_result import ModeResult
from parity.judging.result import Result
from parity.verdict import Verdict

_WORST_ELEMENT = (
    "the worst element is the one nearest 0 beside its noise floor; above 1, rounding alone may be larger than its "
    "value (parity help verdict)"
)
_DIRECTIONS = (
    "of each tensor as a whole, how much too much or too little there is: 0.01 of its scale is 1 % too large "
    "(parity help verdict)"
)


def check_report(result: Result, source: str, verbose: bool = False) -> Group:
    """The whole result, its verdict first; source says where the documents came from.

    verbose: with every number of every mode, and the power of every tensor.
    """
    parts: list[RenderableType] = [verdict_line(result.verdict, result.reason)]
    parts += [Text(f"  {line}") for line in result.last_words]
    parts += [Text(result.named, style="bold")] if result.named else []
    parts += ["", labelled(check_tables.heading(result, source))]
    parts += _failure(result) if result.located else _overview(result)
    for phrase in check_tables.remarks(result):
        parts.append(Text(phrase, style="yellow"))
    for mode in result.modes:
        if mode.truth:
            title = check_tables.truth_title(result)
            parts += ["", _table(check_tables.truth(mode.truth), title), Text(mode.truth.sentence(result.judge.limit))]
    if result.not_exercised and result.verdict.exit_status != 1:
        parts += ["not exercised:", listed(result.not_exercised)]
    if verbose and result.excluded and result.excluded.undecided:
        parts += ["known mistakes that this does not exclude:", listed(check_tables.undecided(result.excluded))]
    if verbose:
        parts += [part for mode in result.deciding.modes for part in _everything(mode)]
    return Group(*parts)


def _overview(result: Result) -> list[RenderableType]:
    """A row for each quantity over all modes."""
    table = check_tables.overview(result)
    title = "compared before it failed" if result.verdict is Verdict.ERROR else None
    return [*([""] if title else []), _table(table, title)] if table.rows else [""]


def _failure(result: Result) -> list[RenderableType]:
    """What is right and what is wrong, in every mode of the case or probe that failed."""
    parts: list[RenderableType] = [""]
    deciding = result.deciding
    for mode in deciding.modes:
        title = check_tables.mode_title(mode, result)
        if mode.first_divergence is None or check_tables.says_the_same(mode, deciding):
            parts += [Text(title, style="bold"), ""]
            continue
        limit = deciding.judge.limit
        tables = (check_tables.failure(mode, limit, without) for without in check_tables.NARROWER)
        parts.append(FirstThatFits(*(_table(table, title) for table in tables)))
        if mode.location:
            parts += [Text(check_tables.located_title(mode.location)), labelled(mode.location_lines), ""]
        if mode.first_site:
            parts += [Text(check_tables.first_site(mode.first_site, deciding.judge.limit), style="red"), ""]
    return parts


def _everything(mode: ModeResult) -> list[RenderableType]:
    """Every number that is kept of a mode, and the power of every tensor."""
    parts: list[RenderableType] = [
        "",
        _table(check_tables.numbers(mode), f"{mode.mode}: the element with the largest z"),
    ]
    if mode.location:
        parts += ["", _table(check_tables.tensors(mode.location), f"{mode.mode}: step {mode.location.step}")]
    power = check_tables.power(mode)
    if power.rows:
        parts += ["", _table(power, f"{mode.mode}: relative error that would be caught, median and worst element")]
        parts.append(Text(_WORST_ELEMENT))
    if mode.evidence:
        title = f"{mode.mode}: along directions, limit {mode.evidence[0].limit:.1f}"
        parts += ["", _table(check_tables.along_directions(mode), title), Text(_DIRECTIONS)]
    return [*parts, *map(Text, check_tables.mode_remarks(mode))]


def _table(table: "check_tables.Cells", title: str | None = None) -> RenderableType:
    return Rows(table.columns, table.words, table.rows, title, groups=table.groups)
