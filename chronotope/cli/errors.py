"""Failures that a command names in one line, with its exit code."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

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

    from chronotope.kafka.errors import ClusterError
    from chronotope.local.process import ProcessFailed

    if isinstance(error, ValidationError):
        return _settings_line(error)
    if isinstance(error, ClusterError | ProcessFailed):
        return str(error)
    return None


def _settings_line(error: "ValidationError") -> str:
    """The variables that are wrong, by the names they have in the environment, and why."""
    prefix = SETTINGS_PREFIX.get(error.title, "")
    problems = []
    for each in error.errors():
        field = "_".join(str(part) for part in each["loc"][:1])
        problems.append(f"{prefix}{field.upper()}: {each['msg']}" if field else each["msg"])
    return "; ".join(problems)
