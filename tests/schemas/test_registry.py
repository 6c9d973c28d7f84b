"""Writers' schemas come over HTTP from something that speaks the registry's API; its absence is no fault of the record."""

from collections.abc import Iterator

import pytest
from registry_double import SCHEMA_ID, running_registry

from schemas.avro_wire import (
    ConfluentAvroDecoder,
    RegistrySchemaSource,
    RegistryUnavailableError,
    WireFormatError,
    frame,
)
from schemas.events import BehaviorEvent

EVENT = BehaviorEvent(event_id="e", user_id="u", item_id="i", action="view", event_time_ms=1)


@pytest.fixture
def registry_url() -> Iterator[str]:
    with running_registry() as url:
        yield url


def test_event_is_decoded_with_the_schema_of_the_registry(registry_url: str) -> None:
    decoder = ConfluentAvroDecoder(BehaviorEvent, RegistrySchemaSource({"url": registry_url}))
    assert decoder.decode(frame(SCHEMA_ID, EVENT)) == EVENT


def test_unknown_schema_id_is_a_fault_of_the_record(registry_url: str) -> None:
    decoder = ConfluentAvroDecoder(BehaviorEvent, RegistrySchemaSource({"url": registry_url}))
    with pytest.raises(WireFormatError, match="does not know schema 8"):
        decoder.decode(frame(8, EVENT))


def test_absent_registry_is_not_a_fault_of_the_record() -> None:
    config = {"url": "http://127.0.0.1:9", "max.retries": 0, "timeout": 2}
    with pytest.raises(RegistryUnavailableError):
        ConfluentAvroDecoder(BehaviorEvent, RegistrySchemaSource(config)).decode(frame(SCHEMA_ID, EVENT))
