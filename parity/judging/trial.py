"""One mode of a check: question after question, in lock-step or free-running."""

from collections.abc import Callable

from parity.judging.evidence import Evidence
from parity.judging.exchange import Exchange, Run
from parity.judging.location import locate
from parity.judging.mode_result import ModeResult, TruthResult
from parity.progress import each

Progress = Callable[[str, int], None]
"""Is told the mode and the steps done so far."""


_KEPT, _FEW_PARAMETERS = 20, 20_000
"""So many questions of a lock-step run and their answers are kept, in models of so many parameters at most."""


class Trial:
    """A run in one mode, its result, and the exchanges that a diagnosis comes back to."""

    def __init__(self, run: Run, mode: str) -> None:
        self.run, self.result = run, ModeResult(mode)
        self.first: Exchange | None = None
        """The first one of all."""
        self.diverged: Exchange | None = None
        """The first one that is outside."""
        self.latest: Exchange | None = None
        self.evidence = Evidence(run.oracle, run.judge.false_alarm)

    def go(self, steps: int | None = None, progress: Progress = lambda mode, steps: None) -> None:
        """Go through the case, or so many steps of it, and conclude; what raises leaves what was found before."""
        try:
            self._go(steps, progress)
        finally:
            self.result.evidence = self.evidence.found()
        self.result.conclude(self.run.judge)

    def _go(self, steps: int | None, progress: Progress) -> None:
        run, result = self.run, self.result
        for batch in each(f"{result.mode}: steps", list(run.case.batches())[:steps]):
            exchange = self._next(batch)
            outside = result.first_divergence is not None
            self.first, self.latest = self.first or exchange, exchange
            self._add(exchange)
            if result.first_divergence and not outside:
                self.diverged, result.diverged = exchange, exchange.light
                result.first_z = exchange.pairs.by_key()[result.first_divergence.key].largest_z
                result.location = locate(run, exchange)
                if result.mode == "lock-step":
                    sites = run.sites_outside(exchange, passed=False)
                    result.first_site, result.suspected_sites = sites.first, sites.suspected
            progress(result.mode, result.steps)

    def _next(self, batch: list[list[int]]) -> Exchange:
        explain = self.result.first_divergence is None  # once diverged, a step more or less is no news
        if self.latest is None:
            return self.run.ask(self.run.case.state, batch, explain=explain)
        if self.result.mode == "lock-step":
            return self.run.ask(self.latest.after.state(self.run.case.config), batch, explain=explain)
        return self.run.go_on(self.latest, batch, explain=explain)

    def _add(self, exchange: Exchange) -> None:
        result = self.result
        result.near_gates += exchange.near_gates
        result.turned_gates += exchange.turned_gates
        result.own_updates += exchange.own_updates
        if exchange.truth:
            result.truth = result.truth or TruthResult()
            result.truth.add(exchange.truth, exchange.reference_failure)
        result.add(exchange.pairs, self.run.judge)
        loaded = result.mode == "lock-step" or (result.mode == "free-running" and exchange is self.first)
        if loaded and self.run.truth is None:
            self.evidence.add(exchange)
            if len(result.exchanges) < _KEPT and self.run.case.config.num_params() <= _FEW_PARAMETERS:
                result.exchanges.append(exchange.light)
