"""What the check of a training shows in a terminal and in Markdown."""

from collections.abc import Sequence
from statistics import median

from rich.console import Group, RenderableType
from rich.text import Text

from parity.cli.check_markdown import markdown_table
from parity.cli.check_tables import NARROWER, Cells
from parity.cli.terminal import FirstThatFits, Rows, labelled, listed, verdict_line
from parity.judging.quantity_result import QuantityResult
from parity.quantities import TensorKey
from parity.training.comparison import TrainingMode, order
from parity.training.result import TrainingResult
from parity.words import beside_limit, counted

_MOST_SHOWN = 8
"""Tensors outside that are listed; the JSON has all."""


def heading(result: TrainingResult) -> list[tuple[str, str]]:
    """What was checked: labels, and what stands beside them."""
    steps = max((mode.steps for mode in result.modes), default=0)
    modes = " and ".join(mode.mode for mode in result.modes)
    lines = [
        ("training", f"{result.subject} in {', '.join(result.formats)}, on {result.place}"),
        ("model", f"{result.model}, {counted(result.parameters, 'parameter')}, {result.optimizer}"),
        ("compared", f"{counted(steps, 'step')}, {modes}; noise floor of {result.replicas} replicas"),
    ]
    return [*lines, ("against", result.how_against)] if result.against else lines


def overview(result: TrainingResult) -> Cells:
    """A row for each quantity: how near to the limit in each mode, and what would have been caught.

    Against another training that is a matter of exact arithmetic, beside its own of its formats.
    """
    columns = {f"z {mode.mode.removesuffix('-running')}": mode for mode in result.modes}
    columns |= {"z exact": result.link} if result.link else {}
    powers = (
        {"would catch": result.link, "of its run": result.modes[0]} if result.link else {"would catch": result.modes[0]}
    )
    groups = (1, *(1 for _ in columns), len(powers))
    table = Cells(["quantity", "compared", *columns, *powers], ("quantity",), groups=groups)
    for quantity in _quantities([mode for mode in columns.values() if mode]):
        rows = [mode.quantities.get(quantity) if mode else None for mode in columns.values()]
        compared = next((f"{row.compared:,}" for row in rows if row), "0")
        z = ["-" if row is None or not row.largest_z else f"{row.largest_z.z:.2g}" for row in rows]
        of_powers = [_power(mode.quantities.get(quantity) if mode else None) for mode in powers.values()]
        table.rows.append([quantity, compared, *z, *of_powers])
    return table


def failure(mode: TrainingMode, limit: float, without: Sequence[str] = ()) -> Cells:
    """A row for each quantity: how much of it is outside, and the first element that is."""
    where, sizes = "first: step, element", ["error", "relative", "z"]
    table = Cells(["quantity", "outside", "of", where, *sizes], ("quantity", where))
    for quantity in _quantities([mode]):
        row, found = mode.quantities[quantity], mode.quantities[quantity].first_outside
        cells = [quantity, f"{row.outside:,}", f"{row.compared:,}"]
        if found:
            shown = {"error": f"{found.error:.1e}", "z": beside_limit(found.z, limit)}
            shown["relative"] = "-" if found.expected == 0 else f"{found.relative_error:.2g}"
            cells += [f"{found.step}, {found.where}", *(shown[size] for size in sizes)]
        table.rows.append(cells + ["-"] * (len(table.columns) - len(cells)))
    return table.without(without)


def located(mode: TrainingMode) -> list[tuple[str, str]]:
    """The tensors outside in the order of computation, the first of them first."""
    first, *rest = mode.wrong
    lines = [("begins at", str(first))]
    lines += [("then", str(wrong)) for wrong in rest[: _MOST_SHOWN - 1]]
    if len(rest) >= _MOST_SHOWN:
        lines.append(("then", f"{counted(len(rest) - _MOST_SHOWN + 1, 'more tensor')} outside"))
    return [*lines, ("right", counted(mode.right, "tensor") + " of that step")]


def training_report(result: TrainingResult) -> Group:
    """The whole result, its verdict first."""
    parts: list[RenderableType] = [verdict_line(result.verdict, result.reason), "", labelled(heading(result)), ""]
    deciding = result.deciding
    if deciding is not None:
        limit = result.link_limit if deciding is result.link else result.limit
        title = f"{deciding.mode}, {counted(deciding.steps, 'step')}"
        parts.append(FirstThatFits(*(_table(failure(deciding, limit, without), title) for without in NARROWER)))
        step = deciding.first_divergence.step if deciding.first_divergence else 0
        parts += [f"step {step}, in the order of computation:", labelled(located(deciding)), ""]
    elif result.modes:
        parts.append(_table(overview(result)))
    parts += [Text(remark, style="yellow") for remark in result.remarks]
    if result.not_exercised and result.verdict.exit_status != 1:
        parts += ["not exercised:", listed(result.not_exercised)]
    return Group(*parts)


def training_markdown(result: TrainingResult) -> str:
    """The whole result as a section."""
    lines = [f"### {result.verdict}", "", result.reason, ""]
    lines += [*(f"- {label}: {text}" for label, text in heading(result)), ""]
    deciding = result.deciding
    if deciding is not None:
        limit = result.link_limit if deciding is result.link else result.limit
        lines += [*markdown_table(failure(deciding, limit)), ""]
        lines += [*(f"- {label}: {text}" for label, text in located(deciding)), ""]
    elif result.modes:
        lines += [*markdown_table(overview(result)), ""]
    lines += [line for remark in result.remarks for line in (remark, "")]
    if result.not_exercised and result.verdict.exit_status != 1:
        lines += ["Not exercised:", "", *(f"- {phrase}" for phrase in result.not_exercised), ""]
    return "\n".join(lines)


def _quantities(modes: list[TrainingMode]) -> list[str]:
    names = dict.fromkeys(name for mode in modes for name in mode.quantities)
    return sorted(names, key=lambda name: order(TensorKey(name, "")))


def _power(row: QuantityResult | None) -> str:
    """The smallest relative error that would have been caught, in the median tensor's median element."""
    medians = [found.median for found in row.power.values() if found.medians] if row else []
    return f"{median(medians):.0e}" if medians and median(medians) else "0" if medians else "nothing"


def _table(table: Cells, title: str | None = None) -> RenderableType:
    return Rows(table.columns, table.words, table.rows, title, groups=table.groups)
