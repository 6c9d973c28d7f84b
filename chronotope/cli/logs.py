"""How the long-running commands log: JSON lines for machines, readable lines on a terminal; tracebacks plain and whole."""

import logging
import sys


def configure_logs(level: str = "info") -> None:
    """Set up structlog for this process; ``level`` is the least severe that is written, to standard error.

    Tracebacks carry no local variables: those hold users' data, and rendering them takes longer than most failures.
    """
    import structlog

    on_terminal = sys.stderr.isatty()
    rendered = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if on_terminal
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *rendered,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
