"""Whose turn it is: by rank, then in order of coming, and never nobody's while somebody waits."""

import asyncio
import contextlib

from streams.engine.turns import Turns


async def waiting(turns: Turns, order: list[str], *asked: tuple[str, int]) -> list["asyncio.Task[None]"]:
    async def compute(name: str, rank: int) -> None:
        async with turns.turn(rank):
            order.append(name)
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(compute(name, rank)) for name, rank in asked]
    await asyncio.sleep(0)
    return tasks


def test_the_lowest_rank_comes_first_and_among_equals_the_first() -> None:
    async def run() -> list[str]:
        turns, order = Turns(), list[str]()
        async with turns.turn(1):
            tasks = await waiting(turns, order, ("user", 1), ("place", 1), ("union", 0), ("region", 0))
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(run()) == ["union", "region", "user", "place"]


def test_a_turn_ends_with_its_block_though_it_fails() -> None:
    async def run() -> list[str]:
        turns, order = Turns(), list[str]()
        with contextlib.suppress(ValueError):
            async with turns.turn(1):
                tasks = await waiting(turns, order, ("user", 1))
                raise ValueError
        await asyncio.wait_for(asyncio.gather(*tasks), 1.0)
        async with asyncio.timeout(1.0), turns.turn(1):
            return order

    assert asyncio.run(run()) == ["user"]


def test_who_is_cancelled_gives_his_turn_to_the_next() -> None:
    async def run(given: bool) -> list[str]:
        turns, order = Turns(), list[str]()
        async with turns.turn(1):
            first, second = await waiting(turns, order, ("first", 1), ("second", 1))
            if not given:
                first.cancel()
        if given:  # the turn is the first one's by now, who has not run since
            first.cancel()
        await asyncio.wait_for(second, 1.0)
        async with asyncio.timeout(1.0), turns.turn(1):
            return order

    assert asyncio.run(run(given=False)) == asyncio.run(run(given=True)) == ["second"]
