"""A file of values in the order in which they came: a long topic does not fit into memory."""

from __future__ import annotations

import marshal
import tempfile
from array import array
from typing import Any


class Spool:
    """Appends values that `marshal` can write, and gives each back by its number."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._begins = array("Q", [0])

    def __len__(self) -> int:
        return len(self._begins) - 1

    def close(self) -> None:
        """The file is gone after this."""
        self._file.close()

    def append(self, value: Any) -> int:
        """The number under which the value is kept."""
        raw = marshal.dumps(value)
        self._file.seek(self._begins[-1])
        self._file.write(raw)
        self._begins.append(self._begins[-1] + len(raw))
        return len(self) - 1

    def __getitem__(self, number: int) -> Any:
        begin = self._begins[number]
        self._file.seek(begin)
        return marshal.loads(self._file.read(self._begins[number + 1] - begin))  # noqa: S302 - written above
