"""Why a stranger's agent, suite, launcher or tracker could not be used, though all it holds is of its type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol

from results.layout import RunId

if TYPE_CHECKING:
    from collections.abc import Iterator

    from covr_bench.kit.api import AgentSpec
    from suites.base import Suite, Task


class HasSettings(Protocol):
    """What launchers and trackers share."""

    @property
    def Settings(self) -> type[Any]: ...


def of_agent(spec: AgentSpec) -> Iterator[str]:
    """What is wrong with an agent, a sentence each."""
    try:
        RunId("suite", "budget", "task", spec.name)
    except ValueError as error:
        yield str(error)
    if wrong := list(_of_values("Config", spec.Config)):
        yield from wrong
        return
    defaults = asdict(spec.Config())
    if spec.wraps and not isinstance(defaults.get(spec.wraps), str):
        yield f"it wraps the agent that its setting {spec.wraps!r} names, and its Config has no such setting of text"
    yield from _of_labels(spec, defaults)


def _of_labels(spec: AgentSpec, settings: Mapping[str, Any]) -> Iterator[str]:
    try:
        labels = spec.labels(settings)
    except Exception as error:
        yield f"its labels fail on its default settings: {type(error).__name__}: {error}"
        return
    texts = [*labels, *labels.values()] if isinstance(labels, Mapping) else [None]
    if not all(isinstance(text, str) and not set(",=") & set(text) for text in texts):
        yield f"its labels are {labels!r}; they should be texts by name, without ',' and '='"


def of_settings(spec: HasSettings) -> Iterator[str]:
    """What is wrong with the settings of a launcher or a tracker, a sentence each."""
    yield from _of_values("Settings", spec.Settings)


def _of_values(called: str, values: type[Any]) -> Iterator[str]:
    from pydantic import PydanticUserError, TypeAdapter, ValidationError

    if not is_dataclass(values):
        yield f"its {called} is {values!r}, which is no dataclass; declare it with @dataclass(frozen=True)"
        return
    if missing := [item.name for item in fields(values) if _has_no_default(item)]:
        yield f"its {called} has no default for {', '.join(missing)}; give each setting its published value"
        return
    try:
        TypeAdapter(values).validate_python(asdict(values()))
    except ValidationError as error:
        wrong = error.errors()[0]
        name = ".".join(map(str, wrong["loc"]))
        yield f"its default {name} = {wrong['input']!r} is not of its type: {wrong['msg']}"
    except PydanticUserError as error:
        yield (
            f"its {called} has a field that cannot be a setting: {str(error).split(' Set `')[0]}. Fields are numbers, "
            "texts, and lists, tuples, dicts or dataclasses of them"
        )
    except Exception as error:  # of a user's own __post_init__
        yield f"its {called} cannot be made of its defaults: {type(error).__name__}: {error}"


def of_suite(suite: Suite) -> Iterator[str]:
    """What is wrong with a suite, a sentence each."""
    names = [task.name for task in suite.tasks]
    if not names:
        yield "it has no task"
    for name in {name for name in names if names.count(name) > 1}:
        yield f"two of its tasks are called {name!r}; give one another name"
    for name in suite.default_tasks:
        if name not in names:
            yield f"its default_tasks name {name!r}, which is none of its tasks: {', '.join(names)}"
    yield from (problem for task in suite.tasks for problem in _of_task(task))


def _of_task(task: Task) -> Iterator[str]:
    low, high = task.score_range
    if not (isfinite(low) and isfinite(high) and low < high):
        yield f"the score_range of its task {task.name} is {task.score_range}; give the return that counts as 0, then 1"
    if not task.observations:
        yield f"its task {task.name} has no observations; give pixels, state, or both"


def _has_no_default(item: Field[Any]) -> bool:
    return item.init and item.default is MISSING and item.default_factory is MISSING
