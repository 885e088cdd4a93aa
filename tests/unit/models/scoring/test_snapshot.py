from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from river import compose, linear_model, optim, preprocessing

from models.scoring import snapshot
from models.scoring.registry import build_model
from models.scoring.river_adapter import RiverAdapter
from models.scoring.snapshot import SigningKey, SnapshotHeader, SnapshotRefused, TrustedKeys, dump, load
from models.snapshots import pickles, probe, states
from models.snapshots.pickles import ALLOWED

KEY = SigningKey(bytes(range(32)))
OTHER = SigningKey(bytes(32))
HEADER = SnapshotHeader(
    name="card", version="card@42", next_offset=42, learned=40, event_time=datetime(2026, 1, 2, tzinfo=UTC)
)
Example = tuple[dict[str, float], bool]


def examples(count: int, seed: int = 3) -> list[Example]:
    chance = random.Random(seed)
    return [
        ({"amount": chance.expovariate(0.02), "hour": float(number % 24), f"country={number % 7}": 1.0},
         chance.random() < 0.2)
        for number in range(count)
    ]  # fmt: skip


def learned_default(count: int = 2000) -> Any:
    model = build_model(negative_sampling_rate=0.5)
    for x, y in examples(count):
        model.learn_one(x, y)
    return model


def river_model() -> Any:
    model = compose.Pipeline(
        preprocessing.StandardScaler(), linear_model.LogisticRegression(optim.AdaGrad(0.1))
    )
    for number in range(50):
        model.learn_one({"amount": number * 0.5, "night": float(number % 3)}, number % 2 == 0)
    return model


def signed(payload: bytes, key: SigningKey = KEY, **changed: Any) -> bytes:
    """Any bytes in place of a model, signed as a holder of the key could."""
    import hashlib  # noqa: PLC0415 - of this forgery alone

    digest = hashlib.sha256(payload).hexdigest()
    head = msgspec.json.encode(
        msgspec.to_builtins(HEADER) | {"size": len(payload), "sha256": digest} | changed
    )
    signature = key.sign(snapshot._signed(snapshot.MAGIC, snapshot.FORMAT, key.id, head))
    prefix = snapshot._PREFIX.pack(snapshot.MAGIC, snapshot.FORMAT, key.id, signature, len(head))
    return prefix + head + payload


def signed_pickle(program: bytes) -> bytes:
    return signed(zlib.compress(msgspec.msgpack.encode({"kind": "pickled", "pickle": program})))


def opened(blob: bytes, classes: pickles.Classes | None = None) -> Any:
    return load(blob, keys=KEY.trusted, classes=classes)[1]


class Intruder:
    """Asks for a shell when it is built."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("exit 0",))


# ---- our own models are data


@pytest.mark.parametrize("count", [0, 1, 600, 2000])
def test_default_model_goes_through_to_the_same_bytes_and_learns_on_alike(count: int) -> None:
    model = learned_default(count)
    copy = opened(dump(model, key=KEY, header=HEADER))
    assert states.stored(copy, None) == states.stored(model, None)
    for x, y in examples(500, seed=9):
        assert copy.score_one(x).hex() == model.score_one(x).hex()
        model.learn_one(x, y)
        copy.learn_one(x, y)
    assert states.stored(copy, None) == states.stored(model, None)


def test_no_model_of_ours_is_a_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a pickle")

    for name in ("dumps", "loads", "probe"):
        monkeypatch.setattr(pickles, name, refuse)
    for name in ("default", "logistic", "anomaly"):
        opened(dump(build_model(name), key=KEY, header=HEADER))


def test_same_model_gives_the_same_bytes() -> None:
    assert dump(learned_default(), key=KEY, header=HEADER) == dump(learned_default(), key=KEY, header=HEADER)


def changed_state(change: Callable[[dict[str, Any]], None]) -> bytes:
    state = msgspec.msgpack.decode(states.stored(learned_default(), None), strict=False)
    change(state)
    return signed(zlib.compress(msgspec.msgpack.encode(state)))


def first_cells(state: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(iter(state["binner"]["_cells"].values()))
    return found


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["_linear"][0].update({-1: float("nan")}),
        lambda state: state["_linear"][1].update({-1: float("inf")}),
        lambda state: state["_linear"][0].update({2**40: 1.0}),
        lambda state: state["_linear"][0].update({-7: 1.0}),
        lambda state: state["calibration"].update(slope=float("inf")),
        lambda state: state["calibration"].update(_frauds=[0.0]),
        lambda state: state["binner"]["_rows"][0][0].update(amount=float("nan")),
        lambda state: state["binner"].update(_random=[3, [0] * 624, None]),
        lambda state: state["binner"].update(_random=[3, [2**32] * 625, None]),
        lambda state: first_cells(state).update(edges=list(range(4000))),
        lambda state: first_cells(state)["edges"].reverse(),
        lambda state: first_cells(state)["frauds"].pop(),
        lambda state: state.update(bins=4000),
        lambda state: state.update(coarse=62, _crosses=[["a", "b", "c"]] * 5000),
        lambda state: state.update(_crosses=[["a", "b", "c", "d", "e", "f", "g"]]),
        lambda state: state.update(kind="os.system"),
        lambda state: state.update(more=1),
        lambda state: state.pop("learned"),
        lambda state: state.update(learned=-1),
    ],
)
def test_model_whose_numbers_are_none_is_refused_though_it_is_rightly_signed(
    change: Callable[[dict[str, Any]], None],
) -> None:
    with pytest.raises(SnapshotRefused):
        opened(changed_state(change))


def test_model_with_a_weight_that_is_no_number_is_not_published() -> None:
    model = learned_default()
    model.calibration.shift = float("nan")
    with pytest.raises(SnapshotRefused, match="not every number of its calibration is finite"):
        dump(model, key=KEY, header=HEADER)


def test_model_that_inflates_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MAX_MODEL", 10_000)
    with pytest.raises(SnapshotRefused, match="more than 10000 bytes"):
        opened(signed(zlib.compress(bytes(1_000_000))))


def test_deeply_nested_payload_is_refused() -> None:
    for depth in (100, 100_000):
        with pytest.raises(SnapshotRefused):
            opened(signed(zlib.compress(b"\x91" * depth + b"\x00")))


# ---- signatures


def test_snapshot_of_another_key_is_refused_and_both_keys_are_named() -> None:
    blob = dump(build_model(), key=OTHER, header=HEADER)
    with pytest.raises(SnapshotRefused, match=f"{OTHER.id.hex()}, which is not trusted .*{KEY.id.hex()}"):
        opened(blob)


def test_key_id_of_another_does_not_help() -> None:
    blob = dump(build_model(), key=OTHER, header=HEADER)
    with pytest.raises(SnapshotRefused, match="signature does not match"):
        opened(blob[:10] + KEY.id + blob[18:])


def test_a_new_learner_key_is_trusted_beside_the_old_one() -> None:
    keys = TrustedKeys([KEY.public, OTHER.public])
    for each in (KEY, OTHER):
        assert load(dump(build_model(), key=each, header=HEADER), keys=keys)[0].version == "card@42"


def test_public_key_signs_nothing() -> None:
    forger = SigningKey(KEY.public)
    with pytest.raises(SnapshotRefused):
        opened(dump(build_model(), key=forger, header=HEADER))


def test_nothing_is_parsed_before_the_signature_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []

    class Watching:
        def decode(self, head: bytes) -> SnapshotHeader:
            parsed.append(head)
            return decoder.decode(head)

    decoder = snapshot._header_decoder
    monkeypatch.setattr(snapshot, "_header_decoder", Watching())
    blob = dump(build_model(), key=KEY, header=HEADER)
    with pytest.raises(SnapshotRefused):
        opened(blob[:200] + bytes([blob[200] ^ 1]) + blob[201:])
    with pytest.raises(SnapshotRefused):
        load(blob, keys=OTHER.trusted)
    assert parsed == []
    opened(blob)
    assert len(parsed) == 1


def test_changed_model_under_a_signed_header_is_refused() -> None:
    blob = dump(build_model(), key=KEY, header=HEADER)
    for changed in (blob[:-1], blob + b"x", blob[:-1] + bytes([blob[-1] ^ 1])):
        with pytest.raises(SnapshotRefused, match="digest was signed"):
            opened(changed)


def test_other_formats_are_refused_with_what_to_do() -> None:
    blob = dump(build_model(), key=KEY, header=HEADER)
    with pytest.raises(SnapshotRefused, match=r"format 3, newer than format 2.*run the version"):
        opened(blob[:8] + b"\x00\x03" + blob[10:])
    with pytest.raises(SnapshotRefused, match=r"format 1, older than format 2.*run the version"):
        opened(blob[:8] + b"\x00\x01" + blob[10:])


def test_model_of_another_river_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    blob = dump(build_model(), key=KEY, header=HEADER)
    monkeypatch.setattr("models.scoring.snapshot.RIVER", "9.9.9")
    with pytest.raises(SnapshotRefused, match=r"here is River 9\.9\.9"):
        opened(blob)


def test_header_may_gain_fields() -> None:
    payload = zlib.compress(states.stored(build_model(), None))
    assert opened(signed(payload, later=1)).learned == 0


def test_header_that_is_none_is_refused() -> None:
    with pytest.raises(SnapshotRefused, match="header"):
        opened(signed(b"", next_offset=-1))
    with pytest.raises(SnapshotRefused, match="header"):
        opened(signed(b"", version="x" * snapshot.MAX_HEADER))


def test_foreign_and_oversized_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for blob in (b"", b"PK\x03\x04" + bytes(100), pickle.dumps({})):
        with pytest.raises(SnapshotRefused):
            opened(blob)
    monkeypatch.setattr(snapshot, "MAX_SIZE", 100)
    with pytest.raises(SnapshotRefused, match="more than any model"):
        opened(dump(build_model(), key=KEY, header=HEADER))


# ---- pickles, where they are asked for


def test_without_the_setting_no_pickle_is_published_or_opened() -> None:
    model = RiverAdapter(river_model())
    with pytest.raises(SnapshotRefused, match="model_pickle"):
        dump(model, key=KEY, header=HEADER)
    blob = dump(model, key=KEY, header=HEADER, classes=())
    with pytest.raises(SnapshotRefused, match="model_pickle"):
        opened(blob)
    assert opened(blob, ()).learned == 0


def test_river_model_predicts_and_learns_on_as_the_dumped_one() -> None:
    model = river_model()
    copy = opened(dump(model, key=KEY, header=HEADER, classes=()), ())
    example = {"amount": 3.25, "night": 1.0}
    for _ in range(3):
        assert copy.predict_proba_one(example) == model.predict_proba_one(example)
        for either in (model, copy):
            either.learn_one(example, True)


FORBIDDEN = [
    pickle.dumps(Intruder()),
    b"cos\nsystem\n(S'exit 0'\ntR.",
    b"cposix\nsystem\n(S'exit 0'\ntR.",
    b"cbuiltins\neval\n(S'1'\ntR.",
    b"cbuiltins\ngetattr\n.",
    b"cmodels.snapshots.pickles\n_ExactUnpickler\n.",
    b"cmodels.snapshots.pickles\nloads\n.",
    b"cmodels.scoring.snapshot\nSnapshotHeader\n.",
    b"cmodels.scoring.fraud_model\nFraudModel\n.",
    b"\x80\x04\x8c\x16models.scoring.binning\x8c\x06random\x93.",
    b"\x80\x04\x8c\x16models.scoring.binning\x8c\x0drandom.Random\x93.",
    b"criver.utils.pretty\nprint_table\n.",
    b"criver.compose.pipeline\nPipeline.learn_one\n.",
]


@pytest.mark.parametrize("program", FORBIDDEN)
def test_rightly_signed_pickle_of_a_forbidden_class_is_refused(program: bytes) -> None:
    with pytest.raises(SnapshotRefused, match="not on the list"):
        probe.build(program, ())
    with pytest.raises(SnapshotRefused, match="not on the list"):
        pickles.loads(program, ())


def test_what_is_refused_is_refused_by_the_process_that_tries_it_first() -> None:
    with pytest.raises(SnapshotRefused, match="not on the list"):
        opened(signed_pickle(FORBIDDEN[1]), ())


@pytest.mark.parametrize(("module", "name"), ALLOWED)
def test_no_pickle_writes_into_a_class(module: str, name: str) -> None:
    """Seen: a first snapshot rewrote the unpickler's own check by BUILD, and a second ran a program."""
    program = f"c{module}\n{name}\n".encode() + b"(N}S'find_class'\nI1\nstb."
    with pytest.raises(SnapshotRefused, match="writes into a class"):
        probe.build(program, ())


def test_class_of_the_users_own_is_built_where_it_is_named() -> None:
    classes = (("decimal", "Decimal"),)
    from decimal import Decimal  # noqa: PLC0415 - the one class of this test

    blob = dump(Decimal(1), key=KEY, header=HEADER, classes=classes)
    assert opened(blob, classes) == Decimal(1)
    with pytest.raises(SnapshotRefused, match="model_classes"):
        opened(blob, ())


def test_named_class_that_can_run_things_stays_forbidden() -> None:
    for module, name in (("subprocess", "Popen"), ("pickle", "Unpickler"), ("models.snapshots.pickles", "X")):
        with pytest.raises(SnapshotRefused, match="not on the list"):
            pickles.class_of(module, name, ((module, name),))


def test_forbidden_class_is_refused_when_dumped_too() -> None:
    with pytest.raises(SnapshotRefused, match=r"system.*model_classes"):
        dump(Intruder(), key=KEY, header=HEADER, classes=())


def test_broken_pickle_with_the_right_signature_is_refused() -> None:
    whole = pickle.dumps(river_model())
    for program in (b"", whole[: len(whole) // 2], b"\xff" * 20):
        with pytest.raises(SnapshotRefused, match="cannot be built"):
            probe.build(program, ())
        with pytest.raises(SnapshotRefused, match="cannot be built"):
            pickles.loads(program, ())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("pickles.PROBE_SECONDS", 0, "could not be tried first"),
        ("pickles.sys.executable", "/bin/false", "ended the process that tried it first"),
        ("pickles.sys.executable", "/nowhere/python", "could not be tried first"),
    ],
)
def test_pickle_that_hangs_or_ends_the_process_that_tries_it_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object, said: str
) -> None:
    blob = dump(RiverAdapter(river_model()), key=KEY, header=HEADER, classes=())
    monkeypatch.setattr(f"models.snapshots.{name}", value)
    with pytest.raises(SnapshotRefused, match=said):
        opened(blob, ())


def test_process_that_tries_a_pickle_has_little_and_knows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIVERWATCH_KAFKA_SASL_PASSWORD", "hush")
    program = (
        "import os, resource as r, sys\nfrom models.snapshots import probe\nprobe.limit()\n"
        "assert r.getrlimit(r.RLIMIT_FSIZE)[1] == 0 and r.getrlimit(r.RLIMIT_NPROC)[1] == 0\n"
        "assert 0 < r.getrlimit(r.RLIMIT_CPU)[1] <= 60 and r.getrlimit(r.RLIMIT_AS)[1] <= 4 << 30\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    seen: dict[str, Any] = {}

    def look(*_: object, **how: Any) -> subprocess.CompletedProcess[bytes]:
        seen.update(how)
        return subprocess.CompletedProcess([], 0, b"built", b"")

    monkeypatch.setattr(subprocess, "run", look)
    pickles.probe(b"", ())
    assert not any(name.startswith("RIVERWATCH") for name in seen["env"])
