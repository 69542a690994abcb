"""Whether a seed determines an episode and nothing else does, and whole episodes end as the task says."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from suites.contract import first_steps, spaces
from suites.contract.trial import Step, Trial, described, tried

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = 20  # of the episodes that are compared
SEED, OTHERS = 3, (4, 5, 6)
WHOLE_EPISODES, WHOLE_STEPS = 2, 1_000  # episodes played to their ends, until so many control steps are played
DOUBTFUL = 10  # episodes after which a termination at the time limit is no accident any more
LARGER = 16  # pixels
OWN_STREAM = "call `super().reset(seed=seed)` and draw every random number from `self.np_random`"


def same_seed(trial: Trial) -> Iterator[str]:
    """The same seed and actions, the same episode, whatever was played before."""
    first = list(_episode(trial, SEED))
    list(_episode(trial, OTHERS[0], steps=STEPS // 2))
    trial.reset(seed=None)
    if (at := _parting(first, _episode(trial, SEED))) == 0:
        yield f"two resets with seed {SEED} give different first observations: {OWN_STREAM}, and set everything anew"
    elif at is not None:
        yield (
            f"two episodes from seed {SEED} under the same actions differ from step {at} on: {OWN_STREAM}, and let "
            "reset set everything anew that an episode changes"
        )


def beside_another(trial: Trial) -> Iterator[str]:
    """The same episode, while another environment of the task is played."""
    alone = list(_episode(trial, SEED))
    other = Trial(_make(trial, trial.options, seed=1), trial.task, trial.options)
    try:
        other.reset(seed=OTHERS[0])
        act = other.actions(seed=8)

        def play() -> None:
            if other.step(act()).over:
                other.reset(seed=OTHERS[1])

        if _parting(alone, _episode(trial, SEED, between=play)) is not None:
            yield (
                "an episode changes when another environment of the task is played beside it, as training and "
                "evaluation are: keep nothing in modules, classes or `np.random` that an episode depends on"
            )
    finally:
        other.env.close()


def drawing(trial: Trial) -> Iterator[str]:
    """The same episode, while it is drawn at other sizes."""
    plain = list(_episode(trial, SEED, steps=STEPS // 2))
    wrong: list[str] = []

    def draw() -> None:
        wrong.extend(first_steps.drawn(trial, 48, 64))

    if _parting(plain, _episode(trial, SEED, steps=STEPS // 2, between=draw)) is not None:
        wrong.append("an episode changes when render_image is called: let it draw, and neither move nor draw at random")
    yield from dict.fromkeys(wrong)


def other_seeds(trial: Trial) -> Iterator[str]:
    """Other seeds, other episodes."""
    first = list(_episode(trial, SEED))
    if all(_parting(first, _episode(trial, seed)) is None for seed in OTHERS):
        yield (
            f"resets with the seeds {SEED}, {', '.join(map(str, OTHERS))} give one and the same episode, so that "
            f"training and evaluation would see nothing else: {OWN_STREAM}, at least for where an episode starts"
        )


def whole(trial: Trial) -> Iterator[str]:
    """Episodes to their ends: within the time limit, with the same measures, each step as it should be."""
    ends: list[tuple[int, bool]] = []
    names: list[set[str]] = []
    while _go_on(ends, trial.task.max_episode_steps):
        length, problems, last = _to_its_end(trial, seed=len(ends))
        problems = problems or list(_metrics(last))
        yield from problems
        if problems:
            return
        ends.append((length, bool(last.terminated)))
        names.append(set(last.info.get("episode_metrics", {})))
    if any(each != names[0] for each in names):
        yield (
            f'info["episode_metrics"] names {sorted(set.union(*names))}, but not in every episode: report each of them '
            "at the end of every episode"
        )
    if _at_the_limit(ends, trial.task.max_episode_steps):
        yield (
            f"each of {len(ends)} episodes is terminated after {trial.task.max_episode_steps} control steps, which is "
            "the time limit: return truncated there, since more could have been earned"
        )


def _go_on(ends: list[tuple[int, bool]], limit: int) -> bool:
    """Whether another episode is to be played, after those that ended so."""
    if ends and _at_the_limit(ends, limit):
        return len(ends) < DOUBTFUL
    return len(ends) < WHOLE_EPISODES and sum(length for length, _ in ends) < WHOLE_STEPS


def _at_the_limit(ends: list[tuple[int, bool]], limit: int) -> bool:
    return all(end == (limit, True) for end in ends)


def options(trial: Trial) -> Iterator[str]:
    """`image_size`, `frame_stack` and `action_repeat` mean what they say."""
    change = {"image_size": LARGER, "frame_stack": 1, "action_repeat": 1}
    asked = {name: trial.options[name] + more for name, more in change.items() if name in trial.task.options}
    if not asked:
        return
    chosen = {**trial.options, **asked}
    other = Trial(_make(trial, chosen, seed=0), trial.task, chosen)
    said = ", ".join(f"{name}={value}" for name, value in asked.items())
    try:
        other.obs = other.reset(seed=0)
        problems = [*spaces.observations(other), *first_steps.observation(other, other.obs)]
        if "action_repeat" in asked and not problems:
            problems += first_steps.steps(other)
        for problem in problems:
            yield f"made with {said}, {problem}"
    finally:
        other.env.close()


def _make(trial: Trial, chosen: Mapping[str, Any], seed: int) -> Any:
    return tried(f"make(seed={seed})", lambda: trial.task.make(seed, **chosen), lambda error: "mend make")


def _episode(
    trial: Trial, seed: int, steps: int = STEPS, between: Callable[[], None] = lambda: None
) -> Iterator[tuple[Any, ...]]:
    """What an episode's first steps return, one after the other, under actions that are always the same."""
    act = trial.actions()
    yield (np.array(trial.reset(seed=seed)),)
    for _ in range(steps):
        between()
        step = trial.step(act())
        yield np.array(step.obs), repr(float(step.reward)), step.terminated, step.truncated, step.info.get("env_steps")
        if step.over:
            return


def _parting(known: list[tuple[Any, ...]], played: Iterator[tuple[Any, ...]]) -> int | None:
    """The first step at which an episode is not the known one, and no further; None if it is the same."""
    for at, (ours, theirs) in enumerate(zip_longest(known, played, fillvalue=())):
        if len(ours) != len(theirs) or not all(map(_is_same, ours, theirs)):
            return at
    return None


def _is_same(one: Any, other: Any) -> bool:
    """Also of NaN, which another check names."""
    floats = isinstance(one, np.ndarray) and one.dtype.kind == "f"
    return np.array_equal(one, other, equal_nan=floats)


def _to_its_end(trial: Trial, seed: int) -> tuple[int, list[str], Any]:
    """Control steps of an episode, what is wrong with it, and its last step, None if it has no end."""
    obs, act, limit = trial.reset(seed=seed), trial.actions(seed), trial.task.max_episode_steps
    length = 0
    while True:
        step, problems = first_steps.observed_step(trial, obs, act())
        if problems:
            return length, problems, None
        obs, length = step.obs, length + step.info["env_steps"]
        if length > limit or (length == limit and not step.over):
            return length, [_too_long(length, limit, step.over)], None
        if step.over:
            return length, [], step


def _too_long(length: int, limit: int, over: bool) -> str:
    if over:
        return (
            f"an episode has {length} control steps by its info['env_steps'], and the task's max_episode_steps is "
            f"{limit}: count the control steps really taken, also in an episode's last step, or declare the real limit"
        )
    return (
        f"an episode goes on after {length} control steps, and the task's max_episode_steps is {limit}: return "
        "truncated there (gymnasium.wrappers.TimeLimit does it), or declare the real limit"
    )


def _metrics(last: Step) -> Iterator[str]:
    metrics = last.info.get("episode_metrics", {})
    if not isinstance(metrics, Mapping):
        yield f'info["episode_metrics"] is {described(metrics)}: make it a dict of numbers by name'
        return
    for name, value in metrics.items():
        number = isinstance(value, numbers.Real | np.number | np.bool_)
        if not isinstance(name, str) or not number or not np.isfinite(float(value)):
            yield f'info["episode_metrics"] has {name!r}: {value!r:.40}; report finite numbers by name'
            return
    for name in {"return", "length"} & set(metrics):
        yield f'info["episode_metrics"] has {name!r}, which every evaluation counts itself: call it something else'
