"""Expected failures of a subject, in a file of their own.

    # one a line; * and ? stand for anything, brackets for themselves
    skip   test_sampling.py::*                          # no sampler yet
    xfail  test_fixed_cases.py::test_fixed_case[*long*]  # issue 12

The pattern is matched against the whole test id without the folders before the file. A test that is expected to fail
and passes is a failure: the line has to go.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from parity.errors import UsageError

LINE = re.compile(r"(?P<kind>skip|xfail)\s+(?P<pattern>[^\s#].*?)(\s+#\s*(?P<reason>.*))?")


@dataclass(frozen=True)
class ExpectedFailure:
    """One line of a file. kind: skip or xfail. place: the file and the line's number."""

    kind: str
    pattern: str
    reason: str
    place: str

    def matches(self, test: str) -> bool:
        """Whether it is about the test with this id."""
        return fnmatchcase(test, self.pattern.replace("[", "[[]"))

    @property
    def mark(self) -> pytest.MarkDecorator:
        """The mark that makes pytest expect it."""
        return (
            pytest.mark.skip(self.reason) if self.kind == "skip" else pytest.mark.xfail(reason=self.reason, strict=True)
        )


def read_expectations(path: Path) -> list[ExpectedFailure]:
    """The expectations in a file; UsageError where it cannot be read or a line makes no sense."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"The expectations {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"The expectations {path} are not text.") from None
    expectations = []
    for number, line in enumerate(map(str.strip, lines), start=1):
        place = f"{path}, line {number}"
        if not line or line.startswith("#"):
            continue
        found = LINE.fullmatch(line)
        if found is None:
            raise UsageError(f"{place}: a line is `skip PATTERN  # reason` or `xfail PATTERN  # reason`, not {line!r}.")
        reason = found["reason"] or f"expected by {place}"
        expectations.append(ExpectedFailure(found["kind"], found["pattern"], reason, place))
    return expectations


def expect(expectations: Iterable[ExpectedFailure], items: Iterable[pytest.Item]) -> list[ExpectedFailure]:
    """Mark the tests that are expected not to pass; the expectations that are about none of them."""
    named = [(_without_folders(item.nodeid), item) for item in items]
    unmatched = []
    for expectation in expectations:
        about = [item for name, item in named if expectation.matches(name)]
        for item in about:
            item.add_marker(expectation.mark)
        if not about:
            unmatched.append(expectation)
    return unmatched


def _without_folders(node: str) -> str:
    """A test's id, from its file's name on."""
    file, separator, rest = node.partition("::")
    return file.rpartition("/")[2] + separator + rest
