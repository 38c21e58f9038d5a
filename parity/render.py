"""A result as text for a terminal or a log: views of `parity.checking.Result`, nothing more."""

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from parity.checking import ModeResult, Result
from parity.compare import FIELDS
from parity.verdict import Verdict

STYLES = {Verdict.IDENTICAL: "bold green", Verdict.PARITY: "bold green", Verdict.INCONCLUSIVE: "bold yellow"}
LOG_WIDTH = 110
"""Columns where the output is not a terminal."""


def console(stderr: bool = False) -> Console:
    """Where results go: as wide as the terminal, or as LOG_WIDTH."""
    terminal = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return terminal if terminal.is_terminal else Console(stderr=stderr, highlight=False, width=LOG_WIDTH)


def rendered(result: Result, source: str) -> Group:
    """The whole result; source says where the documents came from."""
    return Group(
        Text(heading(result, source)),
        *(part for mode in result.modes for part in ("", *mode_table(mode))),
        "",
        Text.assemble((result.verdict.value, STYLES.get(result.verdict, "bold red")), f": {summary(result)}"),
    )


def heading(result: Result, source: str) -> str:
    """What was checked, in three lines."""
    case, config, hyper = result.case, result.case.config, result.case.hyper
    documents = "document" if case.batch_size == 1 else "documents"
    return (
        f"config:  n_layer {config.n_layer}, n_embd {config.n_embd}, n_head {config.n_head}, block_size "
        f"{config.block_size}, vocab_size {config.vocab_size}, {config.activation}: {config.num_params():,} "
        f"parameters\n"
        f"data:    {source}, {case.steps} steps of {case.batch_size} {documents}, "
        f"learning rate {hyper.learning_rate} falling to 0 at step {hyper.num_steps}\n"
        f"subject: {result.subject} in {result.dtype}"
    )


def mode_table(mode: ModeResult) -> list[RenderableType]:
    """A row for each quantity, and the first divergence."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=f"{mode.mode}, {mode.steps} steps", title_justify="left")
    table.title_style = "bold"
    for column in ("quantity", "largest error", "where", "largest ULPs", "compared", "both zero", "out of bound"):
        table.add_column(column, justify="left" if column in ("quantity", "where") else "right")
    for quantity in FIELDS.values():
        row = mode.quantities.get(quantity)
        if row and row.largest_error and row.largest_ulps:
            table.add_row(
                quantity,
                f"{row.largest_error.error:.1e}" if row.largest_error.error else "0",
                f"step {row.largest_error.step}, {row.largest_error.where}",
                f"{row.largest_ulps.ulps:.3g}",
                f"{row.compared:,}",
                f"{row.zero_in_both:,}",
                f"{row.out_of_bound:,}",
            )
    parts: list[RenderableType] = [table]
    if mode.first_divergence:
        parts.append(Text(f"first divergence: {mode.first_divergence}", style="red"))
    if mode.first_site:
        parts.append(Text(f"first site out of bound: {mode.first_site}", style="red"))
    return parts


def summary(result: Result) -> str:
    """The verdict's reason, and what it does not cover."""
    unchecked = (
        f" Not exposed by the subject, so not checked: {', '.join(result.unchecked)}." if result.unchecked else ""
    )
    return result.reason + unchecked
