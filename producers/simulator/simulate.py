"""Simulated payments and what becomes known of them: the same for the same seed, in order of time, endless.

>>> from itertools import islice
>>> from producers.simulator.simulate import DEMO, simulate
>>> first = next(simulate(DEMO, seed=7))
>>> first == next(simulate(DEMO, seed=7))
True
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final, Literal, NamedTuple

import msgspec
import numpy as np

from models.features.currencies import EXPONENTS, minor_units
from producers.simulator.frauds import (
    SCENARIOS,
    AccountTakeover,
    CardTesting,
    CompromisedMerchant,
    Frauds,
    Scenarios,
    StolenCard,
)
from producers.simulator.habits import NOWHERE, Habits, Payments
from producers.simulator.labels import Reporting, Reports
from producers.simulator.world import CATEGORIES, COUNTRIES, Population, World, make_world
from stream.messages import Label, Transaction

ScenarioName = Literal["stolen_card", "compromised_merchant", "account_takeover", "card_testing"]
_MILLISECONDS: Final = 1000
_SMALLEST: Final = 50
"""Minor units: nobody pays less than that by card."""


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From a day on, a scenario is different.

    Attributes:
        at_day: 0 is the first day; it holds from its midnight (UTC).
        scenario: which one.
        parameters: what is different, by the names of the scenario; `{"enabled": False}` ends it.
    """

    at_day: int
    scenario: ScenarioName
    parameters: dict[str, Any]


class SimulationSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to simulate.

    Attributes:
        start: midnight UTC of the first day.
        days: how many; None never ends.
        currency: ISO 4217, of every amount (what the card is billed in).
        changes: in any order; those of one day apply as they stand.
    """

    start: datetime = datetime(2025, 1, 6, tzinfo=UTC)
    days: int | None = None
    currency: str = "EUR"
    population: Population = Population()
    scenarios: Scenarios = Scenarios()
    changes: tuple[Change, ...] = ()
    reporting: Reporting = Reporting()

    def __post_init__(self) -> None:
        """Refuse a start without a time zone, and a currency that is none."""
        if self.start.tzinfo is None:
            raise ValueError("the start of a simulation needs a time zone")
        if self.currency not in EXPONENTS:
            raise ValueError(f"{self.currency} is no currency of ISO 4217")


class Truth(NamedTuple):
    """What a transaction really was. For evaluation only: it is in no message.

    Attributes:
        scenario: `genuine`, or the fraud scenario's name.
    """

    transaction_id: str
    is_fraud: bool
    scenario: str


DEFAULT: Final = SimulationSpec()
DEMO: Final = SimulationSpec(
    days=56,
    population=Population(cards=500, merchants=300),
    scenarios=Scenarios(
        # First at tills, with large amounts; then online, with ordinary ones: what was learned does not help.
        stolen_card=StolenCard(cases=4.5, online=0.0, abroad=0.8, amount_factor=6.0, hours=16.0),
        # Many small leaks rather than a large one now and then: the weeks are alike but for the change.
        compromised_merchant=CompromisedMerchant(cases=0.8, days=4.0, copied=0.03),
        account_takeover=AccountTakeover(enabled=False, cases=4.0, amount_factor=1.2, nearby=1.0),
        card_testing=CardTesting(enabled=False, cases=0.15),
    ),
    changes=(
        Change(at_day=28, scenario="stolen_card", parameters={"enabled": False}),
        Change(at_day=28, scenario="account_takeover", parameters={"enabled": True}),
        Change(at_day=28, scenario="card_testing", parameters={"enabled": True}),
    ),
)
PRESETS: Final = {"default": DEFAULT, "demo": DEMO}


def simulate(spec: SimulationSpec, *, seed: int) -> Iterator[Transaction | Label]:
    """Transactions by `event_time` and labels by `known_at`, merged in order of time.

    Args:
        spec: what to simulate.
        seed: >= 0; the same seed gives the same items.

    Raises:
        ValueError: a change names parameters that its scenario does not have.
    """
    for item in simulate_with_truth(spec, seed=seed):
        if not isinstance(item, Truth):
            yield item


def simulate_with_truth(spec: SimulationSpec, *, seed: int) -> Iterator[Transaction | Label | Truth]:
    """As `simulate`, and right after each transaction what it really was."""
    chances = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(7)]
    world = make_world(spec.population, rng=chances[0])
    habits = Habits(world, spec.population, rng=chances[1])
    reports = Reports(spec.reporting, rng=chances[2])
    frauds = Frauds(world, tuple(chances[3:]))
    message = _Messages(spec, world, prefix=f"s{seed}-")
    for day in count() if spec.days is None else range(spec.days):
        scenarios = scenarios_on(spec, day)
        honest = habits.day(day, (spec.start + timedelta(days=day)).weekday())
        payments = _in_order(honest, frauds.day(day, honest, scenarios))
        transactions = message.transactions(payments)
        numbers = payments.scenario.tolist()
        seconds = payments.second.tolist()
        reports.happened([bool(n) for n in numbers], seconds, [each.transaction_id for each in transactions])
        for transaction, second, number in zip(transactions, seconds, numbers, strict=True):
            while (report := reports.due(second)) is not None:
                yield message.label(report.known, report.transaction_id, report.is_fraud, report.source)
            yield transaction
            yield Truth(transaction.transaction_id, number > 0, SCENARIOS[number])
    while (report := reports.due(float("inf"))) is not None:
        yield message.label(report.known, report.transaction_id, report.is_fraud, report.source)


def scenarios_on(spec: SimulationSpec, day: int) -> Scenarios:
    """The scenarios as the changes up to a day leave them.

    Raises:
        ValueError: a change names parameters that its scenario does not have.
    """
    standing: dict[str, dict[str, Any]] = msgspec.to_builtins(spec.scenarios)
    for change in sorted(spec.changes, key=lambda each: each.at_day):
        if change.at_day <= day:
            standing[change.scenario] |= change.parameters
    try:
        return msgspec.convert(standing, Scenarios)
    except msgspec.ValidationError as error:
        raise ValueError(f"a change of the simulation does not fit its scenario: {error}") from None


def _in_order(honest: Payments, frauds: Payments) -> Payments:
    together = [np.concatenate(columns) for columns in zip(honest, frauds, strict=True)]
    order = np.argsort(together[0], kind="stable")
    return Payments(*(column[order] for column in together))


class _Messages:
    """Columns to messages."""

    def __init__(self, spec: SimulationSpec, world: World, *, prefix: str) -> None:
        self._world = world
        self._start = spec.start.timestamp()
        self._currency = spec.currency
        self._factor = minor_units(spec.currency)
        self._prefix = prefix
        self._numbers = count(1)
        self._channels = ["ecommerce" if online else "pos" for online in world.online.tolist()]
        self._countries = [COUNTRIES[country].code for country in world.country.tolist()]
        self._categories = [CATEGORIES[category].name for category in world.category.tolist()]

    def transactions(self, payments: Payments) -> list[Transaction]:
        world, currency = self._world, self._currency
        minor = np.maximum(np.rint(payments.amount * self._factor), _SMALLEST).astype(np.int64)
        return [
            Transaction(
                transaction_id=f"{self._prefix}{next(self._numbers):09d}",
                event_time=self._time(second),
                card_id=world.card_ids[card],
                merchant_id=world.merchant_ids[merchant],
                amount_minor=amount,
                currency=currency,
                device_id=None if device == NOWHERE else _device(device),
                ip=None if address == NOWHERE else _ip(address),
                country=self._countries[merchant],
                category=self._categories[merchant],
                channel=self._channels[merchant],
                latitude=latitude,
                longitude=longitude,
            )
            for second, card, merchant, amount, device, address, latitude, longitude in zip(
                payments.second.tolist(),
                payments.card.tolist(),
                payments.merchant.tolist(),
                minor.tolist(),
                payments.device.tolist(),
                payments.address.tolist(),
                payments.latitude.round(4).tolist(),
                payments.longitude.round(4).tolist(),
                strict=True,
            )
        ]

    def label(self, known: float, transaction_id: str, is_fraud: bool, source: str) -> Label:
        return Label(
            transaction_id=transaction_id, is_fraud=is_fraud, known_at=self._time(known), source=source
        )

    def _time(self, second: float) -> datetime:
        # Floor, not round: labels and transactions stay in the order of their seconds.
        whole = int((self._start + second) * _MILLISECONDS)
        return datetime.fromtimestamp(whole / _MILLISECONDS, UTC)


def _device(number: int) -> str:
    # An odd factor gives every number a token of its own that does not tell when it was made.
    return f"d-{number * 0x9E3779B97F4B % 2**48:012x}"


def _ip(address: int) -> str:
    return f"10.{address >> 16}.{address >> 8 & 255}.{address & 255}"
