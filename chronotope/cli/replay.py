"""``chronotope replay``: send the events of a data set to the cluster."""

from pathlib import Path
from typing import Annotated

import typer

from chronotope.cli.options import BootstrapOption, JsonFlag, PseudonymsFlag, kafka_settings, parse_rate, pseudonym_key


def replay(
    data: Annotated[Path, typer.Option("--data", help="The file; gzip is read as it is.", show_default=False)],
    format: Annotated[
        str, typer.Option("--format", help="foursquare, gowalla, geolife, trips, sessions, csv or jsonl.")
    ],
    rate: Annotated[str, typer.Option(help="Events per second, or max.")] = "max",
    duration: Annotated[float | None, typer.Option(help="End after this many seconds.", min=0.001)] = None,
    pseudonyms: PseudonymsFlag = False,
    bootstrap: BootstrapOption = None,
    json: JsonFlag = False,
) -> None:
    """Send every event of a file in time order, each item to the catalogue before its first event.

    Example: chronotope replay --data checkins.csv.gz --format foursquare --rate 2000
    """
    import math
    import time

    from chronotope.cli.datasets import open_events
    from chronotope.cli.output import answers, print_json, ticking
    from chronotope.kafka.catalogue import catalogued_items
    from chronotope.kafka.producer import EventProducer
    from chronotope.kafka.topics import require_topics
    from chronotope.replay import Replay

    pace = parse_rate(rate)
    events = open_events(data, format)
    settings = kafka_settings(bootstrap)
    require_topics(settings)
    run = Replay(
        EventProducer(settings, pseudonym_key() if pseudonyms else None), events, pace, catalogued_items(settings)
    )
    started = time.monotonic()
    with ticking(lambda: f"replaying: {run.producer.sent:,} events acknowledged"):
        run.run(until_s=math.inf if duration is None else duration)
    seconds = time.monotonic() - started
    answer = {
        "events_sent": run.producer.sent,
        "items_sent": run.producer.items_sent,
        "users": len(run.users),
        "seconds": round(seconds, 3),
        "events_per_s": round(run.producer.sent / seconds, 1),
    }
    if json:
        print_json(answer)
    else:
        answers().print(
            f"{answer['events_sent']:,} events of {answer['users']:,} users and {answer['items_sent']:,} catalogue items "
            f"sent in {seconds:.1f} s ({answer['events_per_s']:,.0f} events/s)"
        )
