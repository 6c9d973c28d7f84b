"""A seeded stream of events for chaos runs: mostly good, some repeated, late or broken, all of them counted."""

import random
from collections.abc import Iterator

from schemas import json_wire
from schemas.events import BehaviorEvent

START_MS = 1_333_238_400_000
STEP_MS = 700
BROKEN = (
    b"{not json",
    b'{"event_id":"e"}',
    b'{"event_id":"e","user_id":"u","item_id":"i","action":"teleport","event_time_ms":1333238400000}',
    b'{"event_id":"e","user_id":"u","item_id":"i","action":"view","event_time_ms":1}',
    b'{"event_id":"e","user_id":"u","item_id":"i","action":"view","event_time_ms":"soon"}',
    b"",
)


def workload(seed: int, events: int, users: int = 400, items: int = 250) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of each record: users with favourite places who follow each other around, in event-time order."""
    rng = random.Random(seed)
    places = [(40.6 + rng.random() / 5, -74.1 + rng.random() / 5) for _ in range(items)]
    favourites = [rng.choices(range(items), k=8) for _ in range(users)]
    sent: list[tuple[bytes, bytes]] = []
    for number in range(events):
        chance = rng.random()
        if chance < 0.004:
            yield f"user-{rng.randrange(users)}".encode(), rng.choice(BROKEN)
            continue
        if chance < 0.01 and sent:
            yield sent[rng.randrange(len(sent))]
            continue
        user = min(int(rng.expovariate(6.0 / users)), users - 1)
        item = rng.choice(favourites[user]) if rng.random() < 0.8 else rng.randrange(items)
        time_ms = START_MS + number * STEP_MS + rng.randrange(-60_000, 1)
        if chance > 0.995:
            time_ms -= 50_000_000
        lat, lon = places[item]
        event = BehaviorEvent(
            event_id=f"{seed}-{number}", user_id=f"user-{user}", item_id=f"place-{item}", action="checkin",
            event_time_ms=max(time_ms, START_MS), lat=lat + rng.gauss(0, 2e-4), lon=lon + rng.gauss(0, 2e-4),
            context={"category": f"kind-{item % 9}"},
        )  # fmt: skip
        record = event.user_id.encode(), json_wire.encode(event)
        sent = [*sent[-200:], record]
        yield record
