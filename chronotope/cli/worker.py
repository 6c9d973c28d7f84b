"""``chronotope worker``: one stream worker in the foreground."""

from chronotope.cli.logs import configure_logs
from chronotope.cli.options import BootstrapOption, kafka_settings


def worker(bootstrap: BootstrapOption = None) -> None:
    """Run one stream worker until it is ended; every other setting comes from CHRONOTOPE_WORKER_* (docs/settings.md).

    Example: chronotope worker --bootstrap 127.0.0.1:9092
    """
    from chronotope.kafka.topics import require_topics
    from streams.agents import SOURCES
    from streams.app import run_worker
    from streams.settings import WorkerSettings

    settings = WorkerSettings(kafka=kafka_settings(bootstrap))
    require_topics(settings.kafka, tuple(SOURCES[stage] for stage in settings.stages))
    configure_logs("worker", instance=settings.group_instance_id)
    run_worker(settings)
