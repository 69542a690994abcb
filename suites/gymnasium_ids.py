"""Tasks by Gymnasium ids, so that scripts for Gymnasium run on them: `covr-bench/dmc6-walker_walk-v1`.

import gymnasium, suites
gymnasium.register_envs(suites)
env = gymnasium.make("covr-bench/dmc6-walker_walk-v1", image_size=64)
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import secrets
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    from collections.abc import Iterator

    from suites.base import Suite, Task

NAMESPACE = "covr-bench"
METADATA = {"render_modes": ["rgb_array"]}
DEFINES = re.compile(r"^SUITES?\b", re.MULTILINE)


def register(suite: Suite | None = None) -> list[str]:
    """Make `gymnasium.make` know the tasks of a suite; without one, of every suite of this package.

    The latter happens by itself as soon as both `suites` and Gymnasium are imported. A suite of your own takes the
    place of an earlier one with its ids: in a notebook the edited one counts.

    Keyword arguments of `gymnasium.make` are the task's own settings (`Task.options`: `image_size`, `frame_stack`,
    `action_repeat`, ...). An episode's time limit is the task's own.

    Returns:
        The ids, `covr-bench/<suite>-<task>-v<version of the suite>`.
    """
    if suite is None:
        # An entry point that is text can be written down: `spec.to_json()`, which Minari's datasets hold.
        entry = f"{__name__}:{make_by_id.__name__}"
        for name in (ours := _tasks()):
            if name not in gymnasium.registry:
                gymnasium.register(name, entry_point=entry, kwargs={"task_id": name}, disable_env_checker=True)
        return list(ours)
    ids, ours = _ids(suite), _tasks()
    for name, task in ids.items():
        if ours.get(name) is not task:
            made = partial(make, task)
            made.metadata = METADATA  # type: ignore[attr-defined]  # by which Gymnasium wraps other render modes
            gymnasium.registry.pop(name, None)  # Gymnasium warns of one that is there
            gymnasium.register(name, entry_point=made, disable_env_checker=True)
    return list(ids)


def make(
    task: Task, render_mode: str = "rgb_array", seed: int | None = None, **settings: Any
) -> gymnasium.Env[Any, Any]:
    """The task's environment.

    Args:
        task: Of a suite.
        render_mode: `rgb_array`, the only one there is.
        seed: Of the first episode, where `reset` is given none; None for another each time, as Gymnasium's own have it:
            the environments of a vector are no copies of one.
        **settings: `Task.options`.

    Raises:
        ValueError: Another render mode.
        TypeError: A setting that the task does not have.
    """
    if render_mode != "rgb_array":
        raise ValueError(f"render_mode is {render_mode!r}; {task.name} has 'rgb_array'")
    for strange in set(settings) - set(task.options):  # in Python's words: TorchRL looks for them
        raise TypeError(
            f"{task.name} got an unexpected keyword argument {strange!r}; its settings are {', '.join(task.options)}"
        )
    if task.needs_gl:
        from suites.gl import ensure_backend

        ensure_backend()
    first = secrets.randbits(31) if seed is None else seed
    return task.make(first, **settings)  # type: ignore[return-value]  # a TaskEnv is a gymnasium.Env


def make_by_id(task_id: str, **settings: Any) -> gymnasium.Env[Any, Any]:
    """The environment of a task of this package by its Gymnasium id; arguments and errors as of `make`."""
    return make(_tasks()[task_id], **settings)


make_by_id.metadata = METADATA  # type: ignore[attr-defined]


@cache
def _tasks() -> dict[str, Task]:
    """The tasks of this package by their ids."""
    return {name: task for suite in _ours() for name, task in _ids(suite).items()}


def _ids(suite: Suite) -> dict[str, Task]:
    return {f"{NAMESPACE}/{suite.name}-{task.name}-v{suite.version}": task for task in suite.tasks}


def _ours() -> Iterator[Suite]:
    """The suites of this package's modules; those that define none are not imported."""
    folder = Path(__file__).parent
    for module in pkgutil.iter_modules([str(folder)]):
        source = folder / module.name / "__init__.py" if module.ispkg else folder / f"{module.name}.py"
        if DEFINES.search(source.read_text(encoding="utf-8")):
            found = importlib.import_module(f"suites.{module.name}")
            yield from getattr(found, "SUITES", None) or (found.SUITE,)
