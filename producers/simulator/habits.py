"""An ordinary day: what honest card holders pay, by their rhythm, with trips and new devices now and then."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from producers.simulator.world import (
    COUNTRIES,
    DEVICES,
    FAVOURITES,
    RHYTHMS,
    WEEKS,
    Floats,
    Ints,
    Population,
    World,
)

DAY: Final = 86_400.0
NOWHERE: Final = -1
"""No device or no address: a card put into a till."""
_FAVOURITE_SHARE = 0.78
_WEB_SHARE = 0.22
_WALLET_SHARE = 0.25
_TRIP_TILL_SHARE = 0.8
_SECOND_DEVICE_SHARE = 0.25
_TRIP_DAYS = 5
_LOYALTY = np.cumsum(0.6 ** np.arange(FAVOURITES)) / np.sum(0.6 ** np.arange(FAVOURITES))
_HOURS = np.cumsum(RHYTHMS, axis=1) / RHYTHMS.sum(axis=1, keepdims=True)


class Payments(NamedTuple):
    """Payments as columns.

    Attributes:
        second: since the start of the simulation.
        amount: major units.
        device, address: NOWHERE where there is none.
        scenario: 0 for an honest payment, else the scenario's number.
    """

    second: Floats
    card: Ints
    merchant: Ints
    amount: Floats
    device: Ints
    address: Ints
    latitude: Floats
    longitude: Floats
    scenario: Ints


class Habits:
    """The card holders' days, one after the other: who is travelling and which devices they own moves on."""

    def __init__(self, world: World, population: Population, *, rng: np.random.Generator) -> None:
        self._world = world
        self._rng = rng
        self._trips = population.trips / 365.0
        self._new_devices = population.new_devices / 365.0
        self._abroad_until = np.zeros(len(world.home), dtype=np.int64)
        self._abroad_in = world.home.copy()
        self._devices = world.devices.copy()
        self._next_device = world.devices.size

    def day(self, day: int, weekday: int) -> Payments:
        """All honest payments of one day (0 is the first; weekday 0 is Monday), in no order."""
        world, rng = self._world, self._rng
        self._move_on(day)
        counts = rng.poisson(world.rate * WEEKS[world.week, weekday])
        card = np.repeat(np.arange(len(counts)), counts)
        size = len(card)
        hour = (rng.random(size)[:, None] > _HOURS[world.rhythm[card]]).sum(axis=1)
        second = day * DAY + hour * 3600.0 + rng.random(size) * 3600.0
        merchant = self._merchants(card, day)
        amount = world.level[card] * world.price[merchant] * rng.lognormal(0.0, 0.5, size)
        online = world.online[merchant]
        held = np.where(rng.random(size) < _SECOND_DEVICE_SHARE, DEVICES - 1, 0)
        by_device = online | (rng.random(size) < _WALLET_SHARE)
        drift = rng.normal(0.0, 0.05, (2, size))
        return Payments(
            second=second,
            card=card,
            merchant=merchant,
            amount=amount,
            device=np.where(by_device, self._devices[card, held], NOWHERE),
            address=np.where(online, world.address[card], NOWHERE),
            latitude=np.where(online, world.latitude[card], world.merchant_latitude[merchant]) + drift[0],
            longitude=np.where(online, world.longitude[card], world.merchant_longitude[merchant]) + drift[1],
            scenario=np.zeros(size, dtype=np.int64),
        )

    def _move_on(self, day: int) -> None:
        rng, cards = self._rng, len(self._world.home)
        leaving = np.flatnonzero((rng.random(cards) < self._trips) & (self._abroad_until <= day))
        self._abroad_until[leaving] = day + 1 + rng.poisson(_TRIP_DAYS, len(leaving))
        self._abroad_in[leaving] = rng.integers(0, len(COUNTRIES), len(leaving))
        renewing = np.flatnonzero(rng.random(cards) < self._new_devices)
        fresh = np.arange(self._next_device, self._next_device + len(renewing))
        self._next_device += len(renewing)
        self._devices[renewing, rng.integers(0, DEVICES, len(renewing))] = fresh

    def _merchants(self, card: Ints, day: int) -> Ints:
        world, rng, size = self._world, self._rng, len(card)
        loyal = np.searchsorted(_LOYALTY, rng.random(size), side="right").clip(0, FAVOURITES - 1)
        merchant: Ints = world.favourites[card, loyal]
        abroad = self._abroad_until[card] > day
        wandering = (rng.random(size) > _FAVOURITE_SHARE) | abroad
        to_web = rng.random(size) < np.where(abroad, 1.0 - _TRIP_TILL_SHARE, _WEB_SHARE)
        online = wandering & to_web
        merchant[online] = world.web.pick(rng, int(online.sum()))
        place = np.where(abroad, self._abroad_in[card], world.home[card])
        for country, crowd in enumerate(world.shops):
            here = wandering & ~to_web & (place == country)
            merchant[here] = crowd.pick(rng, int(here.sum()))
        return merchant
