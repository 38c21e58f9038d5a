"""What head exposes and says of itself beside what base does: who is held to less than before, and says so."""

from dataclasses import dataclass, field
from typing import Any

from parity.quantities import FIELDS
from parity.subjects.attributes import tied_head, without_update
from parity.subjects.command import CommandSubject
from parity.subjects.subject import has_given_sizes
from reference.config import Step


@dataclass
class Exposure:
    """What is noted of head and base, question after question."""

    dropped: list[str] = field(default_factory=list)
    """What base is held to and head is not: quantities, single tensors of one, and what head says it is without."""
    given_up: list[str] = field(default_factory=list)
    """What base says that its function is, and head no longer does: then they are two functions."""
    has_given_sizes: bool = False
    """Whether one of them has but the size that it is made for."""
    methods: tuple[str, ...] = ()
    """What head can do besides a step, which no gate compares."""

    def note_claims(self, new: CommandSubject, old: CommandSubject) -> None:
        """What the subject says that it is without, on one side alone."""
        now, before = _claims(new), _claims(old)
        self.has_given_sizes = "sizes" in {**now, **before}
        self.methods = tuple(getattr(new, "methods", ()))
        self.dropped += [what for kind, what in now.items() if kind not in before and what not in self.dropped]
        gone = [what for kind, what in before.items() if kind not in now and kind != "sizes"]
        self.given_up += [what for what in gone if what not in self.given_up]

    def note_dropped(self, actual: Step, expected: Step) -> None:
        """What base (expected) answers with and head (actual) does not."""
        for name, quantity in FIELDS.items():
            new, old = getattr(actual, name), getattr(expected, name)
            gone = [quantity] if new is None and old is not None else []
            if isinstance(new, dict) and isinstance(old, dict):
                gone = [f"{quantity} {tensor}" for tensor in old if tensor not in new]
            self.dropped += [what for what in gone if what not in self.dropped]


def shared(actual: Step, expected: Step) -> Step:
    """Of head's step, fields that base exposes, and of these the tensors that base exposes."""

    def kept(field: str) -> Any:
        new, old = getattr(actual, field), getattr(expected, field)
        if not isinstance(new, dict) or not isinstance(old, dict):
            return new
        return {name: tensor for name, tensor in new.items() if name in old} or None

    return Step(**{field: kept(field) for field in FIELDS})


def _claims(subject: CommandSubject) -> dict[str, str]:
    """By kind, what a subject says that it is without, so that it is held to less."""
    update = without_update(subject)
    claims = {"update": f"updates (it says {update} = True)"} if update else {}
    if tied_head(subject):
        claims["head"] = "lm_head and wte apart (it says tied_head = True)"
    if has_given_sizes(subject):
        claims["sizes"] = 'other sizes (it says sizes = "given")'
    return claims
