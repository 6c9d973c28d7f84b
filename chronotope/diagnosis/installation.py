"""What is installed and configured on this machine: packages, settings, files, models."""

import os
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from pydantic_settings import BaseSettings

from chronotope.diagnosis.finding import Finding, fine, problem, warning
from schemas.settings import EventSettings, KafkaSettings, PseudonymSettings, RedisSettings, RegistrySettings

if TYPE_CHECKING:
    from model_server.settings import ServerSettings
    from streams.settings import WorkerSettings

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def check_versions() -> Iterator[Finding]:
    """Whether what is installed is what the distribution asks for; the pinned pair is held to the letter."""
    yield fine("python", sys.version.split()[0])
    wrong = []
    for text in requires("chronotope") or []:
        need = Requirement(text)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(need.name)
        except PackageNotFoundError:
            wrong.append(f"{need.name} is missing, {need.specifier} is needed")
            continue
        if not need.specifier.contains(found, prereleases=True):
            wrong.append(f"{need.name} is {found}, {need.specifier} is needed")
    if wrong:
        yield problem("packages", "; ".join(wrong))
        return
    pinned = ("chronotope", "faust-streaming", "aiokafka", "torch")
    yield fine("packages", ", ".join(f"{name} {version(name)}" for name in pinned))


def settings_models() -> tuple[type[BaseSettings], ...]:
    """Every group of settings that is read from the environment."""
    from model_server.settings import ServerSettings
    from streams.settings import WorkerSettings

    return (
        KafkaSettings, EventSettings, PseudonymSettings, RedisSettings, RegistrySettings, WorkerSettings, ServerSettings,
    )  # fmt: skip


def known_variables() -> set[str]:
    """The environment variables that mean something to Chronotope."""
    known = {"CHRONOTOPE_DATA", "CHRONOTOPE_KAFKA_JARS"}
    for model in settings_models():
        prefix = model.model_config.get("env_prefix", "")
        known |= {f"{prefix}{name}".upper() for name in model.model_fields}
    return known


def check_settings() -> Iterator[Finding]:
    """Whether every setting of the environment is known and valid, and none contradicts another."""
    unknown = sorted({name for name in os.environ if name.startswith("CHRONOTOPE_")} - known_variables())
    for name in unknown:
        yield warning("settings", f"{name} is no setting of Chronotope")
    failed = False
    for model in settings_models():
        try:
            model()
        except ValueError as error:
            failed = True
            yield problem("settings", " ".join(str(error).split())[:400])
    contradictions = [] if failed else list(_contradictions(KafkaSettings(), RedisSettings()))
    for detail in contradictions:
        yield problem("settings", detail)
    if not (failed or unknown or contradictions):
        yield fine("settings", "every variable is known and valid")


def _contradictions(kafka: KafkaSettings, redis: RedisSettings) -> Iterator[str]:
    protocol = kafka.security_protocol
    if kafka.sasl_username is not None and "SASL" not in protocol:
        yield f"a SASL user is set, but CHRONOTOPE_KAFKA_SECURITY_PROTOCOL is {protocol}: nobody would be told who we are"
    if "SASL" in protocol and (kafka.sasl_username is None or kafka.sasl_mechanism is None):
        yield f"CHRONOTOPE_KAFKA_SECURITY_PROTOCOL is {protocol}, but the SASL mechanism or user is not set"
    if kafka.ssl_ca_file is not None and "SSL" not in protocol.split("_"):
        yield f"a certificate authority is set, but CHRONOTOPE_KAFKA_SECURITY_PROTOCOL is {protocol}: there would be no TLS"
    if redis.ssl_ca_file is not None and not redis.url.get_secret_value().startswith("rediss://"):
        yield "CHRONOTOPE_REDIS_SSL_CA_FILE is set, but CHRONOTOPE_REDIS_URL is not rediss://: there would be no TLS"


def check_files(worker: "WorkerSettings", server: "ServerSettings") -> Iterator[Finding]:
    """Whether the certificates that are named can be read, and the directories that are named can be written."""
    certificates = {
        "CHRONOTOPE_KAFKA_SSL_CA_FILE": worker.kafka.ssl_ca_file,
        "CHRONOTOPE_KAFKA_SSL_CERT_FILE": worker.kafka.ssl_cert_file,
        "CHRONOTOPE_KAFKA_SSL_KEY_FILE": worker.kafka.ssl_key_file,
        "CHRONOTOPE_REDIS_SSL_CA_FILE": RedisSettings().ssl_ca_file,
        "CHRONOTOPE_REGISTRY_SSL_CA_FILE": RegistrySettings().ssl_ca_file,
    }
    given = {name: path for name, path in certificates.items() if path is not None}
    unreadable = [f"{name} ({path}) cannot be read" for name, path in given.items() if not os.access(path, os.R_OK)]
    if unreadable:
        yield problem("tls", "; ".join(unreadable))
    elif given:
        yield fine("tls", f"{len(given)} certificate files can be read")
    directories = {
        "CHRONOTOPE_WORKER_DATA_DIR": worker.data_dir,
        "CHRONOTOPE_SERVER_CHECKPOINT_DIR": server.checkpoint_dir,
    }
    wrong = [f"{name} ({path}) {why}" for name, path in directories.items() if path and (why := _unusable(path))]
    yield problem("files", "; ".join(wrong)) if wrong else fine("files", "the directories can be written")


def _unusable(directory: Path) -> str:
    """Why files cannot be written there; empty if they can, or if the directory can be made."""
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not existing.is_dir():
        return f"is not a directory: {existing} is a file"
    return "" if os.access(existing, os.W_OK | os.X_OK) else f"cannot be written: no right to write in {existing}"


def check_models(server: "ServerSettings") -> Iterator[Finding]:
    """Whether the model server could start with the strategies, the device and the checkpoint that it is told to use."""
    import torch

    from model_server.checkpoints import CheckpointError, load_checkpoint
    from model_server.recovery import FILE_NAME
    from model_server.strategies import asked_strategies, unknown_strategies

    wrong = unknown_strategies(server)
    try:
        torch.empty(0, device=server.device)
    except (RuntimeError, AssertionError) as error:  # builds without CUDA assert that they have it
        wrong.append(f"device {server.device!r} cannot be used: {str(error).strip().splitlines()[0]}")
    checkpoint = None if server.checkpoint_dir is None else server.checkpoint_dir / FILE_NAME
    if checkpoint is not None and checkpoint.is_file():
        try:
            load_checkpoint(checkpoint)
        except CheckpointError as error:
            wrong.append(f"{error}; the server would learn everything again")
    for detail in wrong:
        yield problem("model", detail)
    if not wrong:
        yield fine("model", f"{', '.join(sorted(asked_strategies(server)))} on {server.device}")
    if server.http_host not in LOOPBACK and server.http_token is None:
        yield warning("http", f"look-ups on {server.http_host}:{server.http_port} need no token: anybody there may ask")
