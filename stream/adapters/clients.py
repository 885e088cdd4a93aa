"""From settings to clients of Redis and the store on it: the only place where they are made."""

from __future__ import annotations

from typing import Any

from models.features.spec import FeatureSpec
from stream.adapters.redis.shards import connect
from stream.adapters.redis.store import RedisStore
from stream.config.settings import Settings


def redis_client(settings: Settings) -> Any:
    """A client of the Redis in force."""
    url = settings.redis_url
    if settings.redis_cluster and "+cluster" not in url:
        url = url.replace("://", "+cluster://", 1)
    return connect(url)


def recorded_seconds(settings: Settings) -> int:
    """How long Redis remembers a decision."""
    on_disk = settings.decision_log == "disk"
    return max(int(settings.duplicate_window if on_disk else settings.decision_ttl), 1)


def make_store(settings: Settings, spec: FeatureSpec, client: Any) -> RedisStore:
    """The store of profiles, decisions and labels."""
    return RedisStore(
        client,
        spec.half_lives,
        settings.shards,
        decision_ttl_seconds=recorded_seconds(settings),
        label_ttl_seconds=max(int(settings.decision_ttl), 1),
        prefix=settings.redis_prefix,
        replicas=settings.redis_replicas,
    )
