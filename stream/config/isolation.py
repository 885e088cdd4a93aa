"""Which records of a topic count: those of committed transactions, and all that were written without one.

Whoever reads for riverwatch reads committed. The embedded broker alone cannot: there its last batch would
come only with the next one, so everything is read.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Isolation: TypeAlias = Literal["read_committed", "read_uncommitted"]

_EMBEDDED = "tansu_cluster"

CANNOT = (
    "Kafka at %s is the embedded broker, which cannot tell what was committed: records of open and of "
    "aborted transactions are handled there like all others"
)


def isolation_of(cluster_id: str | None) -> Isolation:
    """How to read from a cluster.

    Args:
        cluster_id: as its metadata name it; None where it is not known.

    >>> isolation_of("bCNpKBRBQUe0WnXNo2O-nQ"), isolation_of(None), isolation_of("tansu_cluster")
    ('read_committed', 'read_committed', 'read_uncommitted')
    """
    return "read_uncommitted" if cluster_id == _EMBEDDED else "read_committed"
