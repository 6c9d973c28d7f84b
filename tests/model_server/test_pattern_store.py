"""What the model server keeps of the pattern topics: the last version of each, and nothing of what was withdrawn."""

import torch

from model_server.catalogue import Catalogue
from model_server.patterns import PatternStore
from schemas.patterns import ForecastStep, ForecastUpdate


def forecast(version: int, means: list[float]) -> ForecastUpdate:
    steps = [ForecastStep(start_ms=at, mean=mean, low=0.0, high=2 * mean) for at, mean in enumerate(means)]
    return ForecastUpdate(
        entity_kind="category", entity="cafe", version=version, event_time_ms=version, bin_s=3600, model="naive(24)",
        steps=steps,
    )  # fmt: skip


def test_the_last_forecast_is_kept_until_it_is_withdrawn() -> None:
    store = PatternStore(Catalogue(torch.device("cpu")), torch.device("cpu"))
    assert len(store.apply([forecast(2, [3.0]), forecast(1, [9.0])])) == 1
    assert store.forecasts["category", "cafe"].steps[0].mean == 3.0
    assert store.apply([forecast(2, [3.0])]) == [] and store.apply([forecast(3, [])])
    assert not store.forecasts
    assert store.apply([forecast(2, [3.0])]) == [] and not store.forecasts
