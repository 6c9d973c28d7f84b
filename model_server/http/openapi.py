"""The OpenAPI 3.1 document of the HTTP interface; message shapes come from the structs themselves."""

from typing import Any

import msgspec

from schemas.contracts.json_schema import schema_components
from schemas.recommendations import Recommendation

TEXT: dict[str, Any] = {"type": "string"}
NUMBER: dict[str, Any] = {"type": "number"}


def openapi_document(*, secured: bool) -> bytes:
    """The document as JSON; ``secured`` says whether look-ups need the bearer token.

    >>> msgspec.json.decode(openapi_document(secured=False))["openapi"]
    '3.1.0'
    """
    _, components = schema_components([Recommendation])
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "Chronotope model server", "version": "1"},
        "paths": {
            "/recommendations/{user}": {"get": _look_up(secured)},
            "/healthz": {"get": _plain("Alive: the process answers and its serving loop moves.", "503")},
            "/readyz": {"get": _plain("Ready: assigned, recovered, models loaded.", "503")},
            "/metrics": {"get": _plain("Metrics in Prometheus' text format.")},
            "/openapi.json": {"get": _plain("This document.")},
        },
        "components": {"schemas": {**components, "Problem": _problem_schema()}},
    }
    if secured:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return msgspec.json.encode(document)


def _look_up(secured: bool) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": "The user's standing recommendation; a fresh one if none stands or any parameter is given.",
        "operationId": "getRecommendations",
        "parameters": [
            {"name": "user", "in": "path", "required": True, "schema": {**TEXT, "maxLength": 256}},
            _parameter("k", "Items to recommend.", {"type": "integer", "minimum": 1, "maximum": 1000}),
            _parameter("lat", "WGS84 latitude in degrees, with lon.", {**NUMBER, "minimum": -90, "maximum": 90}),
            _parameter("lon", "WGS84 longitude in degrees, with lat.", {**NUMBER, "minimum": -180, "maximum": 180}),
            _parameter("radius_m", "Farthest item from (lat, lon) in metres.", {**NUMBER, "minimum": 0}),
            _parameter("category", "Only items in one of these categories.", {"type": "array", "items": TEXT}),
            _parameter("fresh", "Given at all: compute now instead of returning what stands.", TEXT),
        ],
        "responses": {
            "200": _answer("The recommendation.", "application/json", "Recommendation"),
            **{
                status: _answer(words, "application/problem+json", "Problem")
                for status, words in {
                    "400": "A parameter is wrong.",
                    "401": "The bearer token is missing or wrong.",
                    "429": "Too many requests from this address.",
                    "503": "No answer in time.",
                }.items()
            },
        },
    }
    if secured:
        operation["security"] = [{"token": []}]
    return operation


def _parameter(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _answer(description: str, media_type: str, schema: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


def _plain(summary: str, *failures: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {status: {"description": summary} for status in ("200", *failures)}}


def _problem_schema() -> dict[str, Any]:
    return {"type": "object", "properties": {"status": {"type": "integer"}, "title": TEXT, "detail": TEXT}}
