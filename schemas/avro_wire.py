"""Avro in the Confluent wire format: a zero byte, the writer's schema id (uint32, big-endian), the Avro body."""

import io
import json
import struct as binary
from typing import Any, Protocol

import fastavro
import msgspec

from schemas.contracts.avro import avro_schema, from_avro, to_avro

MAGIC = 0
HEAD = binary.Struct(">bI")


class WireFormatError(ValueError):
    """The bytes are not a value of this wire format, or not of this schema: reject the record."""


class RegistryUnavailableError(RuntimeError):
    """The schema registry did not answer: nothing is wrong with the record; try again later, do not reject it."""


class SchemaSource(Protocol):
    """Where writers' schemas come from, by id; the registry in production."""

    def schema_text(self, schema_id: int) -> str:
        """The Avro schema as JSON; KeyError if the id is unknown, RegistryUnavailableError if nobody answers."""


class RegistrySchemaSource:
    """Writers' schemas from a Confluent Schema Registry, by confluent-kafka's own client (which caches them)."""

    def __init__(self, config: dict[str, Any]) -> None:
        from confluent_kafka.schema_registry import SchemaRegistryClient

        self._client = SchemaRegistryClient(config)

    def schema_text(self, schema_id: int) -> str:
        """The Avro schema as JSON; KeyError if the registry does not know the id, RegistryUnavailableError if it is away."""
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        try:
            text: str | None = self._client.get_schema(schema_id).schema_str
        except SchemaRegistryError as error:
            if error.http_status_code == 404:
                raise KeyError(schema_id) from error
            raise RegistryUnavailableError(str(error)) from error
        except Exception as error:  # the client lets its HTTP library's own errors through
            raise RegistryUnavailableError(str(error)) from error
        if text is None:
            raise KeyError(schema_id)
        return text


class ConfluentAvroDecoder:
    """Decodes Confluent-framed Avro into one struct, resolving the writer's schema against the struct's own.

    Each schema id is fetched once. O(bytes) per value.

    >>> from schemas.events import RecommendationFeedback as Feedback
    >>> class Schemas:
    ...     def schema_text(self, schema_id: int) -> str:
    ...         return json.dumps(avro_schema(Feedback))
    >>> sent = Feedback(request_id="r", user_id="u", item_id="i", kind="click", event_time_ms=1)
    >>> ConfluentAvroDecoder(Feedback, Schemas()).decode(frame(7, sent)) == sent
    True
    """

    def __init__(self, struct: type[msgspec.Struct], source: SchemaSource) -> None:
        self._struct = struct
        self._source = source
        self._reader = fastavro.parse_schema(avro_schema(struct))
        self._writers: dict[int, Any] = {}

    def decode(self, data: bytes) -> Any:
        """The struct in ``data``.

        Raises WireFormatError if the framing, the schema or the value is wrong, RegistryUnavailableError if the schema
        cannot be looked up now.
        """
        if len(data) < HEAD.size or data[0] != MAGIC:
            raise WireFormatError("not in the Confluent wire format: no magic byte")
        writer = self._writer(HEAD.unpack_from(data)[1])
        try:
            value = fastavro.schemaless_reader(io.BytesIO(data[HEAD.size :]), writer, self._reader)
            return from_avro(value, self._struct)
        except RecursionError as error:
            raise WireFormatError("the value is nested too deeply") from error
        except Exception as error:  # fastavro raises EOFError, IndexError, struct.error, ... on broken bodies
            raise WireFormatError(f"not a {self._struct.__name__}: {error}") from error

    def _writer(self, schema_id: int) -> Any:
        if schema_id not in self._writers:
            try:
                self._writers[schema_id] = fastavro.parse_schema(json.loads(self._source.schema_text(schema_id)))
            except KeyError as error:
                raise WireFormatError(f"the registry does not know schema {schema_id}") from error
            except (ValueError, fastavro.schema.SchemaParseException) as error:
                raise WireFormatError(f"schema {schema_id} is not an Avro schema: {error}") from error
        return self._writers[schema_id]


def frame(schema_id: int, message: msgspec.Struct) -> bytes:
    """The Confluent-framed Avro bytes of a message under its own schema, registered as ``schema_id``. O(size)."""
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(avro_schema(type(message))), to_avro(message))
    return HEAD.pack(MAGIC, schema_id) + body.getvalue()
