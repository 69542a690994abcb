"""The environment contract: what is found broken, with which mend; that ours keep it; that runs are refused in time."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from covr_bench.kit.errors import UserError
from covr_bench.run.check import checked_env
from covr_bench.run.episodes import Episodes
from covr_bench.run.evaluate import evaluate
from suites import carracing, catch, dmc
from suites.base import SimulatorError, Task
from suites.contract.check import check, examine
from suites.contract.trial import Broken, described, tried
from suites.wrappers import ActionRepeat

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE, STACK = 20, 2
PROMISES = [
    *("making", "actions", "observations", "reset", "first observation", "steps", "picture", "labels"),
    *("same seed", "other seeds", "two at a time", "drawing", "whole episodes", "options", "closing"),
]
Made = gymnasium.Env[Any, Any]


class Changed(gymnasium.Wrapper[Any, Any, Any, Any]):
    """catch, with a fault in its spaces or in what one of its calls returns."""

    def __init__(self, env: Made, **faults: Any) -> None:
        super().__init__(env)
        self.faults = faults
        if "space" in faults:
            self.observation_space = faults["space"](env.observation_space)
        if "actions" in faults:
            self.action_space = faults["actions"]

    def reset(self, **options: Any) -> Any:
        obs, info = self.env.reset(**options)
        obs = self.faults.get("see", lambda obs: obs)(obs)
        return self.faults.get("reset", lambda *returned: returned)(obs, info)

    def step(self, action: Any) -> Any:
        given = np.zeros(1, np.float32) if "actions" in self.faults else action
        obs, *rest = self.env.step(given)
        step = (self.faults.get("see", lambda obs: obs)(obs), *rest)
        return self.faults.get("step", lambda action, *step: step)(action, *step)

    def close(self) -> None:
        self.env.close()
        self.faults.get("close", lambda: None)()


def task_of(**faults: Any) -> Task:
    def make(seed: int, *, image_size: int = SIZE, frame_stack: int = STACK) -> Made:
        plain = catch.make(2, False, seed, image_size=image_size, frame_stack=frame_stack)
        return Changed(plain, **faults) if faults else plain

    return Task("game", make, 2, max_episode_steps=catch.EPISODE_STEPS, family="tried")


def base_of(scene: type[catch.Catch], repeat: int = 2, **settings: Any) -> Task:
    """A task whose innermost environment is another."""

    def make(seed: int, *, image_size: int = SIZE, frame_stack: int = STACK) -> Made:
        env = ActionRepeat(scene(seed, end_on_miss=False, image_size=image_size), repeat)
        return catch.FrameStack(catch.Pixels(env, image_size, image_size), frame_stack)

    settings = {"max_episode_steps": catch.EPISODE_STEPS} | settings
    return Task("game", make, 2, family="tried", **settings)


def broken(task: Task) -> dict[str, str]:
    """The problems of each broken promise, as one text."""
    return {found.promise: "\n".join(found.problems) for found in examine(task) if found.problems}


# Faults that a few steps show


def with_(**changes: Any) -> Callable[..., Any]:
    """A step with `info`, `reward`, `terminated` or `truncated` changed."""

    def step(action: Any, obs: Any, reward: Any, terminated: Any, truncated: Any, info: Any) -> Any:
        plain = {"reward": reward, "terminated": terminated, "truncated": truncated, "info": info}
        return obs, *(plain | changes).values()

    return step


def write_to(action: Any, *step: Any) -> Any:
    action *= 2
    return step


def fail(*returned: Any) -> Any:
    raise KeyError("speed")


def as_(shape: tuple[int, ...], low: float, high: float, dtype: Any) -> Callable[[Any], Box]:
    return lambda space: Box(low, high, shape, dtype)


PLAIN = (3 * STACK, SIZE, SIZE)
QUICK: list[tuple[str, dict[str, Any], str, str]] = [
    ("discrete actions", {"actions": Discrete(3)}, "actions", r"Discrete\(3\).*declare `Box.*argmax"),
    ("wide actions", {"actions": Box(-2, 2, (1,), np.float32)}, "actions", r"from -2 to 2.*RescaleAction"),
    ("double actions", {"actions": Box(-1, 1, (1,), np.float64)}, "actions", r"float64.*declare.*np.float32"),
    ("a table of actions", {"actions": Box(-1, 1, (2, 3), np.float32)}, "actions", r"shape \(2, 3\).*\(6,\).*reshape"),
    ("named actions", {"actions": Dict(steer=Box(-1, 1))}, "actions", r"Dict.*declare `Box"),
    ("named observations", {"space": lambda space: Dict(image=space)}, "observations", r"Dict.*the picture alone"),
    (
        "float pictures",
        {"space": as_(PLAIN, 0, 1, np.float32), "see": lambda obs: obs.astype(np.float32) / 255},
        "observations",
        r"float32, and pictures are uint8.*np.round\(255",
    ),
    (
        "channel last",
        {"space": as_((SIZE, SIZE, 6), 0, 255, np.uint8), "see": lambda obs: obs.transpose(1, 2, 0)},
        "observations",
        r"channel last.*declare \(6, 20, 20\).*transpose\(2, 0, 1\)",
    ),
    (
        "grey pictures",
        {"space": as_((STACK, SIZE, SIZE), 0, 255, np.uint8), "see": lambda obs: obs[::3]},
        "observations",
        r"2 channels.*have 6.*RGB frames",
    ),
    (
        "one frame",
        {"space": as_((3, SIZE, SIZE), 0, 255, np.uint8), "see": lambda obs: obs[-3:]},
        "observations",
        r"3 channels.*FrameStack",
    ),
    (
        "another size",
        {"space": as_((6, 30, 30), 0, 255, np.uint8), "see": lambda obs: np.zeros((6, 30, 30), np.uint8)},
        "observations",
        r"30 by 30 pixels, and image_size is 20: draw or resize",
    ),
    (
        "numbers",
        {"space": as_((4,), -1, 1, np.float32), "see": lambda obs: np.zeros(4, np.float32)},
        "observations",
        r"shape \(4,\).*observations=\('state',\)",
    ),
    (
        "frames not as declared",
        {"see": lambda obs: np.zeros((6, 50, 50), np.uint8)},
        "first observation",
        r"\(6, 50, 50\).*resize",
    ),
    ("dtype not as declared", {"see": lambda obs: obs.astype(np.int64)}, "first observation", r"int64.*return uint8"),
    ("a list", {"see": lambda obs: obs.tolist()}, "first observation", r"a list: return a numpy array"),
    ("another stack", {"see": lambda obs: np.roll(obs, 3, axis=0)}, "steps", r"older frames.*FrameStack"),
    ("reset without info", {"reset": lambda obs, info: obs}, "reset", r"uint8 array.*return a pair"),
    ("reset fails", {"reset": fail}, "reset", r"KeyError: 'speed' \(test_env_contract.py, line \d+\); mend"),
    ("step fails", {"step": fail}, "steps", r"KeyError: 'speed' \(test_env_contract.py, line \d+\); mend"),
    ("four values", {"step": lambda action, *step: step[:4]}, "steps", r"4 values.*return `observation, reward, term"),
    ("no env_steps", {"step": with_(info={})}, "steps", r'no info\["env_steps"\].*ActionRepeat'),
    ("no repeat", {"step": with_(info={"env_steps": 1})}, "steps", r"is 1 .*action_repeat is 2.*ActionRepeat"),
    ("too many", {"step": with_(info={"env_steps": 4})}, "steps", r"env_steps.* is 4 .*action_repeat is 2"),
    ("a fraction", {"step": with_(info={"env_steps": 2.0})}, "steps", r"2.0: it is the number of control steps"),
    ("NaN", {"step": with_(reward=float("nan"))}, "steps", r"reward nan: return a finite number"),
    ("infinity", {"step": with_(reward=np.inf)}, "steps", r"reward inf: return a finite number"),
    ("a row of rewards", {"step": with_(reward=np.zeros(2))}, "steps", r"array of shape \(2,\) as reward.*float"),
    ("no reward", {"step": with_(reward=None)}, "steps", r"None as reward.*float"),
    ("two ends", {"step": with_(terminated=True, truncated=True)}, "steps", r"both true.*truncated and not"),
    ("two ends of numpy", {"step": with_(terminated=np.True_, truncated=np.True_)}, "steps", r"both true"),
    ("a number as flag", {"step": with_(terminated=0)}, "steps", r"a int as terminated: return a bool"),
    ("action written to", {"step": write_to}, "steps", r"writes to the action.*copy"),
]  # fmt: skip
each_quick = pytest.mark.parametrize(
    ("faults", "promise", "text"), [fault[1:] for fault in QUICK], ids=[fault[0] for fault in QUICK]
)


@each_quick
def test_a_few_steps_show_it(faults: dict[str, Any], promise: str, text: str) -> None:
    task = task_of(**faults)
    found = {finding.promise: "\n".join(finding.problems) for finding in check(task.make(0), task)}
    assert re.search(text, found[promise], re.DOTALL), found
    assert set(found) <= {promise, "steps"}  # what follows from it at most
    with pytest.raises(UserError, match=r"task game of suite mine cannot be trained on:\n  ") as refused:
        checked_env("mine", task, {})
    assert "`covr-bench check-env mine/game`" in str(refused.value)
    assert found[promise].splitlines()[0] in str(refused.value)


class NoPicture(catch.Catch):
    render_image = None  # type: ignore[assignment]

    def render(self) -> Any:
        return catch.Catch.render_image(self, self._image_size, self._image_size)


class FloatPicture(NoPicture):
    def render_image(self, height: int, width: int) -> Any:  # type: ignore[override]
        return catch.Catch.render_image(self, height, width) / 255


class OneSize(NoPicture):
    def render_image(self, height: int, width: int) -> Any:  # type: ignore[override]
        return self.render()


class Marked(catch.Catch):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.labels = {"cameras": 3}  # type: ignore[dict-item]


class Joined(catch.Catch):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.labels = {"cameras": "left,right"}


@pytest.mark.parametrize(
    ("scene", "promise", "text"),
    [
        (NoPicture, "picture", "NoPicture, which env.unwrapped is, has no render_image: add `def render_image"),
        (FloatPicture, "picture", r"render_image(20, 20) returns a float64 array of shape (20, 20, 3): return uint8"),
        (Marked, "labels", "labels is {'cameras': 3}, and results are marked with strings"),
        (Joined, "labels", "labels is {'cameras': 'left,right'}, and ',' and '=' stand between labels"),
    ],
)
def test_the_scene_is_looked_at(scene: type[catch.Catch], promise: str, text: str) -> None:
    task = base_of(scene)
    (found,) = check(task.make(0), task)
    assert found.promise == promise and text in found.problems[0]


@pytest.mark.parametrize("made", [None, 3])
def test_what_is_no_environment_is_told_from_one(made: Any) -> None:
    task = replace(task_of(), make=lambda seed, **options: made)
    text = rf"make gives {described(made)}, which has no reset, step, close: return a gymnasium.Env"
    assert [finding.problems for finding in examine(task)] == [(text,)]
    with pytest.raises(UserError, match=text):
        checked_env("mine", task, {})


def test_an_observation_that_is_overwritten_is_found() -> None:
    buffer = np.zeros(PLAIN, np.uint8)

    def see(obs: Any) -> Any:
        np.copyto(buffer, obs)
        return buffer

    found = broken(task_of(see=see))
    assert "step writes to the observation returned before, which is still in use: return a new array" in found["steps"]


def test_a_reset_without_seed_is_told_how_to_write_it() -> None:
    class Old(Changed):
        def reset(self) -> Any:  # type: ignore[override]
            return self.env.reset()

    task = replace(task_of(), make=lambda seed, **options: Old(task_of().make(seed, **options)))  # type: ignore[arg-type]
    (found,) = check(task.make(0), task)
    assert "unexpected keyword argument 'seed'" in found.problems[0]
    assert "write it as `def reset(self, *, seed=None, options=None)`" in found.problems[0]


# Faults that whole episodes show


class Clock(catch.Catch):
    """Draws its starts from a generator that no seed reaches."""

    rng = np.random.default_rng(0)

    def _drop_ball(self) -> None:
        self._ball_x, self._ball_y = float(self.rng.uniform()), 0.0


class Same(catch.Catch):
    """Each episode starts where every other does."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return super().reset(seed=0)


class Global(catch.Catch):
    """Seeded, but with the generator of the whole process."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        np.random.seed(seed)
        return super().reset(seed=seed)

    def _drop_ball(self) -> None:
        self._ball_x, self._ball_y = float(np.random.uniform()), 0.0


class Remembers(catch.Catch):
    """The paddle stays where the last episode left it."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        where = self._paddle_x
        super().reset(seed=seed)
        self._paddle_x = where
        return self._state(), {}


class Late(catch.Catch):
    """Its second ball, not its first, is drawn from a generator that no seed reaches."""

    def _drop_ball(self) -> None:
        super()._drop_ball()
        if self._steps:
            self._ball_x = float(Clock.rng.uniform())


class Shaken(catch.Catch):
    """A large picture moves the paddle."""

    def render_image(self, height: int, width: int) -> Any:
        if height != self._image_size:
            self._paddle_x = 0.0
        return super().render_image(height, width)


class Endless(catch.Catch):
    def step(self, action: Any) -> Any:
        obs, reward, terminated, _, info = super().step(action)
        return obs, reward, terminated, False, info


class Finished(catch.Catch):
    """The time limit is reported as an end of the task."""

    def step(self, action: Any) -> Any:
        obs, reward, _, truncated, info = super().step(action)
        return obs, reward, truncated, False, info


class Measured(catch.Catch):
    """Reports a measure in every other episode."""

    def step(self, action: Any) -> Any:
        *step, info = super().step(action)
        return *step, info | ({"episode_metrics": {"caught": 1.0}} if self._ball_x < 0.5 else {})


class Worded(catch.Catch):
    def step(self, action: Any) -> Any:
        *step, info = super().step(action)
        return *step, info | {"episode_metrics": {"ended by": "time"}}


def test_a_measure_that_is_no_number_is_named_by_an_evaluation() -> None:
    agent: Any = SimpleNamespace(act=lambda obs, step, explore: np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="episode_metrics 'ended by' is 'time'; it must be a number"):
        evaluate(agent, base_of(Worded).make(0), [0], 0)


class Returned(catch.Catch):
    def step(self, action: Any) -> Any:
        *step, info = super().step(action)
        return *step, info | {"episode_metrics": {"return": 3.0}}


class Rarely(catch.Catch):
    """The reward of an episode's last step is not a number."""

    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, float("nan") if truncated else reward, terminated, truncated, info


class Blown(catch.Catch):
    """A state that is not a number from the eleventh step on."""

    def reset(self, **options: Any) -> Any:
        self._age = 0
        return np.zeros(2, np.float32), super().reset(**options)[1]

    def step(self, action: Any) -> Any:
        self._age += 1
        return np.full(2, np.nan if self._age > 10 else self._ball_x, np.float32), *super().step(action)[1:]


def blown(seed: int) -> Any:
    env = Blown(seed, end_on_miss=False, image_size=SIZE)
    env.observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    return ActionRepeat(env, 2)


BLOWN = Task("game", blown, 2, max_episode_steps=catch.EPISODE_STEPS, family="tried", observations=("state",))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (base_of(Rarely).make, "reward is nan"),
        (blown, r"observation is \[nan, nan\]"),
    ],
)
def test_the_environment_is_blamed_for_its_own_numbers(make: Callable[[int], Any], complaint: str) -> None:
    """The agent's networks were said to have diverged, or the run finished with a return of nan."""
    still: Any = SimpleNamespace(act=lambda obs, step, explore: np.zeros(1, np.float32))
    with pytest.raises(
        UserError, match=rf"environment's {complaint} in an evaluation at 80 env steps: look in the env"
    ):
        evaluate(still, make(0), [0], 80)
    ignored: Any = MagicMock()
    episodes = Episodes(0, make(0), ignored, ignored)
    episodes.begin(0)
    play = (episodes.step(np.zeros(1, np.float32), 2 * step) for step in range(60))
    with pytest.raises(UserError, match=rf"environment's {complaint} at \d+ env steps: look in the environment for"):
        list(play)


def test_a_number_of_numpy_counts_steps_as_any_other() -> None:
    """The run's first checkpoint could not hold it."""
    ignored: Any = MagicMock()
    episodes = Episodes(0, task_of(step=with_(info={"env_steps": np.int64(2)})).make(0), ignored, ignored)
    episodes.begin(0)
    env_steps, _ = episodes.step(np.zeros(1, np.float32), 0)
    assert (type(env_steps), type(episodes.length)) == (int, int)


class FixedSize(catch.Catch):
    def __init__(self, seed: int, *, end_on_miss: bool, image_size: int) -> None:
        super().__init__(seed, end_on_miss=end_on_miss, image_size=SIZE)


@pytest.mark.parametrize(
    ("task", "promise", "text"),
    [
        (base_of(Clock), "same seed", "two resets with seed 3 give different first observations: call `super()"),
        (base_of(Remembers), "same seed", "two resets with seed 3 give different first observations"),
        (base_of(Late), "same seed", "two episodes from seed 3 under the same actions differ from step 10 on"),
        (BLOWN, "whole episodes", "an observation holds numbers that are not finite"),
        (base_of(Same), "other seeds", "seeds 3, 4, 5, 6 give one and the same episode"),
        (base_of(Global), "two at a time", "keep nothing in modules, classes or `np.random`"),
        (base_of(Shaken), "drawing", "an episode changes when render_image is called"),
        (base_of(OneSize), "drawing", "render_image(48, 64) returns a uint8 array of shape (20, 20, 3)"),
        (base_of(Endless), "whole episodes", "goes on after 40 control steps, and the task's max_episode_steps is 40"),
        (base_of(catch.Catch, max_episode_steps=30), "whole episodes", "max_episode_steps is 30: return truncated"),
        (base_of(Finished), "whole episodes", "each of 10 episodes is terminated after 40 control steps"),
        (base_of(Measured), "whole episodes", "names ['caught'], but not in every episode"),
        (base_of(Worded), "whole episodes", "has 'ended by': 'time'; report finite numbers"),
        (base_of(Returned), "whole episodes", "has 'return', which every evaluation counts itself"),
        (base_of(Rarely), "whole episodes", "reward nan"),
        (base_of(FixedSize), "options", "made with image_size=36, frame_stack=3, an observation has the shape"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)
def test_whole_episodes_show_it(task: Task, promise: str, text: str) -> None:
    found = broken(task)
    assert list(found) == [promise]
    assert text in found[promise]


class Nominal(ActionRepeat):
    """Counts every step as a whole repeat."""

    def step(self, action: Any) -> Any:
        *step, info = super().step(action)
        return *step, info | {"env_steps": self.action_repeat}


def test_a_count_by_the_nominal_repeat_is_found() -> None:
    def make(seed: int, *, image_size: int = SIZE, frame_stack: int = STACK) -> Made:
        env = Nominal(catch.Catch(seed, end_on_miss=False, image_size=image_size), 3)  # 3 does not divide 40
        return catch.FrameStack(catch.Pixels(env, image_size, image_size), frame_stack)

    found = broken(Task("game", make, 3, max_episode_steps=40))
    assert "an episode has 42 control steps by its info['env_steps']" in found["whole episodes"]


def test_what_is_left_after_closing_is_named() -> None:
    ended = threading.Event()

    class Threaded(catch.Catch):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            threading.Thread(target=ended.wait, name="camera", daemon=True).start()

    found = broken(base_of(Threaded))
    ended.set()
    assert "thread camera" in found["closing"] and "end what the environment started" in found["closing"]
    assert "close raises KeyError: 'speed'" in broken(task_of(close=fail))["closing"]


def test_what_cannot_be_made_is_one_sentence() -> None:
    def make(seed: int, *, image_size: int = SIZE) -> Made:
        raise AttributeError("no road")

    task = Task("game", make, 2)  # type: ignore[arg-type]
    assert broken(task) == {"making": broken(task)["making"]}
    assert "make(seed=0) raises AttributeError: no road (test_env_contract.py" in broken(task)["making"]
    with pytest.raises(UserError, match=r"task game of suite mine cannot be made: .* AttributeError: no road"):
        checked_env("mine", task, {})


# Ours


DMC = [dmc.SUITES[0].task("cartpole_swingup"), dmc.SUITES[0].task("walker_walk"), dmc.SUITES[2].task("hopper_hop")]


@pytest.mark.parametrize("task", [task_of(), *catch.SUITE.tasks], ids=lambda task: task.key)
def test_ours_keep_every_promise(task: Task) -> None:
    found = list(examine(task))
    assert [finding.problems for finding in found] == [()] * len(PROMISES)
    assert [finding.promise for finding in found] == PROMISES


@pytest.mark.parametrize("task", [*DMC, *carracing.SUITE.tasks], ids=lambda task: task.key)
def test_ours_pass_before_a_run(task: Task) -> None:
    env = task.make(0, image_size=24)
    assert check(env, task, {"image_size": 24}) == []
    env.close()


# The command


BROKEN = """
from functools import partial
from gymnasium import Wrapper
from gymnasium.spaces import Discrete
from covr_bench import Budget, Suite, Task
from suites import catch

class Arrows(Wrapper):
    def __init__(self, env):
        super().__init__(env)
        self.action_space = Discrete(3)

    def step(self, action):
        return self.env.step([action - 1])

def make(seed, *, image_size=84, frame_stack=3):
    return Arrows(catch.make(2, False, seed, image_size=image_size, frame_stack=frame_stack))

tasks = Task("arrows", make, 2, max_episode_steps=40), Task("game", catch.SUITE.tasks[0].make, 2, max_episode_steps=40)
SUITE = Suite("mine", 1, tasks, {"paper": Budget("paper", 40, 40, 1)}, ("random",))
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(BROKEN)
    return file


def test_check_env_says_what_is_fine_and_what_is_not(cli: Callable[..., Any], mine: Path) -> None:
    done = cli("check-env", mine)
    assert done.code == 1
    assert "mine/arrows: pixels" in done.out and "mine/game: pixels" in done.out
    assert done.out.count("FAIL") == 1 and "Discrete(3)" in done.out and done.out.rstrip().endswith("is promised.")
    fine = cli("check-env", f"{mine}/game", "--set", "env.image_size=30")
    assert fine.code == 0 and "FAIL" not in fine.out and fine.out.count("ok  ") == len(PROMISES)


def test_check_env_names_what_it_does_not_know(cli: Callable[..., Any], mine: Path) -> None:
    assert "Did you mean 'game'?" in cli("check-env", f"{mine}/gam").err
    assert "Did you mean 'env.image_size'" in cli("check-env", f"{mine}/game", "--set", "env.image_siz=3").err


def test_a_task_that_shows_both_is_tried_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    from covr_bench.cli.check_env import _ways_to_see
    from suites.driving import SUITE

    task = SUITE.task("hw")
    assert list(_ways_to_see(task, {"cameras": 3})) == [
        {"cameras": 3, "observation": "pixels"},
        {"cameras": 3, "observation": "state"},
    ]
    assert list(_ways_to_see(task, {"observation": "state"})) == [{"observation": "state"}]
    assert list(_ways_to_see(task_of(), {})) == [{}]


def test_a_run_of_a_broken_task_is_refused_before_it_starts(
    cli: Callable[..., Any], mine: Path, tmp_path: Path
) -> None:
    done = cli("run", "--suite", mine, "--agent", "random", "--out", tmp_path / "out")
    assert done.code == 2
    assert "task arrows of suite" in done.err and "Discrete(3)" in done.err and "Traceback" not in done.err
    assert not (tmp_path / "out" / "runs").exists()


def test_an_environment_that_exits_is_broken() -> None:
    """`check-env` ended there, with exit code 0."""

    def leave() -> None:
        raise SystemExit(0)

    with pytest.raises(Broken, match=r"step raises SystemExit: 0 .*; mend the step"):
        tried("step", leave, lambda error: "mend the step")


def test_a_simulator_that_cannot_be_used_says_so_itself() -> None:
    def make(seed: int) -> Made:
        raise SimulatorError("no server answers at port 9; start one")

    with pytest.raises(UserError, match=r"^no server answers at port 9; start one$"):
        checked_env("mine", Task("game", partial(make), 1), {})  # type: ignore[arg-type]
