"""A gate's result as text, as Markdown for a pull request, and as annotations of its files."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from parity.cli.check_tables import located_title
from parity.cli.terminal import Rows, labelled, style, verdict_line
from parity.gate.git import Lines
from parity.gate.result import GateResult
from parity.gate.revisions import Changed, First
from parity.gate.speed import Speed
from parity.gate.training_result import TrainingGateResult
from parity.judging.sentences import located
from parity.quantities import in_short
from parity.words import counted

AnyGateResult = GateResult | TrainingGateResult
_COLUMNS = ("quantity", "compared", "other bits", "beyond rounding", "largest z", "ULPs")


def _title(result: GateResult) -> str:
    return "head against base, in lock-step" + (", probes included" if result.head.probes else "")


def gate_report(result: GateResult) -> Group:
    """The whole result for a terminal or a log: the verdict, what to know besides, and what it rests on."""
    slower = [Text(said, style="bold red") for said in said_of_speed(result)]
    parts: list[RenderableType] = [Text(said, style=style(result.head.verdict)) for said in _leading(result)]
    verdict = verdict_line(result.verdict, _sentence(result))
    parts += [*slower, verdict] if _passes(result) else [verdict, *slower]
    parts += [*map(Text, _besides(result)), "", labelled(_heading(result))]
    if result.changed:
        parts += ["", Rows(_COLUMNS, ("quantity",), map(_cells, result.changed), _title(result))]
    if result.first and result.first.location:
        parts += [Text(_located_title(result.first)), labelled(located(result.first.location)), ""]
    if result.speed:
        parts.append(Text(f"speed: {ratio_in_words(result.speed)}"))
    if result.lines:
        parts.append(Text(f"changed: {places(result)}"))
    if result.head.excluded and _passes(result):
        parts.append(Text(f"excludes: {result.head.excluded}"))
    if result.head.unchecked:
        parts.append(Text(f"not exposed by the subject, so not checked: {in_short(result.head.unchecked)}"))
    if result.not_exercised:
        parts.append(Text(f"not exercised: {'; '.join(result.not_exercised)}"))
    return Group(*parts, *(Text(said, style="dim") for said in _quiet(result)))


def _sentence(result: GateResult) -> str:
    accepted = f', accepted as intended: "{result.accepted.reason}"' if result.accepted else ""
    return f"{result.change}{accepted}. {result.reason}"


def _leading(result: GateResult) -> list[str]:
    """What a verdict that passes must not hide, unless somebody accepted it."""
    if not result.wrong_alike or result.merged:
        return []
    return [f"Both wrong alike: base and head differ from the reference in the same way ({result.head.verdict})."]


def _quiet(result: GateResult) -> list[str]:
    """What is no news: a change that was accepted and merged."""
    if not result.merged:
        return []
    alike = ", so that both differ from the reference in the same way" if result.wrong_alike else ""
    return [f'accepted before: "{result.merged.reason}", which base has already{alike}']


def _besides(result: GateResult) -> list[str]:
    """What there is to say besides the verdict, each a fault, a warning or a hint."""
    hint = ['If that is meant, the same command with --accept "why" accepts this change; see parity help accept.']
    named = [result.head.named] if result.head.named else []
    return [*named, *(said for _, said in warnings(result)), *(hint if result.may_be_accepted else [])]


def warnings(result: AnyGateResult) -> list[tuple[str, str]]:
    """What is no verdict and ought to be seen: its kind, as an annotation has it, and the sentence."""
    faults = [("warning", sentence) for sentence in result.stale]
    if result.fail_slower is not None and result.speed is None:
        faults.append(("warning", "The speed could not be compared, as --fail-slower asks."))
    return faults


def said_of_speed(result: AnyGateResult) -> list[str]:
    """The sentence of a step that takes longer than it may; none otherwise."""
    if not result.slower:
        return []
    assert result.speed
    assert result.speed.interval
    least, allowed = result.speed.interval[0], result.fail_slower
    return [f"SLOWER: a step at head takes at least {least:.2f} of the time at base; the limit is {allowed:g}."]


def _passes(result: AnyGateResult) -> bool:
    """But for its speed."""
    return result.verdict.passes or result.accepted is not None


def _located_title(first: First) -> str:
    probe = f"the probe {first.probe.name}, " if first.probe else ""
    assert first.location
    return f"head beside base in {probe}{located_title(first.location)}"


def _heading(result: GateResult) -> list[tuple[str, str]]:
    """What was compared: labels, and what stands beside them."""
    base = f"{result.base.verdict} against the reference" if result.base else _base_alone(result)
    steps = counted(result.head.case.steps, "step")
    return [
        ("subject", f"{result.subject} in {result.head.judge.form.name}, {steps}"),
        ("head", f"{result.head_name}: {result.head.verdict} against the reference"),
        ("base", f"{result.base_name}: {base}"),
    ]


def _base_alone(result: GateResult) -> str:
    return "no such subject" if result.is_new else "the same bits"


def ratio_in_words(found: Speed) -> str:
    """The ratio in words."""
    low, high = found.interval or (found.low, found.high)
    range_of = "95 % interval" if found.interval else "quartiles"
    return (
        f"a step at head takes {found.ratio:.2f} of the time at base ({range_of} {low:.2f} to {high:.2f} of "
        f"{counted(found.pairs, 'interleaved pair')}; medians {found.head_seconds * 1e3:.3g} and "
        f"{found.base_seconds * 1e3:.3g} ms)" + ("; no difference can be told" if found.tells_no_difference else "")
    )


def gate_markdown(result: GateResult) -> str:
    """A section for a pull request."""
    says = f"{result.verdict}: {result.change}{', accepted as intended' if result.accepted else ''}"
    lines = [f"### SLOWER ({says})" if result.slower and _passes(result) else f"### {says}", ""]
    lines += [f"**{sentence}**\n" for sentence in (*said_of_speed(result), *_leading(result))]
    lines += [f"> {result.accepted.reason}", ""] if result.accepted else []
    lines += [result.reason, "", *(f"**{sentence}**\n" for sentence in _besides(result))]
    lines += ["| | revision | against the reference |"]
    lines += ["| --- | --- | --- |", f"| head | {result.head_name} | {result.head.verdict} |"]
    lines += [f"| base | {result.base_name} | {result.base.verdict if result.base else _base_alone(result)} |", ""]
    if result.changed:
        lines += [f"| {' | '.join(_COLUMNS)} |", "| --- " + "| ---: " * (len(_COLUMNS) - 1) + "|"]
        lines += [f"| {' | '.join(_cells(row))} |" for row in result.changed] + [""]
    if result.first and result.first.location:
        lines += [_located_title(result.first), ""]
        lines += [*(f"- {what} {said}" for what, said in located(result.first.location)), ""]
    if result.speed:
        lines += [f"Speed: {ratio_in_words(result.speed)}.", ""]
    if result.lines:
        lines += [f"Changed: {places(result)}.", ""]
    if result.head.unchecked:
        lines += [f"Not exposed by the subject, so not checked: {in_short(result.head.unchecked)}.", ""]
    if result.head.excluded and _passes(result):
        lines += [f"Excludes {result.head.excluded}.", ""]
    if result.not_exercised:
        lines += [f"Not exercised: {'; '.join(result.not_exercised)}.", ""]
    lines += [line for said in _quiet(result) for line in (f"{said[:1].upper()}{said[1:]}.", "")]
    run = f"{counted(result.head.case.steps, 'step')} in {result.head.judge.form.name}"
    return "\n".join([*lines, f"Subject `{result.subject}`, {run}, limit {result.head.judge.limit:.1f}.", ""])


def annotations(result: AnyGateResult) -> list[str]:
    """Workflow commands of GitHub Actions, one for each fault: a verdict stands at the first line that changed."""
    found = []
    if not result.verdict.passes and not result.accepted:
        kind = "error" if result.verdict.exit_status == 1 else "warning"
        place = next((f"file={_escaped(file, ',:')},line={line}," for file, line in result.files.items()), "")
        several = sum(map(len, result.lines.values())) > 1
        changed = f" Changed: {places(result)}." if several else ""
        found.append((kind, place, f"{result.verdict}: {result.change}. {result.reason}{changed}"))
    found += [("error", "", sentence) for sentence in said_of_speed(result)]
    found += [(kind, "", sentence) for kind, sentence in warnings(result)]
    return [f"::{kind} {place}title=parity gate::{_escaped(message)}" for kind, place, message in found]


_MOST_PLACES = 8
"""That are named of a file, and files that are named."""


def places(result: AnyGateResult) -> str:
    """The changed lines, file by file: `model.py:92, 100-104; port.py:3`."""
    files = [f"{file}:{_runs(lines)}" for file, lines in result.lines.items()]
    return _first_of(files, "; ", "file")


def _runs(lines: Sequence[Lines]) -> str:
    runs = [str(first) if first == last else f"{first}-{last}" for first, last in lines]
    return _first_of(runs, ", ", "place")


def _first_of(parts: list[str], separator: str, what: str) -> str:
    left = len(parts) - _MOST_PLACES
    more = [f"and {counted(left, f'more {what}')}"] if left > 0 else []
    return separator.join([*parts[:_MOST_PLACES], *more])


def _cells(row: Changed) -> tuple[str, ...]:
    z = f"{row.largest.z:.2g}" if row.largest and row.largest.z >= 0 else "-"
    return row.quantity, f"{row.compared:,}", f"{row.different:,}", f"{row.outside:,}", z, f"{row.ulps:.2g}"


def _escaped(text: str, more: str = "") -> str:
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text
