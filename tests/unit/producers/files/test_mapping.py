from __future__ import annotations

from pathlib import Path

import pytest

from producers.files.mapping import Clean, Csv, FileMapping, LabelMapping, MappingError, Times, load_mapping

CONTRACT = """
[columns]
transaction_id = "TRANSACTION_ID"
event_time = "TX_DATETIME"
card_id = "CUSTOMER_ID"
merchant_id = "TERMINAL_ID"
amount = "TX_AMOUNT"
is_fraud = "TX_FRAUD"
category = "TX_TYPE"
[attributes]
ship_latitude = "TX_SHIPP_LAT"
[defaults]
currency = "EUR"
[labels]
delay = "7d"
"""


def _load(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> FileMapping:
    path = tmp_path / "MAP.toml"
    path.write_text(text)
    return load_mapping(path, environ=environ or {})


def test_the_mapping_of_the_contract_is_understood(tmp_path: Path) -> None:
    mapping = _load(tmp_path, CONTRACT)
    assert mapping.columns["amount"] == "TX_AMOUNT"
    assert mapping.attributes["ship_latitude"].column == "TX_SHIPP_LAT"
    assert mapping.defaults == {"currency": "EUR"}
    assert mapping.labels.delay.days == 7


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("merchant_id =", "mercant_id ="), ["[columns]", "`mercant_id`", "did you mean `merchant_id`?"]),
        (("[labels]", "[label]"), ["[label]", "did you mean `labels`?"]),
        (('delay = "7d"', 'dely = "7d"'), ["[labels]", "`dely`", "did you mean `delay`?"]),
        (("[defaults]", "[defaults]\nchanel = 'pos'"), ["[defaults]", "`chanel`", "did you mean `channel`?"]),
        (('delay = "7d"', 'delay = "a week"'), ["[labels] delay", "a week", "such as 7d"]),
        (('currency = "EUR"', 'currency = "euro"'), ["[defaults] currency"]),
        (('currency = "EUR"', 'country = "FR"'), ["[columns] lacks `currency`"]),
        (('amount = "TX_AMOUNT"', ""), ["`amount`", "`amount_minor`"]),
        (("amount =", 'amount_minor = "A"\namount ='), ["`amount`", "`amount_minor`", "not both"]),
        (("[defaults]", '[defaults]\ncategory = "x"'), ["[defaults] `category`", "[clean] fill"]),
        (("[labels]", '[times]\ntimezone = "Europe/Pariss"\n[labels]'), ["[times] timezone", "Pariss"]),
        (("[labels]", '[clean]\ndiscard = ["amount is zero"]\n[labels]'), ["[clean] discard", "is zero"]),
        (
            ("[labels]", '[clean]\ndiscard = ["amont <= 0"]\n[labels]'),
            ["`amont`", "did you mean `amount`?"],
        ),
        (("[labels]", "[clean.clip]\ncategory = [0, 1]\n[labels]"), ["[clean] clip", "`category`"]),
        (("[labels]", "[clean.clip]\namount = [5, 1]\n[labels]"), ["[clean] clip", "`amount`"]),
        (("[columns]", "[columns"), ["is not TOML"]),
        (("[attributes]", '[attributes]\ncountry = "C"'), ["[attributes] `country`", "[columns]"]),
        (("ship_latitude = ", "ship_latitude.colunm = "), ["colunm"]),
    ],
)
def test_a_mistake_is_one_line_with_the_file_the_key_and_what_was_meant(
    tmp_path: Path, change: tuple[str, str], said: list[str]
) -> None:
    assert change[0] in CONTRACT
    with pytest.raises(MappingError) as error:
        _load(tmp_path, CONTRACT.replace(*change))
    message = str(error.value)
    assert message.startswith(str(tmp_path / "MAP.toml"))
    assert "\n" not in message
    for part in said:
        assert part in message


def test_a_mapping_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match=r"MAP\.toml: cannot be read: No such file"):
        load_mapping(tmp_path / "MAP.toml", environ={})


HASHED = CONTRACT + '[hash]\ncolumns = ["card_id"]\n'


def test_the_hash_key_comes_from_the_environment_or_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("0123456789abcdef0123456789abcdef\n")
    environment = _load(tmp_path, HASHED, {"RIVERWATCH_HASH_KEY": "0123456789abcdef0123456789abcdef"}).hash
    from_file = _load(tmp_path, HASHED + 'key_file = "key"\n').hash
    other = _load(tmp_path, HASHED, {"RIVERWATCH_HASH_KEY": "another key of some length"}).hash
    assert environment is not None
    assert from_file is not None
    assert other is not None
    assert environment("4111111111111111") == from_file("4111111111111111") != other("4111111111111111")


def test_the_hash_is_hmac_sha256() -> None:
    # RFC 4231, test case 2.
    from producers.files.card_numbers import KeyedHash  # noqa: PLC0415 - beside the vector it is checked with

    assert KeyedHash(b"Jefe")("what do ya want for nothing?") == (
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


def test_a_card_number_has_one_hash_however_it_is_written(tmp_path: Path) -> None:
    hashed = _load(tmp_path, HASHED, {"RIVERWATCH_HASH_KEY": "0123456789abcdef"}).hash
    assert hashed is not None
    assert hashed("4111 1111 1111 1111") == hashed("4111-1111-1111-1111") == hashed("4111111111111111")


@pytest.mark.parametrize(
    ("text", "environ", "said"),
    [
        (HASHED, {}, "RIVERWATCH_HASH_KEY"),
        (HASHED, {"RIVERWATCH_HASH_KEY": "short"}, "at least 16 bytes"),
        (HASHED + 'key_file = "gone"\n', {}, "gone: No such file"),
        (HASHED + 'key = "0123456789abcdef"\n', {}, "does not belong in this file"),
        (HASHED.replace('"card_id"]', '"amount"]'), {}, "`amount` is no text"),
        (HASHED.replace('"card_id"]', '"card"]'), {}, "did you mean `card_id`?"),
    ],
)
def test_hashing_without_a_good_key_is_refused(
    tmp_path: Path, text: str, environ: dict[str, str], said: str
) -> None:
    with pytest.raises(MappingError) as error:
        _load(tmp_path, text, environ)
    assert said in str(error.value)
    assert "0123456789abcdef" not in str(error.value)


def test_the_mapping_in_the_documentation_is_understood_and_shows_every_key(tmp_path: Path) -> None:
    page = (Path(__file__).parents[4] / "docs" / "producing.md").read_text(encoding="utf-8")
    text = page.split("```toml\n")[1].split("```")[0]
    (tmp_path / "hash-key").write_text("0123456789abcdef")
    mapping = _load(tmp_path, text.replace("/run/secrets/hash-key", "hash-key"))
    assert mapping.hash is not None
    for table in (LabelMapping, Times, Csv, Clean):
        for key in table.__struct_fields__:
            assert key in text, f"{key} is not documented"
