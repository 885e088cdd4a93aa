"""Each fault: inject it, wait until it is healed, note how long that took."""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from random import Random

import msgspec

from models.scoring.snapshot import SnapshotHeader, dump
from stream.adapters.kafka.models import Trust, opened, trust_of
from stream.messages import Label, ModelManifest, encode, manifest_decoder
from tests.faults.log_faults import LogFaults
from tests.faults.schedule import Step
from tests.faults.site import SESSION, NotHealedError, Slot
from tests.faults.store_faults import StoreFaults
from tests.support.model_keys import ANOTHER

TAKEN_OVER = "worker killed -> first decision on its partitions by another"
RESTARTED = "worker killed, restarted under its name -> first decision on its partitions"
BROKER_BACK = "broker back -> first decision"
_REFUSED = "MODEL REFUSED, the last good one goes on"


class Faults(StoreFaults, LogFaults):
    """The faults of a schedule, on a site under traffic."""

    def inject(self, step: Step) -> None:
        """Do one, and wait until it is healed."""
        method: Callable[[Step, Random], None] = getattr(self, step.name.replace(" ", "_"))
        method(step, Random(step.seed))
        self._site.tally.faults[step.name] += 1
        self._site.steady()

    # ---- workers

    def score_worker_killed(self, _: Step, chance: Random) -> None:
        """And not back before another has its partitions."""
        site = self._site
        slot = self._victim(chance, is_static=False)
        partitions = site.partitions_of(slot)
        slot.held = True
        when = site.kill(slot)
        self._taken_over(TAKEN_OVER, partitions, when)
        site.release(slot)

    def score_worker_killed_and_restarted(self, _: Step, chance: Random) -> None:
        """Its supervisor has it back at once, under the name it had in the group."""
        site = self._site
        slot = self._victim(chance, is_static=True)
        partitions = site.partitions_of(slot)
        self._taken_over(RESTARTED, partitions, site.kill(slot))

    def crash_points(self, step: Step, chance: Random) -> None:
        """A score worker and whoever learns: killed, started armed, dead at their points, started again."""
        site = self._site
        score, learn = step.points
        slots = [self._victim(chance, is_static=True), *site.of("learn")]
        for slot in slots:
            point = score if slot.role == "score" else learn
            slot.armed = f"{point}:{chance.randint(1, 4)}"
        before = dict(site.tally.faults)
        for slot in slots:
            site.kill_unarmed(slot)
        for point in (score, learn):
            name = f"at the crash point {point}"
            site.until(
                partial(self._counted_more, name, before.get(name, 0)),
                90,
                f"'{point}' was not reached",
            )
        for slot in slots:  # a standby did not get there
            if slot.armed:
                slot.armed = ""
                site.kill(slot)

    def learner_killed(self, _: Step, chance: Random) -> None:
        """The one that learns or the one that stands by."""
        time.sleep(chance.uniform(0.0, 0.5))
        self._site.kill(chance.choice(self._site.of("learn")))

    def monitor_killed(self, _: Step, chance: Random) -> None:
        """It measures anew."""
        time.sleep(chance.uniform(0.0, 0.5))
        self._site.kill(self._site.of("monitor")[0])

    def worker_joins(self, _: Step, chance: Random) -> None:
        """And leaves again."""
        site = self._site
        slot = Slot(f"score-{chance.randrange(1000)}", "score")
        site.add(slot)
        site.until(lambda: site.partitions_of(slot), 30, "a worker that joined got nothing")
        site.steady()
        self._leaves(slot)
        site.remove(slot)

    def worker_drained(self, _: Step, chance: Random) -> None:
        """SIGTERM: it finishes what it has in hand, and another goes on at once."""
        slot = self._victim(chance, is_static=False)
        self._leaves(slot)
        self._site.release(slot)

    def worker_asleep(self, _: Step, chance: Random) -> None:
        """SIGSTOP for longer than its session, then SIGCONT: it must not harm those who took over."""
        site = self._site
        slot = self._victim(chance, is_static=False)
        assert slot.process is not None
        partitions, when = site.partitions_of(slot), time.time()
        slot.process.signal(signal.SIGSTOP)
        try:
            self._taken_over("worker asleep -> first decision on its partitions by another", partitions, when)
            time.sleep(max(0.0, when + SESSION + 2 - time.time()))
        finally:
            slot.process.signal(signal.SIGCONT)

    def _counted_more(self, name: str, than: int) -> bool:
        return self._site.tally.faults[name] > than

    def _said_more(self, than: int) -> bool:
        return self._site.count_said("score", _REFUSED) > than

    def _victim(self, chance: Random, *, is_static: bool) -> Slot:
        site = self._site
        time.sleep(chance.uniform(0.0, 0.5))
        slot = chance.choice(site.of("score", is_static=is_static))
        site.until(lambda: site.partitions_of(slot), 30, f"{slot.name} holds nothing")
        return slot

    def _taken_over(self, what: str, partitions: list[int], when: float) -> None:
        site = self._site
        site.until(
            lambda: site.watch.all_since(partitions, when) is not None, 60, f"nobody decides on {partitions}"
        )
        site.tally.recovered(what, (site.watch.all_since(partitions, when) or when) - when)

    def _leaves(self, slot: Slot) -> None:
        assert slot.process is not None
        slot.held = True
        before = time.monotonic()
        code = slot.process.stop(2 * SESSION)
        if code != 0:
            self._site.tally.ended.append(f"SIGTERM of {slot.name}: code {code}, see {slot.process.log}")
        self._site.tally.recovered("SIGTERM -> the worker has left", time.monotonic() - before)

    # ---- Kafka

    def broker_killed(self, _: Step, __: Random) -> None:
        """`kill -9`, and back after 5 seconds."""
        self._away(self._site.kafka.kill, 5.0)
        self._site.tally.faults["kill -9 of the broker"] += 1

    def broker_restarted(self, _: Step, __: Random) -> None:
        """SIGTERM, and back after 5 seconds."""
        self._away(self._site.kafka.stop, 5.0)

    def broker_away(self, _: Step, __: Random) -> None:
        """For a minute."""
        self._away(self._site.kafka.kill, 60.0)
        self._site.tally.faults["kill -9 of the broker"] += 1

    def _away(self, end: Callable[[], None], seconds: float) -> None:
        site = self._site
        end()
        down = time.time()
        time.sleep(seconds)
        site.kafka.start()
        self._back(BROKER_BACK, down + 1.0, time.time())

    # ---- what comes in

    def bad_input(self, _: Step, chance: Random) -> None:
        """What cannot be processed, what came before, what comes late; every piece of it somewhere else."""
        site, traffic = self._site, self._site.traffic
        sent = traffic.payments
        raw = encode(traffic.shape.payment(0))
        for _piece in range(10):
            card = f"c{chance.randrange(3000)}".encode()
            traffic.send("transactions", card, b"{not json")
            traffic.send("transactions", card, raw.replace(b'"amount_minor":', b'"amount_minor":NaN,"was":'))
            traffic.send("transactions", card, None)
            traffic.send("transactions", None, raw)
            traffic.send("transactions", card, b"[" * 50_000)
            traffic.send("labels", card, b"{not json")
        traffic.send("transactions", b"c1", b'{"transaction_id":"' + b"x" * 2_000_000 + b'"}')
        for number in (
            chance.randrange(max(sent - 2000, 1)) for _ in range(300)
        ):  # sent twice by its producer
            payment = traffic.shape.payment(number)
            traffic.send("transactions", payment.card_id.encode(), encode(payment))
        late = traffic.shape.payment(sent)
        for number in range(50):
            payment = msgspec.structs.replace(
                late,
                transaction_id=f"late{_name(chance)}{number}",
                event_time=late.event_time - timedelta(days=400),
            )
            traffic.send("transactions", payment.card_id.encode(), encode(payment))
        site.tally.faults["pieces of bad input"] += 361

    def hot_card(self, _: Step, __: Random) -> None:
        """One card has half of all traffic."""
        self._site.traffic.hot = True
        try:
            time.sleep(6.0)
        finally:
            self._site.traffic.hot = False

    def unknown_labels(self, _: Step, chance: Random) -> None:
        """A flood of labels of payments that nobody made: 100,000 in the long run."""
        traffic = self._site.traffic
        at = traffic.shape.time(traffic.payments)
        for number in range(traffic.shape.events // 20):
            label = Label(
                transaction_id=f"flood{_name(chance)}{number}", is_fraud=True, known_at=at, source="flood"
            )
            traffic.send("labels", label.transaction_id.encode(), encode(label))
            self._site.tally.faults["unknown labels sent"] += 1

    # ---- models

    def models_forged(self, _: Step, __: Random) -> None:
        """Four models that must not be trusted, each refused, which the score workers say."""
        site = self._site
        site.until(lambda: site.length("models"), 60, "no model was published")
        newest = site.installation.read("models")[-1].value or b""
        for forged in forgeries(newest, trust_of(site.settings)):
            said = site.count_said("score", _REFUSED)
            self._sent_until_refused(forged, said)

    def _sent_until_refused(self, forged: bytes, said: int) -> None:
        """A good one that follows at once takes its place before anybody looks: then once more."""
        site = self._site
        for _try in range(20):
            site.traffic.send("models", site.settings.model.encode(), forged)
            site.tally.forged += 1
            deadline = time.monotonic() + 1.5
            while time.monotonic() < deadline:
                if self._said_more(said):
                    return
                time.sleep(0.05)
        raise NotHealedError(f"a forged model was not refused; logs are in {site.folder}")


def _name(chance: Random) -> str:
    """A name that no other step has."""
    return f"{chance.getrandbits(32):08x}"


def forgeries(newest: bytes, trust: Trust) -> list[bytes]:
    """Of a published model: cut off, one bit flipped, signed with another key, of a newer format."""
    manifest = manifest_decoder.decode(newest)
    blob = manifest.blob or b""
    flipped = bytearray(blob)
    flipped[len(blob) // 2] ^= 1
    header = SnapshotHeader(
        name=manifest.name,
        version=manifest.version,
        next_offset=manifest.next_offset,
        learned=manifest.learned,
        event_time=manifest.event_time,
        installation=trust.installation,
    )
    foreign = dump(opened(newest, trust).model, key=ANOTHER, header=header)
    newer = blob[:8] + b"\x00\x63" + blob[10:]
    return [_with(manifest, each) for each in (blob[: len(blob) // 2], bytes(flipped), foreign, newer)]


def _with(manifest: ModelManifest, blob: bytes) -> bytes:
    """As who can write to the topic, and cannot sign, would publish it."""
    return encode(
        msgspec.structs.replace(manifest, blob=blob, sha256=hashlib.sha256(blob).hexdigest(), size=len(blob))
    )
