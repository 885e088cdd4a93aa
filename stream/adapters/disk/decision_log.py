"""Decisions for as long as labels may come, on this machine's disk: for installations Redis is too dear for.

It is filled from the topic `scores` and can be rebuilt from it. A row takes its decision, twice its
transaction's id and some 100 bytes: 1,135 bytes a transaction were measured for decisions of 1,000 bytes and
ids of 16 (`python -m benchmarks.bench_store --disk`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import MappingProxyType

from stream.ports import DependencyDown

_SCHEMA = """
CREATE TABLE IF NOT EXISTS decisions (
    transaction_id TEXT PRIMARY KEY, event_time REAL NOT NULL, decision BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS decisions_by_time ON decisions (event_time);
CREATE TABLE IF NOT EXISTS positions (partition INTEGER PRIMARY KEY, next_offset INTEGER NOT NULL);
"""
_INSERT = "INSERT INTO decisions VALUES (?, ?, ?) ON CONFLICT (transaction_id) DO NOTHING"


NOWHERE: Mapping[int, int] = MappingProxyType({})


class DiskDecisionLog:
    """`DecisionLog` in one SQLite file; several threads may share it, and other processes may read it.

    Args:
        path: of the file; made, with its folders, where it is missing.

    Raises:
        DependencyDown: the file cannot be opened, read or written (a full disk, another writer).

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     log = DiskDecisionLog(Path(folder) / "decisions.sqlite")
    ...     log.add([("t1", 60.0, b"first"), ("t1", 60.0, b"second")])
    ...     log.decisions(["t1", "t2"]), log.prune(before=61.0), len(log)
    ...     log.close()
    1
    ([b'first', None], 1, 0)
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock = Lock()
        with self._serving():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA page_size=16384")  # of a new file: decisions waste less of a page
            self._database.execute("PRAGMA journal_mode=WAL")
            # What `add` returned from is on disk: whoever fills the log acknowledges right after it.
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(_SCHEMA)

    def add(
        self, decisions: Iterable[tuple[str, float, bytes]], positions: Mapping[int, int] = NOWHERE
    ) -> int:
        """Keep (transaction_id, event time in seconds, decision) of each; the first writer wins.

        All of them are on disk when it returns, or none.

        Args:
            decisions: of any partitions.
            positions: of each partition of `scores`, the offset after the last one that was read for it.

        Returns:
            How many were not there yet.
        """
        rows = list(decisions)
        with self._serving():
            before = self._database.total_changes
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._database.executemany(_INSERT, rows)
                self._database.executemany(
                    "INSERT OR REPLACE INTO positions VALUES (?, ?)", positions.items()
                )
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
            return self._database.total_changes - before - len(positions)

    def positions(self) -> dict[int, int]:
        """Of each partition of `scores` that was read, where to read on."""
        with self._serving():
            return dict(self._database.execute("SELECT partition, next_offset FROM positions").fetchall())

    def decisions(self, transaction_ids: Sequence[str]) -> list[bytes | None]:
        """See `DecisionLog.decisions`."""
        with self._serving():
            found = dict(
                self._database.execute(
                    "SELECT transaction_id, decision FROM decisions"
                    " WHERE transaction_id IN (SELECT value FROM json_each(?))",
                    (json.dumps([*transaction_ids]),),
                ).fetchall()
            )
        return [found.get(transaction_id) for transaction_id in transaction_ids]

    def prune(self, before: float) -> int:
        """Forget decisions of events before a time (seconds); the file's room is used again.

        Returns:
            How many were forgotten.
        """
        with self._serving():
            return self._database.execute("DELETE FROM decisions WHERE event_time < ?", (before,)).rowcount

    def __len__(self) -> int:
        with self._serving():
            return int(self._database.execute("SELECT count(*) FROM decisions").fetchone()[0])

    def close(self) -> None:
        """Close the file; everything in it is on disk already."""
        with self._lock:
            self._database.close()

    @contextmanager
    def _serving(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise  # what was asked is wrong, and would be wrong again
        except (sqlite3.Error, OSError) as error:
            raise DependencyDown(
                f"the decision log {self.path} cannot serve now ({type(error).__name__}: {error}); check "
                "that its disk has room, its permissions, and that no other process writes it"
            ) from error
