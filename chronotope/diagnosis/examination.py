"""All checks in turn; one that cannot be made is a finding too."""

from collections.abc import Callable, Iterable, Iterator

from confluent_kafka import KafkaException

from chronotope.diagnosis.cluster import check_broker_and_topics, check_changelogs, check_groups
from chronotope.diagnosis.events import check_events
from chronotope.diagnosis.finding import Finding, problem
from chronotope.diagnosis.installation import check_files, check_models, check_settings, check_versions
from chronotope.diagnosis.stores import check_redis, check_registry
from chronotope.kafka.errors import ClusterError
from schemas.avro_wire import RegistryUnavailableError
from schemas.settings import KafkaSettings, RedisSettings, RegistrySettings


def examine(bootstrap: str | None, sampled_records: int) -> Iterator[Finding]:
    """Look at everything in turn; a check that cannot be made says so. ``sampled_records`` are read of each event partition.

    Where the settings are wrong nothing else is looked at: it would be looked for in the wrong place.
    """
    yield from check_versions()
    settings = list(check_settings())
    yield from settings
    if any(finding.verdict == "problem" for finding in settings):
        return
    from model_server.settings import ServerSettings
    from streams.settings import WorkerSettings

    kafka = KafkaSettings() if bootstrap is None else KafkaSettings(bootstrap=bootstrap)
    worker, server = WorkerSettings(kafka=kafka), ServerSettings(kafka=kafka)
    yield from check_models(server)
    files = list(check_files(worker, server))
    yield from files
    if all(finding.verdict == "ok" for finding in files if finding.check == "tls"):
        cluster = list(_made("broker", lambda: check_broker_and_topics(kafka)))
        yield from cluster
        if cluster[0].verdict == "ok":
            yield from _made("events", lambda: check_events(worker, sampled_records))
            yield from _made("lag", lambda: check_groups(worker, server))
            yield from _made("state", lambda: check_changelogs(worker))
    yield check_redis(RedisSettings())
    yield check_registry(RegistrySettings())


def _made(check: str, find: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        yield from find()
    except (ClusterError, KafkaException, RegistryUnavailableError, OSError, ValueError) as error:
        yield problem(check, f"cannot be examined: {error}")
