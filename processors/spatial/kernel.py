"""The compiler of this package's kernels.

A kernel gets all arrays of a window as one tuple and allocates nothing. numba would count references of every array of
the tuple at every call, which costs more than the calls do; without its run-time (``_nrt=False``) it does not.
"""

from __future__ import annotations

from numba import njit

kernel = njit(cache=True, _nrt=False)
