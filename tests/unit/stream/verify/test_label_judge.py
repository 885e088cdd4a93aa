"""What Redis knows by labels is compared with what the log gives, to the bit."""

from __future__ import annotations

from collections.abc import Callable

from stream.adapters.redis.dump import digest_of
from stream.verify.label_judge import LabelsSeen, judge_labels
from stream.verify.promises import Findings
from tests.unit.stream.history.label_log import Log, reported
from tests.unit.stream.verify.test_judge import CODEC, NEVER, found


def judged_labels(change: Callable[[dict[str, tuple[int, bytes]], dict[str, bytes]], None]) -> Findings:
    log = Log()
    log.add(reported("a", fraud=True, day=2))
    log.decide("a")
    log.statuses()
    profile = log.labels.profile("card:c1", 1)
    assert profile is not None
    profiles = {"card:c1": (1, digest_of(CODEC.packed_labels(profile)))}
    known = {name: each.stored for name, each in log.labels.known.items()}
    change(profiles, known)
    findings = Findings()
    seen = LabelsSeen(profiles, known, lambda _: 0, lambda _: 0)
    judge_labels(
        findings,
        log.labels,
        seen,
        digest=lambda profile: digest_of(CODEC.packed_labels(profile)),
        remembered=NEVER,
    )
    return findings


def test_what_redis_knows_by_labels_is_compared_to_the_bit() -> None:
    assert found(judged_labels(lambda _profiles, _known: None)) == {}
    assert found(judged_labels(lambda profiles, _: profiles.update({"card:c1": (1, b"other")})))[3]
    assert found(judged_labels(lambda profiles, _: profiles.update({"card:c1": (2, b"other")})))[3]
    assert found(judged_labels(lambda profiles, _: profiles.clear()))[3]
    assert found(judged_labels(lambda _, known: known.clear()))[3]
    assert found(judged_labels(lambda _, known: known.update({"a": b"1" + known["a"][1:] + b"1"})))[3]
    assert found(judged_labels(lambda _, known: known.update({"b": known["a"]})))[3]
