"""There is one table of currencies, and every reader of an amount goes by it."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from models.features.compute import amount_of
from models.features.currencies import EXPONENTS, major_units
from stream.inspect.alert_text import money
from stream.messages import Decision, Transaction
from stream.monitoring import _amount_log

ROOT = Path(__file__).parents[4]
NOW = datetime(2026, 1, 5, tzinfo=UTC)
FEW_KNOW = re.compile(r"\b(?:BIF|KMF|LYD|OMR|CLF|UYW)\b")  # whoever names one of these has a table


def test_no_other_module_has_a_table_of_currencies() -> None:
    folders = ("models", "stream", "producers", "infra")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    having = [path.relative_to(ROOT).as_posix() for path in sources if FEW_KNOW.search(path.read_text())]
    assert having == ["models/features/currencies.py"]


@pytest.mark.parametrize(("currency", "major"), [("EUR", 1234.5), ("JPY", 123450.0), ("KWD", 123.45)])
def test_every_reader_of_an_amount_goes_by_the_table(currency: str, major: float) -> None:
    payment = Transaction(
        transaction_id="t",
        event_time=NOW,
        card_id="c",
        merchant_id="m",
        amount_minor=123_450,
        currency=currency,
    )
    decision = Decision(
        transaction_id="t",
        event_time=NOW,
        decided_at=NOW,
        card_id="c",
        merchant_id="m",
        amount_minor=123_450,
        currency=currency,
        score=0.1,
        action="approve",
        reasons=[],
        model_version="v",
    )
    assert major_units(123_450, currency) == amount_of(payment) == major
    assert _amount_log(decision) == math.log1p(major)
    assert money(123_450, currency) == f"{major:,.{EXPONENTS[currency]}f} {currency}"


def test_an_amount_of_an_unknown_currency_has_two_decimals() -> None:
    """A decision that an older table admitted can still be read."""
    assert major_units(150, "HRK") == 1.5
    assert money(150, "HRK") == "1.50 HRK"
