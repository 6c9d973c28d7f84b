"""Densities of an event under all phases at once, laid out so that the inner loops read them in SIMD lanes."""

import numpy as np
import numpy.typing as npt

PHASES = 32
_SUB = 16


def phase_table(sigmas: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Wrapped Gaussians of standard deviation sigma (per period), float64[sigma, 16, 64].

    An event at fraction x of its cycle (0.5: on time for phase 0), with x * 32 = bin + part / 16, has under phase m / 32
    the density table[sigma, part, 31 - bin + m]: the phases are reversed and doubled, so that m = 0..31 lie side by side.
    """
    bins = PHASES * _SUB
    delta = (np.arange(bins) + 0.5) / bins - 0.5
    table = np.empty((len(sigmas), _SUB, 2 * PHASES))
    for index, sigma in enumerate(sigmas):
        value = np.sum([np.exp(-0.5 * ((delta + turn) / sigma) ** 2) for turn in (-2, -1, 0, 1, 2)], axis=0)
        by_phase = (value / (sigma * np.sqrt(2 * np.pi))).reshape(PHASES, _SUB)
        table[index] = by_phase[(PHASES - 1 - np.arange(2 * PHASES)) % PHASES].T
    return table
