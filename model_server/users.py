"""What the server itself remembers of each user it owns, bounded: where its events stood, and what may not be shown."""

import time
from collections import OrderedDict
from collections.abc import Iterator

import msgspec

from model_server.ledger import Source
from schemas.events import BehaviorEvent
from schemas.headers import Headers


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """The recommendation that a user has been sent: enough to test it by the next event."""

    version: int
    source_offset: int
    strategy: str
    item_ids: tuple[str, ...]


class UserRecord(msgspec.Struct, kw_only=True):
    """One user: the last event that was learned from, and items that were seen or dismissed (until when, Unix ms)."""

    partition: int
    offset: int = -1
    last_event_ms: int = 0
    last_item: str = ""
    trace: Headers = msgspec.field(default_factory=list)
    seen: set[str] = msgspec.field(default_factory=set)
    dismissed: dict[str, int] = msgspec.field(default_factory=dict)
    published: Published | None = None
    shadow: tuple[str, tuple[str, ...]] | None = None
    refreshed_s: float = float("-inf")


class OwnedUsers:
    """The users of the partitions that this instance owns, least recently active first; at most ``limit`` of them.

    >>> users = OwnedUsers(limit=1)
    >>> users.of("ann", partition=0).last_event_ms, users.of("bob", partition=0).offset, "ann" in users, users.take_evicted()
    (0, -1, False, 1)
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._users: OrderedDict[str, UserRecord] = OrderedDict()
        self._evicted = 0

    def __len__(self) -> int:
        return len(self._users)

    def __contains__(self, user_id: str) -> bool:
        return user_id in self._users

    def __iter__(self) -> Iterator[str]:
        return iter(self._users)

    def get(self, user_id: str) -> UserRecord | None:
        """The user's record, if it is remembered. O(1)."""
        return self._users.get(user_id)

    def of(self, user_id: str, partition: int) -> UserRecord:
        """The user's record, a new one if need be; the user counts as active now. O(1)."""
        record = self._users.get(user_id)
        if record is not None:
            self._users.move_to_end(user_id)
            return record
        if len(self._users) >= self._limit:
            self._users.popitem(last=False)
            self._evicted += 1
        record = self._users[user_id] = UserRecord(partition=partition)
        return record

    def take_evicted(self) -> int:
        """Users forgotten for space since the last call."""
        evicted, self._evicted = self._evicted, 0
        return evicted

    def learn(self, event: BehaviorEvent, source: Source, offset: int, *, keep_seen: bool, trace: Headers) -> None:
        """The user's latest event is this one, and what it causes belongs to its trace."""
        record = self.of(event.user_id, source.partition)
        record.offset, record.last_event_ms, record.last_item = offset, event.event_time_ms, event.item_id
        record.trace = trace
        if keep_seen:
            record.seen.add(event.item_id)

    def excluded(self, user_id: str, blocked: frozenset[str]) -> frozenset[str]:
        """Items not to be shown to the user: blocked for all, seen (where that is kept), or dismissed not long ago."""
        record = self._users.get(user_id)
        if record is None or not (record.seen or record.dismissed):
            return blocked
        now_ms = time.time_ns() // 1_000_000
        return blocked | record.seen | {item for item, until_ms in record.dismissed.items() if until_ms > now_ms}

    def clear(self) -> None:
        """Remember nobody."""
        self._users = OrderedDict()

    def state(self) -> bytes:
        """Everything but what was published and traced, packed."""
        return msgspec.msgpack.encode(
            [
                (user, r.partition, r.offset, r.last_event_ms, r.last_item, r.seen, r.dismissed)
                for user, r in self._users.items()
            ]
        )

    def load_state(self, state: bytes) -> None:
        """Take over what ``state`` gave. Raises ValueError (msgspec.ValidationError) if it is not such a state."""
        rows = msgspec.msgpack.decode(state, type=list[tuple[str, int, int, int, str, set[str], dict[str, int]]])
        self._users = OrderedDict(
            (
                user,
                UserRecord(
                    partition=partition,
                    offset=offset,
                    last_event_ms=last_event_ms,
                    last_item=last_item,
                    seen=seen,
                    dismissed=dismissed,
                ),
            )
            for user, partition, offset, last_event_ms, last_item, seen, dismissed in rows
        )
