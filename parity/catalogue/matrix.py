"""The detection matrix: which known mistake a check catches in which number format, by what, and what would miss it.

A mutant is asked what `parity check` asks without options, its case and the probes, until an answer is clearly outside
(`parity.catalogue.detection`). What no model with ReLUs and a linear schedule can do
wrong is asked what the check of the earlier revision asks. Mutants compute in float64: in a shorter format they are
given what the format holds, and their answers are rounded to it, so that what is seen is what the format hides of a
mistake, and not how somebody's kernels round.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from parity.case import Case
from parity.catalogue.detection import COMPARED, AskedCase
from parity.catalogue.evidence import Scales
from parity.catalogue.exclusion import shows_in_usual_models
from parity.catalogue.matrix_result import CASE, DOCUMENTS, Detection, Entry, Row
from parity.catalogue.mutants import ALL, EQUIVALENT, Mutant, MutantSubject
from parity.catalogue.placing import Placed, placed
from parity.catalogue.remembering import RememberingMutant
from parity.judging.probes import probes_for
from parity.options import MODES, STEPS
from reference.config import Step

if TYPE_CHECKING:
    from parity.catalogue.fixed_rules import FixedRules

_NO_ANSWER = "no answer"
_EXACTLY = "float64"


def usual_cases(steps: int) -> tuple[Case, Case]:
    """The case of `parity check` without options, and that of the earlier revision."""
    return Case.from_names(steps=steps), Case.from_names(preset="microgpt_early", steps=steps)


class UsualCheck:
    """What `parity check` asks of a model: its case, and the probes, in any format."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self._asked: dict[str, dict[str, AskedCase]] = {}
        self._scales: dict[str, Scales] = {}

    def asked(self, dtype: str) -> dict[str, AskedCase]:
        """By name, in the order of a check, all cases with what is expected of them in a format."""
        if dtype not in self._asked:
            probes = {probe.name: probe.case for probe in probes_for(self.case.config, self.case.hyper, dtype)}
            cases = {CASE: self.case, **probes}
            self._asked[dtype] = {name: AskedCase(case, dtype, as_far=True) for name, case in cases.items()}
        return self._asked[dtype]

    def scales(self, dtype: str) -> Scales:
        """What the case's documents tell of mistakes in a format."""
        if dtype not in self._scales:
            self._scales[dtype] = Scales(self.case, dtype)
        return self._scales[dtype]

    @cached_property
    def rules(self) -> "FixedRules":
        """The fixed rules, to be asked of the case."""
        from parity.catalogue.fixed_rules import FixedRules  # it needs torch

        questions = self.asked(_EXACTLY)[CASE].modes["free-running"]
        return FixedRules(self.case, [question.step for question in questions])

    def detected(self, mutant: RememberingMutant, dtype: str, *, only_probes: bool = False) -> Detection:
        """By what the check catches a mutant first: the case in lock-step, the probes, and the case free-running.

        So the questions that take longest come last; as in a check, free-running a subject has been through lock-step.
        only_probes: leave out the case.
        """
        largest, asked = 0.0, self.asked(dtype)
        subjects = {name: mutant.make(of.case.config, of.case.hyper) for name, of in asked.items()}
        lock_step, free_running = MODES
        probes = [(name, mode) for name in asked if name != CASE for mode in MODES]
        first, last = [[], []] if only_probes else [[(CASE, lock_step)], [(CASE, free_running)]]
        for where, mode in (*first, *probes, *last):
            for question in asked[where].modes[mode]:
                pairs = asked[where].answered(subjects[where], question)
                if pairs is None:
                    return Detection(True, math.inf, _NO_ANSWER, where, mode, question.number)
                outside = asked[where].outside(pairs)
                if outside:
                    quantity = next(quantity for quantity in COMPARED if quantity in outside)
                    z = float(np.nanmax(pairs.z[pairs.place(quantity)]))
                    return Detection(True, z, quantity, where, mode, question.number)
                largest = max(largest, float(np.nanmax(pairs.z)))
        return Detection(False, largest)

    def run(self, mutant: RememberingMutant) -> list[Step] | None:
        """A mutant's free-running answers to the case; None where it has no answer to a step."""
        subject = mutant.make(self.case.config, self.case.hyper)
        subject.load(self.case.state)
        try:
            return [subject.train_step(batch) for batch in self.case.batches()]
        except (ArithmeticError, ValueError):
            return None

    def hides(self, mutant: Mutant, answers: Sequence[Step]) -> bool:
        """Whether a mutant that keeps nothing of its own answers the case as the reference does, bit for bit.

        The case does not do then what is wrong, whatever the format: its documents are what they are.
        """
        if mutant.subject is not MutantSubject:
            return False
        expected = (question.step for question in self.asked(_EXACTLY)[CASE].modes["free-running"])
        return all(_equal(*steps) for steps in zip(answers, expected, strict=True))


def _equal(actual: Step, expected: Step) -> bool:
    """Whether loss, logits and weights are the same bits."""
    same_logits = len(actual.logits) == len(expected.logits) and all(
        map(np.array_equal, actual.logits, expected.logits)
    )
    same_weights = all(np.array_equal(actual.params[name], expected.params[name]) for name in expected.params)
    return bool(actual.loss == expected.loss and same_logits and same_weights)


Measure = Callable[[UsualCheck, RememberingMutant, str], dict[str, Any]]
"""What is measured of a mutant in a number format besides: for JSON, a part of its row."""


def evidence(check: UsualCheck, mutant: RememberingMutant, dtype: str) -> dict[str, Any]:
    """How far apart right and wrong answers are, all elements together, after 1, 10 and 100 documents of the case."""
    found = check.scales(dtype).weighed(mutant.make)
    by_number = {str(n): found.after(n) for n in DOCUMENTS} if found else None
    return {"evidence": by_number, "evidence_limit": found.limit if found else None}


MEASURES: tuple[Measure, ...] = (evidence,)
"""In the order in which they are asked; each has a column in `parity.catalogue.matrix_result.COLUMNS`."""


class Matrix:
    """The matrix of some formats. rules, places: whether fixed rules are asked, and whether mistakes are located."""

    def __init__(self, dtypes: Sequence[str], *, steps: int = STEPS, rules: bool = True, places: bool = True) -> None:
        self.dtypes, self.rules = tuple(dtypes), rules
        self.places = places and _EXACTLY in dtypes
        self.usual, self.early = map(UsualCheck, usual_cases(steps))

    def check_of(self, mutant: Mutant) -> UsualCheck:
        """The check of the revision whose model can make such a mistake."""
        usual = mutant.equivalent or shows_in_usual_models(mutant.name)
        return self.usual if usual else self.early

    def entry(self, mutant: Mutant) -> Entry:
        """One mutant; what it computed is forgotten then."""
        asked, check = RememberingMutant(mutant), self.check_of(mutant)
        answers = check.run(asked) if self.rules else None
        hidden = answers is not None and check.hides(mutant, answers)
        rows = []
        for dtype in self.dtypes:
            detection = check.detected(asked, dtype, only_probes=hidden and dtype != _EXACTLY)
            accepting = tuple(check.rules.accepting(answers, dtype)) if self.rules else None
            measured = {key: value for of in MEASURES for key, value in of(check, asked, dtype).items()}
            rows.append(Row(mutant, dtype, detection, accepting, measured))
        return Entry(mutant, tuple(rows), self._placed(check, asked, rows) if self.places else None)

    def _placed(self, check: UsualCheck, asked: RememberingMutant, rows: Iterable[Row]) -> Placed | None:
        found = next(row.detection for row in rows if row.dtype == _EXACTLY)
        if not found.caught:
            return None
        return placed(asked, check.asked(_EXACTLY)[found.where].case, found.step, found.mode)

    def refusing_the_twin(self) -> dict[str, list[str]]:
        """By format, the fixed rules that refuse a correct program in it; none where they were not asked."""
        return {dtype: self.usual.rules.refusing_the_twin(dtype) for dtype in self.dtypes} if self.rules else {}

    def entries(self, mutants: Iterable[Mutant] = (*ALL, *EQUIVALENT)) -> Iterator[Entry]:
        """The mutants, one after another."""
        return map(self.entry, mutants)
