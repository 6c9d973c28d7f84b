"""What integration tests stand on: real brokers, a real Redis, and the research data where it lies beside the checkout."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from chronotope.local.apache_kafka import ApacheKafka, unavailable
from chronotope.local.embedded import EmbeddedBroker, EmbeddedRedis

CHECKOUT = Path(__file__).resolve().parents[1]
LOUD = "*** NOT TESTED HERE: "


def _skip_loudly(what: str, reason: str) -> None:
    pytest.skip(f"{LOUD}{what}: {reason} ***")


def pytest_configure() -> None:
    """A suite in the background inherits an ignored Ctrl-C, and so would the children that the tests interrupt."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A banner at the end for everything that this machine could not test."""
    skipped = [each.longrepr for each in terminalreporter.stats.get("skipped", [])]  # by whichever process ran it
    reasons = {where[2].removeprefix("Skipped: ") for where in skipped if isinstance(where, tuple)}
    for reason in sorted(reasons):
        if reason.startswith(LOUD):
            terminalreporter.write_line(reason, yellow=True, bold=True)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A fresh embedded broker without topics; ``broker.bootstrap`` is its address."""
    with EmbeddedBroker(tmp_path) as running:
        yield running


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A fresh empty Redis; ``redis_server.url`` is its address."""
    with EmbeddedRedis(tmp_path) as running:
        yield running


@pytest.fixture
def kafka_broker(tmp_path: Path) -> Iterator[ApacheKafka]:
    """A fresh single-node Apache Kafka (about 4 s to start); skips loudly where Java or the jars are missing."""
    reason = unavailable()
    if reason is not None:
        _skip_loudly("Apache Kafka", reason)
    with ApacheKafka(tmp_path) as running:
        yield running
    running.discard_data()


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def any_broker(request: pytest.FixtureRequest) -> EmbeddedBroker | ApacheKafka:
    """The test runs once on a fresh embedded broker and once on a fresh Apache Kafka."""
    fixture = "broker" if request.param == "embedded" else "kafka_broker"
    return request.getfixturevalue(fixture)


@pytest.fixture
def data_dir() -> Path:
    """The research data: ``CHRONOTOPE_DATA`` or ``../shared/data`` beside the checkout; skips loudly where it is absent."""
    folder = Path(os.environ.get("CHRONOTOPE_DATA", CHECKOUT.parent / "shared" / "data"))
    if not folder.is_dir():
        _skip_loudly("real data", f"no research data in {folder} (set CHRONOTOPE_DATA)")
    return folder
