"""What a card number looks like. It stands alone: workers refuse by it, and files are checked by it."""

from __future__ import annotations


def looks_like_card_number(text: bytes) -> bool:
    """13 to 19 digits that pass the Luhn check (ISO/IEC 7812-1).

    >>> looks_like_card_number(b"4111111111111111"), looks_like_card_number(b"4111111111111112")
    (True, False)
    """
    if not (13 <= len(text) <= 19 and text.isdigit()):  # noqa: PLR2004 - the lengths of the standard
        return False
    total = 0
    for place, digit in enumerate(reversed(text)):
        value = digit - 48
        if place % 2:
            value = value * 2 - 9 if value > 4 else value * 2  # noqa: PLR2004 - the cross sum of a doubled digit
        total += value
    return total % 10 == 0
