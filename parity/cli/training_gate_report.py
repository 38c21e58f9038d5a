"""What a gate found of a training, for a terminal and as Markdown for a pull request."""

from rich.console import Group, RenderableType
from rich.text import Text

from parity.cli.check_markdown import markdown_table
from parity.cli.check_tables import NARROWER, Cells
from parity.cli.gate_report import places, ratio_in_words, said_of_speed, warnings
from parity.cli.terminal import FirstThatFits, Rows, labelled, listed, verdict_line
from parity.cli.training_tables import failure, heading, located, overview
from parity.gate.training_result import TrainingGateResult
from parity.training.result import TrainingResult

_POWERS = ("would catch", "of its run")


def training_gate_report(result: TrainingGateResult) -> Group:
    """The whole result, its verdict first."""
    slower = [Text(said, style="bold red") for said in said_of_speed(result)]
    verdict = verdict_line(result.verdict, f"{result.change}. {result.reason}")
    parts: list[RenderableType] = [*slower, verdict] if result.verdict.passes else [verdict, *slower]
    parts += [*map(Text, _besides(result)), "", labelled(_heading(result)), ""]
    if tables := _tables(result):
        parts.append(FirstThatFits(*(Rows(table.columns, table.words, table.rows) for table in tables)))
    if result.found and result.found.deciding and not result.verdict.passes:
        step = _first_step(result.found)
        parts += [f"step {step}, in the order of computation:", labelled(located(result.found.deciding)), ""]
    parts += [Text(f"{label}: {text}") for label, text in _notes(result)]
    if result.found and result.found.not_exercised and result.verdict.exit_status != 1:
        parts += ["not exercised:", listed(result.found.not_exercised)]
    return Group(*parts)


def training_gate_markdown(result: TrainingGateResult) -> str:
    """A section for a pull request."""
    says = f"{result.verdict}: {result.change}"
    lines = [f"### SLOWER ({says})" if result.slower and result.verdict.passes else f"### {says}", ""]
    lines += [f"**{sentence}**\n" for sentence in (*said_of_speed(result), *_besides(result))]
    lines += [result.reason, "", *(f"- {label}: {text}" for label, text in _heading(result)), ""]
    if tables := _tables(result):
        lines += [*markdown_table(tables[0]), ""]
    if result.found and result.found.deciding and not result.verdict.passes:
        lines += [f"Step {_first_step(result.found)}, in the order of computation:", ""]
        lines += [*(f"- {label}: {text}" for label, text in located(result.found.deciding)), ""]
    lines += [line for label, text in _notes(result) for line in (f"{label[:1].upper()}{label[1:]}: {text}.", "")]
    if result.found and result.found.not_exercised and result.verdict.exit_status != 1:
        lines += ["Not exercised:", "", *(f"- {phrase}" for phrase in result.found.not_exercised), ""]
    return "\n".join(lines)


def _besides(result: TrainingGateResult) -> list[str]:
    """What there is to say besides the verdict."""
    alike = "Both wrong alike: neither base nor head computes what its own operations are in exact arithmetic."
    return [*([alike] if result.wrong_alike else []), *(sentence for _, sentence in warnings(result))]


def _heading(result: TrainingGateResult) -> list[tuple[str, str]]:
    """What was compared: labels, and what stands beside them."""
    of_training = [line for line in heading(result.found) if line[0] != "against"] if result.found else []
    first, *rest = of_training or [("training", result.subject)]
    base = f"{result.base_name}: no such training" if result.is_new else result.base_name
    return [first, ("head", result.head_name), ("base", base), *rest]


def _tables(result: TrainingGateResult) -> list[Cells]:
    """The table of the result, and a narrower one: what is outside, or how near to the limit all of it is."""
    found = result.found
    if found is None:
        return []
    deciding = None if result.verdict.passes else found.deciding
    if deciding is not None:
        limit = found.link_limit if deciding is found.link else found.limit
        return [failure(deciding, limit, without) for without in NARROWER]
    table = overview(found)
    if result.bits:
        rows = result.bits.rows
        different = {name: f"{row.different:,}" for name, row in rows.items()}
        table.columns.insert(2, "other bits")
        for row in table.rows:
            row.insert(2, different.get(row[0], "-"))
    return [table, table.without(_POWERS)]


def _first_step(found: TrainingResult) -> int:
    first = found.deciding.first_divergence if found.deciding else None
    return first.step if first else 0


def _notes(result: TrainingGateResult) -> list[tuple[str, str]]:
    found = [("note", remark) for remark in (result.found.remarks if result.found else [])]
    found += [("speed", ratio_in_words(result.speed))] if result.speed else []
    return [*found, *([("changed", places(result))] if result.lines else [])]
