"""The judge of labels: what the store holds by them against what their log gives. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from models.features.profiles import LabelProfile
from stream.history.labels import ReplayedLabels
from stream.verify.promises import Findings


class LabelsSeen(NamedTuple):
    """What stands in the store by labels, read before the labels were.

    Attributes:
        profiles: label profiles, of each entity.
        known: of each transaction, as stored.
        applied_status_offset: by transaction, the label up to which statuses were given.
        applied_profile_offset: by entity, the label up to which its profile was informed.
    """

    profiles: Mapping[str, tuple[int, bytes]]
    known: Mapping[str, bytes]
    applied_status_offset: Callable[[str], int]
    applied_profile_offset: Callable[[str], int]


def judge_labels(
    findings: Findings,
    labels: ReplayedLabels,
    seen: LabelsSeen,
    *,
    digest: Callable[[LabelProfile], bytes],
    remembered: float,
) -> None:
    """Compare what the store knows by labels with what the log of labels gives, to the bit.

    Args:
        findings: take what is broken.
        labels: played.
        seen: what stands in the store.
        digest: of a label profile's bytes.
        remembered: seconds since 1970 from which everything must still be known.
    """
    for name, (updates, held) in seen.profiles.items():
        profile = labels.profile(name, updates)
        if profile is None:
            what = "its label profile in Redis holds more labels than the log gives"
            findings.broken(3, what, f"{name}: {updates} and {labels.updates(name)}")
        elif digest(profile) != held:
            what = "its label profile in Redis is not what its labels give"
            findings.broken(3, what, f"{name} after {updates} labels")
    for name in labels.entities():
        held_updates = seen.profiles[name][0] if name in seen.profiles else 0
        if held_updates < (due := labels.updates(name, until=seen.applied_profile_offset(name))):
            what = "its label profile in Redis lacks labels that Redis says it has applied"
            findings.broken(3, what, f"{name}: {held_updates} of {due}")
    for name, known in labels.known.items():
        stored = seen.known.get(name)
        if known.offset > seen.applied_status_offset(name) or (stored is None and known.came < remembered):
            continue
        if stored != known.stored:
            what = "what Redis knows of it is not the latest knowledge of the log"
            findings.broken(3, what, f"{name}: {_told(stored)}, and the log says {_told(known.stored)}")
    for name in seen.known.keys() - labels.known.keys():
        what = "Redis knows something of it that no label of the log says"
        findings.broken(3, what, f"{name}: {_told(seen.known[name])}")


def _told(stored: bytes | None) -> str:
    if not stored:
        return "nothing"
    return f"{'fraud' if stored[:1] == b'1' else 'genuine'}, known at {stored[1:].decode(errors='replace')}"
