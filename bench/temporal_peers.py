"""Period finders of others behind one signature: sorted times in hours -> strongest period in hours (nan: none)."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pyriodicity
from astropy.timeseries import LombScargle
from scipy.signal import lombscargle

Finder = Callable[[np.ndarray], float]
PERIODS_H = (6.0, 480.0)


def _hourly(t_h: np.ndarray) -> np.ndarray:
    start = np.floor(t_h[0])
    return np.bincount((t_h - start).astype(int)).astype(float)


def _frequencies(t_h: np.ndarray) -> np.ndarray:
    span = t_h[-1] - t_h[0]
    return np.arange(1 / PERIODS_H[1], 1 / PERIODS_H[0], 1 / (4 * span))


def _astropy(t_h: np.ndarray) -> float:
    counts, f = _hourly(t_h), _frequencies(t_h)
    power = LombScargle(np.arange(len(counts), dtype=float), counts).power(f)
    return float(1 / f[np.argmax(power)])


def _scipy(t_h: np.ndarray) -> float:
    counts, f = _hourly(t_h), _frequencies(t_h)
    power = lombscargle(np.arange(len(counts), dtype=float), counts - counts.mean(), 2 * np.pi * f)
    return float(1 / f[np.argmax(power)])


def _pyriodicity(name: str) -> Finder:
    detect = getattr(pyriodicity, name).detect

    def find(t_h: np.ndarray) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = np.atleast_1d(np.asarray(detect(_hourly(t_h)), dtype=object))
        good = [float(p) for p in found if p is not None and PERIODS_H[0] <= p <= PERIODS_H[1]]
        return good[0] if good else np.nan

    return find


PEERS: dict[str, Finder] = {
    "astropy LombScargle": _astropy,
    "scipy lombscargle": _scipy,
    "pyriodicity FFT": _pyriodicity("FFTPeriodicityDetector"),
    "pyriodicity ACF": _pyriodicity("ACFPeriodicityDetector"),
    "pyriodicity Autoperiod": _pyriodicity("Autoperiod"),
    "pyriodicity SAZED": _pyriodicity("SAZED"),
}
