"""The catalogue of mistakes: the reference with each of them, by name and by the stage of a training step it lies in.

It serves to show what a check catches, to choose the probes of `parity.judging.probes`, and to name the mistake of a
subject that behaves just like a mutant.
"""

from itertools import groupby

from parity.catalogue.mutants.attention import ATTENTION
from parity.catalogue.mutants.backward import BACKWARD
from parity.catalogue.mutants.blocks import HEAD, LAYERS, MLP
from parity.catalogue.mutants.cache import CACHE, MASK
from parity.catalogue.mutants.embedding import EMBEDDING
from parity.catalogue.mutants.loop import LOOP
from parity.catalogue.mutants.loss import DATA, LOSS
from parity.catalogue.mutants.mutant import SOURCE, Mutant, MutantSubject
from parity.catalogue.mutants.norm import NORM
from parity.catalogue.mutants.optimizer import ADAM
from parity.catalogue.mutants.schedule import SCHEDULE
from parity.catalogue.mutants.update import UPDATE

__all__ = ["ALL", "EQUIVALENT", "MUTANTS", "SOURCE", "STAGES", "Mutant", "MutantSubject"]

_FORWARD = (*EMBEDDING, *NORM, *ATTENTION, *MASK, *CACHE, *MLP, *LAYERS, *HEAD, *LOSS, *DATA)
_EVERY = (*_FORWARD, *BACKWARD, *ADAM, *UPDATE, *SCHEDULE, *LOOP)

ALL = tuple(mutant for mutant in _EVERY if not mutant.equivalent)
"""Those that compute something else, in the order in which a training step computes."""

EQUIVALENT = tuple(mutant for mutant in _EVERY if mutant.equivalent)
"""Those that differ by rounding alone, though they look wrong: no check may refuse them."""

MUTANTS: dict[str, Mutant] = {mutant.name: mutant for mutant in ALL}
"""By name."""

STAGES = tuple(stage for stage, _ in groupby(ALL, key=lambda mutant: mutant.stage))
"""The parts of a training step, in their order; layers: which weights a layer takes, and how many layers there are."""
