"""Numba compilation that survives a read-only installation."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.options import DefaultOptions

Function = TypeVar("Function", bound=Callable[..., Any])
_log = logging.getLogger(__name__)


_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}
# Without numba's runtime a kernel cannot make arrays, and does not count references to those it is given: with tuples
# of arrays as arguments that counting takes three quarters of the time. The wrappers left out serve nobody here.
_OPTIONS |= {
    name: value for name, value in (("_nrt", False), ("no_cfunc_wrapper", True)) if hasattr(DefaultOptions, name)
}

_INLINE: dict[str, Any] = {"forceinline": True, "no_cpython_wrapper": True}


# Folders of the package whose sources hold neither kernels nor anything that kernels use (`test_carla_maps` looks).
WITHOUT_KERNELS = ("task", "server/api", "server/protocol", "server/sensors")


def newest_source(package: Path) -> float:
    """When a source that may concern kernels last changed, in the folders of `package`; nothing beside is compiled."""
    plain = [package / folder for folder in WITHOUT_KERNELS]
    found = [path for path in package.glob("*/**/*.py") if not any(folder in path.parents for folder in plain)]
    sources = [path.stat().st_mtime for path in found if path.parent != package / "server"]
    return max((changed for changed in sources if changed <= time.time()), default=0.0)


def drop_stale(cache: Path, newest: float) -> None:
    """Removes kernels in the folder `cache` that numba kept before the time `newest`.

    Numba looks at the file of the kernel alone, not at those of the functions compiled into it.
    """
    for index in cache.glob("*.nbi"):
        try:
            if index.stat().st_mtime < newest:
                index.unlink()
        except (FileNotFoundError, PermissionError) as error:  # another process was first, or it is not ours to remove
            _log.debug("kept %s: %s", index, error)


_NEWEST = newest_source(Path(__file__).parent.parent)
KERNELS: list[Any] = []  # every compiled function, to tell how many are ready
_LOOKED_AT: set[Path] = set()  # folders in which numba keeps kernels of ours


def compiled(function: Function) -> Function:
    """`function` as machine code that Python calls, kept on disk between processes. It must not make arrays.

    Numba keeps it beside the source, else in the user's cache folder. Where it can write to neither, the function is
    compiled anew in each process (some seconds each) and a warning says what to set.
    """
    try:
        kernel: Any = numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError as error:
        _log.warning(
            "%s is compiled in every process (%s): set NUMBA_CACHE_DIR to a writable folder", function.__name__, error
        )
        return cast(Function, numba.njit(**_OPTIONS)(function))
    KERNELS.append(kernel)
    cache = Path(kernel.stats.cache_path)
    if cache not in _LOOKED_AT:
        _LOOKED_AT.add(cache)
        drop_stale(cache, _NEWEST)
    return cast(Function, kernel)


def inlined(function: Function) -> Function:
    """`function` as a part of the compiled functions that call it; Python does not call it itself.

    Its body goes into its callers: handing a tuple of arrays to a function that is not inlined copies a hundred words.
    """
    return cast(Function, numba.njit(**_OPTIONS, **_INLINE)(function))
