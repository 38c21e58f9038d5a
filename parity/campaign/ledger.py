"""The ledger: an append-only SQLite file of items and their outcomes; those of several machines can be merged."""

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from parity.campaign.item import Item
from parity.campaign.outcome import Outcome
from parity.errors import UsageError

_APPLICATION = 0x70617269
"""What SQLite's header says that the file is: "pari"."""
_VERSION = 1
_SCHEMA = """
CREATE TABLE items (key TEXT PRIMARY KEY, item TEXT NOT NULL, outcome TEXT NOT NULL, done REAL NOT NULL);
CREATE TABLE asked (item TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE cases (digest TEXT PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE shrunk (key TEXT PRIMARY KEY, signature TEXT NOT NULL, digest TEXT NOT NULL, reason TEXT NOT NULL);
"""
_TABLES = ("items", "asked", "cases", "shrunk")
_APPEND_ONLY = "CREATE TRIGGER no_{verb}_{table} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, 'append-only'); END"
_ADD_CASE = "INSERT OR IGNORE INTO cases VALUES (?, ?)"
_TAKE_IN = "INSERT OR IGNORE INTO main.{table} SELECT * FROM other.{table}"
_WAIT = 60.0
"""Seconds that a process waits for another one's writing."""
_LEAST_DIGITS = 6


def case_digest(text: str) -> str:
    """The address of a case: a digest of its JSON."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Ledger:
    """A ledger in a file, made where there is none unless it is only to be read; a context that closes it.

    What is in it stays: a second outcome of an item is ignored, for it is the same one. UsageError where the file is
    none of ours or cannot be read or written. It must not lie on a network's file system, which locks nothing.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        if read_only and not path.is_file():
            raise UsageError(f"There is no ledger {path}.")
        try:
            self.connection = sqlite3.connect(path, timeout=_WAIT, isolation_level=None)
            self._open(read_only)
        except sqlite3.Error as error:
            raise UsageError(f"{path} cannot be used as a ledger: {error}.") from None

    def _open(self, read_only: bool) -> None:
        ask = self.connection.execute
        fresh = not ask("SELECT count(*) FROM sqlite_master").fetchone()[0]  # first: both are written at once
        (application,), (version,) = (ask(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version"))
        if not fresh and (application, version) != (_APPLICATION, _VERSION):
            raise UsageError(f"{self.path} is no ledger of a campaign, or one of another version.")
        if read_only and fresh:
            raise UsageError(f"{self.path} is an empty file, and no ledger.")
        if not fresh:
            return
        ask("BEGIN EXCLUSIVE")
        if not ask("SELECT count(*) FROM sqlite_master").fetchone()[0]:  # nobody else has made it meanwhile
            for statement in _SCHEMA.strip().split("\n"):
                ask(statement)
            for table in _TABLES:
                for verb in ("UPDATE", "DELETE"):
                    ask(_APPEND_ONLY.format(verb=verb, table=table))
            ask(f"PRAGMA application_id = {_APPLICATION}")
            ask(f"PRAGMA user_version = {_VERSION}")
        ask("COMMIT")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(sqlite3.Error):
            self.connection.close()

    def _write(self, statements: Sequence[tuple[str, tuple[object, ...]]]) -> None:
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            for statement, values in statements:
                self.connection.execute(statement, values)
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self.connection.execute("ROLLBACK")
            raise UsageError(f"The ledger {self.path} cannot be written: {error}.") from None

    def append(self, item: Item, outcome: Outcome) -> None:
        """Note what became of an item, and the cases that its outcome holds."""
        found = outcome.to_dict()
        texts = [(case["digest"], case.pop("case")) for case in found["cases"]]
        statements = [(_ADD_CASE, (digest, text)) for digest, text in texts if text]
        said = (item.key, json.dumps(asdict(item)), json.dumps(found, allow_nan=False), time.time())
        self._write([*statements, ("INSERT OR IGNORE INTO items VALUES (?, ?, ?, ?)", said)])

    def append_asked(self, items: Iterable[Item]) -> None:
        """Note that items are asked for, done or not: what their code is, is the newest of their subjects."""
        now = time.time()
        self._write([("INSERT INTO asked VALUES (?, ?)", (json.dumps(asdict(item)), now)) for item in items])

    def asked(self) -> Iterator[Item]:
        """What was asked for, oldest first."""
        for (item,) in self._read("SELECT item FROM asked ORDER BY at, rowid"):
            with self._understood():
                found = Item(**json.loads(item))
            yield found

    def append_shrunk(self, key: str, signature: str, text: str, reason: str) -> None:
        """Note the smallest case found that fails with a signature; key: what it is a case of."""
        digest = case_digest(text)
        self._write(
            [
                (_ADD_CASE, (digest, text)),
                ("INSERT OR IGNORE INTO shrunk VALUES (?, ?, ?, ?)", (key, signature, digest, reason)),
            ]
        )

    def _read(self, question: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self.connection.execute(question, values).fetchall()
        except sqlite3.Error as error:
            raise UsageError(f"The ledger {self.path} cannot be read: {error}.") from None

    def keys(self) -> set[str]:
        """The addresses of all items that are done."""
        return {key for (key,) in self._read("SELECT key FROM items")}

    def items(self) -> Iterator[Item]:
        """All items, oldest first."""
        for (item,) in self._read("SELECT item FROM items ORDER BY done, key"):
            with self._understood():
                found = Item(**json.loads(item))
            yield found

    def entries(self) -> Iterator[tuple[Item, Outcome, float]]:
        """All items, oldest first, with their outcomes and when they were done, in seconds since 1970."""
        for row in self._read("SELECT item, outcome, done FROM items ORDER BY done, key"):
            with self._understood():
                found = Item(**json.loads(row[0])), Outcome.from_dict(json.loads(row[1])), float(row[2])
            yield found

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """UsageError where a row is none that a campaign wrote."""
        try:
            yield
        except (ValueError, TypeError, LookupError, AttributeError):
            raise UsageError(f"The ledger {self.path} holds something that no campaign wrote.") from None

    def shrunk(self) -> dict[str, tuple[str, str, str]]:
        """By what they are cases of: signature, digest of the smallest case found, and its reason."""
        return {key: (signature, *rest) for key, signature, *rest in self._read("SELECT * FROM shrunk")}

    def case_text(self, digest: str) -> str:
        """A stored case as JSON; digest: its first digits will do. UsageError where there is none, or several."""
        if len(digest) < _LEAST_DIGITS or set(digest) - set("0123456789abcdef"):
            raise UsageError(f"{digest!r} is no case's address: it has {_LEAST_DIGITS} or more of the digits 0 to f.")
        found = self._read("SELECT text FROM cases WHERE digest GLOB ?", f"{digest}*")
        if len(found) != 1:
            raise UsageError(f"{self.path} has {len(found) or 'no'} cases whose address begins with {digest}.")
        return str(found[0][0])

    def merge(self, path: Path) -> int:
        """Take in all that another ledger has; how many items were new. UsageError where it is this one."""
        if path.exists() and path.samefile(self.path):
            raise UsageError(f"{path} cannot be merged into itself.")
        with Ledger(path, read_only=True):
            pass  # a sentence where it is none
        before = len(self.keys())
        try:
            self.connection.execute("ATTACH ? AS other", (str(path),))
            try:
                self._write([(_TAKE_IN.format(table=table), ()) for table in _TABLES])
            finally:
                self.connection.execute("DETACH other")
        except sqlite3.Error as error:
            raise UsageError(f"{path} cannot be merged: {error}.") from None
        return len(self.keys()) - before
