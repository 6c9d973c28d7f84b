"""Periods, false periods, speed and forecasts against scipy, astropy, pyriodicity, river and statsmodels.

    python bench/temporal.py [columns] [false] [calibration] [speed] [series] [forecasts] [checkins] [--keys N] [--json OUT]

``columns``, ``false``, ``calibration`` and ``speed`` need no data; the others read the research data beside the checkout
(``../shared/data``, or ``CHRONOTOPE_DATA``) and say so where it is absent. The peers come with ``pip install -e .[bench]``.
Times are CPU time of the one thread, which other load on the machine disturbs less than the wall clock.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from planted_events import COLUMNS, MONDAY_S, TARGETS, columns, planted, rhythmic
from rich.console import Console
from rich.table import Table

from processors.temporal import (
    AdaptiveIntervals,
    ArimaOrder,
    CountForecaster,
    Forecaster,
    ForecastSettings,
    OnlineARIMA,
    Period,
    PeriodicityBank,
    PrequentialChoice,
    RiverSnarimax,
    SeasonalNaive,
)

DATA = Path(os.environ.get("CHRONOTOPE_DATA", Path(__file__).parents[2] / "shared" / "data"))
Rows = list[dict[str, Any]]


def is_hit(found: float, period_h: float) -> bool:
    return abs(found - period_h) <= 0.05 * period_h


# -- columns: is the strongest period the planted one?


def bench_columns(n_keys: int) -> Rows:
    from temporal_peers import PEERS

    rows: Rows = []
    for (name, noise), target in zip(COLUMNS.items(), TARGETS):
        rng = np.random.default_rng(2024)
        truth, times = zip(*(planted(rng, *noise) for _ in range(n_keys)))
        bank = PeriodicityBank()
        bank.update(*columns(list(times)))
        found: list[list[Period]] = []
        took = []
        for key in range(n_keys):
            began = time.thread_time()
            found.append(bank.detect(key))
            took.append(time.thread_time() - began)
        hits = [bool(f) and is_hit(f[0].period_s / 3600, p) for f, p in zip(found, truth)]
        sure = [h and f[0].p_value < 0.01 for h, f in zip(hits, found)]
        row: dict[str, Any] = {"noise": name, "ours": np.mean(hits), "target": target, "ours, p<.01": np.mean(sure)}
        row["recurring"] = np.mean([bool(f) and f[0].kind == "recurring" for f in found])
        row["detect median ms"], row["p99 ms"] = np.median(took) * 1e3, np.quantile(took, 0.99) * 1e3
        # The peers take up to a second per key.
        some = min(n_keys, 25)
        for peer, find in PEERS.items() if "off grid" not in name else ():
            row[peer] = np.mean([is_hit(find(t), p) for t, p in zip(times[:some], truth[:some])])
        rows.append(row)
    return rows


# -- false: Poisson events with everybody's rhythm, or everybody's rhythm shifted


def bench_false(n_keys: int) -> Rows:
    rows: Rows = []
    sizes = (8, 12, 20, 32, 64, 100, 200, 400, 1000)
    for shape in ("sine", "two peaks"):
        for shift_h in (0.0, 2.0, 4.0, 6.0, -6.0):
            rng = np.random.default_rng(7)
            population = [rhythmic(rng, int(rng.integers(8, 300)), 0.0, shape) for _ in range(600)]
            tested = [rhythmic(rng, n, shift_h, shape) for n in sizes for _ in range(max(10, n_keys // 10))]
            bank = PeriodicityBank()
            bank.update(*columns(population, first_key=10**6))
            learned = bank.population_to_bytes()
            bank.update(*columns(tested))
            # The tested keys have most of the events: without this they would be the population.
            bank.population_from_bytes(learned)
            periods = [bank.detect(key) for key in range(len(tested))]
            per_size = len(tested) // len(sizes)
            false = np.array([any(p.kind == "recurring" and p.p_value < 0.01 for p in f) for f in periods])
            rhythm = np.array([any(p.kind == "rhythm" and p.p_value < 0.01 for p in f) for f in periods])
            by_size = false.reshape(len(sizes), per_size).mean(axis=1)
            row = {"rhythm": shape, "shift h": shift_h, "keys": len(tested), "false recurring p<.01": false.mean()}
            row["called rhythm p<.01"] = rhythm.mean()
            rows.append(row | {f"n={n}": share for n, share in zip(sizes, by_size)})
    return rows


# -- calibration: p-values of Poisson events at a constant rate


def bench_calibration(n_keys: int) -> Rows:
    rows: Rows = []
    for days in (12.5, 90.0, 500.0):
        for n in (8, 16, 32, 64):
            rng = np.random.default_rng(n)
            bank = PeriodicityBank()
            bank.update(*columns([np.sort(rng.uniform(0, days * 24, n)) for _ in range(n_keys // 2)]))
            best = np.array([min([p.p_value for p in bank.detect(key)], default=1.0) for key in range(n_keys // 2)])
            rows.append({"days": days, "events": n} | {f"p<{a}": (best < a).mean() for a in (0.01, 0.05, 0.1, 0.2)})
    return rows


# -- speed


def _periods_of_peers_ms() -> Rows:
    from temporal_peers import PEERS

    rng = np.random.default_rng(3)
    times = [planted(rng, *COLUMNS["same + 50 % spurious"])[1] for _ in range(20)]
    bank = PeriodicityBank()
    bank.update(*columns(times))
    finders: dict[str, Callable[[int], Any]] = {"PeriodicityBank.detect": bank.detect}
    finders |= {name: (lambda k, find=find: find(times[k])) for name, find in PEERS.items()}
    took: dict[str, list[float]] = {name: [] for name in finders}
    for _ in range(3):
        for name, find in finders.items():
            began = time.thread_time()
            for k in range(20):
                find(k)
            took[name].append((time.thread_time() - began) / 20 * 1e3)
    ours = np.median(took["PeriodicityBank.detect"])
    return [{"what": f"{n}, ms per key", "value": np.median(t), "x ours": np.median(t) / ours} for n, t in took.items()]


def bench_speed(n_keys: int) -> Rows:
    rng = np.random.default_rng(0)
    n, live = 2_000_000, 100_000
    keys = rng.integers(0, live, n) * 7919
    time_s = np.sort(rng.uniform(MONDAY_S, MONDAY_S + 90 * 86400, n))
    rows: Rows = []
    for batch in (1000, 10_000):
        rates = []
        for _ in range(3):
            bank = PeriodicityBank()
            began = time.thread_time()
            for i in range(0, n, batch):
                bank.update(keys[i : i + batch], time_s[i : i + batch])
            rates.append(n / (time.thread_time() - began))
        rows.append({"what": f"updates/s, {live:,} keys, batches of {batch:,}", "value": np.median(rates)})
    rows.append({"what": "bytes per key in memory, of 20 events", "value": bank.nbytes / len(bank)})
    few = PeriodicityBank()
    few.update(np.arange(live), time_s[:live])
    rows.append({"what": "bytes per key in memory, of one event", "value": few.nbytes / len(few)})
    rows.append({"what": "bytes per key in to_bytes", "value": len(bank.to_bytes()) / len(bank)})
    began = time.thread_time()
    bank.examine(200, bank.latest_s)
    rows.append({"what": "examine, keys/s with a budget of 200", "value": 200 / (time.thread_time() - began)})
    return rows + _periods_of_peers_ms() + _forecaster_rates()


def _forecaster_rates() -> Rows:
    rng = np.random.default_rng(1)
    counts = rng.poisson(5, 1500).astype(float)
    models: dict[str, Callable[[], Any]] = {
        "OnlineARIMA (1,0,1)(0,1,1)[24]": lambda: OnlineARIMA(ArimaOrder(1, 0, 1, 24, 0, 1, 1)),
        "river SNARIMAX (1,0,1)(0,1,1)[24]": lambda: RiverSnarimax(ArimaOrder(1, 0, 1, 24, 0, 1, 1)),
    }
    rows: Rows = []
    for name, build in models.items():
        rates = []
        for _ in range(3):
            model = build()
            began = time.thread_time()
            for count in counts:
                model.learn(count)
                model.forecast(1)
            rates.append(len(counts) / (time.thread_time() - began))
        rows.append({"what": f"{name}, learn + forecast per s", "value": np.median(rates)})
    rates = []
    for _ in range(3):
        forecaster = CountForecaster(ForecastSettings())
        began = time.thread_time()
        for count in counts:
            forecaster.learn(0, count)
        rates.append(len(counts) / (time.thread_time() - began))
    rows.append({"what": "CountForecaster (7 models, 24 steps, intervals, surges), per s", "value": np.median(rates)})
    return rows


# -- series: a known period in a measured series


def load_series(name: str) -> np.ndarray:
    return np.loadtxt(DATA / "periodic_series" / f"{name}.csv", skiprows=1)


def rises(y: np.ndarray) -> np.ndarray:
    """Samples where log y without its quadratic trend rises through +0.5 sd after having been below -0.5 sd."""
    x = np.linspace(0, 1, len(y))
    z = np.log(y) - np.polyval(np.polyfit(x, np.log(y), 2), x)
    out, armed = [], False
    for i, value in enumerate(z / z.std()):
        if value < -0.5:
            armed = True
        elif value > 0.5 and armed:
            out.append(i)
            armed = False
    return np.array(out, float)


def bench_series(n_keys: int) -> Rows:
    if not (DATA / "periodic_series").exists():
        print(f"series: no data in {DATA}")
        return []
    rows: Rows = []
    with (DATA / "periodic_series" / "MANIFEST.csv").open() as manifest:
        for line in csv.DictReader(manifest):
            name, known = line["series"], line["expected_period_samples"]
            y = load_series(name)
            events = rises(y)
            bank = PeriodicityBank()
            bank.update(*columns([events]))
            found = bank.detect(0)
            first = found[0].period_s / 3600 if found else np.nan
            expected = [float(p.strip("~")) for p in known.split(";")]
            row = {"series": name, "known": known, "events": len(events), "strongest": first}
            row |= {"p": found[0].p_value if found else 1.0, "hit": any(is_hit(first, p) for p in expected)}
            rows.append(row)
    return rows


# -- forecasts: one step ahead, tested before learned


def prequential(model: Forecaster, y: np.ndarray, start: int) -> tuple[float, float]:
    """(mean absolute one-step error, coverage of the 90 % interval) from `start` on."""
    intervals = AdaptiveIntervals(1, 0.9)
    errors, covered = [], []
    ahead = low = high = None
    for step, value in enumerate(y):
        if ahead is not None:
            if step >= start:
                errors.append(abs(value - ahead[0]))
                covered.append(low[0] <= value <= high[0])
            intervals.settle(value)
        model.learn(float(value))
        ahead = model.forecast(1)
        low, high = intervals.issue(ahead)
    return float(np.mean(errors)), float(np.mean(covered))


def statsmodels_error(y: np.ndarray, season: int, start: int) -> float:
    """SARIMAX (1,0,1)(0,1,1)[season] fitted once on the values before `start`, then filtered over the rest."""
    import warnings

    from statsmodels.tsa.statespace.sarimax import SARIMAX

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = SARIMAX(y[:start], order=(1, 0, 1), seasonal_order=(0, 1, 1, season)).fit(disp=0, maxiter=30)
        ahead = fitted.append(y[start:]).fittedvalues[start:]
    return float(np.mean(np.abs(y[start:] - ahead)))


def bench_forecasts(n_keys: int) -> Rows:
    rng = np.random.default_rng(0)
    t = np.arange(4000)
    weekend = 0.3 * (t // 24 % 7 > 4)
    series = {"Poisson, daily and weekend": (rng.poisson(np.exp(1.5 + np.sin(2 * np.pi * t / 24) + weekend)), 24)}
    series["Poisson, rare"] = (rng.poisson(0.3 * (1 + 0.9 * np.sin(2 * np.pi * t / 24))), 24)
    if (DATA / "periodic_series").exists():
        seasons = {"co2_weekly": 52, "pm_airpassengers": 12, "pm_lynx": 10, "nab_nyc_taxi": 48}
        series |= {name: (load_series(name), season) for name, season in seasons.items()}
    else:
        print(f"forecasts: no data in {DATA}, simulated series only")
    rows: Rows = []
    for name, (values, season) in series.items():
        y = np.asarray(values, float)
        start = min(3 * season, len(y) // 2)
        naive, _ = prequential(SeasonalNaive(season), y, start)
        row: dict[str, Any] = {"series": name, "season": season, "n": len(y)}
        settings = ForecastSettings(seasons=(season,), horizon=1)
        choice = PrequentialChoice(CountForecaster(settings).choice.models)
        error, row["coverage"] = prequential(choice, y, start)
        row |= {"chosen": choice.name, "MASE": error / naive}
        for model in (OnlineARIMA(ArimaOrder(1, 0, 1, season, 0, 1, 1)), OnlineARIMA(ArimaOrder(3, 1, 1))):
            row[model.order.name.split("[")[0]] = prequential(model, y, start)[0] / naive
        snarimax = RiverSnarimax(ArimaOrder(1, 0, 1, season, 0, 1, 1))
        row["river SNARIMAX"] = prequential(snarimax, y, start)[0] / naive
        # With a longer season a fit takes minutes.
        if season <= 24:
            begin = max(start, min(len(y) // 2, 6 * season))
            error = statsmodels_error(y[: begin + 500], season, begin)
            row["statsmodels SARIMAX"] = error / prequential(SeasonalNaive(season), y[: begin + 500], begin)[0]
        rows.append(row)
    return rows


# -- checkins: people in New York


def bench_checkins(n_keys: int) -> Rows:
    path = DATA / "foursquare_nyc" / "checkins.csv.gz"
    if not path.exists():
        print(f"checkins: no data in {DATA}")
        return []
    with gzip.open(path, "rt") as file:
        lines = list(csv.DictReader(file))
    venues: dict[str, int] = {}
    user = np.array([int(line["user_id"]) for line in lines], np.int64)
    place = np.array([venues.setdefault(line["venue_id"], len(venues)) for line in lines], np.int64)
    time_s = np.array([float(line["time_unix_s"]) for line in lines]) - 5 * 3600.0
    return [
        _checkin_row("users", user, time_s),
        _checkin_row("user-place pairs", user * 100_000 + place, time_s),
    ]


def _checkin_row(name: str, keys: np.ndarray, time_s: np.ndarray) -> dict[str, Any]:
    bank = PeriodicityBank()
    bank.update(keys, time_s)
    unique = [int(k) for k in np.unique(keys) if len(bank.times_s(int(k))) >= 8]
    found = {key: [p for p in bank.detect(key) if p.p_value < 0.01] for key in unique}
    recurring = np.mean([any(p.kind == "recurring" for p in f) for f in found.values()])
    row = {"keys": name, "with 8+ events": len(unique), "periodic p<.01": np.mean([bool(f) for f in found.values()])}
    row["recurring"] = recurring
    return row | _due_errors(keys, time_s, [key for key, f in found.items() if f])


def _due_errors(keys: np.ndarray, time_s: np.ndarray, periodic: list[int]) -> dict[str, Any]:
    """Median absolute error of the next visit's time (h), replayed: only the past is known at each probe."""
    rng = np.random.default_rng(0)
    chosen = set(rng.permutation(periodic)[:200].tolist())
    at: dict[int, list[int]] = {key: [] for key in chosen}
    for index, key in enumerate(keys.tolist()):
        if key in chosen:
            at[key].append(index)
    probes = sorted(int(i) for own in at.values() for i in rng.permutation(own[len(own) // 2 : -1])[:8])
    bank, done = PeriodicityBank(), 0
    errors = []
    for index in probes:
        bank.update(keys[done : index + 1], time_s[done : index + 1])
        done = index + 1
        key, now_s = int(keys[index]), float(time_s[index])
        periods = [p for p in bank.detect(key, now_s) if p.p_value < 0.01]
        later = [float(time_s[i]) for i in at[key] if time_s[i] > now_s + bank.settings.merge_gap_s]
        if periods and later:
            gaps = np.diff(bank.times_s(key))
            guesses = np.array([periods[0].next_due_s - now_s, gaps.mean(), np.median(gaps)])
            errors.append(np.abs(later[0] - now_s - guesses) / 3600)
    due, mean_gap, median_gap = np.median(errors, axis=0)
    return {"probes": len(errors), "next due, h": due, "mean interval, h": mean_gap, "median interval, h": median_gap}


def print_table(name: str, rows: Rows) -> None:
    table = Table(title=name)
    for column in rows[0]:
        table.add_column(str(column))
    for row in rows:
        cells = (row.get(column, "") for column in rows[0])
        table.add_row(
            *(
                f"{c:,.3f}"
                if isinstance(c, float) and abs(c) < 1000
                else f"{c:,.0f}"
                if isinstance(c, float)
                else str(c)
                for c in cells
            )
        )
    Console(width=220).print(table)


def main() -> None:
    parts: dict[str, Callable[[int], Rows]] = {
        "columns": bench_columns,
        "false": bench_false,
        "calibration": bench_calibration,
        "speed": bench_speed,
        "series": bench_series,
        "forecasts": bench_forecasts,
        "checkins": bench_checkins,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)}; all by default")
    parser.add_argument(
        "--keys", type=int, default=1000, help="keys per row of `columns`, and in proportion of the others"
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the tables as JSON")
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - parts.keys():
        parser.error(f"unknown part {', '.join(sorted(unknown))}")
    PeriodicityBank.warm_up()
    tables = {}
    for name in chosen.parts or parts:
        tables[name] = parts[name](chosen.keys)
        if tables[name]:
            print_table(name, tables[name])
    if chosen.json:
        chosen.json.write_text(json.dumps(tables, indent=1, default=float) + "\n")


if __name__ == "__main__":
    main()
