"""Features as a row of numbers: the form in which they are computed, waited for and learned.

By name, as River's models and messages have them, they are a dictionary: four times the memory, and a name to
look up for every number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from librt.vecs import vec

if TYPE_CHECKING:
    from mypy_extensions import i64  # an int to Python; compiled, it is a number of the machine


class Layout:
    """Which feature stands where in a row; rows are of the same layout if it is the same object.

    Args:
        names: of the numbers, in the order in which models see them.
        fields: categorical inputs behind them; a row holds the number of the group a value belongs to.
        groups: how many there are of each field.
    """

    def __init__(self, names: tuple[str, ...], fields: tuple[str, ...], groups: int) -> None:
        self.names = names
        self.fields = fields
        self.groups = groups

    def group_name(self, field: str, group: int) -> str:
        """What the indicator of a group is called."""
        return f"{field}={group}"


class Row:
    """The features of one payment. Only `compute` makes one: what plain code gives is never freed.

    Attributes:
        layout: which number is which.
        values: NaN where a feature is missing.
    """

    __slots__ = ("layout", "values")

    def __init__(self, layout: Layout, values: vec[float]) -> None:
        self.layout = layout
        self.values = values

    def named(self) -> dict[str, float]:
        """The features that are not missing, by name."""
        layout, values = self.layout, self.values
        x: dict[str, float] = {}
        place: i64 = 0
        for name in layout.names:
            value = values[place]
            place += 1
            if value == value:  # noqa: PLR0124 - only NaN differs from itself
                x[name] = value
        for category in self.categories():
            x[category] = 1.0
        return x

    def categories(self) -> list[str]:
        """The names of the categorical inputs that are not missing."""
        layout = self.layout
        found: list[str] = []
        place: i64 = len(layout.names)
        for field in layout.fields:
            value = self.values[place]
            place += 1
            if value == value:  # noqa: PLR0124 - only NaN differs from itself
                found.append(layout.group_name(field, int(value)))
        return found


Example = dict[Any, float] | Row
"""Features as a model learns and scores them."""


def named(x: Mapping[Any, float] | Row) -> dict[Any, float]:
    """Features by name, in a dictionary of its own."""
    return x.named() if isinstance(x, Row) else dict(x)


def is_category(name: Any) -> bool:
    """A categorical input (`country=17`) is an indicator and has no bins."""
    return isinstance(name, str) and "=" in name


def categories_of(x: Example) -> list[Any]:
    """The names of the categorical inputs of an example."""
    return x.categories() if isinstance(x, Row) else [name for name in x if is_category(name)]
