"""Feature models against the truth they were given and scikit-learn on the whole data."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA

from processors.payload import decode_payload, encode_payload
from processors.profile import (
    Cleaner,
    FactorisationMachine,
    FeatureModel,
    LinearRegression,
    LogisticRegression,
    MatrixFactorisation,
    StreamingComponents,
    load_feature_model,
)


def visits(n: int, seed: int = 0) -> tuple[dict[str, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Hours on quite another scale than the categories, and some missing."""
    rng = np.random.default_rng(seed)
    hours, gaps = rng.uniform(0, 1e6, n), rng.normal(0, 1e-3, n)
    category = rng.integers(0, 3, n)
    score = hours / 5e5 - 1 + 400 * gaps + np.array([-1.0, 0.0, 1.0])[category]
    hours[rng.random(n) < 0.02] = np.nan
    return {"hours": hours, "gaps": gaps, "category": category}, score, (score > rng.logistic(size=n)).astype(float)


def test_cleaner_equals_running_standardisation() -> None:
    columns, _, _ = visits(300)
    records = Cleaner(clip=2.0).learn({"gaps": columns["gaps"]})
    for i in range(1, 300):
        seen = columns["gaps"][: i + 1]
        assert records[i]["gaps"] == pytest.approx(np.clip((seen[-1] - seen.mean()) / seen.std(), -2, 2))


def test_cleaner_fills_with_the_mean_and_clips() -> None:
    cleaner = Cleaner(clip=3.0)
    cleaner.learn({"x": np.r_[np.ones(50), -np.ones(50)], "word": ["a"] * 100})
    told = cleaner.transform({"x": np.array([np.nan, np.inf, 1e9, -1e9]), "word": ["a", "b", "b", "a"]})
    assert [record["x"] for record in told] == pytest.approx([0.0, 0.0, 3.0, -3.0])
    assert cleaner.transform({"x": np.array([1.0]), "word": ["a"]})[0] == {"x": pytest.approx(1.0), "word": "a"}
    assert Cleaner().transform({"x": np.array([np.nan])}) == [{"x": 0.0}]


def test_linear_regression_recovers_the_score() -> None:
    columns, score, _ = visits(4000)
    predictions = LinearRegression().update(columns, score)
    late = slice(2000, None)
    assert np.mean((predictions[late] - score[late]) ** 2) < 0.15 * np.var(score[late])


@pytest.mark.parametrize("kind", [LogisticRegression, FactorisationMachine])
def test_classifier_is_nearly_as_good_as_the_truth(kind: Any) -> None:
    columns, score, clicked = visits(4000)
    predictions = kind().update(columns, clicked)
    truth = 1 / (1 + np.exp(-score))
    late = slice(2000, None)

    def loss(p: np.ndarray[Any, Any]) -> float:
        p = np.clip(p, 1e-6, 1 - 1e-6)
        return float(-np.mean(np.where(clicked > 0.5, np.log(p), np.log(1 - p))[late]))

    assert loss(truth) < loss(predictions) < loss(truth) + 0.05 < np.log(2)


def test_factorisation_machine_learns_what_no_single_feature_tells() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 2, 6000), rng.integers(0, 2, 6000)
    predictions = FactorisationMachine(factors=4).update({"a": a, "b": b}, (a == b).astype(float))
    assert np.mean((predictions > 0.5) == (a == b), where=np.arange(6000) > 5000) > 0.95
    single = LogisticRegression().update({"a": a, "b": b}, (a == b).astype(float))
    assert np.mean((single > 0.5) == (a == b), where=np.arange(6000) > 5000) < 0.7


def test_matrix_factorisation_beats_the_mean() -> None:
    rng = np.random.default_rng(4)
    users, items = rng.integers(0, 30, 20_000), rng.integers(0, 30, 20_000)
    taste = rng.normal(size=(30, 2)) @ rng.normal(size=(2, 30))
    given = taste[users, items]
    predictions = MatrixFactorisation(factors=4).update({"user": users, "item": items}, given)
    late = slice(15_000, None)
    assert np.mean((predictions[late] - given[late]) ** 2) < 0.2 * np.var(given[late])


@pytest.mark.parametrize("kind", [LinearRegression, LogisticRegression, FactorisationMachine])
def test_restored_model_goes_on_alike(kind: Any) -> None:
    columns, _, clicked = visits(400)
    halves = [{name: column[part] for name, column in columns.items()} for part in (slice(0, 200), slice(200, None))]
    one: FeatureModel = kind()
    one.update(halves[0], clicked[:200])
    other = load_feature_model(one.to_bytes())
    np.testing.assert_array_equal(one.update(halves[1], clicked[200:]), other.update(halves[1], clicked[200:]))
    np.testing.assert_array_equal(one.predict(halves[0]), other.predict(halves[0]))


def test_restored_matrix_factorisation_goes_on_alike() -> None:
    users, items = np.arange(40) % 5, np.arange(40) % 7
    one = MatrixFactorisation()
    one.update({"user": users, "item": items}, np.ones(40))
    other = load_feature_model(one.to_bytes())
    columns = {"user": users + 3, "item": items + 3}
    np.testing.assert_array_equal(one.update(columns, np.zeros(40)), other.update(columns, np.zeros(40)))


def test_predicting_learns_nothing() -> None:
    columns, score, _ = visits(100)
    model = LinearRegression()
    model.update(columns, score)
    first = model.predict(columns)
    np.testing.assert_array_equal(first, model.predict(columns))


def test_components_span_what_pca_spans_and_do_not_depend_on_batches() -> None:
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(2048, 2)) @ rng.normal(size=(2, 10)) + 0.01 * rng.normal(size=(2048, 10))
    at_once, in_parts = StreamingComponents(components=2), StreamingComponents(components=2)
    at_once.update(rows)
    for part in np.array_split(rows, 23):
        in_parts.update(part)
        in_parts = StreamingComponents.from_bytes(in_parts.to_bytes())
    np.testing.assert_allclose(at_once.transform(rows), in_parts.transform(rows), rtol=1e-9, atol=1e-12)
    whole = PCA(2).fit_transform(rows)
    shared = np.linalg.lstsq(whole, at_once.transform(rows), rcond=None)[0]
    np.testing.assert_allclose(whole @ shared, at_once.transform(rows) - at_once.transform(rows).mean(0), atol=0.05)
    assert at_once.explained_share.sum() > 0.99


class _Bomb:
    def __reduce__(self) -> Any:
        return print, ("this must never be run",)


def test_stored_model_that_calls_something_else_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    parts = decode_payload("chronotope.feature_model.1", LinearRegression().to_bytes())
    bomb = encode_payload("chronotope.feature_model.1", parts | {"model": pickle.dumps(_Bomb())})
    with pytest.raises(ValueError, match="no part of a model"):
        load_feature_model(bomb)
    old = encode_payload("chronotope.feature_model.1", parts | {"versions": {"river": "0.1"}})
    with pytest.raises(ValueError, match="train the model anew"):
        load_feature_model(old)
    with pytest.raises(ValueError, match="payload"):
        load_feature_model(StreamingComponents().to_bytes())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("named", "columns", "targets"),
    [
        ("targets", {"x": np.ones(2)}, [1.0]),
        ("targets", {"x": np.ones(1)}, [np.nan]),
        ("targets", {"x": np.ones(1)}, [0.5]),
    ],
)
def test_bad_targets_are_named(named: str, columns: Any, targets: Any) -> None:
    with pytest.raises(ValueError, match=named):
        LogisticRegression().update(columns, targets)


def test_other_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="columns"):
        LinearRegression().predict({"x": np.ones(2), "y": np.ones(3)})
    with pytest.raises(ValueError, match="columns"):
        MatrixFactorisation().predict({"user": [1]})
    for fields in ({"learning_rate": 0.0}, {"factors": 0}):
        with pytest.raises(ValueError, match=next(iter(fields))):
            FactorisationMachine(**fields)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="components"):
        StreamingComponents(components=0)
    with pytest.raises(ValueError, match="block"):
        StreamingComponents(components=8, block=4)
    pca = StreamingComponents(components=2)
    for rows in (np.ones(3), np.ones((3, 1)), np.full((2, 3), np.nan)):
        with pytest.raises(ValueError, match="rows"):
            pca.update(rows)
    with pytest.raises(ValueError, match="rows"):
        pca.transform(np.ones((1, 3)))
    with pytest.raises(ValueError, match="clip"):
        Cleaner(clip=0.0)
