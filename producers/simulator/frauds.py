"""How cards are defrauded: four scenarios, each a plan of payments drawn when a case begins."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Final, NamedTuple

import msgspec
import numpy as np

from producers.simulator.habits import DAY, NOWHERE, Payments
from producers.simulator.world import ADDRESSES, COUNTRIES, World

SCENARIOS: Final = ("genuine", "stolen_card", "compromised_merchant", "account_takeover", "card_testing")
"""Names by number, as they stand in `Payments.scenario` and in `Truth.scenario`."""
_FIRST_DEVICE: Final = 2**40
_LAST_DEVICE: Final = 2**48
_HOUR: Final = 3600.0
_MINUTE: Final = 60.0


class StolenCard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The card itself is gone: sudden high spending, often far away, online from a device never seen.

    Attributes:
        cases: a day, for 1,000 cards.
        payments: of a case, on average.
        hours: over which they are spread.
        amount_factor: times the holder's own level.
        abroad: share of cases in another country.
        online: share of payments in web shops.
    """

    enabled: bool = True
    cases: float = 0.5
    payments: float = 5.0
    hours: float = 30.0
    amount_factor: float = 4.0
    abroad: float = 0.6
    online: float = 0.35


class CompromisedMerchant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A till copies the cards that pay there; they are used later, at that merchant and elsewhere.

    Attributes:
        cases: merchants that begin to leak, a day, for 1,000 merchants.
        days: for which one leaks.
        copied: share of the payments there whose card is used later.
        delay_hours: until it is used, on average.
        payments: of a copied card, on average.
        there: share of them at the same merchant, the others in web shops.
        amount_factor: times what is usual there.
    """

    enabled: bool = True
    cases: float = 0.25
    days: float = 10.0
    copied: float = 0.06
    delay_hours: float = 20.0
    payments: float = 2.0
    there: float = 0.6
    amount_factor: float = 1.6


class AccountTakeover(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Someone else logs in: a new device and address, web shops only, within a few hours, higher amounts.

    Attributes:
        cases: a day, for 1,000 cards.
        payments: of a case, on average.
        hours: over which they are spread.
        amount_factor: times the holder's own level.
        nearby: share of cases whose address is in the holder's country, so that the place tells nothing.
    """

    enabled: bool = True
    cases: float = 0.4
    payments: float = 5.0
    hours: float = 4.0
    amount_factor: float = 2.0
    nearby: float = 0.5


class CardTesting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bursts of tiny payments at one web shop to find cards that work, then one large payment with each.

    Attributes:
        cases: bursts a day, for 1,000 cards.
        cards: of a burst, on average.
        tries: tiny payments with each card, on average.
        tiny: up to this amount, major units.
        hit: share of the cards that a large payment follows on.
        large: that payment, median, major units.
    """

    enabled: bool = True
    cases: float = 0.06
    cards: float = 8.0
    tries: float = 2.5
    tiny: float = 2.0
    hit: float = 0.4
    large: float = 240.0


class Scenarios(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The four scenarios as they stand at a time."""

    stolen_card: StolenCard = StolenCard()
    compromised_merchant: CompromisedMerchant = CompromisedMerchant()
    account_takeover: AccountTakeover = AccountTakeover()
    card_testing: CardTesting = CardTesting()


class _Planned(NamedTuple):
    second: float
    order: int
    card: int
    merchant: int
    amount: float
    device: int
    address: int
    latitude: float
    longitude: float
    scenario: int


class _Place(NamedTuple):
    device: int
    address: int
    latitude: float
    longitude: float


@dataclass
class Frauds:
    """Cases under way. Each scenario draws from its own chance: without one, the others stay as they are."""

    world: World
    rngs: tuple[np.random.Generator, ...]
    _planned: list[_Planned] = field(default_factory=list)
    _leaks: dict[int, float] = field(default_factory=dict)
    _order: Iterator[int] = field(default_factory=count)

    def day(self, day: int, honest: Payments, scenarios: Scenarios) -> Payments:
        """The fraudulent payments of one day; what a scenario switched off had planned is dropped."""
        self._drop_disabled(scenarios)
        if scenarios.stolen_card.enabled:
            self._steal(day, scenarios.stolen_card)
        if scenarios.compromised_merchant.enabled:
            self._leak(day, honest, scenarios.compromised_merchant)
        if scenarios.account_takeover.enabled:
            self._take_over(day, scenarios.account_takeover)
        if scenarios.card_testing.enabled:
            self._test_cards(day, scenarios.card_testing)
        due: list[_Planned] = []
        while self._planned and self._planned[0].second < (day + 1) * DAY:
            due.append(heapq.heappop(self._planned))
        return _columns(due)

    def _drop_disabled(self, scenarios: Scenarios) -> None:
        off = {number for number, name in enumerate(SCENARIOS[1:], 1) if not getattr(scenarios, name).enabled}
        if not scenarios.compromised_merchant.enabled:
            self._leaks.clear()
        if any(planned.scenario in off for planned in self._planned):
            self._planned = [planned for planned in self._planned if planned.scenario not in off]
            heapq.heapify(self._planned)

    def _plan(
        self,
        second: float,
        card: int,
        merchant: int,
        amount: float,
        *,
        scenario: int,
        place: _Place | None = None,
    ) -> None:
        world = self.world
        place = place or _Place(NOWHERE, NOWHERE, *_at(world, merchant))
        order = next(self._order)
        heapq.heappush(
            self._planned, _Planned(second, order, card, merchant, amount, *place, scenario=scenario)
        )

    def _hideout(self, rng: np.random.Generator, country: int | None = None) -> _Place:
        """A device and address never seen before, somewhere."""
        chosen = int(rng.integers(0, len(COUNTRIES))) if country is None else country
        where = COUNTRIES[chosen]
        latitude, longitude = (
            where.latitude + float(rng.normal(0.0, 1.0)),
            where.longitude + float(rng.normal(0.0, 1.0)),
        )
        address = int(rng.integers(0, ADDRESSES))
        return _Place(int(rng.integers(_FIRST_DEVICE, _LAST_DEVICE)), address, latitude, longitude)

    def _cards(self, rng: np.random.Generator, cases: float) -> list[int]:
        cards = len(self.world.card_ids)
        return [int(card) for card in rng.integers(0, cards, rng.poisson(cases * cards / 1000.0))]

    def _steal(self, day: int, scenario: StolenCard) -> None:
        world, rng = self.world, self.rngs[0]
        for card in self._cards(rng, scenario.cases):
            begin = (day + rng.random()) * DAY
            abroad = rng.random() < scenario.abroad
            country = int(rng.integers(0, len(COUNTRIES))) if abroad else int(world.home[card])
            hideout = self._hideout(rng, country)
            for _ in range(1 + rng.poisson(max(scenario.payments - 1, 0))):
                online = rng.random() < scenario.online
                merchant = int((world.web if online else world.shops[country]).pick(rng, 1)[0])
                amount = _usual(world, card, merchant) * scenario.amount_factor * rng.lognormal(0.0, 0.5)
                second = begin + rng.random() * scenario.hours * _HOUR
                self._plan(second, card, merchant, amount, scenario=1, place=hideout if online else None)

    def _leak(self, day: int, honest: Payments, scenario: CompromisedMerchant) -> None:
        world, rng = self.world, self.rngs[1]
        merchants = len(world.merchant_ids)
        for _ in range(rng.poisson(scenario.cases * merchants / 1000.0)):
            # Thieves go where people pay: a merchant is found by one of today's payments.
            if len(honest.merchant):
                merchant = int(honest.merchant[rng.integers(0, len(honest.merchant))])
                self._leaks[merchant] = day + scenario.days
        self._leaks = {merchant: until for merchant, until in self._leaks.items() if until > day}
        for merchant in self._leaks:
            there = np.flatnonzero(honest.merchant == merchant)
            for row in there[rng.random(len(there)) < scenario.copied]:
                self._use_copy(int(honest.card[row]), merchant, float(honest.second[row]), scenario)

    def _use_copy(self, card: int, merchant: int, copied: float, scenario: CompromisedMerchant) -> None:
        world, rng = self.world, self.rngs[1]
        # Never before the day's end: planned payments of a day gone by would come too late.
        begin = copied + DAY + rng.exponential(scenario.delay_hours * _HOUR)
        hideout = self._hideout(rng)
        for _ in range(1 + rng.poisson(max(scenario.payments - 1, 0))):
            again = rng.random() < scenario.there
            where = merchant if again else int(world.web.pick(rng, 1)[0])
            amount = _usual(world, card, where) * scenario.amount_factor * rng.lognormal(0.0, 0.4)
            second = begin + rng.random() * 12 * _HOUR
            place = hideout if world.online[where] else None
            self._plan(second, card, where, amount, scenario=2, place=place)

    def _take_over(self, day: int, scenario: AccountTakeover) -> None:
        world, rng = self.world, self.rngs[2]
        for card in self._cards(rng, scenario.cases):
            begin = (day + rng.random()) * DAY
            nearby = rng.random() < scenario.nearby
            hideout = self._hideout(rng, int(world.home[card]) if nearby else None)
            for _ in range(1 + rng.poisson(max(scenario.payments - 1, 0))):
                merchant = int(world.web.pick(rng, 1)[0])
                amount = _usual(world, card, merchant) * scenario.amount_factor * rng.lognormal(0.0, 0.5)
                second = begin + rng.random() * scenario.hours * _HOUR
                self._plan(second, card, merchant, amount, scenario=3, place=hideout)

    def _test_cards(self, day: int, scenario: CardTesting) -> None:
        world, rng = self.world, self.rngs[3]
        for _ in range(rng.poisson(scenario.cases * len(world.card_ids) / 1000.0)):
            begin = (day + rng.random()) * DAY
            shop = int(world.web.pick(rng, 1)[0])
            hideout = self._hideout(rng)
            size = min(1 + rng.poisson(max(scenario.cards - 1, 0)), len(world.card_ids))
            for card in rng.choice(len(world.card_ids), size, replace=False).tolist():
                tested = begin + rng.random() * 40 * _MINUTE
                for _ in range(1 + rng.poisson(max(scenario.tries - 1, 0))):
                    tested += float(rng.exponential(_MINUTE))
                    amount = 0.5 + rng.random() * scenario.tiny
                    self._plan(tested, card, shop, amount, scenario=4, place=hideout)
                if rng.random() < scenario.hit:
                    merchant = int(world.web.pick(rng, 1)[0])
                    amount = scenario.large * rng.lognormal(0.0, 0.4)
                    second = tested + rng.random() * 6 * _HOUR
                    self._plan(second, card, merchant, amount, scenario=4, place=hideout)


def _usual(world: World, card: int, merchant: int) -> float:
    return float(world.level[card] * world.price[merchant])


def _at(world: World, merchant: int) -> tuple[float, float]:
    return float(world.merchant_latitude[merchant]), float(world.merchant_longitude[merchant])


def _columns(planned: list[_Planned]) -> Payments:
    second, _, card, merchant, amount, device, address, latitude, longitude, scenario = (
        zip(*planned, strict=True) if planned else ((),) * 10
    )
    return Payments(
        second=np.array(second, dtype=np.float64),
        card=np.array(card, dtype=np.int64),
        merchant=np.array(merchant, dtype=np.int64),
        amount=np.array(amount, dtype=np.float64),
        device=np.array(device, dtype=np.int64),
        address=np.array(address, dtype=np.int64),
        latitude=np.array(latitude, dtype=np.float64),
        longitude=np.array(longitude, dtype=np.float64),
        scenario=np.array(scenario, dtype=np.int64),
    )
