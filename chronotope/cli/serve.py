"""``chronotope serve``: one model server in the foreground."""

from chronotope.cli.errors import CommandFailed
from chronotope.cli.logs import configure_logs
from chronotope.cli.options import BootstrapOption, kafka_settings


def serve(bootstrap: BootstrapOption = None) -> None:
    """Run one model server until it is ended; every other setting comes from CHRONOTOPE_SERVER_* (docs/settings.md).

    Example: chronotope serve --bootstrap 127.0.0.1:9092
    """
    from chronotope.kafka.topics import require_topics
    from model_server.app import run_server
    from model_server.serving import OWNED_TOPICS, SHARED_TOPICS
    from model_server.settings import ServerSettings
    from model_server.strategies import unknown_strategies

    settings = ServerSettings(kafka=kafka_settings(bootstrap))
    if wrong := unknown_strategies(settings):
        raise CommandFailed(f"CHRONOTOPE_SERVER_STRATEGIES, CHRONOTOPE_SERVER_SHADOW: {wrong[0]}")
    require_topics(settings.kafka, (*OWNED_TOPICS, *SHARED_TOPICS))
    configure_logs("server", settings.log_level)
    run_server(settings)
