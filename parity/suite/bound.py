"""A subject by name, with its options bound: what the fixture parity_subject gives."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parity.subjects.subject import Factory, Subject
    from reference.config import Config, Hyper


@dataclass(frozen=True)
class Bound:
    """A factory make(config, hyper) with a name that a command line can repeat."""

    name: str
    dtype: str | None = None
    device: str | None = None
    arguments: tuple[str, ...] = ()
    """The arguments of pytest that name it, and decide what is drawn."""

    def __repr__(self) -> str:
        return f"<subject {' '.join([self.name, *self.options.values()])}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # Hypothesis and IPython print fields otherwise
        printer.text(repr(self))

    @property
    def options(self) -> dict[str, str]:
        """The options that were given."""
        given = {"dtype": self.dtype, "device": self.device}
        return {name: option for name, option in given.items() if option is not None}

    @cached_property
    def factory(self) -> "Factory":
        """What the name leads to, imported once; UsageError where there is no such thing."""
        from parity.subjects.subject import find_factory

        return find_factory(self.name)

    def __call__(self, config: "Config", hyper: "Hyper", **options: Any) -> "Subject":
        """A new subject; see `parity.subjects.subject.make_subject`."""
        from parity.subjects.subject import make_subject

        return make_subject(self.factory, config, hyper, **{**self.options, **options})
