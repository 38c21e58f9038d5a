"""Which known mistakes a pass excludes: those that would have been clearly outside in a probe that was right.

In which quantities of which probe each mutant shows, beyond twice the limit, is stored (`python -m benchmarks.probes`).
A subject that lies within the limit of the reference there, in one of these quantities, does not make that mistake:
between the two is room for no rounding. One run in exact arithmetic lies within the limit of float64, whatever its own
format; of it, there are the first steps of a probe, free-running. What shows is stored for probes with ReLUs and a
linear schedule; what shows in none of them, in float64, is no mistake that such a model can make.
"""

import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

from parity.catalogue.detection import CLEARLY, NOWHERE, USUAL_LIMIT, Shown
from parity.catalogue.evidence import weigh
from parity.catalogue.mutants import MUTANTS, Mutant
from parity.judging.checking import TIED_HEAD
from parity.judging.excluded import Exclusion
from parity.judging.judge import Judge
from parity.judging.mode_result import ModeResult
from parity.judging.probes import Probe
from parity.judging.result import ProbeResult, Result
from parity.number_formats import FORMATS
from parity.quantities import STATE


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((files("parity.catalogue") / "shown.json").read_text(encoding="utf-8"))
    return found


def note_exclusion(result: Result) -> None:
    """Note in a result that passed, and whose probes were asked, the known mistakes that it excludes.

    Nothing is excluded by a comparison whose expectation was moved to the subject's own gates or updates, nor of a
    model whose head is the embeddings'.
    """
    passed = (found for found in result.probes if found.verdict is not None and found.verdict.passes)
    decided = [found for found in passed if _is_stored(found.probe)]
    if not result.verdict.passes or not decided or TIED_HEAD in result.left_out:
        return  # what shows is stored of models with a head of their own
    known = [name for name in MUTANTS if shows_in_usual_models(name)]
    digits = result.judge.widest.digits
    known = [name for name in known if not (by := MUTANTS[name].rounds_to) or digits > FORMATS[by].digits]
    left = [name for name in known if not any(_excludes(found, name) for found in decided)]
    weighed = weigh(result, left)
    left = [name for name in left if name not in weighed or not weighed[name].excluded]
    result.excluded = Exclusion(len(known), {name: MUTANTS[name].mistake for name in left}, weighed)


def shows_in_usual_models(name: str) -> bool:
    """Whether a mistake shows in float64 in a probe of models with ReLUs and a linear schedule."""
    return bool(_table()["mutants"][name]["float64"].strip(NOWHERE.text))


def _is_stored(probe: Probe) -> bool:
    """Whether it is known what shows in a probe: those of other revisions, and of a given size, are not stored."""
    config, hyper = probe.case.config, probe.case.hyper
    usual = config.activation == "relu" and hyper.lr_schedule == "linear"
    return usual and probe.name in _table()["probes"]


def _excludes(found: ProbeResult, name: str) -> bool:
    return found.result is not None and any(_shows(found, mode, name) for mode in found.result.modes)


def _shows(found: ProbeResult, mode: ModeResult, name: str) -> bool:
    """Whether a mistake would have shown in what a mode of a probe compared."""
    assert found.result is not None
    judge = mode.judge or found.result.judge
    moved = mode.by_constants or mode.turned_gates or mode.own_updates
    if not mode.verdict.passes or moved or judge.limit >= CLEARLY * USUAL_LIMIT:
        return False
    shown = _stored(name, found.probe.name, judge.form.name)
    if mode.judge:
        # Behind a shorter format rates and betas may be numbers of float32: so much wider is the floor of updates, and
        # of all that follows from them.
        short = _stored(name, found.probe.name, "float32")
        ran_through = mode.steps == found.probe.case.steps
        asked = shown.first - {*STATE} | (short.free_running if ran_through else short.first & {*STATE})
    else:
        asked = shown.lock_step if mode.mode == "lock-step" else shown.free_running
    whole = {q for q, row in mode.quantities.items() if row.compared} - {x.split()[0] for x in found.result.unchecked}
    return bool(asked & whole)


def shown_first(mutant: Mutant, probe: Probe | None, judge: Judge) -> frozenset[str]:
    """The quantities in which a mutant is clearly outside at a probe's first question, as it is stored."""
    known = probe is not None and _is_stored(probe) and mutant.name in _table()["mutants"]
    found = _stored(mutant.name, probe.name, judge.form.name).first if probe and known else frozenset[str]()
    return found - {*STATE} if judge.exactly else found  # behind shorter formats rates may be numbers of float32


def _stored(name: str, probe: str, dtype: str) -> Shown:
    place = 3 * _table()["probes"].index(probe)
    return Shown.of_text(_table()["mutants"][name][dtype][place : place + 3])
