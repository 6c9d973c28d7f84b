"""Whatever the environment says, settings are built or refused with a ValueError, and a refusal tells no secret."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from chronotope.diagnosis.installation import check_settings, settings_models

SECRET = "hunter2-never-told"
texts = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=40),
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(str),
    st.sampled_from(
        ["", "true", "null", "{}", "[]", "[1]", '{"a":1}', '{"a":', "1e999", "-0", "PLAINTEXT", "SASL_SSL"]
    ),
)
SETTINGS = [
    (model, f"{model.model_config['env_prefix']}{name}".upper(), SecretStr in _types)
    for model in settings_models()
    for name, field in model.model_fields.items()
    for _types in [set(getattr(field.annotation, "__args__", ())) | {field.annotation}]
]


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("CHRONOTOPE_")}
    with mock.patch.dict(os.environ, others | variables, clear=True):
        yield


def _build(model: type[BaseSettings]) -> str:
    try:
        return repr(model())
    except ValueError as error:
        return str(error)


@settings(max_examples=400, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from(SETTINGS), texts, min_size=1, max_size=4))
def test_any_environment_is_taken_or_refused(chosen: dict[tuple[type[BaseSettings], str, bool], str]) -> None:
    secrets = {name for _, name, secret in SETTINGS if secret}
    variables = {name: value for (_, name, _), value in chosen.items()} | dict.fromkeys(secrets, SECRET)
    with environment(variables):
        for model in {model for model, _, _ in chosen}:
            assert SECRET not in _build(model)
        assert not [finding for finding in check_settings() if SECRET in finding.detail]


@pytest.mark.parametrize("variable", [name for _, name, secret in SETTINGS if secret])
def test_there_are_secrets_to_keep(variable: str) -> None:
    assert variable.endswith(("PASSWORD", "TOKEN", "URL", "KEY"))
