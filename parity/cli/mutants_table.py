"""The catalogue and the detection matrix as tables for a terminal, and as Markdown."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.text import Text

from parity.catalogue.matrix_result import COLUMNS, MISSED_BY, Column
from parity.catalogue.mutants import Mutant
from parity.cli.terminal import Rows
from parity.words import counted, in_few

_LEGEND = (
    "shows in: the first quantity, in the order of computation, that is outside of twice the limit, in the "
    "default case or in a probe (same: it is no mistake, since it computes the same); z: the largest one of it; "
    "together: by how many standard deviations right and wrong "
    "answers are apart over so many documents, all elements added up (limit about 8); missed by: the rules with fixed "
    "tolerances that take a run of the case with the mistake for a right one:"
)
_WORDS = tuple(column.heading for column in COLUMNS if column.is_word)
_CATALOGUE = ("mistake", "stage", "place", "what is wrong", "made in")
_SUMMARY = {
    "mistakes": "all",
    "caught": "caught by a check",
    "caught_by_case": "by its case, before any probe",
}


def catalogue_table(mutants: Sequence[Mutant]) -> Rows:
    """Every known mistake, with its place and where somebody made it."""
    rows = []
    for mutant in mutants:
        said = f"{mutant.mistake} Equivalent: {mutant.equivalent}" if mutant.equivalent else mutant.mistake
        rows.append((mutant.name, mutant.stage, mutant.place, said, "; ".join(mutant.sources)))
    return Rows(_CATALOGUE, _CATALOGUE, rows, stacked=True)


def matrix_report(data: Mapping[str, Any]) -> Group:
    """What comes of it, a table for each format, and what the headings mean."""
    headings = [column.heading for column in _columns(data)]
    tables = [Rows(headings, _WORDS, rows, f"{dtype}:", stacked=True) for dtype, rows in _rows(data)]
    heading, numbers = _counted(data)
    lines = [Text(line) for line in _sentences(data)]
    legend = Text("\n".join([_LEGEND, *_rules(data)]) if data["rules"] else _LEGEND.partition("; missed")[0], "dim")
    return Group(_verdict(data), "", *tables, legend, "", Rows(heading, heading[:1], numbers), *lines)


def _verdict(data: Mapping[str, Any]) -> Text:
    """How many of them a check catches, by format."""
    formats = data["summary"]["formats"]
    said: list[str] = []
    besides: list[str] = []
    for dtype, found in formats.items():
        of = "" if said else f" of {counted(found['mistakes'], 'known mistake')}"
        said.append(f"{found['caught']:,}{of} in {dtype}")
        besides += [f"missed in {dtype}: {in_few(found['missed'])}"] if found["missed"] else []
        besides += [f"refused in {dtype} though equivalent: {in_few(found['refused'])}"] if found["refused"] else []
    passed = max((found.get("equivalent", 0) - len(found["refused"]) for found in formats.values()), default=0)
    besides += [f"{passed} more that computes the same is let pass"] if passed > 0 else []
    exact = formats.get("float64", {"missed": [], "refused": []})
    right = not (exact["missed"] or exact["refused"])
    return Text.assemble(
        ("Caught", "bold green" if right else "bold red"), f": {'; '.join([', '.join(said), *besides])}."
    )


def matrix_markdown(data: Mapping[str, Any]) -> str:
    """The same as Markdown, what comes of it first."""
    heading, summed = _counted(data)
    lines = [*markdown_table(heading, [False] + [True] * (len(heading) - 1), summed), ""]
    lines += [f"{line}\n" for line in _sentences(data)]
    lines += [_LEGEND if data["rules"] else _LEGEND.partition("; missed")[0] + ".", ""]
    lines += [f"- {rule}" for rule in _rules(data)]
    for dtype, rows in _rows(data):
        columns = _columns(data)
        numbers, headings = [not column.is_word for column in columns], [column.heading for column in columns]
        lines += ["", f"**{dtype}**", "", *markdown_table(headings, numbers, rows)]
    return "\n".join(lines) + "\n"


def markdown_table(heading: Sequence[str], numbers: Sequence[bool], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown; numbers: which columns stand to the right."""
    line = ["---:" if number else "---" for number in numbers]
    return [f"| {' | '.join(cells)} |" for cells in (heading, line, *rows)]


def _rows(data: Mapping[str, Any]) -> Iterator[tuple[str, list[list[str]]]]:
    """By format, the cells of every mistake."""
    for number, dtype in enumerate(data["dtypes"]):
        rows = [entry["formats"][number] for entry in data["mutants"]]
        yield dtype, [[column.text(row) for column in _columns(data)] for row in rows]


def _columns(data: Mapping[str, Any]) -> list[Column]:
    """Those of which something was asked."""
    return [column for column in COLUMNS if data["rules"] or column.heading != MISSED_BY]


def _counted(data: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """How many mistakes are caught, and how many each rule misses, by format: a heading and rows."""
    formats = data["summary"]["formats"].values()
    rows = [[words, *(str(found[key]) for found in formats)] for key, words in _SUMMARY.items()]
    if any(found.get("equivalent") for found in formats):
        rows.append(["equivalent, and so no mistakes", *(str(found["equivalent"]) for found in formats)])
    rows += [[f"missed by {rule}", *(str(found["missed_by"][rule]) for found in formats)] for rule in data["rules"]]
    return ["mistakes", *data["summary"]["formats"]], rows


def _sentences(data: Mapping[str, Any]) -> list[str]:
    """What the summary says beside its numbers."""
    said = []
    for dtype, found in data["summary"]["formats"].items():
        said += [f"Missed in {dtype}: {', '.join(found['missed'])}."] if found["missed"] else []
        said += [f"Refused in {dtype} though equivalent: {', '.join(found['refused'])}."] if found["refused"] else []
    for dtype, names in data["rules_refusing_the_twin"].items():
        said += (
            [f"In {dtype} the line-for-line twin, which is right, is refused by: {', '.join(names)}."] if names else []
        )
    located = data["summary"]["located"]
    if located:
        share = f"{located['right'] / located['asked']:.1%}"
        wrong = f" Elsewhere: {', '.join(located['wrong'])}." if located["wrong"] else ""
        said.append(
            f"Located: of {located['asked']} mistakes that show in float64 a check places {located['right']} ({share}) "
            f"where they are.{wrong}"
        )
    return said


def _rules(data: Mapping[str, Any]) -> list[str]:
    return [f"{name}: {sentence}" for name, sentence in data["rules"].items()]
