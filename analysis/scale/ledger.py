"""The ledger: finished results in an SQLite file, there to stay once `add` has returned.

One row a result: its key and its JSON. A transaction a call, synced to the disk, so that whatever
is killed leaves a file without halves. One run writes to a ledger at a time (`files.locked`).
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from hwsim.files import locked

APPLICATION = 0x63686970  # "chip", in the header of the file
SCHEMA = 1
AT_ONCE = 500  # keys a query; SQLite takes at least 999


class Ledger:
    """Results by key. path: None keeps them in memory only. A context manager.

    Raises ValueError, naming the path, for a file that is no ledger, that another run holds, or
    that cannot be read or written (a full disk: what was added before is kept).
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.path = None if path is None else Path(path)
        self._stack = ExitStack()
        with ExitStack() as opening:  # undone if anything fails
            if self.path is not None:
                if os.path.isdir(self.path):
                    raise ValueError(f"{self.path}: is a folder; give the name of a ledger file")
                opening.enter_context(locked(self.path))
            self._new = self.path is None or not self.path.exists()
            with self._explained():
                self._file = sqlite3.connect(self.path or ":memory:", isolation_level=None)
                opening.callback(self._file.close)
                self._prepare()
            self._stack = opening.pop_all()

    def _prepare(self) -> None:
        (application,) = self._file.execute("PRAGMA application_id").fetchone()
        (schema,) = self._file.execute("PRAGMA user_version").fetchone()
        (tables,) = self._file.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables and not application:
            self._file.execute("BEGIN IMMEDIATE")
            self._file.execute(f"PRAGMA application_id = {APPLICATION}")
            self._file.execute(f"PRAGMA user_version = {SCHEMA}")
            self._file.execute(
                "CREATE TABLE result (key BLOB PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
            )
            self._file.execute("COMMIT")
        elif (application, schema) != (APPLICATION, SCHEMA):
            raise ValueError(
                f"{self.path}: not a ledger of this version of chipfit; give another --ledger"
            )

    def known(self, keys: Sequence[bytes]) -> dict[bytes, Any]:
        """The results that are there already."""
        found: dict[bytes, Any] = {}
        with self._explained():
            for start in range(0, len(keys), AT_ONCE):
                part = keys[start : start + AT_ONCE]
                query = f"SELECT key, value FROM result WHERE key IN ({','.join('?' * len(part))})"
                found |= {key: json.loads(text) for key, text in self._file.execute(query, part)}
        return found

    def add(self, results: Iterable[tuple[bytes, Any]]) -> None:
        """Keep results, all or none; a key that is there already is an error."""
        rows = [(key, json.dumps(value, separators=(",", ":"))) for key, value in results]
        with self._explained():
            self._file.execute("BEGIN IMMEDIATE")
            try:
                self._file.executemany("INSERT INTO result VALUES (?, ?)", rows)
                self._file.execute("COMMIT")
            except BaseException:
                if self._file.in_transaction:  # a full disk ends it by itself
                    self._file.execute("ROLLBACK")
                raise

    def __len__(self) -> int:
        with self._explained():
            (count,) = self._file.execute("SELECT count(*) FROM result").fetchone()
        return int(count)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of SQLite as one line that names the file."""
        try:
            yield
        except sqlite3.OperationalError as error:
            kept = (
                "; what was done before is kept there" if self.path and self.path.exists() else ""
            )
            raise ValueError(f"{self.path}: cannot write the ledger: {error}{kept}") from None
        except sqlite3.IntegrityError:
            raise
        except (sqlite3.DatabaseError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{self.path}: not a whole ledger ({error}); remove it or give another --ledger"
            ) from None

    def close(self) -> None:
        """A file that was not there before and has no result yet goes again."""
        if self.path is not None and self._new:
            with suppress(ValueError, sqlite3.Error):  # closed already, or broken meanwhile
                if not len(self):
                    self.path.unlink(missing_ok=True)
        self._stack.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
