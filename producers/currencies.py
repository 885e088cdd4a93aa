"""How many digits a currency has after the point (ISO 4217, table A.1)."""

from __future__ import annotations

from typing import Final

_USUAL: Final = 2
_OTHERS: Final[dict[str, int]] = (
    dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"), 0)
    | dict.fromkeys(("RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0)
    | dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3)
    | dict.fromkeys(("CLF", "UYW"), 4)
)


def exponent(currency: str) -> int:
    """Digits after the point.

    >>> exponent("EUR"), exponent("JPY"), exponent("KWD")
    (2, 0, 3)
    """
    return _OTHERS.get(currency, _USUAL)
