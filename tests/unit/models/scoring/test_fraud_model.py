from __future__ import annotations

import functools
import math
import pickle
import random
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from librt.vecs import vec
from river import checks
from sklearn.metrics import average_precision_score

from models.features.vector import Layout, Row
from models.scoring.anomaly import UnsupervisedModel, strongest
from models.scoring.binning import Binner
from models.scoring.calibration import SEASONED, sigmoid
from models.scoring.fraud_model import FraudModel
from models.scoring.registry import UnknownModelError, build_model

Example = tuple[dict[str, float], bool]
RATE = 0.2
CROSSES = (("amount", "run"), ("amount", "run", "age"))


def stream(seed: int, frauds: float = 0.02) -> Iterator[Example]:
    """Frauds pay more, at merchants with a run of frauds, in two of the countries."""
    chance = random.Random(seed)
    while True:
        y = chance.random() < frauds
        x = {
            "amount": math.exp(chance.gauss(5.0 if y and chance.random() < 0.7 else 3.0, 0.8)),
            "run": float(min(int(chance.expovariate(0.5 if y else 3.0)), 6)),
            "age": chance.uniform(0.0, 1e7),
            "noise": chance.gauss(0.0, 1e-6),
            f"country={chance.choice((1, 2)) if y else chance.randrange(8)}": 1.0,
        }
        if chance.random() < 0.3:
            del x["age"]
        yield x, y


def chosen(number: int) -> bool:
    return zlib.crc32(f"t{number}".encode()) < RATE * 2**32


def learn(model: FraudModel, examples: Iterator[Example], count: int) -> FraudModel:
    for number, (x, y) in enumerate(islice(examples, count)):
        if y or chosen(number):
            model.learn_one(x, y)
    return model


def new_model(seed: int = 1) -> FraudModel:
    return FraudModel(RATE, crosses=CROSSES, seed=seed)


@functools.cache
def _pickled() -> bytes:
    return pickle.dumps(learn(new_model(), stream(1), 60_000))


@pytest.fixture
def model() -> FraudModel:
    loaded: FraudModel = pickle.loads(_pickled())  # noqa: S301 - made by this test
    return loaded


def held_out(count: int = 20_000) -> list[Example]:
    return list(islice(stream(2), count))


def test_model_finds_frauds(model: FraudModel) -> None:
    test = held_out()
    found = average_precision_score([y for _, y in test], [model.score_one(x) for x, _ in test])
    assert found > 0.5


def test_shuffled_labels_are_predicted_no_better_than_by_chance() -> None:
    examples = list(islice(stream(1), 30_000))
    labels = [y for _, y in examples]
    random.Random(3).shuffle(labels)
    model, scores = new_model(), []
    for number, ((x, _), y) in enumerate(zip(examples, labels, strict=True)):
        scores.append(model.score_one(x))
        if y or chosen(number):
            model.learn_one(x, y)
    assert average_precision_score(labels, scores) < 1.5 * sum(labels) / len(labels)


def test_probability_is_the_share_of_frauds_though_few_genuine_are_learned(model: FraudModel) -> None:
    test = held_out()
    scored = sorted((model.score_one(x), y) for x, y in test)
    assert sum(score for score, _ in scored) / len(test) == pytest.approx(
        sum(y for _, y in scored) / len(test), rel=0.2
    )
    top = scored[-len(test) // 50 :]
    assert sum(score for score, _ in top) == pytest.approx(sum(y for _, y in top), rel=0.15)


@pytest.mark.parametrize("share", [0.005, 0.01, 0.05])
def test_threshold_lets_its_share_of_all_transactions_through(model: FraudModel, share: float) -> None:
    threshold = model.threshold(share)
    above = sum(model.score_one(x) > threshold for x, _ in held_out())
    assert above / 20_000 == pytest.approx(share, rel=0.25)


def test_threshold_falls_as_the_share_grows(model: FraudModel) -> None:
    thresholds = [model.threshold(share) for share in (0.0001, 0.001, 0.01, 0.1, 0.5, 0.999)]
    assert thresholds == sorted(thresholds, reverse=True)


def test_contributions_and_bias_add_up_to_the_log_odds_of_the_score(model: FraudModel) -> None:
    for x, _ in held_out(200):
        contributions = model.explain_one(x)
        total = model.bias + sum(value for _, value in contributions)
        assert total == pytest.approx(model.log_odds(x), abs=1e-9)
        assert model.score_one(x) == pytest.approx(sigmoid(total), abs=1e-12)
        strengths = [abs(value) for _, value in contributions]
        assert strengths == sorted(strengths, reverse=True)


def test_assessment_is_the_score_and_the_first_contributions_to_the_bit(model: FraudModel) -> None:
    for x, _ in held_out(200):
        for most in (1, 3, 5, 50):
            assert model.assess_one(x, most) == (model.score_one(x), model.explain_one(x)[:most])
    assert new_model().assess_one(x) == (new_model().score_one(x), new_model().explain_one(x)[:5])


def test_strongest_are_ordered_by_name_where_they_are_as_strong() -> None:
    contributions = {"d": 1.0, "b": -1.0, "c": 1.0, "a": 0.5, "e": 2.0}
    assert strongest(contributions, 3) == [("e", 2.0), ("b", -1.0), ("c", 1.0)]
    assert strongest(contributions) == [*strongest(contributions, 3), ("d", 1.0), ("a", 0.5)]


def test_threshold_of_a_young_model_asks_for_less_than_its_share() -> None:
    examples = stream(1)
    model = learn(new_model(), examples, 3_000)
    assert model.ready
    while model.calibration.learned < SEASONED:
        scale = model.calibration.learned / SEASONED
        z = model.calibration.quantile(0.01 * scale)
        assert model.threshold(0.01) == sigmoid(model.calibration.log_odds(z))
        assert z > model.calibration.quantile(0.01)
        learn(model, examples, 1_000)
    z = model.calibration.quantile(0.01)
    assert model.threshold(0.01) == sigmoid(model.calibration.log_odds(z))


def test_what_is_moved_into_bins_keeps_the_sum_of_what_was_counted() -> None:
    binner = Binner(20, 8, frozenset({"amount"}), seed=1)
    moves = []
    for (x, y), _ in zip(stream(1), range(30_000), strict=False):
        growth = binner.learn(x, y)
        moves += [] if growth is None else [move for move in growth.fine if move.parts]
    assert moves
    for move in moves:
        assert len(move.splits) == len(move.edges) + 1
        for part in move.parts or ():
            assert sum(part.values()) == pytest.approx(1.0)
        sums: dict[int, float] = {}
        for split in move.splits:
            for old, share in split.items():
                sums[old] = sums.get(old, 0.0) + share
        assert list(sums.values()) == pytest.approx([1.0] * len(sums))


def test_what_makes_a_fraud_is_named_first(model: FraudModel) -> None:
    x = {"amount": 400.0, "run": 0.0, "age": 5e6, "noise": 0.0, "country=1": 1.0}
    name, contribution = model.explain_one(x)[0]
    assert name == "amount"
    assert contribution > 1.0


def test_pickled_model_predicts_and_learns_on_to_the_same_bits(model: FraudModel) -> None:
    copy: FraudModel = pickle.loads(pickle.dumps(model))  # noqa: S301 - made by this test
    # Across a growth of the bins: these draw on chance and on what is remembered.
    for x, y in islice(stream(5, frauds=0.3), 8_000):
        assert copy.score_one(x) == model.score_one(x)
        model.learn_one(x, y)
        copy.learn_one(x, y)
    assert copy.threshold(0.01) == model.threshold(0.01)
    assert copy.explain_one(x) == model.explain_one(x)


def test_same_seed_and_data_give_the_same_bits() -> None:
    first, second = (learn(new_model(), stream(4), 8_000) for _ in range(2))
    assert [first.score_one(x) for x, _ in held_out(100)] == [second.score_one(x) for x, _ in held_out(100)]


def test_seed_of_the_sample_changes_no_prediction_by_much(model: FraudModel) -> None:
    other = learn(new_model(seed=99), stream(1), 60_000)
    pairs = [(model.score_one(x), other.score_one(x)) for x, _ in held_out(2_000)]
    assert sum(abs(a - b) for a, b in pairs) / len(pairs) < 0.01


def test_score_does_not_change_with_the_unit_of_a_feature() -> None:
    a, b = new_model(), new_model()
    for number, (x, y) in enumerate(islice(stream(1), 8_000)):
        if y or chosen(number):
            a.learn_one(x, y)
            b.learn_one(x | {"amount": x["amount"] * 1024.0}, y)
    for x, _ in held_out(200):
        assert b.score_one(x | {"amount": x["amount"] * 1024.0}) == a.score_one(x)


def test_prediction_changes_nothing(model: FraudModel) -> None:
    before = pickle.dumps(model)
    for x, _ in held_out(50):
        model.predict_proba_one(x)
        model.explain_one(x)
    model.threshold(0.01)
    assert pickle.dumps(model) == before


@pytest.mark.parametrize("value", [0.0, -1e308, 1e308, 1e-308])
def test_extreme_values_are_learned_and_scored(value: float) -> None:
    model = learn(new_model(), stream(1), 8_000)
    for number in range(600):
        x = {"amount": value, "run": -value, "never seen": value, "country=999": 1.0}
        model.learn_one(x, number % 2 == 0)
        assert 0.0 <= model.score_one(x) <= 1.0
        assert math.isfinite(model.log_odds(x))


def test_new_feature_is_learned_soon_after_it_appears(model: FraudModel) -> None:
    for x, y in islice(stream(6), 2_000):
        model.learn_one(x | {f"channel={int(y)}": 1.0}, y)
    x = {"amount": 20.0, "run": 0.0}
    assert model.score_one(x | {"channel=1": 1.0}) > 2.0 * model.score_one(x | {"channel=0": 1.0})


@pytest.mark.parametrize("y", [True, False])
def test_model_that_saw_one_class_alone_scores_as_without_labels(y: bool) -> None:
    model, before = new_model(), UnsupervisedModel()
    for x, _ in islice(stream(1), 2_000):
        model.learn_one(x, y)
    assert not model.ready
    x = {"card.z.30d": 4.0, "amount": 5.0}
    assert model.score_one(x) == before.score_one(x)
    assert model.explain_one(x) == before.explain_one(x)
    assert model.threshold(0.01) == before.threshold(0.01)
    assert model.bias + sum(value for _, value in model.explain_one(x)) == model.log_odds(x)


def test_probability_is_sane_though_frauds_were_known_long_before_the_genuine() -> None:
    model = new_model()
    for x, _ in islice(filter(lambda example: example[1], stream(7)), 400):
        model.learn_one(x, y=True)
    learn(model, stream(8), 10_000)
    scores = [model.score_one(x) for x, _ in held_out(5_000)]
    assert sum(scores) / len(scores) == pytest.approx(0.02, rel=0.5)


def test_unknown_name_is_refused_by_name() -> None:
    with pytest.raises(UnknownModelError, match="defualt"):
        build_model("defualt")


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, math.nan])
def test_impossible_rate_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="negative_sampling_rate"):
        FraudModel(rate)


def check_name(check: Any) -> str:
    return str(getattr(check, "__name__", None) or check.func.__name__)


@pytest.mark.parametrize("check", list(checks.yield_checks(FraudModel())), ids=check_name)
def test_river_accepts_the_model(check: Any) -> None:
    check(FraudModel())


@pytest.mark.parametrize("wrong", [{"bins": 63}, {"bins": 1}, {"coarse": 63}])
def test_bins_for_which_there_is_no_room_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="2 to 62"):
        FraudModel(**wrong)  # type: ignore[arg-type] # only whole numbers


def test_a_row_is_learned_and_scored_as_the_same_features_by_name() -> None:
    chance = random.Random(3)
    layout = Layout(("amount", "run", "age", "noise"), ("country",), 10)
    by_row, by_name = new_model(), new_model()
    for served, y in islice(stream(1), 6_000):
        x = {name: served[name] for name in layout.names if name in served}
        group = math.nan
        if chance.random() < 0.9:
            country = next(name for name in served if name.startswith("country="))
            x[country], group = 1.0, float(country.partition("=")[2])
        row = Row(layout, vec[float]([*(x.get(name, math.nan) for name in layout.names), group]))
        assert row.named() == x
        if y or chance.random() < RATE:
            by_row.learn_one(row, y)
            by_name.learn_one(x, y)
        assert by_row.score_one(row) == by_name.score_one(x)
    assert by_row.ready
    assert by_row.explain_one(row) == by_name.explain_one(x)
    assert by_row.binner.remembered() == by_name.binner.remembered()
