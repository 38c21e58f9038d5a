"""A campaign's ledger as tables for a terminal, and as Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from parity.cli.mutants_table import markdown_table
from parity.cli.terminal import Rows, labelled, listed
from parity.words import counted

_COLUMNS = (
    "format",
    "cases",
    "comparisons",
    "refused",
    "undecided",
    "not finite",
    "largest z",
    "of limit",
    "rate below",
)
_GROUPS = (5, 3)
_MISTAKE_COLUMNS = ("mistake", "format", "comparisons", "caught", "smallest z caught")
_MOST_EXERCISED = 40
_LEGEND = (
    "cases: each counted once for every subject and format; comparisons: a case in one mode; undecided: INCONCLUSIVE, "
    "nothing could be said; not finite: a right subject overflows in its format, and nothing is compared; of limit: "
    "the largest z that passed, as a part of its limit; rate below: what the rate of refusals lies below with a "
    "probability of 95 % (Clopper and Pearson)"
)


def campaign_report(data: Mapping[str, Any]) -> list[RenderableType]:
    """What came of it first, then tables by format and subject, failures with what repeats them, what was exercised."""
    parts: list[RenderableType] = [Text(sentence(data), style=_style(data)), Text()]
    if data["formats"] and not data["mistakes"]:
        parts += [Rows(_COLUMNS, _COLUMNS[:1], _rows(data["formats"], "dtype"), groups=_GROUPS)]
        if len(data["subjects"]) > 1:
            columns = ("subject", *_COLUMNS[1:])
            parts += [Rows(columns, columns[:1], _rows(data["subjects"], "subject"), groups=_GROUPS)]
        parts += [Text(_LEGEND, style="dim"), Text()]
    if data["mistakes"]:
        parts += [Rows(_MISTAKE_COLUMNS, _MISTAKE_COLUMNS[:2], _mistake_rows(data))]
    for failure in data["failures"]:
        parts += [
            Text(f"{_failed(failure)}: {failure['reason']}"),
            Text(f"  {_repeat(failure)}"),
            Text(),
        ]
    parts += [Text(f"{died['item']}: {died['why']}.") for died in data["died"]]
    parts += [Text(line) for line in _extremes(data)]
    parts += [labelled(_facts(data)), Text(), Text("exercised, in so many cases:"), listed([_exercised(data)])]
    return parts


def campaign_markdown(data: Mapping[str, Any]) -> str:
    """The same as Markdown."""
    lines = [f"**{sentence(data)}**", ""]
    if data["formats"] and not data["mistakes"]:
        numbers = [False, *[True] * (len(_COLUMNS) - 1)]
        lines += [
            *markdown_table(_COLUMNS, numbers, _rows(data["formats"], "dtype")),
            "",
            f"{_LEGEND[0].upper()}{_LEGEND[1:]}.",
            "",
        ]
        columns = ("subject", *_COLUMNS[1:])
        lines += [*markdown_table(columns, numbers, _rows(data["subjects"], "subject")), ""]
    if data["mistakes"]:
        lines += [*markdown_table(_MISTAKE_COLUMNS, [False, False, True, True, True], _mistake_rows(data)), ""]
    for failure in data["failures"]:
        lines += [f"- {_failed(failure)}: {failure['reason']} `{_repeat(failure)}`"]
    lines += [f"- {died['item']}: {died['why']}." for died in data["died"]]
    lines += [f"- {line}" for line in _extremes(data)]
    lines += ["", *(f"- {label}: {text}" for label, text in _facts(data)), f"- exercised: {_exercised(data)}"]
    return "\n".join(lines) + "\n"


def sentence(data: Mapping[str, Any]) -> str:
    """What came of it."""
    if not data["items"]:
        return "Nothing is done yet."
    if data["mistakes"]:
        asked, missed = len(data["mistakes"]), [found for found in data["mistakes"] if not found["caught"]]
        nowhere = f"; shown in no case: {', '.join(found['mistake'] for found in missed)}" if missed else ""
        return f"{asked - len(missed):,} of {asked:,} mistakes, format by format, show in some drawn case{nowhere}."
    refused, compared = data["refused"], data["comparisons"]
    what = counted(refused, "false alarm" if data["kind"] == "calibrate" else "refusal")
    died = f", {len(data['died'])} of them by killing its process" if data["died"] else ""
    undecided = f", {data['undecided']:,} undecided" if data["undecided"] else ""
    drawn = ", drawn towards the largest z" if data["guided"] else ""
    of_cases = f"{counted(compared, 'comparison')} of {counted(data['different_cases'], 'case')}"
    return f"{what}{died} in {of_cases}{drawn}{undecided}."


def _style(data: Mapping[str, Any]) -> str:
    return {0: "bold green", 3: "bold yellow"}.get(data["exit_status"], "bold red")


def _rows(found: Sequence[Mapping[str, Any]], name: str) -> Iterator[tuple[str, ...]]:
    for row in found:
        rate = row["rate_below"]
        yield (
            row[name],
            *(f"{row[key]:,}" for key in ("cases", "comparisons", "refused", "undecided", "not_finite_in_the_format")),
            f"{row['largest_z']:.1f}",
            f"{row['largest_part_of_the_limit']:.2f}",
            "-" if rate is None else f"{rate:.1e}",
        )


def _mistake_rows(data: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for row in data["mistakes"]:
        z = row["smallest_z_caught"]
        yield (
            row["mistake"],
            row["dtype"],
            f"{row['comparisons']:,}",
            f"{row['caught']:,}",
            "-" if z is None else f"{z:.3g}",
        )


def _failed(failure: Mapping[str, Any]) -> str:
    cases = counted(failure["cases"], "case")
    return f"{failure['verdict']} in {failure['mode']}, in {cases}: {_where(failure)}"


def _where(failure: Mapping[str, Any]) -> str:
    form = f" in {failure['dtype']}" if failure["dtype"] else ""
    return f"{failure['subject']}{form} ({failure['draw']}, seed {failure['seed']})"


def _repeat(failure: Mapping[str, Any]) -> str:
    return f"{failure['replay']}{'' if failure['smallest'] else '  # not shrunk'}"


def _extremes(data: Mapping[str, Any]) -> Iterator[str]:
    for found in data["extremes"]:
        part = found["part_of_the_limit"]
        top = "as far as z has numbers" if part is None else f"{part:.2f} of the limit"
        form = f" in {found['dtype']}" if found["dtype"] else ""
        yield f"climbed to {top}: {found['subject']}{form}, case {found['case'][:12]}"


def _facts(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "items", f"{data['items']:,} by {data['workers']:,} processes"
    if data["other_items"]:
        yield "", f"{data['other_items']:,} more are of other kinds or of other code, and not counted here"
    yield "code", data["revision"]
    work, wall = data["seconds_of_work"], data["seconds_from_first_to_last"]
    if work and wall:
        yield "time", f"{work:,.0f} s of work in {wall:,.0f} s: {data['cases'] / wall:.1f} cases a second"
    if data["sizes"]:
        yield "sizes", ", ".join(f"{name} {low} to {high}" for name, (low, high) in data["sizes"].items())


def _exercised(data: Mapping[str, Any]) -> str:
    return (
        ", ".join(f"{words} {count:,}" for words, count in list(data["exercised"].items())[:_MOST_EXERCISED])
        or "nothing"
    )
