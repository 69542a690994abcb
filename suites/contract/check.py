"""The check of an environment: quick before every launch, thorough when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from suites.contract import episodes, first_steps, spaces
from suites.contract.remains import Remains
from suites.contract.trial import Broken, Trial, raised, tried

if TYPE_CHECKING:
    from suites.base import Task, TaskEnv


class _Promise(NamedTuple):
    """needs: promises without which this one cannot be tried."""

    name: str
    broken: Callable[[Trial], Iterator[str]]
    needs: tuple[str, ...] = ()


QUICK = (
    _Promise("actions", spaces.actions),
    _Promise("observations", spaces.observations),
    _Promise("reset", first_steps.reset),
    _Promise("first observation", first_steps.first_observation, ("reset",)),
    _Promise("steps", first_steps.steps, ("reset",)),
    _Promise("picture", first_steps.picture, ("reset",)),
    _Promise("labels", first_steps.labels),
)
THOROUGH = (
    _Promise("same seed", episodes.same_seed, ("actions", "first observation", "steps")),
    _Promise("other seeds", episodes.other_seeds, ("same seed",)),
    _Promise("two at a time", episodes.beside_another, ("same seed",)),
    _Promise("drawing", episodes.drawing, ("same seed", "picture")),
    _Promise("whole episodes", episodes.whole, ("actions", "first observation", "steps")),
    _Promise("options", episodes.options, ("observations", "first observation")),
)


@dataclass(frozen=True)
class Finding:
    """A promise that was tried.

    Attributes:
        promise: In a word or two, such as `actions`.
        problems: One sentence each: what is wrong, and how to mend it. Empty if the promise is kept.
    """

    promise: str
    problems: tuple[str, ...]


def check(env: TaskEnv, task: Task, options: Mapping[str, Any] | None = None) -> list[Finding]:
    """What an environment lacks, as its spaces and a few steps show it.

    Args:
        env: Made by the task; it is left within an episode.
        task: Whose promises are tried.
        options: Those that `env` was made with.

    Returns:
        The promises that are not kept; none if it can be trained on.
    """
    if problems := tuple(spaces.methods(env)):
        return [Finding("making", problems)]
    return [finding for finding in _tried(QUICK, Trial(env, task, options or {})) if finding.problems]


def examine(task: Task, options: Mapping[str, Any] | None = None) -> Iterator[Finding]:
    """Every promise, on environments made for it: whole episodes, other options, what closing leaves behind.

    Args:
        task: What is tried.
        options: Of its `make`.

    Yields:
        A finding for each promise as soon as it was tried; those that depend on a broken one are left out.
    """
    chosen, remains = options or {}, Remains()
    try:
        env = tried("make(seed=0)", lambda: task.make(0, **chosen), lambda error: "mend make")
    except Broken as broken:
        yield Finding("making", (str(broken),))
        return
    yield Finding("making", problems := tuple(spaces.methods(env)))
    if problems:
        return
    yield from _tried((*QUICK, *THOROUGH), Trial(env, task, chosen))
    yield Finding("closing", tuple(_closed(env, remains)))


def _tried(promises: Sequence[_Promise], trial: Trial) -> Iterator[Finding]:
    broken: set[str] = set()  # or not tried, for want of one that is
    told: set[str] = set()
    for promise in promises:
        if broken.intersection(promise.needs):
            broken.add(promise.name)
            continue
        problems = list(_sentences(promise, trial))
        if problems:
            broken.add(promise.name)
        if (new := tuple(text for text in problems if text not in told)) or not problems:
            yield Finding(promise.name, new)
        told.update(new)


def _sentences(promise: _Promise, trial: Trial) -> Iterator[str]:
    try:
        yield from promise.broken(trial)
    except Broken as broken:
        yield str(broken)
    except (Exception, SystemExit) as error:  # of an attribute that is missing, or a value that cannot be compared
        yield f"trying it raises {raised(error)}; mend what is named there"


def _closed(env: TaskEnv, remains: Remains) -> Iterator[str]:
    try:
        tried("close", env.close, lambda error: "let close free what there is, also if nothing was played")
    except Broken as broken:
        yield str(broken)
        return
    if left := remains.found():
        yield f"close leaves {' and '.join(left)} running: end what the environment started"
