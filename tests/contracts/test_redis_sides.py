"""What is restored is what is seen from the side, on one server and on a cluster."""

from __future__ import annotations

import pytest

from stream.adapters.redis.dump import Held, RedisDump, digest_of
from stream.adapters.redis.restore import RedisRestore
from stream.adapters.redis.shards import connect


@pytest.mark.parametrize("where", ["redis_url", "redis_cluster_url"])
def test_what_is_restored_is_seen_and_nothing_that_was_there_before(
    request: pytest.FixtureRequest, where: str
) -> None:
    client = connect(request.getfixturevalue(where))
    restore, dump = RedisRestore(client, 8, "rw", {}), RedisDump(client, 8, "rw")
    raw = b"\x00" + b"\x00" * 6 + b"\x08\x40" + b"more"  # three updates, as a double
    for number in range(2):
        names = [f"card:c{number}{place}" for place in range(30)]
        restore.begin()
        restore.profiles("e", ((name, raw) for name in names))
        assert restore.expiring("d", [("t1", b"first", 60), ("t1", b"second", 60)]) == [True, False]
        restore.expiring("k", [("t1", b"1100.0", 60)])
        restore.pending([("t2", 5.0, b"7 {}")])
        restore.statuses([("t1", 4, "N")])
        for shard in range(8):
            restore.fields(shard, "partitions", {"fence:3": 41, "decided": 1})
            restore.fields(shard, "labels", {"standings": 4, "profiles": 4})
        restore.end()
    assert dump.profiles() == dict.fromkeys(names, Held(3, digest_of(raw)))
    assert dump.label_profiles() == {}
    assert dump.recorded(["t1", "t2"]) == [b"first", None]
    assert dump.known() == {"t1": b"1100.0"}
    assert dump.pending() == [("t2", b"7 {}")]
    assert dump.applied_offsets() == [({3: 41}, 4, 4)] * 8
    assert dump.counts() == {"decided": 8, "rejected": 0, "duplicates": 0}
