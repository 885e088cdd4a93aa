"""Faults of what workers keep things in: Redis, alone, replicated and as a cluster, and their own disks."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from random import Random

from infra.process import GuardedProcess
from tests.faults.schedule import Step
from tests.faults.site import NODE_TIMEOUT, Site
from tests.support.full_disk import no_file_above
from tests.support.redis_servers.cluster import slots_of

REDIS_BACK = "Redis back -> first decision"
PROMOTED = "a replica that lacks a second in its place -> first decision"
_NOT_FILLED = "the decision log is not filled"
_FILLED = "is filled again"
_FULL = "its memory is full"
_EMPTY = "Redis holds nothing of"


class StoreFaults:
    """On a site under traffic, each until it is healed."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def redis_killed(self, _: Step, chance: Random) -> None:
        """`kill -9` at any moment, and back with what its append-only file holds."""
        time.sleep(chance.uniform(0.0, 0.3))
        self._forgets(self._site.redis.kill, chance.uniform(0.5, 1.5))
        self._site.tally.faults["kill -9 of Redis"] += 1

    def redis_restarted(self, _: Step, __: Random) -> None:
        """SIGTERM."""
        self._forgets(self._site.redis.stop, 0.5)

    def _forgets(self, end: Callable[[], None], seconds: float) -> None:
        end()
        down = time.time()
        time.sleep(seconds)
        self._site.redis.start()
        self._back(REDIS_BACK, down + 0.3, time.time())

    def redis_emptied(self, _: Step, chance: Random) -> None:
        """It comes back with nothing. Workers wait, and everything is put back by the command they name."""
        site = self._site
        said = site.count_said("score", _EMPTY)
        time.sleep(chance.uniform(0.0, 0.3))
        site.redis.kill()
        site.redis.forget()
        site.redis.start()
        site.tally.faults["kill -9 of Redis"] += 1
        site.until(lambda: site.count_said("score", _EMPTY) > said, 30, "no worker says that Redis is empty")
        begun = time.monotonic()
        rebuild = site.installation.start("rebuild")
        site.until(lambda: rebuild.poll() is not None, 600, "the rebuild does not end")
        assert rebuild.poll() == 0, rebuild.log.read_text(errors="replace")[-2000:]
        site.tally.recovered("Redis empty: rebuild started -> rebuilt", time.monotonic() - begun)
        self._back("rebuilt -> first decision", time.time(), time.time())

    def redis_failed_over(self, _: Step, chance: Random) -> None:
        """To a replica that has not heard the last second; workers have waited for it, so nothing left."""
        site = self._site
        standby = site.standby
        assert standby is not None
        standby.cut_off()
        time.sleep(chance.uniform(0.7, 1.3))
        unheard = standby.bytes_behind()
        assert unheard > 0, "the replica has heard everything: the fault proves nothing"
        site.fail_over()
        back = time.time()
        site.follow()
        self._back(PROMOTED, back, back)
        site.tally.faults["kill -9 of Redis"] += 1
        site.tally.faults["bytes that a failover lost"] += unheard

    def slot_moved(self, _: Step, chance: Random) -> None:
        """To another master, some keys at a time: what lives in it waits, and is nowhere done by halves."""
        site = self._site
        slot = chance.choice(slots_of(site.settings.redis_prefix, range(site.settings.shards)))
        other = (site.cluster.owner(slot) + chance.choice((1, 2))) % len(site.cluster.masters)
        moved = site.cluster.move(slot, other, pause=0.02)
        assert moved > 0, "the slot held nothing: the fault proves nothing"
        self._back("a slot has moved -> first decision", time.time(), time.time())
        site.tally.faults["keys moved"] += moved

    def master_killed(self, _: Step, chance: Random) -> None:
        """`kill -9`, and back before the others have noticed or after."""
        site = self._site
        master = chance.choice(site.cluster.masters)
        master.kill()
        down = time.time()
        time.sleep(chance.choice((0.5, NODE_TIMEOUT + 2.0)))
        master.start()
        site.until(site.cluster.is_ok, 60, "the cluster is not whole again")
        self._back("the cluster is whole again -> first decision", down + 0.3, time.time())
        site.tally.faults["kill -9 of Redis"] += 1

    def redis_full(self, _: Step, __: Random) -> None:
        """Its memory is full and nothing is evicted; then there is room again."""
        site = self._site
        said = site.count_said("score", _FULL)
        with site.redis_client() as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1mb")
            site.until(
                lambda: site.count_said("score", _FULL) > said, 30, "no worker says that Redis is full"
            )
            time.sleep(1.0)
            client.config_set("maxmemory", "0")
        self._back("Redis has room again -> first decision", time.time(), time.time())

    def redis_slow(self, _: Step, __: Random) -> None:
        """Every reply 200 ms late, to one score and one learn worker."""
        self._site.proxy.delay = 0.2
        try:
            time.sleep(6.0)
        finally:
            self._site.proxy.delay = 0.0

    def reply_cut(self, _: Step, __: Random) -> None:
        """Connections cut in the middle of a reply: the call was done, and its caller does not know."""
        site = self._site
        cuts = site.proxy.cuts
        site.proxy.cut(5)
        site.until(lambda: site.proxy.cuts >= cuts + 5, 60, "no reply was cut")

    def _back(self, what: str, after: float, back: float) -> None:
        site = self._site
        site.until(lambda: site.watch.any_since(after) is not None, 60, "no decision since")
        site.tally.recovered(what, (site.watch.any_since(after) or back) - back)

    # ---- disks

    def disk_full(self, _: Step, __: Random) -> None:
        """Of both learners, whose decision logs it holds: no file grows; then there is room again."""
        site = self._site
        processes = [slot.process for slot in site.of("learn") if slot.process is not None]
        said = {process.pid: _said(process, _NOT_FILLED) for process in processes}
        filled = {process.pid: _said(process, _FILLED) for process in processes}
        with ExitStack() as full:
            for process in processes:
                size = process.log.stat().st_size + 100_000  # what is said has room
                full.enter_context(no_file_above(size, process.pid))
            site.until(
                lambda: all(_said(each, _NOT_FILLED) > said[each.pid] for each in processes),
                60,
                "a learner does not say that its disk is full",
            )
            time.sleep(1.0)
        room = time.time()
        site.until(
            lambda: all(_said(each, _FILLED) > filled[each.pid] for each in processes),
            60,
            "a decision log is not filled again",
        )
        site.tally.recovered("a disk has room again -> both decision logs are filled", time.time() - room)


def _said(process: GuardedProcess, text: str) -> int:
    return process.log.read_text(errors="replace").count(text)
