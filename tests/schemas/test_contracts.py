"""The contract files are those of the code, stay readable for old writers, and Avro values survive the round trip."""

import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import fastavro
import jsonschema
import msgspec
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import parse as parse_avro

from schemas import avro_wire
from schemas.contracts.asyncapi import asyncapi_document
from schemas.contracts.avro import avro_schema, from_avro, to_avro
from schemas.contracts.json_schema import json_schema
from schemas.events import BehaviorEvent, Item
from schemas.json_wire import encode
from schemas.patterns import AnchorPlace, ClusterUpdate, NamedCount, NamedShare, PatternQuality, ProfileUpdate
from schemas.topics import ALL_TOPICS

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = ROOT / "docs" / "contracts"
STRUCTS = {struct.__name__: struct for spec in ALL_TOPICS for struct in spec.values}
SAMPLES: list[msgspec.Struct] = [
    BehaviorEvent(event_id="e", user_id="u", item_id="i", action="view", event_time_ms=1, lat=1.5, lon=2.5, context={"a": "b"}),
    Item(item_id="i", categories=["x"], vectors={"image": [0.5, 1.0]}, price=2.5),
    ClusterUpdate(
        cluster_id="c", version=3, change="split", event_time_ms=5, born_at_ms=1, lat=1.0, lon=2.0, radius_m=10.0, count=9,
        distinct_users=6, related_cluster_id="b", hull=[(1.0, 2.0), (1.5, 2.0)], top_items=[NamedCount("i", 3.0)],
        quality=PatternQuality(support=9.0, significance=4.0, stability=0.5),
    ),
    ProfileUpdate(
        user_id="u", version=1, event_time_ms=2, events=3, items=[NamedShare("i", 1.0)],
        anchors=[AnchorPlace(role="home", item_id="i", share=0.5)],
    ),
]  # fmt: skip


def test_contract_files_are_those_of_the_code() -> None:
    spec = importlib.util.spec_from_file_location("contracts", ROOT / "ops" / "contracts.py")
    assert spec is not None and spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    for path, text in generator.contract_files().items():
        assert (CONTRACTS / path).read_text() == text, f"{path} is stale: run python ops/contracts.py"


@pytest.mark.parametrize("released", sorted((CONTRACTS / "released").rglob("*.avsc")), ids=lambda path: path.stem)
def test_new_readers_understand_released_writers(released: Path) -> None:
    reader = parse_avro(json.dumps(avro_schema(STRUCTS[released.stem])))
    result = ReaderWriterCompatibilityChecker().get_compatibility(reader, parse_avro(released.read_text()))
    assert result.compatibility is SchemaCompatibilityType.compatible, result.messages


def test_a_new_field_without_a_default_is_not_backward_compatible() -> None:
    old = avro_schema(BehaviorEvent)
    new = {**old, "fields": [*old["fields"], {"name": "extra", "type": "string"}]}
    result = ReaderWriterCompatibilityChecker().get_compatibility(
        parse_avro(json.dumps(new)), parse_avro(json.dumps(old))
    )
    assert result.compatibility is SchemaCompatibilityType.incompatible


@pytest.mark.parametrize("name", STRUCTS)
def test_every_struct_has_a_valid_avro_schema(name: str) -> None:
    fastavro.parse_schema(avro_schema(STRUCTS[name]))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_json_values_fit_their_json_schema(sample: msgspec.Struct) -> None:
    jsonschema.Draft202012Validator(json_schema(type(sample))).validate(json.loads(encode(sample)))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_avro_values_survive_the_round_trip(sample: msgspec.Struct) -> None:
    assert from_avro(to_avro(sample), type(sample)) == sample


class _Schemas:
    """A registry with one schema, counting how often it is asked."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema, self.asked = schema, 0

    def schema_text(self, schema_id: int) -> str:
        self.asked += 1
        if schema_id != 7:
            raise KeyError(schema_id)
        return json.dumps(self.schema)


def test_framed_avro_is_decoded_and_its_schema_is_fetched_once() -> None:
    source = _Schemas(avro_schema(BehaviorEvent))
    decoder = avro_wire.ConfluentAvroDecoder(BehaviorEvent, source)
    for _ in range(3):
        assert decoder.decode(avro_wire.frame(7, SAMPLES[0])) == SAMPLES[0]
    assert source.asked == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00",
        b'{"event_id":1}',
        avro_wire.HEAD.pack(0, 8) + b"x",
        avro_wire.HEAD.pack(0, 7),
        avro_wire.frame(7, SAMPLES[0])[:-3],
    ],
)
def test_broken_frames_raise_a_wire_format_error(data: bytes) -> None:
    with pytest.raises(avro_wire.WireFormatError):
        avro_wire.ConfluentAvroDecoder(BehaviorEvent, _Schemas(avro_schema(BehaviorEvent))).decode(data)


def test_an_older_writer_without_the_optional_fields_is_read() -> None:
    schema = avro_schema(BehaviorEvent)
    old = {**schema, "fields": [field for field in schema["fields"] if "default" not in field]}
    decoder = avro_wire.ConfluentAvroDecoder(BehaviorEvent, _Schemas(old))
    body = io.BytesIO()
    value = {"event_id": "e", "user_id": "u", "item_id": "i", "action": "view", "event_time_ms": 1}
    fastavro.schemaless_writer(body, fastavro.parse_schema(old), value)
    assert decoder.decode(avro_wire.HEAD.pack(0, 7) + body.getvalue()) == BehaviorEvent(**value)  # type: ignore[arg-type]


def test_descriptions_are_without_the_indentation_of_the_code() -> None:
    for document in (json_schema(BehaviorEvent)["$defs"], asyncapi_document("1")["components"]["schemas"]):
        described = [definition["description"] for definition in document.values() if "description" in definition]
        assert described and not any("\n  " in text for text in described)
