"""A result as text for a terminal or a log: views of `parity.judging.checking.Result`, nothing more."""

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from parity.judging.result import ModeResult, QuantityResult, Result, TruthResult
from parity.quantities import FIELDS
from parity.verdict import Verdict

STYLES = {Verdict.IDENTICAL: "bold green", Verdict.PARITY: "bold green", Verdict.INCONCLUSIVE: "bold yellow"}
LOG_WIDTH = 118
"""Columns where the output is not a terminal."""


def console(stderr: bool = False) -> Console:
    """Where results go: as wide as the terminal, or as LOG_WIDTH."""
    terminal = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return terminal if terminal.is_terminal else Console(stderr=stderr, highlight=False, width=LOG_WIDTH)


def rendered(result: Result, source: str) -> Group:
    """The whole result; source says where the documents came from."""
    return Group(
        Text(heading(result, source)),
        *(part for mode in result.modes for part in ("", *mode_table(mode, result))),
        "",
        Text.assemble((result.verdict.value, style(result.verdict)), f": {summary(result)}"),
    )


def counted(number: int, what: str) -> str:
    """A number of things, in words."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def style(verdict: Verdict) -> str:
    """The colour of a verdict."""
    return STYLES.get(verdict, "bold red")


def heading(result: Result, source: str) -> str:
    """What was checked, in three lines."""
    case, config, hyper = result.case, result.case.config, result.case.hyper
    run = f"{counted(case.steps, 'step')} of {counted(case.batch_size, 'document')}"
    return (
        f"config:  n_layer {config.n_layer}, n_embd {config.n_embd}, n_head {config.n_head}, block_size "
        f"{config.block_size}, vocab_size {config.vocab_size}, {config.activation}: {config.num_params():,} "
        "parameters\n"
        f"data:    {source}, {run}, "
        f"learning rate {hyper.learning_rate} falling to 0 at step {hyper.num_steps}\n"
        f"subject: {result.subject} in {result.judge.form.name}"
    )


COLUMNS = ("quantity", "verdict", "z", "where", "error", "ULPs", "compared", "both 0", "would catch")


def mode_table(mode: ModeResult, result: Result) -> list[RenderableType]:
    """A row for each quantity, the first divergence, and what the check could not see."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left", title_style="bold")
    title = f"{mode.mode}, {counted(mode.steps, 'step')}: {mode.verdict}"
    table.title = title
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("quantity", "verdict", "where") else "right")
    rows = [mode.quantities[quantity] for quantity in FIELDS.values() if quantity in mode.quantities]
    for row in rows:
        if row.largest_z and row.largest_error and row.largest_ulps:
            table.add_row(
                row.quantity,
                Text(row.verdict.value, style=style(row.verdict)),
                f"{row.largest_z.z:.2g}",
                f"{row.largest_z.where}, step {row.largest_z.step}",
                f"{row.largest_error.error:.1e}" if row.largest_error.error else "0",
                f"{row.largest_ulps.ulps:.2g}",
                f"{row.compared:,}",
                f"{row.zero_in_both:,}",
                power(row),
            )
    parts: list[RenderableType] = [table if rows else Text(title, style="bold")]
    if mode.verdict.exit_status == 0:
        parts += power_table(mode)
    if mode.first_divergence:
        parts.append(Text(f"first divergence: {mode.first_divergence} (limit {result.judge.limit:.1f})", style="red"))
    if mode.first_site:
        parts.append(Text(f"first site outside: {mode.first_site} (limit {result.judge.limit:.1f})", style="red"))
    blind = [
        f"{row.quantity if tensor in ('loss', 'logits') else f'{row.quantity} {tensor}'} ({', '.join(wrong)})"
        for row in rows
        for tensor, wrong in row.blind.items()
    ]
    if blind:
        parts.append(Text(f"vacuous, since a wrong answer would have passed: {'; '.join(blind)}", style="yellow"))
    if mode.truth:
        parts += truth_table(mode.truth, result.judge.limit)
    if mode.kinks:
        parts.append(
            Text(f"{mode.kinks} ReLU inputs within the noise floor of zero, {mode.kinks_turned} decided the other way")
        )
    if mode.repeatable is False:
        parts.append(Text("Asked the same question a second time, the subject answered with other bits."))
    if mode.steep:
        parts.append(
            Text(f"{counted(mode.steep, 'update')} judged alone: a gradient within its noise floor decides it")
        )
    return parts


def truth_table(truth: TruthResult, limit: float) -> list[RenderableType]:
    """The largest z of each quantity between subject, reference and truth, and which of them is wrong."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left", title_style="bold")
    table.title = f"largest z (limit {limit:.1f})"
    columns = {
        "subject against truth": truth.subject,
        "reference against truth": truth.reference,
        "subject against reference": truth.apart,
    }
    table.add_column("quantity")
    for column in columns:
        table.add_column(column, justify="right")
    for quantity in truth.subject:
        table.add_row(quantity, *(f"{z[quantity]:.2g}" if quantity in z else "-" for z in columns.values()))
    return [table, Text(truth.sentence(limit))]


def power_table(mode: ModeResult) -> list[RenderableType]:
    """For every tensor, the smallest relative error that would have been caught: of the median element, the worst."""
    rows = {q: mode.quantities[q].power for q in ("grad", "m", "v", "param") if q in mode.quantities}
    if not rows:
        return []
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left", title_style="bold")
    table.title = f"would catch, {mode.mode}: relative error (median, worst)"
    table.add_column("tensor")
    for quantity in rows:
        table.add_column(quantity, justify="right")
    for tensor in next(iter(rows.values())):
        cells = [row[tensor] for row in rows.values()]
        table.add_row(tensor, *(f"{p.median:.0e}, {p.worst:.0e}" if p.medians else "nothing" for p in cells))
    return [table]


def power(row: QuantityResult) -> str:
    """The same over the tensors of a quantity: the median of their medians, the worst."""
    medians = sorted(power.median for power in row.power.values() if power.medians)
    if not medians:
        return "nothing"
    return f"{medians[len(medians) // 2]:.0e}, {max(power.worst for power in row.power.values()):.0e}"


def summary(result: Result) -> str:
    """The verdict's reason, and what it does not cover."""
    parts = [result.reason]
    if result.verdict is not Verdict.ERROR:
        if result.unchecked:
            parts.append(f"Not exposed by the subject, so not checked: {', '.join(result.unchecked)}.")
        if result.case.not_exercised():
            parts.append(f"Not exercised by this case: {', '.join(result.case.not_exercised())}.")
    return " ".join(parts)
