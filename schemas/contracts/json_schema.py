"""JSON Schemas (2020-12) of the message structs."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec


def json_schema(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The self-contained JSON Schema of a message struct; unknown fields are allowed, as the decoder allows them.

    >>> from schemas.events import BehaviorEvent
    >>> json_schema(BehaviorEvent)["$defs"]["BehaviorEvent"]["required"]
    ['event_id', 'user_id', 'item_id', 'action', 'event_time_ms']
    """
    schema = msgspec.json.schema(struct)
    definitions = {"$defs": _as_written(schema["$defs"])} if "$defs" in schema else {}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, **definitions}


def schema_components(structs: Sequence[type[msgspec.Struct]]) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    """References to the schemas of structs, and the components that they refer to, of an AsyncAPI or OpenAPI document."""
    refs, components = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    return refs, _as_written(components)


def _as_written(definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The definitions with their docstrings without the indentation of the code, which some versions of msgspec leave."""
    return {name: _clean(definition) for name, definition in definitions.items()}


def _clean(definition: dict[str, Any]) -> dict[str, Any]:
    described = definition.get("description")
    return definition if described is None else definition | {"description": inspect.cleandoc(described)}
