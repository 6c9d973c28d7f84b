"""SIGTERM and a closed terminal end a command as Ctrl-C does: through its ``finally`` blocks."""

import signal
import sys
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def end_on_signals() -> None:
    """Turn SIGTERM and SIGHUP into SystemExit(128 + signal) in the main thread; only the first one, so that the end runs."""
    for each in SIGNALS:
        signal.signal(each, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)
