"""A wrong implementation: an example with a mistake, or several, and what a check should say of it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Implementation:
    """One of the examples with words replaced, as somebody who writes in its language goes wrong.

    how: what he did, in a few words, by which it is known. mistakes: the catalogue's names of it, one for each mistake;
    none where the catalogue has no such mistake. begins_at: the tensors that a check should find wrong though what they
    are computed from is right, of several mistakes those of the one that a step computes first: quantities, each with
    a tensor or for any of its tensors, as in "grad attn_wq, grad attn_wk" or "m, v". edits: the words that the example
    holds exactly once, and those that take their place. step: the first that shows it. same: names of mistakes that
    are the same function in all that an example can be asked. float32: whether it shows in float32, too.
    """

    how: str
    mistakes: tuple[str, ...]
    begins_at: str
    edits: Mapping[str, str]
    step: int | None = None
    same: tuple[str, ...] = ()
    float32: bool = True

    def written(self, example: str) -> str:
        """The example's text with the mistakes in it; ValueError where words do not stand there exactly once."""
        text = example
        for old, new in self.edits.items():
            if example.count(old) != 1 or text.count(old) != 1:
                raise ValueError(f"{old!r} does not stand in the example exactly once ({self.how}).")
            text = text.replace(old, new)
        return text
