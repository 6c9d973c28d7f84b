"""When aiokafka fetches, and how much is delivered before the next fetch.

What lies fetched grows old: stock aiokafka asks for the next records as soon as it has given some away, so that a busy worker
computes what was there a whole round of its stages ago, and is told of what came since a round later. Here the next fetch begins
when the agents have computed nearly all of the last one and of what came of it. Only behind a backlog, where nothing is fresh
anyway, records are fetched ahead.
"""

import asyncio
import contextlib
from typing import Any

from streams.engine.turns import Turns

FETCH_MAX_WAIT_MS = 20
# A fetcher that is told of new demand in the very moment in which a fetch ends may miss it, and looks again after this.
LOOK_AGAIN_S = 0.02
# Batches that may still wait for their agents when the next fetch begins: what is computed while it is on its way.
WAITING_AT_NEXT_FETCH = 4
# How long a round is waited for: a stage may be held up while others could go on; large batches take their time.
SHORT_ROUND_S, LONG_ROUND_S = 0.05, 1.0


class FetchDemand:
    """Says when a consumer fetches: while somebody waits for records, or at any time if ``ahead``."""

    def __init__(self) -> None:
        self.ahead = True

    def govern(self, fetcher: Any) -> None:
        """Let the aiokafka ``fetcher`` of a started consumer fetch on demand.

        What lies fetched of one partition does not keep the other partitions of its broker from being fetched.
        """
        fetcher._prefetch_backoff, fetcher._fetcher_timeout = 0.0, LOOK_AGAIN_S
        all_actions, new_waiter = fetcher._get_actions_per_node, fetcher._create_fetch_waiter

        def actions_on_demand(assignment: Any) -> Any:
            requests, *rest = all_actions(assignment)
            # A waiter that was just given its records is among them for one more turn of the loop.
            wanted = self.ahead or any(not waiter.done() for waiter in fetcher._fetch_waiters)
            return (requests if wanted else [], *rest)

        def waiter_that_is_heard() -> Any:
            waiter = new_waiter()
            fetcher._notify(fetcher._wait_consume_future)
            return waiter

        fetcher._get_actions_per_node, fetcher._create_fetch_waiter = actions_on_demand, waiter_that_is_heard


class Round:
    """The batches that were delivered and that no agent has computed yet; they are computed in turn.

    Between two turns of the event loop one batch is computed, and not one by each agent that has some: whatever else waits for
    the loop, acknowledgements above all, would wait for all of them.
    """

    def __init__(self) -> None:
        self.turns = Turns()
        self._asking_since_s: float | None = None
        self._waiting = 0
        self._fewer = asyncio.Event()

    def note_asking(self, now_s: float) -> None:
        """Nothing is to be done but to wait for the next fetch."""
        if self._asking_since_s is None:
            self._asking_since_s = now_s

    def note_fetched(self) -> None:
        """The wait is over: something was fetched."""
        self._asking_since_s = None

    def has_asked_in_vain(self, now_s: float) -> bool:
        """Whether the brokers had nothing for as long as they wait for something to come."""
        asked_s = self._asking_since_s
        return asked_s is not None and now_s - asked_s >= FETCH_MAX_WAIT_MS / 1000

    def note_delivered(self) -> None:
        """A batch waits for its agent."""
        self._waiting += 1

    def note_taken(self) -> None:
        """An agent has computed a batch, or given it up."""
        self._waiting = max(0, self._waiting - 1)
        self._fewer.set()

    @property
    def is_over(self) -> bool:
        """Whether no batch waits."""
        return self._waiting == 0

    def forget(self) -> None:
        """Nobody takes what was delivered: the queues were emptied."""
        self._waiting = 0
        self._fewer.set()

    async def nearly_over(self, at_most_s: float, waiting: int = WAITING_AT_NEXT_FETCH) -> None:
        """Return when at most ``waiting`` batches wait, or after ``at_most_s``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                while self._waiting > waiting:
                    self._fewer.clear()
                    await self._fewer.wait()
