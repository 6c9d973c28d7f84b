"""Whether two states of a stage say the same, whatever batches they came from: differences in words."""

from collections.abc import Iterator
from typing import Any

import numpy as np

RELATIVE = 1e-9
SAMPLE = 4_000


def differences(stage: str, expected: Any, found: Any) -> list[str]:
    """What is not the same in two states of one stage (at most a handful of findings)."""
    checks = {"user": _user, "transition": _transition, "region": _region, "union": _guards, "place": _place}
    return [f"{stage} {expected.partition}: {line}" for line, _ in zip(checks[stage](expected, found), range(5))]


def _user(expected: Any, found: Any) -> Iterator[str]:
    if expected.absorbed_offset != found.absorbed_offset:
        yield f"absorbed to {found.absorbed_offset}, expected {expected.absorbed_offset}"
    for name, array in expected.admission.state().items():
        if not np.array_equal(array, found.admission.state()[name]):
            yield f"admission's {name} differs"
    left, right = (_sorted_rows(state.last_items.state(), "user") for state in (expected, found))
    if left != right:
        yield f"last items differ: {len(left)} users expected, {len(right)} found"
    yield from _counts("personal transitions", expected.transitions, found.transitions)
    yield from _banks("users' times", expected.user_periods.bank, found.user_periods.bank)
    yield from _banks("users' items' times", expected.user_item_periods.bank, found.user_item_periods.bank)
    yield from _profiles(expected, found)


def _profiles(expected: Any, found: Any) -> Iterator[str]:
    users = expected.last_items.state()["user"]
    now_s = float(expected.last_items.state()["time_ms"].max(initial=0)) / 1000.0
    if len(expected.profiles) != len(found.profiles):
        yield f"{len(found.profiles)} profiles, expected {len(expected.profiles)}"
    for user in _some(users).tolist():
        left, right = expected.profiles.profile(user, now_s), found.profiles.profile(user, now_s)
        if left is None or right is None:
            if left is not right:
                yield f"profile of {user} is missing on one side"
            continue
        same = (left.events, left.items, left.categories, left.explore_share) == (
            right.events, right.items, right.categories, right.explore_share,
        )  # fmt: skip
        if not same:
            yield f"profile of {user}: {left.events} events expected, {right.events} found"


def _transition(expected: Any, found: Any) -> Iterator[str]:
    yield from _guards(expected, found)
    for kind in ("items", "categories"):
        left, right = getattr(expected, kind), getattr(found, kind)
        yield from _counts(f"transitions of {kind}", left.counts, right.counts)
        yield from _sequences(f"sequences of {kind}", left.sequences.counts, right.sequences.counts)


def _place(expected: Any, found: Any) -> Iterator[str]:
    yield from _guards(expected, found)
    yield from _banks("items' times", expected.periods.bank, found.periods.bank, within_s=1_800.0)


def _region(expected: Any, found: Any) -> Iterator[str]:
    yield from _guards(expected, found)
    left, right = _clusters(expected), _clusters(found)
    if left != right:
        yield (
            f"window differs: {sum(map(len, left))} points in {len(left)} groups expected, "
            f"{sum(map(len, right))} in {len(right)} found"
        )


def _clusters(state: Any) -> list[list[tuple[Any, ...]]]:
    """The live window's clusters and its noise as sorted groups of points: equal whatever the ids are."""
    numbers, labels, core = state.window.dbscan.snapshot()
    points = state.window.points.select(numbers)
    groups: dict[int, list[tuple[Any, ...]]] = {}
    columns = (points["time_ms"], points["user"], points["item"], points["lat"], points["lon"], core)
    for label, *point in zip(labels.tolist(), *(column.tolist() for column in columns), strict=True):
        groups.setdefault(label, []).append((label == -1, *point))
    return sorted(sorted(group) for group in groups.values())


def _guards(expected: Any, found: Any) -> Iterator[str]:
    if not np.array_equal(expected.guard.absorbed, found.guard.absorbed):
        yield f"origins absorbed to {found.guard.absorbed.tolist()}, expected {expected.guard.absorbed.tolist()}"


def _counts(what: str, expected: Any, found: Any) -> Iterator[str]:
    left, right = expected.contexts(), found.contexts()
    if not np.array_equal(left, right):
        yield f"{what}: {len(right)} contexts, expected {len(left)}"
        return
    now_s = 2e9
    for owner, previous, last in _some(left).tolist():
        context, whose = _context(previous, last), None if owner == _NONE else owner
        (states, weights), (others, found_weights) = (
            bank.counts_of(context, now_s, owner=whose) for bank in (expected, found)
        )
        by_code, other_by_code = np.argsort(states), np.argsort(others)
        same = np.array_equal(states[by_code], others[other_by_code])
        if not same or not np.allclose(weights[by_code], found_weights[other_by_code], rtol=RELATIVE, atol=0.0):
            yield f"{what}: the counts after {(owner, previous, last)} differ"


def _sequences(what: str, expected: Any, found: Any) -> Iterator[str]:
    """Equal keys with equal counts, whatever order of the source partitions they were counted in."""
    (left, counts, _), (right, found_counts, _) = expected.heaviest(2e9), found.heaviest(2e9)
    by_key, other_by_key = np.lexsort(left.T), np.lexsort(right.T)
    if not np.array_equal(left[by_key], right[other_by_key]):
        yield f"{what}: {len(right)} are counted, expected {len(left)}, or others"
    elif not np.allclose(counts[by_key], found_counts[other_by_key], rtol=RELATIVE, atol=0.0):
        yield f"{what}: their counts differ"


_NONE = -(2**63)


def _context(previous: int, last: int) -> Any:
    if last == _NONE:
        return None
    return last if previous == _NONE else (previous, last)


def _banks(what: str, expected: Any, found: Any, within_s: float = 0.0) -> Iterator[str]:
    """Equal keys with equal times; or times within ``within_s``, since which of two near events stands for both depends on
    which came first, and the order between source partitions is not fixed."""
    if len(expected) != len(found):
        yield f"{what}: {len(found)} keys, expected {len(expected)}"
    keys = np.sort(expected._rings.key[: len(expected)])
    for key in _some(keys).tolist():
        if not _near(expected.times_s(key), found.times_s(key), within_s):
            yield f"{what}: the times of {key} differ"


def _near(left: np.ndarray, right: np.ndarray, within_s: float) -> bool:
    if within_s == 0.0 or not len(left) or not len(right):
        return np.array_equal(left, right)
    return all(
        float(np.abs(one[:, None] - other[None, :]).min(axis=1).max()) <= within_s
        for one, other in ((left, right), (right, left))
    )


def _some(rows: np.ndarray) -> np.ndarray:
    """All rows, or an even sample of many."""
    return rows[:: max(1, len(rows) // SAMPLE)]


def _sorted_rows(columns: dict[str, np.ndarray], key: str) -> list[tuple[Any, ...]]:
    order = np.argsort(columns[key])
    return list(zip(*(columns[name][order].tolist() for name in sorted(columns)), strict=True))
