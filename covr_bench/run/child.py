"""A Python process of ours, `python child.py MODULE PARENT`: no file in the working directory hides a module from it.

`python -m` looks for every module in the working directory first, where a user's `analysis.py` or `random.py` would be
taken for ours or the standard library's; its option `-P` exists from Python 3.11 only. Until the search path is in
order, this file imports nothing that the interpreter has not imported itself.
"""

from __future__ import annotations

import os
import sys

_FOLDER = os.path.dirname(os.path.realpath(__file__))
HOME = os.path.dirname(os.path.dirname(_FOLDER))
"""The folder that our packages are in."""


def python_child(module: str) -> list[str]:
    """The command that runs a module as a child of this process, and ends it by SIGTERM when this process dies.

    The child inherits the environment: what `PYTHONPATH` names can be imported, the working directory last.

    Args:
        module: Such as `covr_bench.run.worker`; it runs as `__main__`.
    """
    return [sys.executable, __file__, module, str(os.getpid())]


def search_path(entries: list[str]) -> list[str]:
    """`sys.path` in an order in which the working directory hides nothing.

    Args:
        entries: The path as Python made it.

    Returns:
        The same without this file's folder; ours come directly after the standard library, the working directory last.
    """
    here = os.path.realpath(os.getcwd())
    kept = [entry for entry in entries if os.path.realpath(entry or ".") not in (here, _FOLDER)]
    library = os.path.dirname(os.__file__)
    after = kept.index(library) + 1 if library in kept else 0
    last = [here] if any(os.path.realpath(entry or ".") == here for entry in entries) else []
    return [*kept[:after], HOME, *kept[after:], *last]


def end_with_parent(parent: int) -> None:
    """On Linux, get SIGTERM when the parent dies, even by SIGKILL.

    Args:
        parent: Its process id; if it has died already, this process ends at once.
    """
    import ctypes
    import signal

    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            sys.exit(f"the process {parent} that started this one is gone")


def main() -> None:
    """Run the module that the command line names."""
    module, parent = sys.argv[1:]
    sys.path[:] = search_path(sys.path)
    end_with_parent(int(parent))
    import runpy

    sys.argv[:] = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
