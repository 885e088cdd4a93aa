from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.features.compute import entities_of, event_of, features_of, label_delta_of, parse_recent_event
from models.features.profiles import (
    LabelProfile,
    Profile,
    ProfileSnapshot,
    apply_event,
    apply_label,
    empty,
    no_labels,
)
from models.features.reasons import SENTENCES, WHOLE, feature_reason
from models.features.spec import DEFAULT_SPEC, EntitySpec, FeatureSpec, SpecError, load_spec
from stream.messages import MAX_AMOUNT_MINOR, Transaction

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
SPEC = DEFAULT_SPEC
HALF_LIVES = len(SPEC.half_lives)
Key = tuple[str, str]


def paid(minutes: float = 0.0, **changes: Any) -> Transaction:
    facts: dict[str, Any] = {
        "transaction_id": f"t{minutes}",
        "event_time": START + timedelta(minutes=minutes),
        "card_id": "c1",
        "merchant_id": "m1",
        "amount_minor": 2_500,
        "currency": "EUR",
    }
    return Transaction(**facts | changes)


class Bank:
    """Profiles in a dictionary, read before written."""

    def __init__(self, spec: FeatureSpec = SPEC) -> None:
        self.spec = spec
        self.profiles: dict[Key, Profile] = {}
        self.labels: dict[Key, LabelProfile] = {}

    def read(self, payment: Transaction) -> dict[str, float]:
        keys = [entity[:2] for entity in entities_of(payment, self.spec)]
        width = len(self.spec.half_lives)
        snapshots = tuple(
            ProfileSnapshot(self.profiles.get(key, empty(width)), self.labels.get(key, no_labels(width)))
            for key in keys
        )
        return features_of(
            payment, event_of(payment, self.spec), tuple(kind for kind, _ in keys), snapshots, self.spec
        )

    def add(self, payment: Transaction) -> dict[str, float]:
        x = self.read(payment)
        event = event_of(payment, self.spec)
        for kind, key, max_recent in entities_of(payment, self.spec):
            before = self.profiles.get((kind, key), empty(len(self.spec.half_lives)))
            self.profiles[kind, key] = apply_event(before, event, max_recent)
        return x

    def know(self, payment: Transaction, is_fraud: bool) -> None:
        delta = label_delta_of(payment.transaction_id, payment.event_time.timestamp(), is_fraud, self.spec)
        for kind, key, _ in entities_of(payment, self.spec):
            before = self.labels.get((kind, key), no_labels(len(self.spec.half_lives)))
            self.labels[kind, key] = apply_label(before, delta)


@pytest.fixture
def bank() -> Bank:
    return Bank()


def usual_days(bank: Bank, days: int = 20) -> None:
    for day in range(days):
        bank.add(paid(day * 1440, amount_minor=2_000 + 50 * (day % 5)))


def test_feature_of_an_event_does_not_depend_on_its_own_update(bank: Bank) -> None:
    usual_days(bank)
    payment = paid(20 * 1440, amount_minor=90_000)
    before = bank.read(payment)
    assert bank.add(payment) == before
    after = bank.read(payment)
    assert after["card.z.30d"] < before["card.z.30d"]


def test_label_of_an_event_changes_no_feature_before_it_is_known(bank: Bank) -> None:
    usual_days(bank)
    payment = paid(20 * 1440)
    unlabelled = bank.add(payment)
    bank.know(payment, is_fraud=True)
    assert "card.fraud_run" not in unlabelled
    assert bank.read(paid(20 * 1440 + 1))["card.fraud_run"] == 1.0


def test_unusual_amount_is_far_from_the_norm_of_its_card(bank: Bank) -> None:
    usual_days(bank)
    assert abs(bank.read(paid(20 * 1440, amount_minor=2_100))["card.z.30d"]) < 1.5
    unusual = bank.read(paid(20 * 1440, amount_minor=21_000))
    assert unusual["card.z.30d"] > 5.0
    assert unusual["card.ratio.30d"] == pytest.approx(10.0, rel=0.1)


def test_norm_needs_enough_events_to_speak(bank: Bank) -> None:
    bank.add(paid(0))
    assert "card.z.30d" not in bank.read(paid(1))


def test_norms_do_not_change_with_the_unit_of_currency() -> None:
    large, small = Bank(), Bank()
    for day in range(30):
        amount = 500_000 + 80_000 * (day % 7)
        large.add(paid(day * 1440, amount_minor=amount))
        small.add(paid(day * 1440, amount_minor=amount * 1_000))
    a = large.read(paid(30 * 1440, amount_minor=2_000_000))
    b = small.read(paid(30 * 1440, amount_minor=2_000_000_000))
    for name in ("card.z.30d", "card.ratio.30d", "merchant.z.30d"):
        assert a[name] == pytest.approx(b[name], rel=1e-3)


def test_amount_is_in_major_units_of_its_currency(bank: Bank) -> None:
    amounts = {
        code: bank.read(paid(currency=code, amount_minor=5_000))["amount"] for code in ("EUR", "JPY", "KWD")
    }
    assert amounts == {"EUR": 50.0, "JPY": 5_000.0, "KWD": 5.0}


def test_missing_field_gives_missing_features_and_no_entity(bank: Bank) -> None:
    assert [entity[0] for entity in entities_of(paid(), SPEC)] == ["card", "merchant"]
    bank.add(paid())
    x = bank.read(paid(1))
    assert not [
        name for name in x if "device" in name or "country" in name or "distance" in name or "=" in name
    ]


def test_pair_of_fields_is_an_entity_of_its_own_and_unambiguous() -> None:
    spec = FeatureSpec(entities=(EntitySpec("pair", ("card_id", "merchant_id"), 2),), crosses=())
    a = entities_of(paid(card_id="a|1", merchant_id="b"), spec)
    b = entities_of(paid(card_id="a", merchant_id="1|b"), spec)
    assert a[0][0] == "pair"
    assert a[0][2] == 2
    assert a != b


@pytest.mark.parametrize("amount", [1, MAX_AMOUNT_MINOR])
@pytest.mark.parametrize("minutes", [-60 * 24 * 3_000, 0, 60 * 24 * 3_000])
def test_extreme_amounts_and_times_give_finite_features(bank: Bank, amount: int, minutes: float) -> None:
    usual_days(bank)
    bank.know(paid(1440), is_fraud=True)
    extreme = paid(minutes, amount_minor=amount, latitude=-90.0, longitude=180.0, country="FR")
    for payment in (extreme, paid(30_000), extreme, paid(30_001, latitude=90.0, longitude=-180.0)):
        x = bank.add(payment)
        assert all(math.isfinite(value) for value in x.values()), x


def test_late_event_sees_the_profile_as_it_stands(bank: Bank) -> None:
    usual_days(bank)
    x = bank.read(paid(-1440))
    assert x["card.since_last"] == 0.0
    assert x["card.since_first"] == 0.0


def test_features_come_in_a_fixed_order(bank: Bank) -> None:
    usual_days(bank)
    assert list(bank.read(paid(30_000))) == list(bank.read(paid(40_000, amount_minor=1)))


def test_stolen_device_shows_in_the_number_of_its_cards(bank: Bank) -> None:
    for number in range(4):
        bank.add(paid(number, card_id=f"c{number}", device_id="d1"))
    assert bank.read(paid(5, device_id="d1"))["device.cards"] == 4.0


def test_new_merchant_and_new_device_are_told_from_known_ones(bank: Bank) -> None:
    bank.add(paid(0, device_id="d1"))
    known, new = bank.read(paid(1, device_id="d1")), bank.read(paid(1, merchant_id="m2", device_id="d2"))
    assert (known["card.merchant_visits"], new["card.merchant_visits"]) == (1.0, 0.0)
    assert (known["card.device_visits"], new["card.device_visits"]) == (1.0, 0.0)


def test_impossible_travel_shows_in_speed_and_country(bank: Bank) -> None:
    bank.add(paid(0, country="FR", latitude=48.86, longitude=2.35))
    x = bank.read(paid(60, country="US", latitude=40.71, longitude=-74.01))
    assert x["card.country_change"] == 1.0
    assert x["card.speed"] == pytest.approx(5_837, rel=0.01)


def test_run_of_frauds_is_dated_from_its_first(bank: Bank) -> None:
    for day in (0, 1, 2):
        payment = paid(day * 1440)
        bank.add(payment)
        bank.know(payment, is_fraud=True)
    x = bank.read(paid(10 * 1440))
    assert x["merchant.run_age"] == 10 * 86_400.0
    assert x["merchant.fraud_age"] == pytest.approx(9 * 86_400.0, rel=0.02)


def test_run_of_frauds_is_dated_though_there_were_older_ones(bank: Bank) -> None:
    bank.know(paid(-200 * 1440), is_fraud=True)
    bank.know(paid(-100 * 1440), is_fraud=False)
    for day in (3, 0, 1, 2):  # known in another order than they happened
        bank.know(paid(day * 1440), is_fraud=True)
    x = bank.read(paid(21 * 1440))
    assert x["merchant.since_first_fraud"] == 221 * 86_400.0
    assert x["merchant.run_age"] == 21 * 86_400.0
    assert x["merchant.since_genuine"] == 121 * 86_400.0


def test_genuine_label_ends_a_run_and_the_next_one_begins_later(bank: Bank) -> None:
    bank.know(paid(0), is_fraud=True)
    bank.know(paid(1440), is_fraud=False)
    assert "merchant.run_age" not in bank.read(paid(3 * 1440))
    bank.know(paid(2 * 1440), is_fraud=True)
    assert bank.read(paid(3 * 1440))["merchant.run_age"] == 86_400.0


def test_recent_event_tells_what_an_analyst_needs() -> None:
    payment = paid(5, country="DE", latitude=52.5, longitude=13.4, merchant_id="m" * 128)
    recent_event = event_of(payment, SPEC).recent_event
    assert len(recent_event) <= 255
    read = parse_recent_event(recent_event)
    assert read.time == payment.event_time.timestamp()
    assert (read.amount_minor, read.country, read.merchant_id) == (2_500, "DE", "m" * 96)
    assert read.latitude == pytest.approx(52.5)


def test_every_recent_event_fits_whatever_the_texts() -> None:
    payment = paid(merchant_id="漢" * 128, country="国" * 256, device_id="d" * 128)
    recent_event = event_of(payment, SPEC).recent_event
    assert len(recent_event) <= 255
    assert set(parse_recent_event(recent_event).merchant_id) == {"漢"}


def test_category_is_hashed_into_its_bucket_and_nothing_else(bank: Bank) -> None:
    x = bank.read(paid(country="FR", channel="pos"))
    assert [value for name, value in x.items() if name.startswith("country=")] == [1.0]
    buckets = {
        name for code in range(5_000) for name in bank.read(paid(category=f"{code}")) if "category=" in name
    }
    assert len(buckets) == SPEC.categories


def test_every_feature_has_a_sentence(bank: Bank) -> None:
    place = {"country": "FR", "latitude": 48.9, "longitude": 2.3, "device_id": "d1", "category": "food"}
    for minutes in range(5):
        bank.add(paid(minutes, **place))
        bank.know(paid(minutes, **place), is_fraud=True)
    x = bank.read(paid(10, **place))
    for name in x:
        assert "=" in name or name in WHOLE or name.split(".")[1] in SENTENCES
        assert name not in feature_reason(name, x)


def tomls() -> Iterator[tuple[str, str]]:
    yield "half_livse = [1.0]", "half_livse"
    yield "bins = 1000", "bins"
    yield 'bins = "many"', "bins"
    yield "half_lives = [5.0, 1.0]", "half_lives"
    yield "norm_half_lives = [5.0]", "norm_half_lives"
    yield '[[entities]]\nkind = "x"\nfields = ["card_di"]', "card_di"
    yield '[[entities]]\nkind = "x"\nfields = ["card_id"]\nmax_recent = 99', "max_recent"
    yield '[[entities]]\nkind = "x"\nfields = ["card_id"]\nstatistics = ["nrom"]', "statistics"
    yield 'crosses = [["amount"]]', "crosses"
    yield "bins = ", "Invalid value"


@pytest.mark.parametrize(("text", "named"), list(tomls()))
def test_wrong_spec_is_refused_by_the_name_of_its_key(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "features.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError, match=named) as refused:
        load_spec(path)
    assert str(path) in str(refused.value)


def test_spec_file_changes_only_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "features.toml"
    path.write_text(
        'bins = 12\n[[entities]]\nkind = "card"\nfields = ["card_id"]\nmax_recent = 3', encoding="utf-8"
    )
    spec = load_spec(path)
    entities = (EntitySpec("card", ("card_id",), 3),)
    assert spec == msgspec.structs.replace(DEFAULT_SPEC, bins=12, entities=entities)


def test_a_key_under_its_old_name_is_refused_with_the_new_one(tmp_path: Path) -> None:
    file = tmp_path / "features.toml"
    file.write_text('[[entities]]\nkind = "card"\nfields = ["card_id"]\nkeep = 10\n', encoding="utf-8")
    with pytest.raises(SpecError, match=r"entities\.card\.keep: the key is named max_recent now") as caught:
        load_spec(file)
    assert str(file) in str(caught.value)
