"""The AsyncAPI document is valid by the specification's own JSON Schema and covers every public topic."""

import json
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import jsonschema
import pytest

from schemas.contracts.asyncapi import asyncapi_document
from schemas.topics import PUBLIC_TOPICS


@pytest.fixture(scope="module")
def specification(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("NOT VALIDATED: npm is not here, and the AsyncAPI schema comes from its package @asyncapi/specs")
    folder: Path = tmp_path_factory.mktemp("asyncapi")
    command = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), "@asyncapi/specs@6.11.1"]
    if subprocess.run(command, capture_output=True, timeout=120).returncode != 0:
        pytest.skip("NOT VALIDATED: the npm registry does not serve @asyncapi/specs here")
    text = (folder / "node_modules/@asyncapi/specs/schemas/3.0.0.json").read_text()
    loaded: dict[str, object] = json.loads(text)
    return loaded


def test_document_is_valid_asyncapi(specification: dict[str, object]) -> None:
    jsonschema.Draft7Validator(specification).validate(asyncapi_document(version("chronotope")))


def test_every_public_topic_is_a_channel_with_its_messages() -> None:
    document = asyncapi_document("0.1.0")
    public = {spec.name: spec for spec in PUBLIC_TOPICS}
    assert not any(name.startswith("internal.") for name in public)
    assert set(document["channels"]) == set(public)
    for name, spec in public.items():
        expected = {struct.__name__ for struct in spec.values} or {"RejectedRecord"}
        assert set(document["channels"][name]["messages"]) == expected
        assert expected <= set(document["components"]["messages"])
