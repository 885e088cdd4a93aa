"""Models are the same only if they go on the same."""

from __future__ import annotations

from stream.verify.model_judge import JudgedModel, judge_models
from stream.verify.promises import Findings
from tests.unit.stream.verify.test_judge import found


class Sum:
    """A model that adds up, and shows it only after a while."""

    def __init__(self, total: float = 0.0) -> None:
        self._state = [total, 0.0]

    def learn_one(self, x: dict[str, float], y: bool, /) -> None:
        self._state[0] += x["n"] * (2.0 if y else 1.0)
        self._state[1] = self._state[0]

    def score_one(self, x: dict[str, float], /) -> float:
        return x["n"] + self._state[1]


def test_models_are_the_same_only_if_they_go_on_the_same() -> None:
    examples = [{"n": float(n)} for n in range(5)]
    findings = Findings()
    assert judge_models(findings, JudgedModel("m", 3, Sum()), JudgedModel("m", 3, Sum()), examples) == 10
    assert found(findings) == {}
    judge_models(findings, JudgedModel("m", 3, Sum(1e-9)), JudgedModel("m", 3, Sum()), examples)
    assert found(findings) == {3: ["a model is not the one that learns each label of the log once"]}
    findings = Findings()
    judge_models(findings, JudgedModel("m", 4, Sum()), JudgedModel("m", 3, Sum()), examples)
    assert found(findings) == {3: ["a model says it has learned another number of labels than the log gives"]}
