"""``chronotope produce``: send one event, or the events that come as JSON lines."""

import sys
import time
import uuid
from typing import TYPE_CHECKING, Annotated

import typer

from chronotope.cli.errors import WRONG_INPUT, CommandFailed
from chronotope.cli.options import BootstrapOption, JsonFlag, PseudonymsFlag, kafka_settings, pseudonym_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.events import BehaviorEvent


def produce(
    user: Annotated[str | None, typer.Option(help="Who. Without it, events are read as JSON lines from stdin.")] = None,
    item: Annotated[str | None, typer.Option(help="With which item.")] = None,
    action: Annotated[str, typer.Option(help="What they did.")] = "view",
    time_ms: Annotated[int | None, typer.Option("--time-ms", help="When, Unix milliseconds. Default: now.")] = None,
    lat: Annotated[float | None, typer.Option(help="Where, WGS84 degrees.", min=-90, max=90)] = None,
    lon: Annotated[float | None, typer.Option(help="Where, WGS84 degrees.", min=-180, max=180)] = None,
    category: Annotated[str | None, typer.Option(help="Category of the item, for the catalogue.")] = None,
    pseudonyms: PseudonymsFlag = False,
    bootstrap: BootstrapOption = None,
    json: JsonFlag = False,
) -> None:
    """Send behaviour events and wait until the broker has them.

    Example: chronotope produce --user alice --item cafe-7 --action checkin --lat 40.73 --lon -73.99
    """
    from chronotope.cli.output import answers, print_json
    from chronotope.kafka.catalogue import catalogued_items
    from chronotope.kafka.producer import EventProducer
    from chronotope.kafka.topics import require_topics
    from chronotope.replay import Replay
    from schemas.events import BehaviorEvent

    if (user is None) != (item is None):
        raise typer.BadParameter("--user and --item come together")
    if (lat is None) != (lon is None):
        raise typer.BadParameter("--lat and --lon come together")
    if user is None or item is None:
        events = _from_stdin()
    else:
        event = BehaviorEvent(
            event_id=str(uuid.uuid4()),
            user_id=user,
            item_id=item,
            action=action,
            event_time_ms=time.time_ns() // 1_000_000 if time_ms is None else time_ms,
            lat=lat,
            lon=lon,
            context={} if category is None else {"category": category},
        )
        events = iter([event])
    settings = kafka_settings(bootstrap)
    require_topics(settings)
    producer = EventProducer(settings, pseudonym_key() if pseudonyms else None)
    run = Replay(producer, events, known=catalogued_items(settings))
    run.run()
    answer = {"events_sent": run.producer.sent, "items_sent": run.producer.items_sent}
    if json:
        print_json(answer)
    else:
        answers().print(
            f"{run.producer.sent} events sent to behavior.event.raw.v1, {run.producer.items_sent} items to the catalogue"
        )


def _from_stdin() -> "Iterator[BehaviorEvent]":
    import msgspec

    from schemas.events import BehaviorEvent

    decoder = msgspec.json.Decoder(BehaviorEvent)
    for number, line in enumerate(sys.stdin.buffer, start=1):
        if line.strip():
            try:
                yield decoder.decode(line)
            except msgspec.DecodeError as error:
                raise CommandFailed(f"standard input:{number}: {error}", WRONG_INPUT) from None
