"""Avro schemas from message structs, and values in the shape that those schemas describe."""

from typing import Any

import msgspec
from msgspec import inspect

NAMESPACE = "chronotope"
_PRIMITIVES: dict[type[inspect.Type], str] = {
    inspect.NoneType: "null",
    inspect.BoolType: "boolean",
    inspect.IntType: "long",
    inspect.FloatType: "double",
    inspect.StrType: "string",
    inspect.BytesType: "bytes",
    inspect.LiteralType: "string",
}


def avro_schema(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The Avro record schema of a message struct, defaults included, named in the ``chronotope`` namespace.

    A tag (several structs on one topic) becomes a string field with the tag as its default. Literals are strings, so that a
    new value stays readable by old readers.

    >>> from schemas.events import RecommendationFeedback
    >>> [field["name"] for field in avro_schema(RecommendationFeedback)["fields"]][:2]
    ['request_id', 'user_id']

    Raises TypeError for a field that Avro cannot hold.
    """
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    schema = _record(info, set())
    return {**schema, "namespace": NAMESPACE, "doc": (struct.__doc__ or "").strip().splitlines()[0]}


def to_avro(message: Any) -> Any:
    """The value of a struct as its Avro schema describes it (records as dicts, also where JSON has arrays). O(size)."""
    if isinstance(message, msgspec.Struct):
        fields = {name: to_avro(getattr(message, name)) for name in message.__struct_fields__}
        config = message.__struct_config__
        return {config.tag_field: config.tag, **fields} if config.tag_field else fields
    if isinstance(message, list | tuple):
        return [to_avro(part) for part in message]
    if isinstance(message, dict):
        return {name: to_avro(part) for name, part in message.items()}
    return message


def from_avro(value: Any, struct: type[msgspec.Struct]) -> Any:
    """The struct of a decoded Avro value; msgspec.ValidationError if it does not fit. O(size).

    >>> from schemas.events import RecommendationFeedback
    >>> sent = RecommendationFeedback(request_id="r", user_id="u", item_id="i", kind="click", event_time_ms=1)
    >>> from_avro(to_avro(sent), RecommendationFeedback) == sent
    True
    """
    return msgspec.convert(_as_json_shape(value, inspect.type_info(struct)), struct)


def _record(info: inspect.StructType, named: set[str]) -> dict[str, Any]:
    named.add(info.cls.__name__)
    fields = [_field(field, named) for field in info.fields]
    if info.tag_field:
        fields.insert(0, {"name": info.tag_field, "type": "string", "default": info.tag})
    return {"type": "record", "name": info.cls.__name__, "fields": fields}


def _field(field: inspect.Field, named: set[str]) -> dict[str, Any]:
    described: dict[str, Any] = {"name": field.encode_name, "type": _schema_of(field.type, named)}
    if field.default is not msgspec.NODEFAULT:
        described["default"] = field.default
    elif field.default_factory is not msgspec.NODEFAULT:
        described["default"] = to_avro(field.default_factory())
    return described


def _schema_of(info: inspect.Type, named: set[str]) -> Any:
    primitive = _PRIMITIVES.get(type(info))
    if primitive:
        return primitive
    if isinstance(info, inspect.StructType):
        return info.cls.__name__ if info.cls.__name__ in named else _record(info, named)
    if isinstance(info, inspect.ListType | inspect.VarTupleType):
        return {"type": "array", "items": _schema_of(info.item_type, named)}
    if isinstance(info, inspect.TupleType) and len({type(part) for part in info.item_types}) == 1:
        return {"type": "array", "items": _schema_of(info.item_types[0], named)}
    if isinstance(info, inspect.DictType):
        return {"type": "map", "values": _schema_of(info.value_type, named)}
    if isinstance(info, inspect.UnionType):
        # Avro wants the default's type first, and every optional field of ours defaults to None.
        parts = sorted(info.types, key=lambda part: not isinstance(part, inspect.NoneType))
        return [_schema_of(part, named) for part in parts]
    raise TypeError(f"Avro cannot hold {info}")


def _as_json_shape(value: Any, info: inspect.Type) -> Any:
    if value is None:
        return None
    if isinstance(info, inspect.UnionType):
        present = [part for part in info.types if not isinstance(part, inspect.NoneType)]
        return _as_json_shape(value, present[0])
    if isinstance(info, inspect.StructType) and isinstance(value, dict):
        shaped = {field.encode_name: _as_json_shape(value.get(field.encode_name), field.type) for field in info.fields}
        return (
            list(shaped.values()) if info.array_like else {n: v for n, v in value.items() if n not in shaped} | shaped
        )
    if isinstance(info, inspect.ListType) and isinstance(value, list):
        return [_as_json_shape(part, info.item_type) for part in value]
    return value
