"""What one check found."""

from typing import Literal

import msgspec

Verdict = Literal["ok", "warning", "problem"]
NAMED = 5


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at, and what is wrong with it."""

    check: str
    verdict: Verdict
    detail: str


def problem(check: str, detail: str) -> Finding:
    """Something that does not work until somebody mends it."""
    return Finding(check=check, verdict="problem", detail=detail)


def warning(check: str, detail: str) -> Finding:
    """Something that works, but hardly as anybody wants it."""
    return Finding(check=check, verdict="warning", detail=detail)


def fine(check: str, detail: str) -> Finding:
    """Nothing is wrong here."""
    return Finding(check=check, verdict="ok", detail=detail)


def named(keys: list[bytes]) -> str:
    """The first few keys in words."""
    shown = ", ".join(key.decode(errors="replace") for key in sorted(keys)[:NAMED])
    return shown + (", ..." if len(keys) > NAMED else "")
