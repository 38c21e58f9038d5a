"""Why a verdict is what it is, as data; `parity.judging.sentences` says it in words."""

from dataclasses import dataclass
from typing import Self

from parity.errors import NoExpectation, SubjectError, UndecidedAnswer, UnsupportedModel
from parity.judging.directions import Along, Direction
from parity.judging.pairs import Difference
from reference.config import PRESETS, Config, Hyper


@dataclass(frozen=True)
class NothingCompared:
    """The subject exposes nothing that could be compared."""


@dataclass(frozen=True)
class NoFloor:
    """Elements differ where no finite noise floor says by how much they may."""

    elements: int


@dataclass(frozen=True)
class AllVacuous:
    """A wrong answer would have passed in every quantity."""


@dataclass(frozen=True)
class SameBits:
    """Nothing differs."""


@dataclass(frozen=True)
class RoundingExplains:
    """Whatever differs, rounding explains it."""

    largest_z: float
    limit: float


@dataclass(frozen=True)
class Outside:
    """An element that rounding does not explain: the first one in the order of a step."""

    first: Difference
    limit: float


@dataclass(frozen=True)
class OutsideTogether:
    """No element is outside, and all of a tensor or a quantity together are."""

    along: Along


@dataclass(frozen=True)
class RoundsTogether:
    """In exact arithmetic it is the reference's function, and no element is outside but all of them together are."""


@dataclass(frozen=True)
class OffByAnAmount:
    """The first wrong quantity is off along a direction, and rounding explains all the rest of it."""

    direction: Direction
    amount: float


@dataclass(frozen=True)
class LosesPrecision:
    """The error shrinks with the unit roundoff of the format, or the format cannot hold what is computed on the way."""

    first: Difference
    limit: float
    form: str
    other_form: str
    other_z: float
    overflows: bool


@dataclass(frozen=True)
class RoundsMore:
    """In exact arithmetic it is the reference's function, and its own operations round farther than its format does."""

    first: Difference
    limit: float
    form: str
    formats: tuple[str, ...]
    """Shorter ones that it was seen to compute in."""
    times: float
    """How many times as wide as the format's its own noise floor is, where it is outside."""


@dataclass(frozen=True)
class OnlyExactly:
    """It is outside in exact arithmetic, and rounding in its format hides that from whoever looks at its answers."""

    form: str


@dataclass(frozen=True)
class RightExactly:
    """In exact arithmetic it is the reference's function, and rounding of its own operations does not explain it."""


@dataclass(frozen=True)
class AnswersChange:
    """Asked about a step a second time, the subject answers something else."""

    step: int


@dataclass(frozen=True)
class NarrowAnswers:
    """All answers are numbers of a narrower format."""

    form: str


@dataclass(frozen=True)
class NarrowRounding:
    """Rounding in a narrower format would explain the answer."""

    form: str
    largest_z: float


@dataclass(frozen=True)
class NeverUpdated:
    """The answers are those of the weights that were loaded, at every step."""


@dataclass(frozen=True)
class StateNotCarried:
    """Free-running diverges where lock-step agrees."""


@dataclass(frozen=True)
class OtherOptimizer:
    """The same, of a subject that exposes nothing of its update."""


@dataclass(frozen=True)
class OtherRevision:
    """The case has another activation or schedule than the 200-line revision."""

    activation: str | None
    lr_schedule: str | None
    command: bool = False
    """Whether the subject speaks the protocol."""

    @property
    def what(self) -> str:
        """In words."""
        asked = [f"the activation {self.activation}"] if self.activation else []
        return " and ".join([*asked, *([f"the schedule {self.lr_schedule}"] if self.lr_schedule else [])])

    @classmethod
    def of(cls, config: Config, hyper: Hyper, command: bool = False) -> Self | None:
        """What differs; None where nothing does."""
        usual, usual_hyper = PRESETS["microgpt_200"]
        activation = config.activation if config.activation != usual.activation else None
        lr_schedule = hyper.lr_schedule if hyper.lr_schedule != usual_hyper.lr_schedule else None
        return cls(activation, lr_schedule, command) if activation or lr_schedule else None


@dataclass(frozen=True)
class EarlierOutside:
    """Another quantity was outside before the one in question."""

    first: Difference


@dataclass(frozen=True)
class Asked:
    """A question of a case: which step, and how long its documents are."""

    step: int
    documents: tuple[int, ...]
    """Their numbers in the case, from 0; empty where they are not the case's."""
    tokens: tuple[int, ...]
    """How many tokens each of them has, BOS at both ends included."""
    block_size: int


@dataclass(frozen=True)
class Failed:
    """The subject failed, or answered with what cannot be compared. unsupported: it has no such model."""

    message: str
    unsupported: bool = False
    asked: Asked | None = None
    """At which question; None where that was none of a step."""
    last_words: tuple[str, ...] = ()
    """The last lines that its own process wrote to standard error."""

    @classmethod
    def of(cls, error: SubjectError) -> Self:
        """What an error says."""
        return cls(str(error), isinstance(error, UnsupportedModel), error.asked, error.last_words)


@dataclass(frozen=True)
class NoAnswer:
    """The reference, or the truth, has no answer to compare with; outside: with one that rounding may explain."""

    message: str
    outside: bool = False

    @classmethod
    def of(cls, error: NoExpectation) -> Self:
        """What an error says."""
        return cls(str(error), isinstance(error, UndecidedAnswer))


@dataclass(frozen=True)
class LawBroken:
    """What was found of something that is no difference of tensors."""

    finding: str


Cause = (
    NothingCompared
    | NoFloor
    | AllVacuous
    | SameBits
    | RoundingExplains
    | Outside
    | OutsideTogether
    | RoundsTogether
    | OffByAnAmount
    | LosesPrecision
    | RoundsMore
    | OnlyExactly
    | RightExactly
    | AnswersChange
    | NarrowAnswers
    | NarrowRounding
    | NeverUpdated
    | StateNotCarried
    | OtherOptimizer
    | OtherRevision
    | EarlierOutside
    | Failed
    | NoAnswer
    | LawBroken
)
