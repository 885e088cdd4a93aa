"""Who pays, where: simulated cards and merchants as columns. No card number exists here, only tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

FAVOURITES: Final = 6
"""Merchants that a card returns to."""
DEVICES: Final = 2
"""Devices a card may be used from; many cards have only one."""
ADDRESSES: Final = 2**24
"""IP addresses are taken from 10.0.0.0/8: nobody's."""


class Country(NamedTuple):
    """Where cards and merchants live, around one point; `weight` is its share of both."""

    code: str
    latitude: float
    longitude: float
    weight: float


class Category(NamedTuple):
    """A line of business: median price (major units), its spread (log), share online, share of merchants."""

    name: str
    price: float
    spread: float
    online: float
    weight: float


COUNTRIES: Final = (
    Country("DE", 50.9, 10.0, 0.24),
    Country("FR", 47.0, 2.5, 0.20),
    Country("IT", 42.8, 12.5, 0.14),
    Country("ES", 40.2, -3.6, 0.12),
    Country("NL", 52.2, 5.4, 0.08),
    Country("BE", 50.7, 4.6, 0.06),
    Country("AT", 47.6, 14.1, 0.05),
    Country("PT", 39.6, -8.2, 0.04),
    Country("GB", 52.6, -1.5, 0.03),
    Country("US", 39.8, -98.6, 0.02),
    Country("BR", -14.2, -51.9, 0.01),
    Country("TH", 15.1, 101.0, 0.01),
)
CATEGORIES: Final = (
    Category("grocery", 32.0, 0.55, 0.08, 0.24),
    Category("restaurant", 27.0, 0.50, 0.00, 0.18),
    Category("fuel", 48.0, 0.30, 0.00, 0.10),
    Category("fashion", 58.0, 0.60, 0.45, 0.12),
    Category("electronics", 120.0, 0.80, 0.60, 0.08),
    Category("travel", 170.0, 0.80, 0.70, 0.06),
    Category("pharmacy", 19.0, 0.50, 0.15, 0.08),
    Category("digital", 11.0, 0.60, 1.00, 0.08),
    Category("entertainment", 24.0, 0.50, 0.40, 0.06),
)
RHYTHMS: Final = np.array(
    # Payments by hour of the day, 0 to 23: early risers, office hours, evenings, nights.
    [
        [1, 1, 1, 1, 3, 12, 30, 50, 55, 50, 48, 50, 52, 42, 36, 34, 34, 32, 26, 16, 9, 5, 2, 1],
        [1, 1, 1, 1, 1, 2, 7, 18, 26, 28, 32, 42, 64, 50, 30, 28, 32, 48, 54, 40, 24, 13, 7, 3],
        [4, 2, 1, 1, 1, 1, 3, 8, 14, 18, 22, 28, 34, 32, 30, 30, 34, 44, 58, 64, 60, 46, 28, 12],
        [26, 20, 14, 8, 4, 2, 2, 4, 6, 9, 13, 18, 24, 26, 26, 26, 28, 32, 38, 44, 48, 50, 46, 38],
    ],
    dtype=np.float64,
)
RHYTHM_SHARES: Final = (0.25, 0.40, 0.27, 0.08)
WEEKS: Final = np.array(
    # Payments by day of the week, Monday first: alike every day, on working days, at the weekend.
    [[1, 1, 1, 1, 1.1, 1.1, 0.8], [1.2, 1.2, 1.2, 1.2, 1.2, 0.6, 0.4], [0.7, 0.7, 0.7, 0.8, 1.2, 1.7, 1.2]],
    dtype=np.float64,
)
WEEK_SHARES: Final = (0.5, 0.25, 0.25)


class Population(msgspec.Struct, frozen=True, kw_only=True):
    """How large the simulated world is.

    Attributes:
        cards: > 0.
        merchants: >= 40, so that every country has some.
        payments_per_day: of a card, on average, > 0.
        trips: of a card in a year, on average; a few days abroad each, honest but unusual.
        new_devices: of a card in a year, on average; honest but unusual too.
    """

    cards: int = 5_000
    merchants: int = 1_500
    payments_per_day: float = 1.8
    trips: float = 2.0
    new_devices: float = 0.6

    def __post_init__(self) -> None:
        """Refuse a world in which nothing could happen."""
        if self.cards < 1 or self.merchants < 40 or self.payments_per_day <= 0:  # noqa: PLR2004 - as documented
            raise ValueError("a population needs cards >= 1, merchants >= 40 and payments_per_day > 0")


class Crowd(NamedTuple):
    """Merchants to choose among, the popular ones more often: `cumulative` ends at 1."""

    merchants: Ints
    cumulative: Floats

    def pick(self, rng: np.random.Generator, size: int) -> Ints:
        """Choose merchants."""
        places = np.searchsorted(self.cumulative, rng.random(size), side="right")
        return self.merchants[np.minimum(places, len(self.merchants) - 1)]


@dataclass(frozen=True)
class World:
    """Cards and merchants, one place in each column apiece."""

    card_ids: list[str]
    home: Ints
    latitude: Floats
    longitude: Floats
    level: Floats
    rate: Floats
    rhythm: Ints
    week: Ints
    favourites: Ints
    devices: Ints
    address: Ints
    merchant_ids: list[str]
    category: Ints
    country: Ints
    merchant_latitude: Floats
    merchant_longitude: Floats
    price: Floats
    online: Flags
    shops: list[Crowd]
    """Of each country, its merchants with a till."""
    web: Crowd
    """Merchants online, of all countries."""


def make_world(population: Population, *, rng: np.random.Generator) -> World:
    """Draw the cards and merchants of a simulation."""
    cards, merchants = population.cards, population.merchants
    shares = np.array([country.weight for country in COUNTRIES])
    shares = shares / shares.sum()
    centres = np.array([(country.latitude, country.longitude) for country in COUNTRIES])

    category_shares = np.array([category.weight for category in CATEGORIES])
    category = rng.choice(len(CATEGORIES), merchants, p=category_shares / category_shares.sum())
    online = rng.random(merchants) < np.array([kind.online for kind in CATEGORIES])[category]
    country = rng.choice(len(COUNTRIES), merchants, p=shares)
    # Every country has a till somewhere, and the web has a shop: nobody finds every door closed.
    country[: len(COUNTRIES)] = np.arange(len(COUNTRIES))
    online[: len(COUNTRIES)] = False
    online[len(COUNTRIES) : len(COUNTRIES) + 8] = True
    popularity = rng.pareto(1.3, merchants) + 0.2
    price = np.array([kind.price for kind in CATEGORIES])[category] * rng.lognormal(0.0, 0.3, merchants)
    shops = [_crowd(np.flatnonzero((country == c) & ~online), popularity) for c in range(len(COUNTRIES))]
    web = _crowd(np.flatnonzero(online), popularity)

    home = rng.choice(len(COUNTRIES), cards, p=shares)
    devices = np.arange(cards * DEVICES).reshape(cards, DEVICES)
    one_device = rng.random(cards) < 0.6  # noqa: PLR2004 - a share of cards
    devices[one_device, 1] = devices[one_device, 0]
    return World(
        card_ids=[f"c-{token:016x}" for token in _tokens(rng, cards)],
        home=home,
        latitude=centres[home, 0] + rng.normal(0.0, 1.2, cards),
        longitude=centres[home, 1] + rng.normal(0.0, 1.6, cards),
        level=rng.lognormal(0.0, 0.45, cards),
        rate=population.payments_per_day * rng.gamma(3.0, 1.0 / 3.0, cards),
        rhythm=rng.choice(len(RHYTHMS), cards, p=RHYTHM_SHARES),
        week=rng.choice(len(WEEKS), cards, p=WEEK_SHARES),
        favourites=_favourites(home, shops, web, rng),
        devices=devices,
        address=rng.integers(0, ADDRESSES, cards),
        merchant_ids=[f"m-{place:05d}" for place in range(merchants)],
        category=category,
        country=country,
        merchant_latitude=centres[country, 0] + rng.normal(0.0, 1.2, merchants),
        merchant_longitude=centres[country, 1] + rng.normal(0.0, 1.6, merchants),
        price=price,
        online=online,
        shops=shops,
        web=web,
    )


def _tokens(rng: np.random.Generator, size: int) -> list[int]:
    found: dict[int, None] = {}
    while len(found) < size:
        found.update(dict.fromkeys(rng.integers(0, 2**63, size - len(found)).tolist()))
    return list(found)


def _crowd(merchants: Ints, popularity: Floats) -> Crowd:
    weights = popularity[merchants]
    return Crowd(merchants, np.cumsum(weights) / weights.sum())


def _favourites(home: Ints, shops: list[Crowd], web: Crowd, rng: np.random.Generator) -> Ints:
    """Two thirds around the corner, one third online."""
    chosen = web.pick(rng, len(home) * FAVOURITES).reshape(len(home), FAVOURITES)
    near = rng.random(chosen.shape) < 2 / 3
    for country, crowd in enumerate(shops):
        here = near & (home == country)[:, None]
        chosen[here] = crowd.pick(rng, int(here.sum()))
    return chosen
