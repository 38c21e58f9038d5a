"""What a check can be told besides its subject and its case: as keywords, as one valid whole, as words of a command."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self, TypedDict

from parity.errors import UsageError
from parity.options import MODES, ORACLES, options_of
from parity.verdict import FALSE_ALARM

if TYPE_CHECKING:
    from parity.subjects.process import Limits


class GateKeywords(TypedDict, total=False):
    """Those of a check's options that a gate takes, too."""

    dtype: str | None
    device: str | None
    false_alarm: float
    limits: "Limits | None"
    probes: bool | None


class CheckKeywords(GateKeywords, total=False):
    """A check's options as keywords, for type checkers and editors."""

    sites: bool
    truth: bool
    modes: Sequence[str]
    oracle: str
    isolate: bool
    progress: Callable[[str, int], None]


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """A check's options, each as `parity.check` describes it; UsageError for those that cannot be together."""

    dtype: str | None = None
    device: str | None = None
    sites: bool = False
    truth: bool = False
    modes: Sequence[str] = MODES
    false_alarm: float = FALSE_ALARM
    oracle: str = ORACLES[0]
    isolate: bool = False
    probes: bool | None = None
    limits: "Limits | None" = None
    progress: Callable[[str, int], None] = field(default=lambda mode, steps: None, compare=False, repr=False)

    def __post_init__(self) -> None:
        modes = (self.modes,) if isinstance(self.modes, str) else tuple(dict.fromkeys(self.modes))
        if not modes or set(modes) - set(MODES):
            raise UsageError(f"The modes are {' and '.join(MODES)}, not {', '.join(modes) or 'none'}.")
        if self.truth and (self.sites or modes == ("free-running",)):
            raise UsageError("The truth judges what comes out of single steps: in lock-step, and without sites.")
        if not 0 < self.false_alarm < 1:
            raise UsageError(f"The false-alarm rate must lie between 0 and 1, not {self.false_alarm!r}.")
        if self.oracle not in ORACLES:
            raise UsageError(f"There is no oracle {self.oracle!r}; there are {' and '.join(ORACLES)}.")
        object.__setattr__(self, "modes", ("lock-step",) if self.truth else modes)

    @classmethod
    def of(cls, keywords: Mapping[str, Any], known: Any = CheckKeywords) -> Self:
        """The options that these keywords say; TypeError for one that is not known.

        known: CheckKeywords, or GateKeywords for those of a gate.
        """
        names = [option.name for option in fields(cls) if option.name in known.__optional_keys__]
        unknown = [name for name in keywords if name not in names]
        if unknown:
            raise TypeError(f"There is no option {', '.join(unknown)}; there are {', '.join(names)}.")
        return cls(**keywords)

    @property
    def making(self) -> dict[str, str | None]:
        """What a factory is called with to make the subject."""
        return {"dtype": self.dtype, "device": self.device}

    @property
    def words(self) -> list[str]:
        """The words that say the same to `parity check` and `parity replay`."""
        said: dict[str, Any] = {**self.making, "sites": self.sites, "truth": self.truth}
        said["mode"] = self.modes[0] if len(self.modes) == 1 and not self.truth else None
        said |= {"false-alarm": self.false_alarm, "oracle": self.oracle, "isolate": self.isolate}
        if self.limits:
            said |= {"time-limit": self.limits.seconds, "memory-limit": self.limits.memory / 2**30}
        by_itself = options_of("replay")
        words = []
        for name, value in said.items():
            if value and value != by_itself[f"--{name}"].get("default"):
                words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        return words


def check_keywords(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords that the parsed arguments of a command mean for `parity.check`, or for `parity.gate.gate`."""
    from parity.subjects.process import Limits

    keywords = {option.name: arguments[option.name] for option in fields(CheckOptions) if option.name in arguments}
    if "only_case" in arguments:
        keywords["probes"] = not arguments["only_case"]
    if "mode" in arguments:
        keywords["modes"] = MODES if arguments["mode"] == "both" else (arguments["mode"],)
    keywords["limits"] = Limits(arguments["time_limit"], int(arguments["memory_limit"] * 2**30))
    return keywords
