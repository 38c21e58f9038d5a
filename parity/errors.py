"""What can go wrong before or during a check; every message is a sentence for the person who reads it."""

from typing import Any


class UsageError(ValueError):
    """Bad usage or bad input: exit status 2."""


class SubjectError(Exception):
    """The subject failed or answered with something that cannot be compared: verdict ERROR, exit status 1.

    asked: the question that it failed at, a `parity.judging.causes.Asked`, where it was asked one. last_words: the last
    lines that the subject's own process wrote to standard error.
    """

    asked: Any = None
    last_words: tuple[str, ...] = ()


class UnsupportedModel(SubjectError):
    """The subject's factory has no such model, as it says with NotImplementedError: other models can still be tried."""


class NoExpectation(Exception):
    """The reference has no answer for this case: verdict INCONCLUSIVE, exit status 3."""


class UndecidedAnswer(NoExpectation):
    """An answer is outside, and whether rounding explains it was not found; the verdict is as for NoExpectation."""
