"""Failures that a command names in one line, with its exit code."""

import errno
import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

FAILED = 1
WRONG_INPUT = 2
SETTINGS_PREFIX = {
    "KafkaSettings": "CHRONOTOPE_KAFKA_",
    "EventSettings": "CHRONOTOPE_EVENT_",
    "PseudonymSettings": "CHRONOTOPE_PSEUDONYM_",
    "RedisSettings": "CHRONOTOPE_REDIS_",
    "RegistrySettings": "CHRONOTOPE_REGISTRY_",
    "WorkerSettings": "CHRONOTOPE_WORKER_",
    "ServerSettings": "CHRONOTOPE_SERVER_",
}


class CommandFailed(Exception):
    """Ends the command with this one line and exit code; 2 is for input that the caller must change."""

    def __init__(self, reason: str, exit_code: int = FAILED) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


def explain(error: Exception) -> str | None:
    """An expected error in one line; None for a defect, which deserves its traceback."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from chronotope.kafka.errors import ClusterError
    from chronotope.local.process import ProcessFailed

    match error:
        case ValidationError():
            return _settings_line(error)
        case SettingsError():
            return _not_json_line(error)
        case ClusterError() | ProcessFailed():
            return str(error)
        case OSError() if error.filename is not None:
            return f"{error.filename}: {error.strerror}"
        case OSError(errno=errno.EADDRINUSE):
            return str(error.strerror)
    return None


def _settings_line(error: "ValidationError") -> str:
    """The variables that are wrong, by the names they have in the environment, and why."""
    prefix = SETTINGS_PREFIX.get(error.title, "")
    problems = []
    for each in error.errors():
        field = "_".join(str(part) for part in each["loc"][:1])
        problems.append(f"{prefix}{field.upper()}: {each['msg']}" if field else each["msg"])
    return "; ".join(problems)


def _not_json_line(error: "SettingsError") -> str:
    """The variable whose value should be JSON and is not; pydantic names only its field."""
    field = re.search(r'field "(\w+)"', str(error))
    names = [prefix + field[1].upper() for prefix in SETTINGS_PREFIX.values()] if field else []
    variable = next((name for name in names if name in os.environ), None)
    return str(error) if variable is None else f"{variable}: must be JSON, as its default in docs/settings.md is"
