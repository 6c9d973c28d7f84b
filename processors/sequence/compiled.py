"""numba kernels whose cache notices a change in any module of this package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba as nb


def _package_stamp() -> tuple[tuple[str, int, int], ...]:
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return tuple((source.name, source.stat().st_mtime_ns, source.stat().st_size) for source in sources)


_STAMP = _package_stamp()


def kernel(function: Callable[..., Any]) -> Any:
    """``njit(cache=True)`` for kernels that call kernels of other modules.

    numba keeps a compiled function until its own file changes, though the kernels it calls are compiled into it: after an
    update of ``rows.py`` alone, ``absorb`` would go on with the old rows. So the cache is told the stamp of the whole
    package in place of one file's.
    """
    compiled = nb.njit(cache=True)(function)
    compiled._cache._cache_file._source_stamp = _STAMP
    return compiled
