"""A check's result as text for a terminal or a log: views of `parity.judging.result.Result`, nothing more."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from parity.cli.terminal import coloured, table_of, verdict_line
from parity.judging.quantity_result import QuantityResult
from parity.judging.result import ModeResult, Result, TruthResult
from parity.quantities import FIELDS
from parity.verdict import Verdict
from parity.words import counted


def check_report(result: Result, source: str) -> Group:
    """The whole result; source says where the documents came from."""
    return Group(
        Text(_heading(result, source)),
        *(part for mode in result.modes for part in ("", *_mode_report(mode, result.judge.limit))),
        "",
        verdict_line(result.verdict, _summary(result)),
    )


def _heading(result: Result, source: str) -> str:
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


def _mode_report(mode: ModeResult, limit: float) -> list[RenderableType]:
    """A row for each quantity, the first divergence, and what the check could not see."""
    title = f"{mode.mode}, {counted(mode.steps, 'step')}: {mode.verdict}"
    rows = [mode.quantities[quantity] for quantity in FIELDS.values() if quantity in mode.quantities]
    parts: list[RenderableType] = [_quantity_table(rows, title) if rows else Text(title, style="bold")]
    if mode.verdict.passes:
        parts += _power_table(mode)
    if mode.first_divergence:
        parts.append(Text(f"first divergence: {mode.first_divergence} (limit {limit:.1f})", style="red"))
    if mode.first_site:
        parts.append(Text(f"first site outside: {mode.first_site} (limit {limit:.1f})", style="red"))
    blind = [
        f"{row.quantity if tensor in ('loss', 'logits') else f'{row.quantity} {tensor}'} ({', '.join(wrong)})"
        for row in rows
        for tensor, wrong in row.blind.items()
    ]
    if blind:
        parts.append(Text(f"vacuous, since a wrong answer would have passed: {'; '.join(blind)}", style="yellow"))
    if mode.truth:
        parts += _truth_table(mode.truth, limit)
    return [*parts, *map(Text, _remarks(mode))]


def _remarks(mode: ModeResult) -> list[str]:
    """What was unusual, and is no reason for the verdict."""
    remarks = []
    if mode.near_gates:
        remarks.append(
            f"{mode.near_gates} ReLU inputs within the noise floor of zero, {mode.turned_gates} decided the other way"
        )
    if mode.repeatable is False:
        remarks.append("Asked the same question a second time, the subject answered with other bits.")
    if mode.own_updates:
        remarks.append(
            f"{counted(mode.own_updates, 'update')} judged alone: a gradient within its noise floor decides it"
        )
    return remarks


def _quantity_table(rows: list[QuantityResult], title: str) -> Table:
    """A row for each quantity of which something was compared."""
    columns = ("quantity", "verdict", "z", "where", "error", "ULPs", "compared", "both 0", "would catch")
    table = table_of(columns, words=("quantity", "verdict", "where"), title=title)
    for row in rows:
        if row.largest_z and row.largest_error and row.largest_ulps:
            table.add_row(
                row.quantity,
                coloured(row.verdict),
                f"{row.largest_z.z:.2g}",
                f"{row.largest_z.where}, step {row.largest_z.step}",
                f"{row.largest_error.error:.1e}" if row.largest_error.error else "0",
                f"{row.largest_ulps.ulps:.2g}",
                f"{row.compared:,}",
                f"{row.zero_in_both:,}",
                _power(row),
            )
    return table


def _truth_table(truth: TruthResult, limit: float) -> list[RenderableType]:
    """The largest z of each quantity between subject, reference and truth, and which of them is wrong."""
    columns = {
        "subject against truth": truth.subject,
        "reference against truth": truth.reference,
        "subject against reference": truth.apart,
    }
    table = table_of(("quantity", *columns), words=("quantity",), title=f"largest z (limit {limit:.1f})")
    for quantity in truth.subject:
        table.add_row(quantity, *(f"{z[quantity]:.2g}" if quantity in z else "-" for z in columns.values()))
    return [table, Text(truth.sentence(limit))]


def _power_table(mode: ModeResult) -> list[RenderableType]:
    """For every tensor, the smallest relative error that would have been caught: of the median element, the worst."""
    columns = {q: mode.quantities[q].power for q in ("grad", "m", "v", "param") if q in mode.quantities}
    if not columns:
        return []
    title = f"would catch, {mode.mode}: relative error (median, worst)"
    table = table_of(("tensor", *columns), words=("tensor",), title=title)
    for tensor in next(iter(columns.values())):
        cells = [column[tensor] for column in columns.values()]
        table.add_row(tensor, *(f"{p.median:.0e}, {p.worst:.0e}" if p.medians else "nothing" for p in cells))
    return [table]


def _power(row: QuantityResult) -> str:
    """The same over the tensors of a quantity: the median of their medians, the worst."""
    medians = sorted(power.median for power in row.power.values() if power.medians)
    if not medians:
        return "nothing"
    return f"{medians[len(medians) // 2]:.0e}, {max(power.worst for power in row.power.values()):.0e}"


def _summary(result: Result) -> str:
    """The verdict's reason, and what it does not cover."""
    parts = [result.reason]
    if result.verdict is not Verdict.ERROR:
        if result.unchecked:
            parts.append(f"Not exposed by the subject, so not checked: {', '.join(result.unchecked)}.")
        decided = [found for found in result.probes if found.verdict is not None]
        if decided and result.verdict.passes:
            largest = max(found.result.largest_z or 0.0 for found in decided if found.result)
            parts.append(f"{counted(len(decided), 'probe')} passed besides: largest z {largest:.2g}.")
        if result.not_exercised:
            parts.append(f"Not exercised: {'; '.join(result.not_exercised)}.")
    return " ".join(parts)
