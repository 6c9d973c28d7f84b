"""Failures that a command names in one line, with its exit code."""

FAILED = 1
WRONG_INPUT = 2


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


def _settings_line(error: "ValidationError") -> str:  # noqa: F821
    problems = []
    for each in error.errors():
        field = ".".join(str(part) for part in each["loc"])
        problems.append(f"{field}: {each['msg']}" if field else each["msg"])
    return f"setting of {error.title}: {'; '.join(problems)}"
