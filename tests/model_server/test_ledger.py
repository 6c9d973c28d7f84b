"""Offsets are committed only when what they owe is confirmed, in whatever order things happen."""

from hypothesis import given, settings
from hypothesis import strategies as st

from model_server.ledger import REDIS, TOPIC, OffsetLedger, Source

P0, P1 = Source("events", 0), Source("events", 1)
BOTH = TOPIC | REDIS


def test_a_later_confirmed_user_does_not_commit_past_an_earlier_open_one() -> None:
    ledger = OffsetLedger()
    for offset, user in enumerate(("ann", "bob")):
        ledger.consumed(P0, offset)
        ledger.owe(P0, offset, user)
        ledger.dispatched(user, user, version=offset + 1, waits_for=TOPIC)
    ledger.confirmed("bob", 2, TOPIC)
    assert ledger.committable() == {P0: 0}
    ledger.confirmed("ann", 1, TOPIC)
    assert ledger.committable() == {P0: 2}


def test_an_event_after_the_dispatch_is_not_covered_by_it() -> None:
    ledger = OffsetLedger()
    ledger.consumed(P0, 0)
    ledger.owe(P0, 0, "ann")
    ledger.dispatched("ann", "ann", version=1, waits_for=TOPIC)
    ledger.consumed(P0, 1)
    ledger.owe(P0, 1, "ann")
    ledger.confirmed("ann", 1, TOPIC)
    assert ledger.committable() == {P0: 1}


def test_both_sinks_must_confirm_the_version_or_a_later_one() -> None:
    ledger = OffsetLedger()
    ledger.consumed(P0, 0)
    ledger.owe(P0, 0, "ann")
    ledger.dispatched("ann", "ann", version=5, waits_for=BOTH)
    ledger.confirmed("ann", 5, TOPIC)
    ledger.confirmed("ann", 4, REDIS)
    assert ledger.committable() == {P0: 0}
    ledger.confirmed("ann", 9, REDIS)
    assert ledger.committable() == {P0: 1}


def test_a_failed_version_is_owed_again() -> None:
    ledger = OffsetLedger()
    ledger.consumed(P0, 0)
    ledger.owe(P0, 0, "ann")
    ledger.dispatched("ann", "ann", version=1, waits_for=TOPIC)
    assert ledger.failed("ann", 1) == ["ann"]
    assert ledger.committable() == {P0: 0}
    ledger.dispatched("ann", "ann", version=2, waits_for=TOPIC)
    ledger.confirmed("ann", 2, TOPIC)
    assert ledger.committable() == {P0: 1}


def test_a_forgiven_key_holds_nothing_back() -> None:
    ledger = OffsetLedger()
    ledger.consumed(P0, 0)
    ledger.owe(P0, 0, "request")
    ledger.forgive("request")
    assert ledger.committable() == {P0: 1}


def test_a_long_outage_of_redis_keeps_the_first_offset_and_bounded_books() -> None:
    ledger = OffsetLedger()
    for version in range(1, 1001):
        ledger.consumed(P0, version)
        ledger.owe(P0, version, "ann")
        ledger.dispatched("ann", "ann", version, waits_for=BOTH)
        ledger.confirmed("ann", version, TOPIC)
    assert ledger.committable() == {P0: 1}
    assert len(ledger) <= ledger.MAX_FLIGHTS_PER_USER
    ledger.confirmed("ann", 1000, REDIS)
    assert ledger.committable() == {P0: 1001}
    assert len(ledger) == 0


def test_a_lost_partition_is_forgotten_and_the_other_kept() -> None:
    ledger = OffsetLedger()
    for source, user in ((P0, "ann"), (P1, "bob")):
        ledger.consumed(source, 3)
        ledger.owe(source, 3, user)
    ledger.dispatched("ann", "ann", 1, TOPIC)
    ledger.drop([P0])
    assert ledger.committable() == {P1: 3}


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["event", "send", "topic", "redis", "fail"]), st.integers(0, 3)), max_size=60)
)
def test_in_any_order_nothing_open_is_committed_and_in_the_end_everything_is(steps: list[tuple[str, int]]) -> None:
    ledger, offset, version = OffsetLedger(), 0, 0
    unsent: dict[str, list[int]] = {f"u{n}": [] for n in range(4)}
    flying: dict[str, list[tuple[int, list[int], set[str]]]] = {user: [] for user in unsent}

    def send(user: str) -> None:
        nonlocal version
        version += 1
        ledger.dispatched(user, user, version, BOTH)
        if unsent[user]:
            flying[user].append((version, unsent[user], {"topic", "redis"}))
            unsent[user] = []

    def confirm(user: str, sink: str) -> None:
        if flying[user]:
            newest = flying[user][-1][0]
            ledger.confirmed(user, newest, TOPIC if sink == "topic" else REDIS)
            for _, _, waits in flying[user]:
                waits.discard(sink)
            flying[user] = [each for each in flying[user] if each[2]]

    for action, number in steps:
        user = f"u{number}"
        if action == "event":
            ledger.consumed(P0, offset)
            ledger.owe(P0, offset, user)
            unsent[user].append(offset)
            offset += 1
        elif action == "send":
            send(user)
        elif action == "fail":
            if flying[user] and "topic" in flying[user][-1][2]:
                failed = flying[user].pop()
                ledger.failed(user, failed[0])
                unsent[user] = sorted(failed[1] + unsent[user])
        else:
            confirm(user, action)
        open_offsets = [o for each in unsent.values() for o in each]
        open_offsets += [o for flights in flying.values() for _, offsets, _ in flights for o in offsets]
        if offset:
            assert ledger.committable()[P0] <= min([*open_offsets, offset])
    for user in unsent:
        send(user)
        confirm(user, "topic")
        confirm(user, "redis")
    assert ledger.committable() == ({P0: offset} if offset else {})
    assert len(ledger) == 0
