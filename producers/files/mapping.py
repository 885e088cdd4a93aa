"""What a file's columns mean: MAP.toml, read strictly. docs/producing.md shows every key."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

import msgspec

from producers.files.card_numbers import KeyedHash, hash_key
from stream.config.settings import seconds
from stream.messages import Transaction

FIELDS: Final = tuple(name for name in Transaction.__struct_fields__ if name != "attributes")
REQUIRED: Final = ("transaction_id", "event_time", "card_id", "merchant_id", "currency")
NUMBERS: Final = ("amount", "amount_minor", "latitude", "longitude")
COLUMNS: Final = (*FIELDS, "amount", "is_fraud", "known_at")
_CONDITION: Final = re.compile(r"\s*(\w+)\s*(?:(<=|>=|==|!=|<|>)\s*(.+?)|is\s+empty)\s*")


class MappingError(ValueError):
    """A mapping cannot be used; the message is one line that names the file and the key."""


class Attribute(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A further column.

    Attributes:
        type: `auto` keeps numbers, and text that reads as a number, as numbers; `text` keeps all as text.
    """

    column: str
    type: Literal["auto", "text"] = "auto"


class LabelMapping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How labels are made of `is_fraud`.

    Attributes:
        delay: after the transaction, where there is no column `known_at`.
        source: who says so.
        genuine: whether genuine transactions get a label too; else nobody reports them, as in life.
    """

    delay: timedelta = timedelta(days=7)
    source: str = "chargeback"
    genuine: bool = False


class Times(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How times are read.

    Attributes:
        format: of text, as in `strptime`; ISO 8601 and unix seconds need none.
        timezone: of times that name none.
        unit: of numbers: s, ms or us since 1970.
        window: rows that are out of order by no more than this are sorted.
    """

    format: str | None = None
    timezone: str = "UTC"
    unit: Literal["s", "ms", "us"] = "s"
    window: timedelta = timedelta(hours=1)


class Condition(msgspec.Struct, frozen=True):
    """Rows to leave out: `FIELD OPERATOR VALUE`, or `FIELD is empty` (no operator, no value)."""

    text: str
    field: str
    operator: str | None
    value: str | None


class Clean(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is done to values; everything is counted.

    Attributes:
        fill: a value for a field whose column is empty in a row.
        clip: of a number, the lowest and the highest value.
        discard: rows to leave out, judged after `fill` and before `clip`.
    """

    fill: dict[str, float | str] = {}
    clip: dict[str, tuple[float, float]] = {}
    discard: tuple[Condition, ...] = ()


class Csv(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How CSV is written.

    Attributes:
        decimal: `,` where numbers look like 1.234,56.
    """

    delimiter: str = ","
    decimal: Literal[".", ","] = "."
    encoding: str = "utf-8"


class FileMapping(msgspec.Struct, frozen=True, kw_only=True):
    """A mapping, checked.

    Attributes:
        name: of the file it came from, for messages.
        columns: ours = theirs; `amount` (major units) or `amount_minor`.
        attributes: name in the message = column.
        defaults: values of fields that the file has no column for.
        hashed: fields and attributes that leave as keyed hashes only.
        hash: what hashes them.
    """

    name: str
    columns: dict[str, str]
    attributes: dict[str, Attribute] = {}
    defaults: dict[str, float | str] = {}
    labels: LabelMapping = LabelMapping()
    times: Times = Times()
    clean: Clean = Clean()
    csv: Csv = Csv()
    hashed: tuple[str, ...] = ()
    hash: KeyedHash | None = None


_TABLES: Final[dict[str, tuple[str, ...] | None]] = {
    "columns": COLUMNS,
    "attributes": None,
    "defaults": (*FIELDS, "amount"),
    "labels": LabelMapping.__struct_fields__,
    "times": Times.__struct_fields__,
    "clean": Clean.__struct_fields__,
    "csv": Csv.__struct_fields__,
    "hash": ("columns", "key_file"),
}
_DURATIONS: Final = (("labels", "delay"), ("times", "window"))


def load_mapping(path: Path, *, environ: Mapping[str, str]) -> FileMapping:
    """Read and check a mapping.

    Args:
        path: of MAP.toml.
        environ: where the hash key is looked for (`RIVERWATCH_HASH_KEY`).

    Raises:
        MappingError: it cannot be used.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MappingError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MappingError(f"{path}: is not TOML: {error}") from None
    try:
        return parse_mapping(tables, name=str(path), environ=environ, folder=path.parent)
    except (ValueError, msgspec.ValidationError) as error:
        raise MappingError(f"{path}: {error}") from None


def parse_mapping(
    tables: Mapping[str, Any], *, name: str, environ: Mapping[str, str], folder: Path = Path()
) -> FileMapping:
    """A mapping from its tables; `folder` is where a relative `key_file` is looked for.

    Raises:
        ValueError: it cannot be used; says which key.
    """
    _know_every_key(tables)
    tables = {table: dict(values) for table, values in tables.items()}
    for table, key in _DURATIONS:
        if key in tables.get(table, {}):
            tables[table][key] = _duration(table, key, tables[table][key])
    attributes = {
        key: value if isinstance(value, dict) else {"column": value}
        for key, value in tables.get("attributes", {}).items()
    }
    clean = tables.get("clean", {})
    secret = tables.pop("hash", {})
    hashed = _names("hash.columns", secret.get("columns", ()))
    mapping = msgspec.convert(
        {
            **tables,
            "name": name,
            "columns": tables.get("columns", {}),
            "attributes": attributes,
            "clean": {**clean, "discard": [_condition(text) for text in clean.get("discard", ())]},
            "hashed": hashed,
        },
        FileMapping,
    )
    _check(mapping)
    if not hashed:
        return mapping
    key_file = folder / secret["key_file"] if "key_file" in secret else None
    return msgspec.structs.replace(mapping, hash=KeyedHash(hash_key(environ, key_file)))


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, or what there is.

    >>> nearest("mercant_id", ["card_id", "merchant_id"])
    '; did you mean `merchant_id`?'
    """
    names = list(known)
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean `{found[0]}`?" if found else f"; there are {', '.join(sorted(names))}"


def _know_every_key(tables: Mapping[str, Any]) -> None:
    for table, values in tables.items():
        if table not in _TABLES:
            raise ValueError(f"there is no table [{table}]{nearest(table, _TABLES)}")
        if not isinstance(values, dict):
            raise ValueError(f"`{table}` must be a table: [{table}]")  # noqa: TRY004 - of the file, not of the code
        if table == "hash" and "key" in values:
            raise ValueError(
                "[hash] `key`: a key does not belong in this file; use RIVERWATCH_HASH_KEY or key_file"
            )
        for key in values:
            known = _TABLES[table]
            if known is not None and key not in known:
                raise ValueError(f"[{table}] knows no `{key}`{nearest(key, known)}")


def _check(mapping: FileMapping) -> None:
    given = mapping.columns.keys() | mapping.defaults.keys()
    missing = [field for field in REQUIRED if field not in given]
    if missing:
        raise ValueError(f"[columns] lacks `{missing[0]}` (a constant can stand in [defaults])")
    if ("amount" in given) == ("amount_minor" in given):
        raise ValueError("[columns] needs either `amount` (major units) or `amount_minor`, and not both")
    if twice := sorted(mapping.columns.keys() & mapping.defaults.keys()):
        raise ValueError(f"[defaults] `{twice[0]}` has a column too; for empty values use [clean] fill")
    if mixed := sorted(mapping.attributes.keys() & set(COLUMNS)):
        raise ValueError(f"[attributes] `{mixed[0]}` is a field of its own: put it under [columns]")
    values = mapping.columns.keys() | mapping.attributes.keys()
    for where, names in (
        ("[clean] fill", mapping.clean.fill),
        ("[clean] discard", [condition.field for condition in mapping.clean.discard]),
        ("[clean] clip", mapping.clean.clip),
        ("[hash] columns", mapping.hashed),
    ):
        for name in names:
            if name not in values:
                raise ValueError(f"{where}: no column is mapped to `{name}`{nearest(name, values)}")
    for name, (low, high) in mapping.clean.clip.items():
        if low > high or name not in {*NUMBERS, *mapping.attributes}:
            raise ValueError(f"[clean] clip: `{name}` needs to be a number, and its limits [lowest, highest]")
    unfit = [
        name
        for name in mapping.hashed
        if name in {*NUMBERS, "event_time", "known_at", "is_fraud", "currency"}
    ]
    if unfit:
        raise ValueError(f"[hash] columns: `{unfit[0]}` is no text and cannot be hashed")
    _check_defaults(mapping)
    try:
        ZoneInfo(mapping.times.timezone)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"[times] timezone: there is no time zone {mapping.times.timezone!r}") from None


def _check_defaults(mapping: FileMapping) -> None:
    fit: dict[str, Any] = {
        "transaction_id": "t",
        "event_time": "2018-01-01T00:00:00Z",
        "card_id": "c",
        "merchant_id": "m",
    }
    fit |= {"amount_minor": 1, "currency": "EUR"}
    for name, value in mapping.defaults.items():
        try:
            if name == "amount":
                msgspec.convert(value, Annotated[float, msgspec.Meta(gt=0)], strict=True)
            else:
                msgspec.convert({**fit, name: value}, Transaction)
        except msgspec.ValidationError as error:
            raise ValueError(f"[defaults] {name}: {error}") from None


def _duration(table: str, key: str, value: object) -> timedelta:
    try:
        return timedelta(seconds=seconds(str(value)))
    except ValueError as error:
        raise ValueError(f"[{table}] {key}: {error}") from None


def _names(key: str, value: object) -> tuple[str, ...]:
    try:
        return msgspec.convert(value, tuple[str, ...])
    except msgspec.ValidationError as error:
        raise ValueError(f"{key} must be a list of names: {error}") from None


def _condition(text: object) -> Condition:
    found = _CONDITION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(
            f'[clean] discard: {text!r} is no condition, such as "amount <= 0" or "country is empty"'
        )
    value = found[3] and found[3].strip("'\"")
    if found[1] in {*NUMBERS, "is_fraud"} and value is not None:
        try:
            float(value)
        except ValueError:
            raise ValueError(f"[clean] discard: {text!r} compares a number with {value!r}") from None
    return Condition(found[0].strip(), found[1], found[2], value)
