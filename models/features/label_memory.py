"""What is kept of the labelled transactions of an entity: the latest ones, weeks with frauds, decayed sums.

Each is a function of the set of labelled transactions with their latest labels. What is forgotten depends on
the times of transactions alone, and whole numbers are added and taken away exactly: so the order in which
labels come changes nothing.
"""

from __future__ import annotations

from math import floor, ldexp
from typing import Final

from librt.vecs import append, extend, vec
from mypy_extensions import i64  # an int to Python; compiled, it is a number of the machine

from models.features.decay import SPAN, UNIT

LATEST: Final = 32  # labelled transactions remembered one by one
WEEK: Final = 604_800.0  # seconds
WEEKS: Final = 26  # in which frauds are counted
WEEK_WIDTH: Final = 3  # numbers of each: its own since 1970, frauds, their seconds from its beginning
LABEL_WIDTH: Final = 5  # numbers for each half-life: block, and behind it
FRAUDS: Final = 1
GENUINES: Final = 2
BEFORE: Final = 3  # the same two of the block before
_OLDER: Final = ldexp(1.0, -int(SPAN))  # what a block before weighs in the next


def week_of(time: float) -> float:
    """The number of a time's week since 1970."""
    return float(floor(time / WEEK))


def remembered(
    times: vec[float], codes: vec[i64], time: float, digest: i64, is_fraud: bool
) -> tuple[vec[float], vec[i64]]:
    """Times and codes of the latest labelled transactions after a label, see `LabelProfile`."""
    code: i64 = digest + 1 if is_fraud else digest
    place: i64 = 0
    while place < len(times) and (
        times[place] > time or (times[place] == time and codes[place] > digest + 1)
    ):
        place += 1
    if place < len(times) and times[place] == time and codes[place] >= digest:
        codes[place] = code
    elif place < LATEST:
        times = extend(append(times[:place], time), times[place : LATEST - 1])
        codes = extend(append(codes[:place], code), codes[place : LATEST - 1])
    return times, codes


def counted(weeks: vec[float], time: float, more: float) -> vec[float]:
    """Weeks with frauds after one more (1) or one less (-1, of a week that may be forgotten already)."""
    week = week_of(time)
    seconds = float(floor(time - week * WEEK))
    place: i64 = 0
    while place < len(weeks) and weeks[place] > week:
        place += WEEK_WIDTH
    if place < len(weeks) and weeks[place] == week:
        weeks[place + 1] += more
        weeks[place + 2] += more * seconds
        if weeks[place + 1] == 0.0:
            weeks = extend(weeks[:place], weeks[place + WEEK_WIDTH :])
    elif more > 0.0:
        weeks = extend(extend(weeks[:place], vec[float]([week, 1.0, seconds])), weeks[place:])
    return weeks


def without_forgotten(weeks: vec[float], latest: float) -> vec[float]:
    """Weeks with frauds that are less than WEEKS before that of a time."""
    oldest = week_of(latest) - WEEKS
    while len(weeks) and weeks[len(weeks) - WEEK_WIDTH] <= oldest:
        weeks = weeks[: len(weeks) - WEEK_WIDTH]
    return weeks


def mean_time(weeks: vec[float], place: i64) -> float:
    """The mean time of the frauds of a week, to the second."""
    return weeks[place] * WEEK + weeks[place + 2] / weeks[place + 1]


def add_to_sums(
    sums: vec[float], begin: i64, block: float, weight: float, is_fraud: bool, corrects: bool
) -> None:
    """Take a label in under one half-life: its sums begin with their block, see `LabelProfile.sums`."""
    if block > sums[begin]:
        is_next = block == sums[begin] + 1.0
        place = begin + FRAUDS
        while place < begin + BEFORE:
            sums[place + BEFORE - FRAUDS] = sums[place] if is_next else 0.0
            sums[place] = 0.0
            place += 1
        sums[begin] = block
    age = sums[begin] - block
    if age > 1.0:
        return  # forgotten, as it would be if it had come earlier
    now, before = begin + (FRAUDS if is_fraud else GENUINES), begin + (GENUINES if is_fraud else FRAUDS)
    if age == 1.0:
        now, before = now + BEFORE - FRAUDS, before + BEFORE - FRAUDS
    sums[now] += weight
    if corrects:
        sums[before] -= weight


def label_sum(sums: vec[float], begin: i64, which: i64) -> float:
    """Decayed frauds or genuine (FRAUDS or GENUINES), in units of 2**(SPAN * block)."""
    return (sums[begin + which] + sums[begin + which + BEFORE - FRAUDS] * _OLDER) / UNIT
