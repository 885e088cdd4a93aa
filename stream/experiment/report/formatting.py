"""Figures as a reader wants them."""

from __future__ import annotations

import math

NOTHING = "\u2013"
THOUSAND, MILLION = 1e3, 1e6


def count(value: float) -> str:
    """A whole number.

    >>> count(1234567)
    '1,234,567'
    """
    return f"{value:,.0f}"


def per_cent(value: float) -> str:
    """A share.

    >>> per_cent(0.123), per_cent(0.0084)
    ('12.3 %', '0.84 %')
    """
    if not math.isfinite(value):
        return NOTHING
    small = 0.02
    return f"{value * 100:.2f} %" if 0.0 < abs(value) < small else f"{value * 100:.3g} %"


def money(value: float) -> str:
    """An amount, major units.

    >>> money(1234567.0), money(98765.4), money(12.3)
    ('1.23 M', '98.8 k', '12')
    """
    if not math.isfinite(value):
        return NOTHING
    for size, unit in ((MILLION, " M"), (THOUSAND, " k")):
        if abs(value) >= size:
            return (
                f"{value / size:.3g}{unit}" if abs(value) < size * THOUSAND else f"{value / size:,.0f}{unit}"
            )
    return f"{value:.0f}"


def figure(value: float, digits: int = 3) -> str:
    """A measure between 0 and 1.

    >>> figure(0.7523), figure(float("nan")) == NOTHING
    ('0.752', True)
    """
    return f"{value:.{digits}f}" if math.isfinite(value) else NOTHING
