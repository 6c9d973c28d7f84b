"""The places of a simulated city: neighbourhoods, categories with their hours, popularity."""

import math

import numpy as np
import numpy.typing as npt

CENTRE_LAT, CENTRE_LON = 41.387, 2.170
CITY_RADIUS_M = 6000.0
NEIGHBOURHOODS = 12
M_PER_DEG = 111_195.0
# category: (share of the places, hour of its peak, width of the peak in hours)
CATEGORIES: dict[str, tuple[float, float, float]] = {
    "Coffee Shop": (0.22, 8.5, 2.0),
    "Office": (0.16, 9.5, 2.5),
    "Lunch Restaurant": (0.14, 13.0, 1.5),
    "Grocery Store": (0.12, 18.0, 2.0),
    "Gym": (0.10, 19.0, 1.5),
    "Dinner Restaurant": (0.12, 20.5, 1.5),
    "Bar": (0.08, 22.0, 1.5),
    "Park": (0.06, 16.0, 3.0),
}


class City:
    """``places`` places with ids, coordinates, categories and popularity (Zipf), drawn from ``rng``.

    Arrays are aligned: ``lat``, ``lon`` (degrees), ``east_m``, ``north_m`` (metres from the centre), ``popularity`` (sums to
    1), ``hour_affinity`` (float[place, 24], each row at most 1).
    """

    def __init__(self, places: int, rng: np.random.Generator) -> None:
        centres = rng.uniform(-CITY_RADIUS_M, CITY_RADIUS_M, (NEIGHBOURHOODS, 2))
        spot = centres[rng.integers(NEIGHBOURHOODS, size=places)] + rng.normal(0.0, 450.0, (places, 2))
        self.east_m, self.north_m = spot[:, 0], spot[:, 1]
        self.lat = CENTRE_LAT + self.north_m / M_PER_DEG
        self.lon = CENTRE_LON + self.east_m / (M_PER_DEG * math.cos(math.radians(CENTRE_LAT)))
        names = list(CATEGORIES)
        shares = np.array([share for share, _, _ in CATEGORIES.values()])
        kinds = rng.choice(len(names), size=places, p=shares / shares.sum())
        self.category = [names[kind] for kind in kinds]
        self.item_id = [f"{names[kind].lower().replace(' ', '-')}-{place}" for place, kind in enumerate(kinds)]
        self.hour_affinity = np.stack([_hours(*CATEGORIES[name][1:]) for name in names])[kinds]
        weight = 1.0 / rng.permutation(np.arange(1, places + 1))
        self.popularity = weight / weight.sum()

    def __len__(self) -> int:
        return len(self.item_id)

    def pull(self, place: int, hour: int, scale_m: float) -> npt.NDArray[np.float64]:
        """How strongly each place draws somebody who is at ``place`` at this hour (float64[places]). O(places)."""
        away = np.hypot(self.east_m - self.east_m[place], self.north_m - self.north_m[place])
        pull: npt.NDArray[np.float64] = self.popularity * self.hour_affinity[:, hour] / (1.0 + (away / scale_m) ** 2)
        return pull


def _hours(peak: float, width: float) -> npt.NDArray[np.float64]:
    away = np.abs(np.arange(24) + 0.5 - peak)
    away = np.minimum(away, 24.0 - away)
    affinity: npt.NDArray[np.float64] = 0.05 + 0.95 * np.exp(-0.5 * (away / width) ** 2)
    return affinity
