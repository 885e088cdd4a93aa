"""A model that comes to an installation when labels have been learned already: another kind, or a lost one.

It learns the log of labels with the features as served, as far as they are acknowledged, and is then the one
that would stand there had it learned them as they came: `riverwatch replay --topics` and `verify` agree.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from stream.config.settings import Settings
from stream.history.logs import Logs, RebuiltModels


class CaughtUp(NamedTuple):
    """A model at an offset of the labels.

    Attributes:
        learned: examples it has seen.
        remarks: why it may not be the one that would stand there, for people.
    """

    model: Any
    learned: int
    remarks: list[str]


def catch_up(settings: Settings, until: int) -> CaughtUp:
    """The model that settings name, after the labels below an offset.

    Args:
        settings: those that the workers run with.
        until: the first label it has not seen.

    Raises:
        TopicUnreadableError, TopicMismatch: Kafka does not answer, or has other topics than the settings say.
    """
    logs = Logs(settings)
    logs.read_labels()
    for _ in logs.decisions():  # it takes those of labels
        pass
    models = RebuiltModels(settings, logs.spec, [settings.model])
    logs.labels.play(lambda resolved: models(resolved) if resolved.offset < until else None)
    return CaughtUp(models.models[settings.model], models.learned, logs.remarks)
