"""The agents: one per stage, each a loop over batches; all work is in the runner."""

from collections.abc import AsyncIterator
from typing import Any

from schemas import topics
from schemas.topics import TopicSpec
from streams.engine.transport import BatchApp, BatchSchema
from streams.runner import StageRunner

SOURCES: dict[str, TopicSpec] = {
    "user": topics.EVENTS,
    "region": topics.INTERNAL_REGION,
    "union": topics.INTERNAL_UNION,
    "transition": topics.INTERNAL_TRANSITION,
    "place": topics.INTERNAL_PLACE,
}


def add_agent(app: BatchApp, runner: StageRunner) -> None:
    """Register the agent of a runner's stage with the app: one at a time, so that batches keep their order."""
    topic = app.topic(SOURCES[runner.stage].name, schema=BatchSchema(), acks=True)

    async def agent(stream: Any) -> AsyncIterator[None]:
        async for event in stream.noack().events():
            try:
                await runner.take(event.value, event.ack)
            except Exception as error:
                # The state is ahead of the log now: end without acknowledging, and start again from the log.
                await app.crash(error)
                return
            yield

    app.agent(topic, name=f"chronotope.{runner.stage}", concurrency=1)(agent)
