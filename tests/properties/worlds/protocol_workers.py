"""The workers of the protocol's world: real pipelines, and connections that break."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from stream.admission import Limits
from stream.pipeline import DecisionTopics
from stream.policy import Policy, Thresholds
from stream.ports import DependencyDown, EventUpdate
from stream.records import Record
from tests.properties.worlds.protocol_judge import SPEC, verdict

if TYPE_CHECKING:
    from tests.properties.worlds.protocol_world import World


class Model:
    thresholds = Thresholds(0.4, 0.8)

    def __init__(self, number: int) -> None:
        self.version = f"m{number}"

    def score(self, features: dict[str, float]) -> tuple[float, Sequence[tuple[str, float]]]:
        return verdict(self.version, features), [("amount", features["amount"])]


class Connection:
    """One worker's way to the store: a call may be lost before it has its effect, or its reply after it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.epoch = world.epoch
        self.faults: dict[str, str] = {}

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        if self.epoch != self.world.epoch:  # the store has failed over, and cut every connection
            self.epoch = self.world.epoch
            raise DependencyDown("cut")
        when = self.faults.pop(name, None)
        if when == "before":
            raise DependencyDown(name)
        result = getattr(self.world.store, name)(*args, **kwargs)
        if when == "after":
            raise DependencyDown(name)
        return result

    def claim(self, partitions: Iterable[int]) -> Any:
        return self._call("claim", partitions)

    def progress(self, partitions: Iterable[int]) -> Any:
        return self._call("progress", partitions)

    def lookup(self, transaction_ids: Sequence[str]) -> Any:
        return self._call("lookup", transaction_ids)

    def apply(self, updates: Sequence[EventUpdate], **kwargs: Any) -> Any:
        return self._call("apply", updates, **kwargs)

    def counts(self) -> Any:
        return self._call("counts")

    def record(self, decisions: Sequence[tuple[int, str, bytes]], **kwargs: Any) -> Any:
        return self._call("record", decisions, **kwargs)


class Worker:
    """A process: a pipeline, what it holds, where it reads next, and the batch in its hand."""

    def __init__(self, world: World, held: Iterable[int]) -> None:
        self.world = world
        self.held = sorted(held)
        self.armed: dict[str, Callable[[], None]] = {}
        self.connection = Connection(world)
        self.hand: list[Record] = []
        self.pipeline = world.pipeline_class(
            store=self.connection,
            outbox=world.outbox,
            model=lambda: world.model,
            clock=world.clock,
            spec=SPEC,
            policy=Policy(),
            topics=DecisionTopics("scores", "alerts", "dead-letters"),
            limits=Limits(),
            reached=self.reached,
        )
        self.begin()

    def reached(self, point: str) -> None:
        if (happens := self.armed.pop(point, None)) is not None:
            happens()

    def begin(self) -> None:
        """Partitions are assigned: claim them, compare, go back where the store is behind."""
        self.hand = []
        while True:
            try:
                self.pipeline.on_assigned(self.held)
                holds = self.connection.progress(self.held)
            except DependencyDown:
                continue
            break
        self.next = {p: min(self.world.committed[p], holds[p] + 1) for p in self.held}
        self.pipeline.set_start_offsets(self.next)
        self.world.committed.update(self.next)  # before anything else: or a crash would skip what it repeats

    def take(self, sizes: Sequence[int]) -> None:
        """Take a batch into the hand, unless one is there that failed."""
        if not self.hand:
            for partition, size in zip(self.held, sizes, strict=False):
                first = self.next[partition]
                self.hand += self.world.log[partition][first : first + size]

    def work(self) -> bool:
        """Try the batch in hand. Whether it is done."""
        if not self.hand:
            return False
        self.world.before_work(self)
        try:
            counts = self.pipeline.process(self.hand)
        except DependencyDown:
            return False
        assert counts.events == counts.decided + counts.duplicates + counts.rejected + counts.forgotten
        # One of a pair may stand alone in its batch when its twin is read but not decided: that one decides.
        assert counts.forgotten == 0 or self.world.twins
        for record in self.hand:
            self.next[record.partition] = record.offset + 1
        self.hand = []
        return True
