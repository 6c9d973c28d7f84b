"""What a server remembers is bounded, and what does not fit is told, not lost in silence."""

from pathlib import Path

import pytest
from serving_harness import START_MS, RunningServer, probing, settings_of, until

from chronotope.kafka.topics import apply_topics
from chronotope.local.stack import LocalStack
from model_server.intake import RecentIds
from model_server.items import ItemTable
from schemas.topics import EVENTS


@pytest.mark.integration
def test_events_of_items_beyond_the_bound_are_refused_and_the_others_go_on(tmp_path: Path) -> None:
    with LocalStack(tmp_path) as stack:
        apply_topics(stack.kafka)
        settings = settings_of(stack, max_items=3, max_users=2)
        with probing(stack) as probe, RunningServer(settings) as running:
            for n in range(3):
                probe.event(f"user-{n}", f"i{n}", START_MS + n)
            until(lambda: len(running.server.items) == 3, "three items are known")
            for n in range(3, 5):
                probe.event(f"user-{n}", f"i{n}", START_MS + n)
            probe.event("ann", "i1", START_MS + 9)
            refused = {"topic": EVENTS.name, "reason": "items_full"}
            until(lambda: running.value("chronotope_server_refused_records_total", **refused) == 2, "two are refused")
            assert probe.next_of("ann").items
            assert len(running.server.items) == 3
            until(lambda: running.value("chronotope_server_evicted_users_total") == 2, "two users made room")


def test_a_known_item_is_let_in_however_full_the_table_is() -> None:
    items = ItemTable(limit=1)
    items.touch(["cafe"])
    assert items.admits("cafe") and not items.admits("gym")


def test_the_latest_ids_are_known_and_no_others() -> None:
    recent = RecentIds(limit=3)
    assert [recent.is_new(f"e{n % 4}") for n in range(9)] == [True] * 9
    assert not any(recent.is_new(each) for each in ("e0", "e3", "e2"))
