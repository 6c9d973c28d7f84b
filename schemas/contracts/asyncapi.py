"""The AsyncAPI 3 document of every topic, generated from the topic declarations."""

from typing import Any

import msgspec

from schemas.contracts.json_schema import schema_components
from schemas.topics import PUBLIC_TOPICS, TopicSpec

_READ_BY_US = ("behavior.event.raw.v1", "catalog.item.v1", "recommendation.request.v1", "recommendation.feedback.v1")


def asyncapi_document(version: str) -> dict[str, Any]:
    """The AsyncAPI 3.0.0 document: a channel per public topic, what we receive and what we send.

    Internal topics are left out: they are no contract.

    >>> sorted(asyncapi_document("0.1.0"))[:3]
    ['asyncapi', 'channels', 'components']
    """
    structs = sorted({struct for spec in PUBLIC_TOPICS for struct in spec.values}, key=lambda struct: struct.__name__)
    refs, schemas = schema_components(structs)
    messages: dict[str, Any] = {
        struct.__name__: _message(struct, ref) for struct, ref in zip(structs, refs, strict=True)
    }
    messages["RejectedRecord"] = {
        "name": "RejectedRecord",
        "summary": "The original bytes; headers name stage, error and source topic, partition and offset.",
        "contentType": "application/octet-stream",
        "payload": {"type": "string", "format": "binary"},
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Chronotope",
            "version": version,
            "description": "Spatio-temporal patterns of behaviour and the recommendations that they keep fresh.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {spec.name: _channel(spec) for spec in PUBLIC_TOPICS},
        "operations": {_operation_name(spec): _operation(spec) for spec in PUBLIC_TOPICS},
        "components": {"messages": messages, "schemas": schemas},
    }


def _message(struct: type[msgspec.Struct], ref: dict[str, Any]) -> dict[str, Any]:
    summary = (struct.__doc__ or "").strip().splitlines()[0]
    return {"name": struct.__name__, "summary": summary, "payload": ref}


def _message_names(spec: TopicSpec) -> list[str]:
    return [struct.__name__ for struct in spec.values] or ["RejectedRecord"]


def _channel(spec: TopicSpec) -> dict[str, Any]:
    config = {"cleanup.policy": spec.cleanup_policy.split(","), "retention.ms": spec.retention_ms}
    return {
        "address": spec.name,
        "description": f"{spec.summary} Key: {spec.key}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _message_names(spec)},
        "bindings": {"kafka": {"topic": spec.name, "partitions": spec.partitions, "topicConfiguration": config}},
    }


def _operation_name(spec: TopicSpec) -> str:
    return f"{'receive' if spec.name in _READ_BY_US else 'send'}.{spec.name}"


def _operation(spec: TopicSpec) -> dict[str, Any]:
    channel = f"#/channels/{spec.name}"
    return {
        "action": "receive" if spec.name in _READ_BY_US else "send",
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{name}"} for name in _message_names(spec)],
    }
