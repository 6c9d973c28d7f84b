"""When a consumer fetches: on demand, and ahead only behind a backlog; and when a round of batches is nearly over."""

import asyncio
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from streams.engine.fetching import WAITING_AT_NEXT_FETCH, FetchDemand, Round


class Fetcher:
    """As much of aiokafka's as the demand governs."""

    def __init__(self) -> None:
        self._fetch_waiters: list[Any] = []
        self._wait_consume_future = SimpleNamespace(heard=False)

    def _get_actions_per_node(self, assignment: Any) -> Any:
        return ["request"], {"node": "reset"}, 0.2, False, []

    def _create_fetch_waiter(self) -> Any:
        self._fetch_waiters.append(Future())
        return self._fetch_waiters[-1]

    def _notify(self, future: Any) -> None:
        future.heard = True


@pytest.fixture
def fetcher() -> Fetcher:
    return Fetcher()


def requests_and_resets(fetcher: Fetcher) -> tuple[Any, Any]:
    requests, resets, *_ = fetcher._get_actions_per_node(None)
    return requests, resets


def test_nothing_is_fetched_until_somebody_waits_for_it_but_positions_are_reset(fetcher: Fetcher) -> None:
    demand = FetchDemand()
    demand.govern(fetcher)
    demand.ahead = False
    assert requests_and_resets(fetcher) == ([], {"node": "reset"})
    fetcher._create_fetch_waiter()
    assert requests_and_resets(fetcher) == (["request"], {"node": "reset"})


def test_who_was_just_given_records_does_not_wait_for_more(fetcher: Fetcher) -> None:
    demand = FetchDemand()
    demand.govern(fetcher)
    demand.ahead = False
    fetcher._create_fetch_waiter().set_result(None)
    assert requests_and_resets(fetcher)[0] == []


def test_who_waits_is_heard_at_once(fetcher: Fetcher) -> None:
    FetchDemand().govern(fetcher)
    fetcher._create_fetch_waiter()
    assert fetcher._wait_consume_future.heard


def test_behind_a_backlog_records_are_fetched_ahead(fetcher: Fetcher) -> None:
    demand = FetchDemand()
    demand.govern(fetcher)
    assert demand.ahead and requests_and_resets(fetcher)[0] == ["request"]


def waited_for(taken: int, forget: bool = False, at_most_s: float = 60.0) -> None:
    """Wait until a round is over of twice as many batches as may wait, some of which are taken meanwhile."""

    async def run() -> None:
        one = Round()
        for _ in range(2 * WAITING_AT_NEXT_FETCH):
            one.note_delivered()
        over = asyncio.create_task(one.nearly_over(at_most_s))
        await asyncio.sleep(0)
        for _ in range(taken):
            one.note_taken()
        if forget:
            one.forget()
        await asyncio.wait_for(over, 1.0)

    asyncio.run(run())


def test_a_round_is_nearly_over_when_few_batches_wait() -> None:
    waited_for(WAITING_AT_NEXT_FETCH)
    with pytest.raises(TimeoutError):
        waited_for(WAITING_AT_NEXT_FETCH - 1)


def test_a_round_that_is_held_up_is_not_waited_for_longer_than_that() -> None:
    waited_for(WAITING_AT_NEXT_FETCH - 1, at_most_s=0.01)


def test_batches_that_nobody_will_take_are_not_waited_for() -> None:
    waited_for(0, forget=True)


def test_a_round_of_nothing_is_over() -> None:
    asyncio.run(asyncio.wait_for(Round().nearly_over(60.0), 5.0))
