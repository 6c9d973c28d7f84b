"""One child process with a log file that ends when we say so, and at the latest when we die."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class ProcessFailed(RuntimeError):
    """A child ended, or did not become ready in time; the message holds the end of its log."""


class ManagedProcess:
    """A child process in a session of its own; the kernel kills it when this process dies, however that happens.

    The child does not see the terminal's Ctrl-C or hang-up: the parent decides the order in which things end. On Linux the
    tie to the parent is ``PR_SET_PDEATHSIG``, which follows the *thread* that starts the child: start from the main thread.
    Use as a context manager, or call ``start`` and ``stop``.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log_path: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stop_timeout_s: float = 15.0,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log_path = log_path
        self._env = env
        self._cwd = cwd
        self._stop_timeout_s = stop_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._group_ended = False  # its number may belong to strangers from then on

    @property
    def pid(self) -> int:
        """The child's process id. Raises ProcessFailed before ``start``."""
        if self._process is None:
            raise ProcessFailed(f"{self.name} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the child was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The child's exit code (negative: the signal that ended it), None while it runs or before ``start``."""
        return None if self._process is None else self._process.poll()

    def start(self) -> "ManagedProcess":
        """Start the child; its standard output and error are appended to the log file. Raises OSError if it cannot run."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=None if self._env is None else dict(self._env),
                cwd=self._cwd,
                start_new_session=True,
                preexec_fn=_die_with_parent(os.getpid()),
            )
        self._group_ended = False
        return self

    def terminate(self) -> None:
        """Ask the child to end (SIGTERM) without waiting for it. Idempotent."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def stop(self) -> None:
        """Ask the child to end (SIGTERM), insist after the timeout (SIGKILL on its whole group), wait for it. Idempotent."""
        if self._process is None:
            return
        if self.running:
            self.terminate()
            try:
                self._process.wait(self._stop_timeout_s)
            except subprocess.TimeoutExpired:
                pass
            except BaseException:  # a second Ctrl-C while we wait: end it at once, then let the interrupt through
                self.kill()
                raise
        self.kill()

    def kill(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """Send ``sig`` to the child and everything it started, and wait for the child. Idempotent."""
        if self._process is None or self._group_ended:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, sig)
        self._process.wait()
        self._group_ended = True

    def wait_until(self, ready: Callable[[], bool], timeout_s: float, poll_s: float = 0.05) -> None:
        """Poll ``ready`` until it holds; raises ProcessFailed if the child ends first or the time is up."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            if not self.running:
                raise ProcessFailed(f"{self.name} ended with code {self.exit_code} at start{self.log_tail()}")
            if time.monotonic() > deadline:
                raise ProcessFailed(f"{self.name} was not ready after {timeout_s:g} s{self.log_tail()}")
            time.sleep(poll_s)

    def log_tail(self, lines: int = 12) -> str:
        """The end of the log, to be appended to an error message."""
        try:
            tail = self.log_path.read_text(errors="replace").splitlines()[-lines:]
        except OSError:
            tail = []
        return f"; the end of {self.log_path}:\n  " + "\n  ".join(tail or ["(empty)"])

    def __enter__(self) -> "ManagedProcess":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _die_with_parent(parent_pid: int) -> Callable[[], None] | None:
    if _LIBC is None:
        return None
    prctl = _LIBC.prctl

    def before_exec() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # the parent died between fork and prctl
            os._exit(1)

    return before_exec
