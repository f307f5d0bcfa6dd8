"""Copying many short runs of values: compiled, since index arrays would outweigh the values.

Importing this module imports numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from stillwatch.text.ragged import Offsets


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a loop when it is first called; other threads run while it does.

    Args:
        function: the loop.

    Returns:
        The compiled loop, kept on disk for the next run where there is a place to keep it. Such a
        copy does not notice when a constant of another module changes: remove `__pycache__` then.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        loop: Callable[..., Any] = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package nor the home folder can be written
        loop = numba.njit(**options)(function)
    return loop


def copy_runs(values: NDArray[Any], begins: NDArray[Any], offsets: Offsets) -> NDArray[Any]:
    """Lay runs of values end to end.

    Args:
        values: where they are taken from.
        begins: where each run begins, shape (n,).
        offsets: where each is put, shape (n + 1,).

    Returns:
        The runs, shape (offsets[-1],).
    """
    out = np.empty(int(offsets[-1]), values.dtype)
    _copy(values, begins, offsets, out)
    return out


@compiled
def _copy(  # noqa: PLR0917 - a compiled loop takes flat arrays
    values: Any, begins: Any, offsets: Any, out: Any
) -> None:
    for row in range(len(begins)):
        shift = np.uint64(begins[row]) - np.uint64(offsets[row])
        for place in range(np.uint64(offsets[row]), np.uint64(offsets[row + 1])):
            out[place] = values[shift + place]
