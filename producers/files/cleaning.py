"""What a file's rows went through: every row is published or counted with its reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta


@dataclass
class Found:
    """How often, and in which row first (1 is the first after the header)."""

    count: int = 0
    first_row: int = 0

    def add(self, row: int) -> None:
        """One more."""
        self.count += 1
        if self.count == 1:
            self.first_row = row


@dataclass
class Cleaning:
    """Counts while a file is read: `rows` = `transactions` + `outside` + all that `discarded` counts.

    Attributes:
        rows: read so far.
        transactions: published.
        labels: published.
        outside: rows before `since` or from `until` on.
        discarded: rows left out, by reason.
        left_out: values of optional fields, and labels, that could not be used; their rows were published.
        filled: empty values replaced, by field.
        clipped: numbers brought to their limits, by field.
        hashed: fields that left as keyed hashes.
        out_of_order: rows that are earlier than one before them.
        furthest: the most that one of them was.
        late: those of them that were too late to be sorted; published where they stood.
    """

    rows: int = 0
    transactions: int = 0
    labels: int = 0
    outside: int = 0
    discarded: dict[str, Found] = field(default_factory=dict)
    left_out: dict[str, Found] = field(default_factory=dict)
    filled: dict[str, int] = field(default_factory=dict)
    clipped: dict[str, int] = field(default_factory=dict)
    hashed: tuple[str, ...] = ()
    out_of_order: Found = field(default_factory=Found)
    furthest: timedelta = timedelta(0)
    late: int = 0

    def discard(self, row: int, reason: str) -> None:
        """A row is left out."""
        self.discarded.setdefault(reason, Found()).add(row)

    def leave_out(self, row: int, reason: str) -> None:
        """A value, or a label, is left out."""
        self.left_out.setdefault(reason, Found()).add(row)

    def lines(self) -> list[str]:
        """For people: a line for each thing that happened."""
        lines = [f"{self.rows:,} rows read: {self.transactions:,} transactions, {self.labels:,} labels"]
        if self.outside:
            lines.append(f"{self.outside:,} rows outside the time limits")
        for what, reasons in (("rows discarded", self.discarded), ("left out", self.left_out)):
            lines += [
                f"{found.count:,} {what}: {reason} (first in row {found.first_row:,})"
                for reason, found in sorted(reasons.items(), key=lambda each: -each[1].count)
            ]
        lines += [f"{count:,} empty values filled: {name}" for name, count in sorted(self.filled.items())]
        lines += [f"{count:,} values clipped: {name}" for name, count in sorted(self.clipped.items())]
        lines += [f"hashed: {name}" for name in self.hashed]
        if self.out_of_order.count:
            sorted_rows = self.out_of_order.count - self.late
            lines.append(
                f"{self.out_of_order.count:,} rows out of order by up to {self.furthest} (first row "
                f"{self.out_of_order.first_row:,}): {sorted_rows:,} sorted, {self.late:,} published late"
            )
        return lines
