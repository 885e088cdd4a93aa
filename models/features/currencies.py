"""The currencies of ISO 4217, as published on 2026-01-01, and how many decimals their minor unit has.

The table is kept here and not taken from a package: a code that ISO withdraws stays readable, so that an
upgrade makes no dead letters of payments that were decided before.
"""

from __future__ import annotations

from typing import Final

_TWO = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD "
    "CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP "
    "GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK "
    "LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO "
    "NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS "
    "SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST "
    "XAD XCD XCG YER ZAR ZMW ZWG "
)
_NONE = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE = "BHD IQD JOD KWD LYD OMR TND"
_FOUR = "CLF UYW"

EXPONENTS: Final[dict[str, int]] = {
    code: decimals
    for decimals, codes in ((2, _TWO), (0, _NONE), (3, _THREE), (4, _FOUR))
    for code in codes.split()
}
_MINOR_UNITS: Final[dict[str, float]] = {code: 10.0**decimals for code, decimals in EXPONENTS.items()}


def minor_units(currency: str) -> int:
    """How many minor units make one major unit.

    >>> minor_units("EUR"), minor_units("JPY"), minor_units("KWD")
    (100, 1, 1000)
    """
    return int(10 ** EXPONENTS[currency])


def major_units(amount_minor: int, currency: str) -> float:
    """An amount in major units; of a currency that is not in the table, with two decimals.

    >>> major_units(12345, "EUR"), major_units(500, "JPY")
    (123.45, 500.0)
    """
    return amount_minor / _MINOR_UNITS.get(currency, 100.0)
