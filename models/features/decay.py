"""Forward decay: what an event weighs at its own moment, and what a sum of such weights is at another.

Sums decay by forward decay (Cormode, Shkapenyuk, Srivastava and Xu, "Forward Decay", ICDE 2009): an event at
time t weighs 2**(t / half_life), and a reader divides by the weight of its own moment. The weight is kept as
`mantissa * 2**exponent`: the caller computes the mantissa, the store aligns exponents by exact powers of two,
and nothing overflows however long the stream.
"""

from __future__ import annotations

from math import floor, ldexp, pow  # noqa: A004 - compiled, the built-in one makes objects
from typing import Final

from mypy_extensions import i64  # an int to Python; compiled, it is a number of the machine

NORMAL: Final = -1022.0  # the smallest power of two by which a product rounds as `ldexp` does
SPAN: Final = 12.0  # halvings of a block, see `block_weights`
UNIT: Final = 65_536.0  # what the first moment of a block weighs, as a whole number
HALVED: Final[list[float]] = [ldexp(1.0, -times) for times in range(1023)]  # 1 halved so many times

Weight = tuple[float, float]
"""2**(t / half_life) as (exponent, mantissa): `mantissa * 2**exponent`, 1 <= mantissa < 2, exponent whole."""


def weights(time: float, half_lives: tuple[float, ...]) -> tuple[Weight, ...]:
    """The weight of an event under each half-life.

    Args:
        time: event time, seconds since 1970.
        half_lives: seconds, > 0.

    >>> weights(5.0, (2.0,))
    ((2.0, 1.4142135623730951),)
    """
    result: list[Weight] = []
    for half_life in half_lives:
        age: float = time / half_life
        exponent = float(floor(age))
        result.append((exponent, pow(2.0, age - exponent)))
    return tuple(result)


def block_weights(time: float, half_lives: tuple[float, ...]) -> tuple[Weight, ...]:
    """The weight of an event under each half-life as (block, whole number): sums of those are exact.

    Time is cut into blocks of SPAN half-lives, and an event weighs `whole / UNIT * 2**(SPAN * block)`. Below
    2**53 whole numbers are added and taken away without rounding: what comes of it is no matter of order.

    Args:
        time: event time, seconds since 1970.
        half_lives: seconds, > 0.

    >>> block_weights(25.0, (2.0, 1.0))  # 2**12.5 and 2**25
    ((1.0, 92682.0), (2.0, 131072.0))
    """
    result: list[Weight] = []
    for exponent, mantissa in weights(time, half_lives):
        block = float(floor(exponent / SPAN))
        result.append((block, ldexp(float(floor(mantissa * UNIT + 0.5)), int(exponent - block * SPAN))))
    return tuple(result)


def shifted(value: float, shift: float) -> float:
    """`value * 2**shift` of a whole number that is not above 0."""
    # A product with a power of two is exact, and faster; what is too small for a float must round but once.
    if shift < NORMAL:
        return ldexp(value, int(shift))
    times: i64 = int(-shift)
    return value * HALVED[times]


def at_moment(value: float, scale: float, now: Weight) -> float:
    """A decayed sum as it stands at a moment: `value * 2**scale / 2**(t / half_life)`.

    A moment before the sum's own (a late event) reads the sum as it stands: it does not look back.

    >>> at_moment(8.0, 3.0, (4.0, 1.0))
    4.0
    """
    exponent, mantissa = now
    return shifted(value / mantissa, min(scale - exponent, 0.0))
