"""What a replay decides, when a label is known, and what it refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from models.features.spec import DEFAULT_SPEC
from producers.sources.open_source import open_source
from stream.cli.main import riverwatch
from stream.config.settings import Duration, Settings
from stream.experiment.choose import choose_models
from stream.experiment.engine import Engine, EngineSettings
from stream.messages import Decision, Label, Transaction, decision_decoder
from stream.policy import Policy
from stream.replay.checkpoint import CheckpointError, Checkpoints
from stream.replay.file import FilePlan, replay_file
from stream.replay.parts import ReplayCounts
from stream.replay.replay import Replay
from stream.replay.store import DecisionFile, OrderedDueQueue, OutputChangedError, ReplayStore
from tests.support.builders import START, label, payment
from tests.support.model_keys import ANOTHER, KEY
from tests.support.patience import PATIENCE, until

YEAR = Duration(365 * 86400.0)
Item = Transaction | Label


def replayed(
    items: Iterable[Item], folder: Path, *, publish_every: float = 0.0, **changed: Any
) -> tuple[dict[str, Decision], ReplayCounts]:
    out = DecisionFile(folder / "out.jsonl")
    replay = Replay(Settings(**changed), DEFAULT_SPEC, out, publish_every=publish_every)
    assert replay.run(items)
    out.close()
    decisions = map(decision_decoder.decode, (folder / "out.jsonl").read_bytes().splitlines())
    return {decision.transaction_id: decision for decision in decisions}, replay.counts


def test_replay_and_experiment_score_alike(tmp_path: Path) -> None:
    """One core: the same examples are learned and give the same scores, to the bit.

    An experiment looks at the end of a day, or at a fraud, whether the model is ready: a day may differ.
    """
    source = open_source("simulated:12000", schema=None, label_delay=3 * 86400.0, seed=4)
    items = list(source.items)
    found, counts = replayed(items, tmp_path, negative_sampling_rate=0.2, maturity=YEAR)
    candidates = choose_models(
        ("default",), negative_sampling_rate=0.2, seed=1, spec=DEFAULT_SPEC, policy=Policy()
    )
    engine = Engine(candidates, EngineSettings(spec=DEFAULT_SPEC, negative_sampling_rate=0.2))
    engine.run(items)
    assert candidates[0].learned == counts.learned
    ready = next(each.event_time for each in found.values() if each.model_version != "unsupervised-1")
    pairs = zip(candidates[0].scores, found.values(), strict=True)
    differing = [decision.event_time for score, decision in pairs if score != decision.score]
    assert all(ready <= time < ready + timedelta(days=1) for time in differing)
    after = [each for each in found.values() if each.event_time > ready + timedelta(days=1)]
    assert len({each.model_version for each in after}) > 10, "it learned on the way"


def test_label_is_known_to_all_payments_after_it_and_to_none_before(tmp_path: Path) -> None:
    items: list[Item] = [payment("a", 0), payment("b", 1), label("a", 1), payment("c", 1), payment("d", 2)]
    found, counts = replayed(items, tmp_path)
    known = {name: decision.entities["card"][2] for name, decision in found.items()}
    assert known == {"a": 0, "b": 0, "c": 1, "d": 1}
    assert (counts.labels, counts.learned) == (1, 1)


def test_assumed_label_counts_once_a_payment_is_decided_that_is_as_late(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d"]
    items = [payment(name, hours) for name, hours in zip(names, (0, 1, 24, 25), strict=True)]
    day = Duration(86400.0)
    found, counts = replayed(items, tmp_path, maturity=day, negative_sampling_rate=0.999999999)
    known = [found[name].entities["card"][2] for name in names]
    assert known == [0, 0, 0, 1], "`a` fell due with `c`, which came before it counted"
    assert counts.silent == counts.labels == 2, "`b` fell due with `d`"


def test_assumed_label_counts_at_its_time_though_the_replay_was_interrupted_before(tmp_path: Path) -> None:
    items = [payment(name, hours) for name, hours in zip("abcd", (0.0, 1.0, 24.0, 24.5), strict=True)]
    settings, key = Settings(maturity=Duration(86400.0), negative_sampling_rate=0.999999999), ANOTHER
    out = DecisionFile(tmp_path / "out")
    first = Replay(settings, DEFAULT_SPEC, out)
    first.take(items[0])
    state = first.state(key)
    replay = Replay(settings, DEFAULT_SPEC, out, state=state, key=key)
    assert replay.run(items[1:])
    out.close()
    last = decision_decoder.decode((tmp_path / "out").read_bytes().splitlines()[-1])
    assert last.entities["card"][2] == 1


def test_label_of_a_payment_that_comes_later_waits_for_it(tmp_path: Path) -> None:
    items: list[Item] = [payment("a", 0), label("b", 1), label("nobody", 1), payment("b", 2), label("a", 3)]
    items.append(payment("z", 400))
    _, counts = replayed(items, tmp_path, label_wait=Duration(3600.0))
    assert counts.learned == 2
    assert counts.rejected == 1
    assert counts.why == "label 1: no decision on this transaction came while its label waited"


def test_model_scores_from_the_next_multiple_of_publish_every_on(tmp_path: Path) -> None:
    source = open_source("simulated:12000", schema=None, label_delay=3 * 86400.0, seed=4)
    items = list(source.items)
    day = 86400.0
    found, counts = replayed(items, tmp_path, publish_every=day, negative_sampling_rate=0.2, maturity=YEAR)
    learned = [decision for decision in found.values() if decision.model_version != "unsupervised-1"]
    assert len({decision.model_version for decision in learned}) == counts.models - 1 > 2
    times = [item.known_at for item in items if isinstance(item, Label)]
    for decision in learned:
        midnight = decision.event_time.replace(hour=0, minute=0, second=0, microsecond=0)
        assert decision.model_version == f"default@{sum(known < midnight for known in times)}"


def test_decisions_are_stamped_with_their_own_time(tmp_path: Path) -> None:
    found, _ = replayed([payment("a", 0), payment("b", 7)], tmp_path)
    assert [decision.decided_at for decision in found.values()] == [START, START + timedelta(hours=7)]
    assert [decision.origin for decision in found.values()] == [(0, 0), (0, 1)]


def test_second_payment_of_an_id_is_counted_and_not_written(tmp_path: Path) -> None:
    found, counts = replayed([payment("a", 0), payment("a", 0), payment("b", 1)], tmp_path)
    assert list(found) == ["a", "b"]
    assert found["b"].entities["card"][1] == 1
    assert (counts.transactions, counts.decided, counts.duplicates) == (3, 2, 1)


def test_what_a_worker_would_refuse_is_counted_with_its_reason(tmp_path: Path) -> None:
    card = payment("a", 0, card="4111111111111111")
    found, counts = replayed([card, payment("b", 1)], tmp_path)
    assert list(found) == ["b"]
    assert counts.why.startswith("transaction 0: card_id shows a card number")
    assert (counts.rejected, counts.decided) == (1, 1)


def test_decisions_are_forgotten_when_no_label_can_come(tmp_path: Path) -> None:
    out = DecisionFile(tmp_path / "out")
    store = ReplayStore(3, out, remembered=100.0)
    fencing_tokens = store.claim([0])
    for number in range(1000):
        store.record([(0, f"t{number}", b"{}")], fencing_tokens=fencing_tokens)
        if number % 10 == 9:
            store.advance(float(number))
    assert len(store.state().places) == 110
    assert store.lookup(["t999", "t890", "t889", "t0"]) == [b"{}", b"{}", None, None]
    out.close()


def test_due_queue_forgets_what_is_done_and_nothing_else() -> None:
    queue = OrderedDueQueue()
    queue.add(0, [(3.0, "c"), (1.0, "a"), (2.0, "b"), (1.0, "a")])
    assert queue.due(0, 2.0, 10) == [(1.0, "a"), (2.0, "b")]
    assert queue.due(0, 2.0, 1) == [(1.0, "a")]
    queue.done(0, ["a"])
    queue.done(0, ["a"])
    assert queue.entries() == [(2.0, "b"), (3.0, "c")]
    assert queue.next_due == 2.0


# ---- checkpoints


def plan(folder: Path, **changed: Any) -> FilePlan:
    values: dict[str, Any] = {
        "data": "simulated:400",
        "out": folder / "out.jsonl",
        "checkpoint": folder / "ck",
    }
    return FilePlan(**(values | changed))


SIGNED = Settings(model_key=KEY)  # type: ignore[arg-type] # text is a secret's value


def interrupted(folder: Path, **changed: Any) -> None:
    """A replay that ends half-way."""
    left = iter(range(300))
    done = replay_file(plan(folder, **changed), SIGNED, stop=lambda: next(left, None) is None)
    assert not done.is_finished
    assert done.counts.transactions > 0


def test_interrupted_replay_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    whole = replay_file(plan(tmp_path, checkpoint=None), SIGNED)
    expected = plan(tmp_path).out.read_bytes()
    interrupted(tmp_path)
    assert expected.startswith(plan(tmp_path).out.read_bytes())
    with plan(tmp_path).out.open("ab") as file:
        file.write(b'{"half a decis' * 100_000)  # written after the checkpoint, then the machine went down
    done = replay_file(plan(tmp_path), SIGNED)
    assert plan(tmp_path).out.read_bytes() == expected
    assert done.resumed_at > 0
    assert done.counts == whole.counts
    again = replay_file(plan(tmp_path), SIGNED)
    assert again.resumed_at == again.counts.transactions == 400
    assert plan(tmp_path).out.read_bytes() == expected


@pytest.mark.parametrize(
    ("changed", "settings", "named"),
    [
        ({"data": "simulated:401"}, {}, "`data` was simulated:400 and is simulated:401"),
        ({"seed": 2}, {}, "`seed` was 1 and is 2"),
        ({"publish_every": 60.0}, {}, "`publish every` was 0.0 and is 60.0"),
        ({}, {"negative_sampling_rate": 0.3}, "`negative_sampling_rate` was 0.2 and is 0.3"),
        ({}, {"policy": "cost"}, "`policy` was budget and is cost"),
    ],
)
def test_checkpoint_of_another_replay_is_refused(
    tmp_path: Path, changed: dict[str, Any], settings: dict[str, Any], named: str
) -> None:
    interrupted(tmp_path)
    with pytest.raises(CheckpointError, match="is of another replay") as refused:
        replay_file(plan(tmp_path, **changed), msgspec.structs.replace(SIGNED, **settings))
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


def test_batch_size_may_change_on_the_way(tmp_path: Path) -> None:
    replay_file(plan(tmp_path, checkpoint=None), SIGNED)
    expected = plan(tmp_path).out.read_bytes()
    interrupted(tmp_path)
    replay_file(plan(tmp_path), msgspec.structs.replace(SIGNED, batch_size=3))
    assert plan(tmp_path).out.read_bytes() == expected


def test_checkpoint_that_was_touched_or_signed_by_others_is_refused(tmp_path: Path) -> None:
    interrupted(tmp_path)
    path = tmp_path / "ck" / "replay.checkpoint"
    raw = path.read_bytes()
    for place in (0, 20, 60, len(raw) - 1):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        with pytest.raises(CheckpointError, match="is damaged, or was signed with another model key"):
            replay_file(plan(tmp_path), SIGNED)
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(CheckpointError, match="is damaged"):
        Checkpoints(tmp_path / "ck", ANOTHER, {}).read()


def test_output_that_is_not_the_checkpoints_is_refused(tmp_path: Path) -> None:
    interrupted(tmp_path)
    out = plan(tmp_path).out
    raw = out.read_bytes()
    for other in (raw[:-10], raw.replace(b"approve", b"decline", 1)):
        out.write_bytes(other)
        with pytest.raises(OutputChangedError, match="is not the output that the checkpoint goes on with"):
            replay_file(plan(tmp_path), SIGNED)
        assert out.read_bytes() == other, "it was left alone"
    out.unlink()
    with pytest.raises(OutputChangedError):
        replay_file(plan(tmp_path), SIGNED)


@pytest.mark.parametrize("signal_sent", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl-C"])
def test_command_that_is_ended_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signal_sent: signal.Signals
) -> None:
    monkeypatch.setenv("RIVERWATCH_STATE_DIR", str(tmp_path))  # where the key is kept
    arguments = ["simulated:9000", "--out", str(tmp_path / "a"), "--checkpoint", str(tmp_path / "ck")]
    command = [sys.executable, "-m", "stream.cli", "replay", *arguments, "--checkpoint-every", "50ms"]
    ended = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    checkpoint = tmp_path / "ck" / "replay.checkpoint"
    until(
        lambda: checkpoint.exists() or ended.poll() is not None,
        "no checkpoint is written",
        look_every=0.005,
    )
    assert ended.poll() is None, "it ended by itself"
    ended.send_signal(signal_sent)
    _, said = ended.communicate(timeout=PATIENCE)
    if signal_sent == signal.SIGINT:
        assert ended.returncode == 130
        assert said.splitlines()[-1].startswith("interrupted: the decisions so far are in ")  # after progress
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    assert done.output.startswith("went on after ")
    replay_file(FilePlan(data="simulated:9000", out=tmp_path / "b"), Settings())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# ---- the command


def run(*arguments: object) -> Result:
    return CliRunner().invoke(riverwatch, ["replay", *map(str, arguments)])


MAP = """
[columns]
transaction_id = "id"
event_time = "time"
card_id = "card"
merchant_id = "shop"
amount = "amount"
is_fraud = "fraud"
[defaults]
currency = "EUR"
"""
HEADER = "id,time,card,shop,amount,fraud\n"


def test_file_is_replayed_as_it_would_be_published(tmp_path: Path) -> None:
    data, schema, out = (tmp_path / name for name in ("d.csv", "MAP.toml", "out.jsonl"))
    schema.write_text(MAP)
    rows = ["1,2026-01-05T10:00:00,c,m,10.00,1", "2,2026-01-05T09:59:00,c,m,12.00,0", "3,never,c,m,1.00,0"]
    data.write_text(HEADER + "\n".join([*rows, "4,2026-01-20T10:00:00,c,m,11.00,0"]))
    done = run(data, "--schema", schema, "--out", out)
    assert done.exit_code == 0, done.output
    assert "1 rows discarded: event_time" in done.output
    assert "3 transactions = 3 decided + 0 duplicates + 0 rejected" in done.output
    assert "1 labels (0 assumed genuine)" in done.output
    lines = [json.loads(line) for line in out.read_bytes().splitlines()]
    assert [line["transaction_id"] for line in lines] == ["2", "1", "4"], "in the order of their time"
    assert lines[2]["entities"]["card"] == ["c", 2, 1], "the fraud was known by then"


@pytest.mark.parametrize(
    ("rows", "schema", "said"),
    [
        (None, MAP, "d.csv: there is no such file"),
        ("", MAP, "d.csv"),
        (HEADER, MAP, "it holds not one transaction: the data are empty"),
        (HEADER + "1,x,c,m,1,0", MAP, "it holds not one transaction: 1 rows discarded: event_time"),
        ("id,time,card,shop\n", MAP, "has no column `amount`"),
        (HEADER, MAP.replace("merchant_id", "merchantid"), "merchantid"),
        (HEADER, None, "say what its columns mean: --schema MAP.toml"),
    ],
)
def test_bad_input_is_one_line_that_names_it(
    tmp_path: Path, rows: str | None, schema: str | None, said: str
) -> None:
    data, mapping = tmp_path / "d.csv", tmp_path / "MAP.toml"
    if rows is not None:
        data.write_text(rows)
    mapping.write_text(schema or "")
    extra = ["--schema", mapping] if schema else []
    done = run(data, *extra, "--out", tmp_path / "out.jsonl")
    assert done.exit_code == 1, done.output
    assert said in done.output
    assert done.output.startswith("Error: ")
    assert len(done.output.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["simulated:0", "--out", "x"], 1, "write simulated:N"),
        (["simulated:5", "--out", "x", "--model", "defualt"], 1, "model = 'defualt' (flag): there is no"),
        (["simulated:5", "--out", "nowhere/x"], 1, "--out nowhere/x: No such file or directory"),
        (["simulated:5"], 2, "--out FILE: say where the decisions go"),
        ([], 2, "name DATA, or --topics"),
        (["simulated:5", "--topics", "--out", "x"], 2, "DATA or --topics, not both"),
        (["simulated:5", "--explain", "t", "--out", "x"], 2, "--explain and --json go with --topics"),
        (["simulated:5", "--out", "x", "--publish-every", "soon"], 2, "'soon' is no duration"),
    ],
)
def test_wrong_use_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.exit_code == code, done.output
    assert said in done.output


def test_replays_and_verifications_do_without_faust() -> None:
    modules = ", ".join(
        f"stream.{name}"
        for name in ("replay.file", "replay.topics", "verify.audit", "recovery.rebuild", "inspect.explain")
    )
    program = f"import sys, {modules}; sys.exit('faust' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
