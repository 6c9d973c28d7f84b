"""One simulated person: what they know, and where they go next."""

import numpy as np

from chronotope.simulator.city import City
from chronotope.simulator.settings import SimulatorSettings


class Person:
    """Explores with probability rho * S ** -gamma, else returns to a known place by how often and at which hours."""

    def __init__(self, user_id: str, home: int, rate_per_day: float) -> None:
        self.user_id = user_id
        self.rate_per_day = rate_per_day
        self._at = home
        self._visits: dict[int, int] = {}

    def go(self, city: City, hour: int, settings: SimulatorSettings, rng: np.random.Generator) -> int:
        """Choose, visit and remember the next place. O(places) when exploring, else O(known places)."""
        known = len(self._visits)
        if not known or rng.random() < settings.rho * known**-settings.gamma:
            pull = city.pull(self._at, hour, settings.distance_scale_m)
            if 0 < known < len(city):
                pull[list(self._visits)] = 0.0
            return self.visit(_draw(pull, rng))
        places = np.fromiter(self._visits, np.int64, known)
        counts = np.fromiter(self._visits.values(), np.float64, known)
        return self.visit(int(places[_draw(counts * city.hour_affinity[places, hour], rng)]))

    def visit(self, place: int) -> int:
        """Be at this place and remember it."""
        self._at = place
        self._visits[place] = self._visits.get(place, 0) + 1
        return place


def _draw(weights: np.ndarray, rng: np.random.Generator) -> int:
    total = np.cumsum(weights)
    return min(int(total.searchsorted(rng.random() * total[-1], side="right")), len(weights) - 1)
