"""What models need of a payment event: a structural view, so that nothing here knows the wire."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol


class Categories(Protocol):
    """What categorical features are of: the words that a payment event has, and so has its decision."""

    @property
    def country(self) -> str | None: ...  # noqa: D102 - the names say it
    @property
    def category(self) -> str | None: ...  # noqa: D102
    @property
    def channel(self) -> str | None: ...  # noqa: D102


class Payment(Categories, Protocol):
    """What features need of a payment event."""

    @property
    def transaction_id(self) -> str: ...  # noqa: D102 - the names say it
    @property
    def event_time(self) -> datetime: ...  # noqa: D102
    @property
    def card_id(self) -> str: ...  # noqa: D102
    @property
    def merchant_id(self) -> str: ...  # noqa: D102
    @property
    def amount_minor(self) -> int: ...  # noqa: D102
    @property
    def currency(self) -> str: ...  # noqa: D102
    @property
    def device_id(self) -> str | None: ...  # noqa: D102
    @property
    def ip(self) -> str | None: ...  # noqa: D102
    @property
    def latitude(self) -> float | None: ...  # noqa: D102
    @property
    def longitude(self) -> float | None: ...  # noqa: D102
    @property
    def attributes(self) -> Mapping[str, float | str]: ...  # noqa: D102
