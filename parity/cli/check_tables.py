"""What a check's result shows in a terminal and in Markdown: its tables and lines as plain text, without layout."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from parity.judging.directions import Along, Direction
from parity.judging.excluded import Exclusion
from parity.judging.location import Location
from parity.judging.mode_result import ModeResult, TruthResult
from parity.judging.pairs import Difference
from parity.judging.probes import out_of_reach
from parity.judging.quantity_result import QuantityResult, TensorPower
from parity.judging.relu_gates import SHORT_DIGITS
from parity.judging.result import Result
from parity.quantities import FIELDS, in_short
from parity.verdict import Verdict
from parity.words import beside_limit, counted


@dataclass
class Cells:
    """A table's text."""

    columns: list[str]
    words: tuple[str, ...]
    """The columns that hold words, not numbers."""
    rows: list[list[str]] = field(default_factory=list)
    groups: tuple[int, ...] = ()
    """How many columns at a time belong together, the first one aside, where they are more than one."""

    def without(self, columns: Sequence[str]) -> "Cells":
        """The same table without some columns."""
        kept = [number for number, column in enumerate(self.columns) if column not in columns]
        rows = [[row[number] for number in kept] for row in self.rows]
        return Cells([self.columns[number] for number in kept], self.words, rows)


def heading(result: Result, source: str) -> list[tuple[str, str]]:
    """What was checked: labels, and what stands beside them."""
    case, config = result.case, result.case.config
    *most, last = (_in_short(mode, case.steps) for mode in result.modes)
    modes = f"{', '.join(most)} and {last}" if most else last
    lines = [
        ("subject", f"{result.subject} in {formats(result)}"),
        (
            "model",
            f"n_layer {config.n_layer}, n_embd {config.n_embd}, n_head {config.n_head}, block_size "
            f"{config.block_size}, vocab_size {config.vocab_size}, {config.activation}",
        ),
        ("case", f"{source}, {counted(case.steps, 'step')} of {counted(case.batch_size, 'document')}, {modes}"),
    ]
    decided = [found for found in result.probes if found.verdict is not None]
    if decided and result.verdict.passes:
        largest = max(found.result.largest_z or 0.0 for found in decided if found.result)
        lines.append(("probes", f"{how_many(result, len(decided))}: largest z {largest:.2g}"))
    lines += [("excludes", str(result.excluded))] if result.excluded else []
    whole = seen_as_a_whole([along for mode in result.modes for along in mode.evidence])
    if whole and result.verdict.passes and result.judge.form.digits <= SHORT_DIGITS:
        lines.append(("as a whole", f"would catch {whole}"))
    return [*lines, *(result.chain.lines if result.chain else [])]


def _in_short(mode: ModeResult, steps: int) -> str:
    """A mode, and how many steps it took where these were fewer than others."""
    fewer = mode.judge is not None and 0 < mode.steps < steps
    return f"{mode.mode} of the first {counted(mode.steps, 'step')}" if fewer else mode.mode


def how_many(result: Result, decided: int) -> str:
    """The probes that were decided, and why some of all were not asked."""
    form = result.judge.form.name
    out = len(out_of_reach(result.case.config, result.case.hyper, form))
    of = f" ({out} of {decided + out} out of reach in {form})" if out else ""
    return f"{decided} small cases besides{of}"


def seen_as_a_whole(evidence: Sequence[Along]) -> str:
    """From which amount on something is seen of a whole tensor, or of a quantity."""
    best: dict[Direction, Along] = {}
    for along in sorted(evidence, key=lambda along: -along.allowed):
        best[along.direction] = along
    scales = [along for along in best.values() if along.direction.what == "scale"]
    single = {along.direction.quantity: along.allowed for along in scales if not along.direction.tensor}
    tensors = sorted(along.allowed for along in scales if along.direction.tensor)
    parts = [f"logits that are {single['logits']:.1%} off"] if "logits" in single else []
    if tensors:
        parts.append(f"a tensor's gradient {tensors[0]:.1%} to {tensors[-1]:.1%}")
    parts += [f"an update {single['param']:.1%}"] if "param" in single else []
    return ", ".join(parts)


def undecided(excluded: Exclusion) -> list[str]:
    """The mistakes that a pass does not exclude, how much was seen of each, and what would exclude it."""
    nothing = "no alpha: these answers show nothing of it, made or not"
    return [f"{mistake} ({excluded.weighed.get(name, nothing)})" for name, mistake in excluded.undecided.items()]


def along_directions(mode: ModeResult) -> Cells:
    """A row for each direction: how much of it was seen, and what rounding explains."""
    table = Cells(["direction", "amount", "sd", "rounding explains", "z"], ("direction",))
    for along in mode.evidence:
        of = f"{along.direction.of}: {along.direction.what}"
        numbers = along.amount, along.sd, along.allowed
        table.rows.append([of, *(f"{number:.1e}" for number in numbers), beside_limit(along.z, along.limit)])
    return table


def formats(result: Result) -> str:
    """The format of a subject's arithmetic, and that of what it stores where it is another one."""
    form, storage = result.judge.form.name, result.judge.storage
    return form if storage is None else f"{form}, weights and moments in {storage.name}"


def overview(result: Result) -> Cells:
    """A row for each quantity, over all modes: how near to the limit, and what would have been caught.

    Where the subject was run in exact arithmetic, too, that is what catches most; its own run is the other half.
    """
    modes = [mode for mode in result.modes if mode.quantities]
    of_modes = [f"z {mode.mode.split()[0].removesuffix('-running')}" for mode in modes]
    exact = modes[-1] if modes and modes[-1].judge else None
    of_its_run = ["of its run"] if exact else []
    columns = ["quantity", "compared", *of_modes, "would catch", "at worst", *of_its_run]
    table = Cells(columns, ("quantity",), groups=(1, *(1 for _ in modes), 2 + len(of_its_run)))
    for quantity in FIELDS.values():
        rows = [mode.quantities.get(quantity) for mode in modes]
        known = [row for row in rows if row is not None and row.compared]
        if known:
            best = known[0]
            z = ["-" if row is None else _largest_z(row, result.judge.limit) for row in rows]
            power = _power(rows[-1] if exact and rows[-1] is not None and rows[-1].compared else best)
            table.rows.append([quantity, f"{best.compared:,}", *z, *power, *(_power(best)[:1] if exact else [])])
    return table


NARROWER: tuple[tuple[str, ...], ...] = ((), ("error", "z"), ("error", "z", "of"))
"""The columns that a table of a failure is without, where it must be so narrow."""


def failure(mode: ModeResult, limit: float, without: Sequence[str] = ()) -> Cells:
    """A row for each quantity: how much of it is outside, and the first element that is."""
    where, sizes = "first: step, element", ["error", "relative", "z"]
    table = Cells(["quantity", "outside", "of", where, *sizes], ("quantity", where))
    for row in _rows(mode):
        cells = [row.quantity, f"{row.outside:,}", f"{row.compared:,}"]
        found = row.first_outside
        if found:
            shown = {"error": _small(found.error), "relative": _relative(found), "z": beside_limit(found.z, limit)}
            cells += [f"{found.step}, {found.where}", *(shown[size] for size in sizes)]
        table.rows.append(cells + ["-"] * (len(table.columns) - len(cells)))
    return table.without(without)


def numbers(mode: ModeResult) -> Cells:
    """A row for each quantity with all that is kept of it; where, error and ULPs are of one element."""
    columns = ["quantity", "verdict", "z", "where", "error", "relative", "ULPs", "compared", "both 0", "exact"]
    table = Cells(columns, ("quantity", "verdict", "where"), groups=(1, 1, 1, 3, 3))
    for row in _rows(mode):
        largest = row.largest_z
        if largest:
            where = f"{largest.where}, step {largest.step}"
            cells = [f"{largest.z:.2g}", where, _small(largest.error), _relative(largest), f"{largest.ulps:.2g}"]
            counts = [f"{number:,}" for number in (row.compared, row.zero_in_both, row.exact)]
            table.rows.append([row.quantity, row.verdict.value, *cells, *counts])
    return table


def tensors(location: Location) -> Cells:
    """A row for each tensor of the step that diverged first, in the order of computation."""
    table = Cells(["tensor", "outside", "of", "relative error"], ("tensor",))
    for tensor in location.tensors:
        note = " (follows)" if tensor.follows else ""
        error = f"{tensor.relative_error:.2g}{note}"
        table.rows.append([tensor.key.described(), f"{tensor.outside:,}", f"{tensor.elements:,}", error])
    return table


def power(mode: ModeResult) -> Cells:
    """For every tensor, the smallest relative error that would have been caught: of the median element, the worst."""
    columns = {q: mode.quantities[q].power for q in ("grad", "m", "v", "param") if q in mode.quantities}
    table = Cells(["tensor", *columns], ("tensor",), groups=(2, 2))
    for tensor in dict.fromkeys(name for column in columns.values() for name in column):
        table.rows.append([tensor, *(_seen(column.get(tensor)) for column in columns.values())])
    return table


def _seen(power: TensorPower | None) -> str:
    """What would have been caught in a tensor; None where it is not exposed."""
    if power is None:
        return "-"
    return f"{_order(power.median)}, {_order(power.worst)}" if power.medians else "nothing"


def truth_title(result: Result) -> str:
    """What stands above the table of the truth."""
    return f"largest z (limit {result.judge.limit:.1f})"


def truth(found: TruthResult) -> Cells:
    """The largest z of each quantity between subject, reference and truth."""
    sides = {
        "subject against truth": found.subject,
        "reference against truth": found.reference,
        "subject against reference": found.apart,
    }
    table = Cells(["quantity", *sides], ("quantity",))
    for quantity in found.subject:
        table.rows.append([quantity, *(f"{z[quantity]:.2g}" if quantity in z else "-" for z in sides.values())])
    return table


def mode_title(mode: ModeResult, result: Result) -> str:
    """A mode of what decided a result, and what became of it, in a line."""
    probe, deciding = result.deciding_probe, result.deciding
    where = f"probe {probe.probe.name}, " if probe else ""
    title = f"{where}{mode.mode}, {counted(mode.steps, 'step')}: {mode.verdict}"
    if says_the_same(mode, deciding):
        return f"{title}, from the same element on"
    if mode.verdict is Verdict.PARITY and mode.largest_z is not None:
        return f"{title}, largest z {beside_limit(mode.largest_z, deciding.judge.limit)}"
    return title


def says_the_same(mode: ModeResult, result: Result) -> bool:
    """Whether a mode diverges in the very element in which an earlier one does."""
    first, earlier = mode.first_divergence, result.modes[0].first_divergence
    if first is None or earlier is None or mode is result.modes[0]:
        return False
    return (first.step, first.key, first.index) == (earlier.step, earlier.key, earlier.index)


def located_title(location: Location) -> str:
    """What stands above the tensors that are right and wrong."""
    return f"step {location.step}, in the order of computation (relative errors in parentheses):"


def first_site(found: Difference, limit: float) -> str:
    """Which of the named intermediates is the first one that is wrong."""
    return f"first site outside: {found.beside(limit)}"


def remarks(result: Result) -> list[str]:
    """What is to be known of a verdict besides its reason."""
    said = [f"warning: {warning}" for warning in result.warnings]
    if result.unchecked and result.verdict is not Verdict.ERROR:
        said.append(f"not exposed by the subject, so not checked: {in_short(result.unchecked)}")
    if any(mode.repeatable is False for mode in result.modes):
        said.append("asked the same question a second time, the subject answered with other bits")
    told = dict.fromkeys(phrase for mode in result.modes for phrase in _vacuous(mode))
    return [*said, *(f"vacuous, since a wrong answer would have passed: {phrase}" for phrase in told)]


def _vacuous(mode: ModeResult) -> list[str]:
    """The tensors that would have accepted a wrong answer; quantities in which they are the same stand together."""
    tensors: dict[tuple[str, str], list[str]] = {}
    for row in _rows(mode):
        for tensor, wrong in row.blind.items():
            tensors.setdefault((row.quantity, ", ".join(wrong)), []).append(tensor)
    quantities: dict[tuple[str, str], list[str]] = {}
    for (quantity, answers), names in tensors.items():
        quantities.setdefault((answers, ", ".join(names)), []).append(quantity)
    return [
        f"{wrong} for {', '.join(of)}" + ("" if names in ("loss", "logits") else f" of {names}")
        for (wrong, names), of in quantities.items()
    ]


def mode_remarks(mode: ModeResult) -> list[str]:
    """What was explained, and is no reason for the verdict."""
    said = []
    if mode.near_gates:
        said.append(
            f"{mode.near_gates} ReLU inputs within the noise floor of zero, {mode.turned_gates} decided the other way"
        )
    if mode.own_updates:
        said.append(f"{counted(mode.own_updates, 'update')} judged alone: a gradient within its noise floor decides it")
    return said


def _rows(mode: ModeResult) -> list[QuantityResult]:
    return [mode.quantities[quantity] for quantity in FIELDS.values() if quantity in mode.quantities]


def _largest_z(row: QuantityResult, limit: float) -> str:
    return beside_limit(row.largest_z.z, limit) if row.largest_z else "-"


def _small(error: float) -> str:
    return f"{error:.1e}" if error else "0"


def _relative(found: Difference) -> str:
    return "-" if found.expected == 0 and found.error else f"{found.relative_error:.2g}"


def _power(row: QuantityResult) -> list[str]:
    """Over the tensors of a quantity: the median of their medians, and the worst."""
    medians = [found.median for found in row.power.values() if found.medians]
    if not medians:
        return ["nothing", "nothing"]
    return [_order(median(medians)), _order(max(found.worst for found in row.power.values()))]


def _order(error: float) -> str:
    return f"{error:.0e}" if error else "0"
