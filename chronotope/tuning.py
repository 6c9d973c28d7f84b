"""What one's own data say about eps: how far the neighbours are, and which crowds each radius would find."""

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.neighbors import BallTree

from processors.spatial import EARTH_RADIUS_M, SlidingDBSCAN
from schemas.events import BehaviorEvent

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
MOST_QUERIES = 5_000
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
CLIPPED_AT = 0.95
FACTORS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)


class Positions(msgspec.Struct, frozen=True):
    """The events with a place, in time order."""

    time_s: Floats
    lat: Floats
    lon: Floats
    user: Ints

    def window(self, end_s: float, window_s: float) -> "Positions":
        """Those of the half-open (end_s - window_s, end_s]."""
        first, last = np.searchsorted(self.time_s, [end_s - window_s, end_s], side="right")
        return Positions(*(getattr(self, name)[first:last] for name in self.__struct_fields__))


class Radius(msgspec.Struct, frozen=True, kw_only=True):
    """What one eps would find in the windows: medians over them.

    ``crowds`` have at least ``min_users`` different people; ``in_crowds`` and ``largest`` are shares of a window's events.
    """

    eps_m: float
    crowds: float
    in_crowds: float
    largest: float


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """``distance_m``: the share of events that have ``min_samples`` - 1 others within this many metres, by share;
    ``elbow_m``: where that curve turns up."""

    windows: int
    events_per_window: float
    distance_m: dict[str, float]
    elbow_m: float
    radii: list[Radius]


def positions_of(events: Iterable[BehaviorEvent], private_categories: Iterable[str] = ()) -> Positions:
    """The events with a place that is not private. Memory: some 200 bytes each while it reads."""
    private = set(private_categories)
    users: dict[str, int] = {}
    rows = [
        (event.event_time_ms / 1000, event.lat, event.lon, users.setdefault(event.user_id, len(users)))
        for event in events
        if event.lat is not None and event.lon is not None and event.context.get("category") not in private
    ]
    time_s, lat, lon, user = (np.array(column) for column in zip(*rows)) if rows else (np.empty(0),) * 4
    return Positions(time_s.astype(np.float64), lat.astype(np.float64), lon.astype(np.float64), user.astype(np.int64))


def tune(
    positions: Positions, window_s: float, min_samples: int, min_users: int, windows: int, seed: int = 0
) -> Tuning:
    """Look at ``windows`` windows spread evenly over the data. Raises ValueError if they hold too few events.

    The elbow of the sorted distances to the ``min_samples``-th neighbour is the one of Ester et al., "A density-based algorithm
    for discovering clusters" (KDD 1996): events left of it lie in something dense. It is found as the point furthest below
    the chord of the curve, which is cut at its 95th percentile. O(windows * events per window * log).
    """
    if len(positions.time_s) <= min_samples:
        raise ValueError(f"{len(positions.time_s)} events have a place: too few to tune with")
    start_s, end_s = float(positions.time_s[0]), float(positions.time_s[-1])
    ends = np.linspace(min(start_s + window_s, end_s), end_s, windows)
    looked_at = [window for end in ends if len((window := positions.window(end, window_s)).time_s) > min_samples]
    if not looked_at:
        raise ValueError(f"no window of {window_s:g} s holds more than {min_samples} events with a place")
    rng = np.random.default_rng(seed)
    distances = np.sort(np.concatenate([_neighbour_distances(window, min_samples, rng) for window in looked_at]))
    elbow_m = elbow(distances)
    return Tuning(
        windows=len(looked_at),
        events_per_window=float(np.median([len(window.time_s) for window in looked_at])),
        distance_m={f"{share:.0%}": float(np.quantile(distances, share)) for share in SHARES},
        elbow_m=elbow_m,
        radii=[_radius(looked_at, elbow_m * factor, window_s, min_samples, min_users) for factor in FACTORS],
    )


def elbow(sorted_m: Floats) -> float:
    """Where an ascending curve turns up: the value furthest below the chord from its start to its 95th percentile.

    >>> elbow(np.concatenate([np.linspace(1, 2, 90), np.linspace(2, 1000, 10)]))
    2.0
    """
    curve = sorted_m[: max(2, int(len(sorted_m) * CLIPPED_AT))]
    chord = np.linspace(curve[0], curve[-1], len(curve))
    return max(float(curve[np.argmax(chord - curve)]), 1.0)


def _neighbour_distances(window: Positions, min_samples: int, rng: np.random.Generator) -> Floats:
    """Metres from (a sample of) the events to the nearest circle that holds ``min_samples`` of them, themselves included."""
    places = np.radians(np.stack([window.lat, window.lon], axis=1))
    asked = places if len(places) <= MOST_QUERIES else places[rng.choice(len(places), MOST_QUERIES, replace=False)]
    found: Floats = BallTree(places, metric="haversine").query(asked, k=min_samples)[0][:, -1] * EARTH_RADIUS_M
    return found


def _radius(windows: Sequence[Positions], eps_m: float, window_s: float, min_samples: int, min_users: int) -> Radius:
    found = np.array([_crowds(window, eps_m, window_s, min_samples, min_users) for window in windows])
    crowds, in_crowds, largest = np.median(found, axis=0).tolist()
    return Radius(eps_m=round(eps_m, 1), crowds=crowds, in_crowds=in_crowds, largest=largest)


def _crowds(
    window: Positions, eps_m: float, window_s: float, min_samples: int, min_users: int
) -> tuple[float, float, float]:
    dbscan = SlidingDBSCAN(eps_m, min_samples, window_s)
    dbscan.update(window.time_s, window.lat, window.lon, np.arange(len(window.time_s)))
    ids, labels, _ = dbscan.snapshot()
    clustered = labels >= 0
    pairs = np.unique(np.stack([labels[clustered], window.user[ids[clustered]]]), axis=1)
    names, people = np.unique(pairs[0], return_counts=True)
    public = names[people >= min_users]
    sizes = np.array([(labels == name).sum() for name in public])
    return float(len(public)), float(sizes.sum()) / len(labels), float(sizes.max(initial=0)) / len(labels)
