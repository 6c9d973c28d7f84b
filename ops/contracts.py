"""Writes the generated contracts to docs/contracts: Avro and JSON Schemas and the AsyncAPI document.

Run ``python ops/contracts.py`` after a change of a struct or a topic; a test holds the files against the code.
"""

import json
from importlib.metadata import version
from pathlib import Path

from schemas.contracts.asyncapi import asyncapi_document
from schemas.contracts.avro import avro_schema
from schemas.contracts.json_schema import json_schema
from schemas.topics import ALL_TOPICS

CONTRACTS = Path(__file__).resolve().parents[1] / "docs" / "contracts"


def contract_files() -> dict[str, str]:
    """The text of every contract file by its path below docs/contracts."""
    structs = {struct.__name__: struct for spec in ALL_TOPICS for struct in spec.values}
    documents = {"asyncapi.json": asyncapi_document(version("chronotope"))}
    documents |= {f"avro/{name}.avsc": avro_schema(struct) for name, struct in sorted(structs.items())}
    documents |= {f"json/{name}.schema.json": json_schema(struct) for name, struct in sorted(structs.items())}
    return {path: json.dumps(document, indent=2, ensure_ascii=False) + "\n" for path, document in documents.items()}


def main() -> None:
    """Write every contract file and remove those whose struct is gone."""
    files = contract_files()
    for stale in [path for path in CONTRACTS.rglob("*.json") if str(path.relative_to(CONTRACTS)) not in files]:
        if "released" not in stale.parts:
            stale.unlink()
    for path, text in files.items():
        (CONTRACTS / path).parent.mkdir(parents=True, exist_ok=True)
        (CONTRACTS / path).write_text(text)


if __name__ == "__main__":
    main()
