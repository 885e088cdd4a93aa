"""The judge of models: what is published against what the log of labels gives. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from stream.verify.promises import Findings


class Learns(Protocol):
    """A model as the judge sees it."""

    def score_one(self, x: dict[str, float], /) -> float:
        """The probability of fraud."""
        ...

    def learn_one(self, x: dict[str, float], y: bool, /) -> None:
        """Learn one example."""
        ...


class JudgedModel(NamedTuple):
    """A model, and how much it says it has learned."""

    version: str
    learned: int
    model: Learns


def judge_models(
    findings: Findings, published: JudgedModel, replayed: JudgedModel, examples: Sequence[dict[str, float]]
) -> int:
    """Compare the newest published model with the one that the log of labels gives.

    Predictions are compared, then once more after both have learned the same examples: a young model's
    predictions do not show yet all that it has learned. Both models are changed by it.

    Returns:
        How many predictions were compared, to the bit.
    """
    if published.learned != replayed.learned:
        findings.broken(
            3,
            "a model says it has learned another number of labels than the log gives",
            f"{published.version}: {published.learned:,} and {replayed.learned:,}",
        )
    figures, wanted = _figures(published.model), _figures(replayed.model)
    differing = [
        f"{name} {figures.get(name)} and {wanted[name]}"
        for name in wanted
        if figures.get(name) != wanted[name]
    ]
    compared = 0
    for further in (False, True):
        if further:
            for place, x in enumerate(examples):
                published.model.learn_one(x, place % 2 == 0)
                replayed.model.learn_one(x, place % 2 == 0)
        wrong = sum(published.model.score_one(x).hex() != replayed.model.score_one(x).hex() for x in examples)
        compared += len(examples)
        if wrong:
            after = ", after both learned them" if further else ""
            differing.append(f"{wrong:,} of {len(examples):,} predictions{after}")
    if differing:
        findings.broken(
            3,
            "a model is not the one that learns each label of the log once",
            f"{published.version}: {'; '.join(differing)}",
        )
    return compared


def _figures(model: object) -> dict[str, object]:
    """The plain numbers among what a model holds."""
    return {name: value for name, value in vars(model).items() if isinstance(value, (int, float))}
