"""How the long-running commands log: JSON lines for machines, readable lines on a terminal; tracebacks plain and whole."""

import logging
import os
import socket
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from structlog.typing import EventDict, Processor, WrappedLogger


def configure_logs(service: str, level: str = "info", instance: str | None = None) -> None:
    """Set up logging for this process; ``level`` is the least severe that is written, to standard error.

    Every line names the ``service`` and its ``instance`` (host and process unless given). What libraries log through the
    standard library, from warnings on, and the error that a process ends by look the same. Tracebacks carry no local
    variables: those hold users' data, and rendering them takes longer than most failures.
    """
    import structlog

    who = {"service": service, "instance": instance or f"{socket.gethostname()}:{os.getpid()}"}

    def name_process(logger: "WrappedLogger", method: str, line: "EventDict") -> "EventDict":
        return {**line, **who}

    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_process,
    ]
    rendered: list[Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if sys.stderr.isatty()
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*common, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
            foreign_pre_chain=[*common, structlog.stdlib.add_logger_name],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    sys.excepthook = _log_defect


def _log_defect(kind: type[BaseException], error: BaseException, trace: "TracebackType | None") -> None:
    import structlog

    structlog.get_logger().critical("ended by an error", exc_info=(kind, error, trace))
