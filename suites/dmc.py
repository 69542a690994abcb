"""DeepMind Control tasks from pixels: all of them in `dmc`, and the suites that papers report.

Tassa et al. 2018 (arXiv:1801.00690). Frames are those of `dm_control.suite`, pixel for pixel, by camera 0 or that of
`CAMERAS`.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from suites import gl, short_settings
from suites.base import LINE_UP, Budget, Observation, Suite, Task
from suites.dmc_tasks import CAMERAS, DREAMERV3_VISION, INSTRUCTIONS, LQR_FORCE, SCORE_RANGES
from suites.short_settings import STAND_IN
from suites.wrappers import ActionRepeat, FrameStack, Pixels, States

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FAR_FROM_FLOOR = ("cartpole", "pendulum")  # domains whose bodies never come near the floor
NEAR_FLOOR = ("two_poles", "three_poles")  # tasks of them that were not compared
OBSERVATIONS: tuple[Observation, ...] = ("pixels", "state")
CONTROL_STEPS = 1000  # of an episode; lqr by itself has no end


class DMControl(gymnasium.Env[NDArray[np.float64], NDArray[np.float32]]):
    """One dm_control task, a control step at a time, observed as its physics state.

    `reset(seed=s)` fully determines the episode; it is the episode of `suite.load(..., task_kwargs={"random": s})`,
    but for lqr: its springs are those of seed 0 in every episode, and it is truncated after `CONTROL_STEPS`.
    The first `reset()` without a seed uses the constructor's, later ones continue that stream.

    physics: the dm_control physics, for tests and recordings.
    labels: what a row measured on this environment must be marked with; empty when frames are exact.
    """

    render_mode = "rgb_array"

    def __init__(self, domain: str, task: str, seed: int, image_size: int = 84, render: str = "exact") -> None:
        gl.require_dm_control()
        gl.ensure_backend()
        from dm_control import suite

        from suites.dmc_camera import RENDER_MODES, Camera

        if render not in RENDER_MODES:
            raise ValueError(f"render is {render!r}; choose one of {RENDER_MODES}")
        # Resets seed the task; what is drawn here, lqr's springs, makes the system and is the same for every seed.
        chosen = {"random": 0, **({"time_limit": CONTROL_STEPS * 0.03} if domain == "lqr" else {})}
        with _without_mass_warning():
            self._env = suite.load(domain, task, task_kwargs=chosen)
        self.physics = self._env.physics
        rate = round(1 / self._env.control_timestep())  # 40, 50 or 100 by the task
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": rate}
        self.labels = {} if render == "exact" else {"render": render}
        self._new_camera = partial(
            Camera,
            self.physics,
            camera_id=CAMERAS.get(f"{domain}.{task}", CAMERAS.get(domain, 0)),
            render=render,
            floor_casts=domain not in FAR_FROM_FLOOR or task in NEAR_FLOOR,
        )
        self._image_size = image_size
        self._cameras: dict[tuple[int, int], Camera] = {}
        self._first_seed: int | None = seed
        spec = self._env.action_spec()
        self.action_names = [self.physics.model.id2name(i, "actuator") for i in range(spec.shape[0])]
        low, high = np.maximum(spec.minimum, -LQR_FORCE), np.minimum(spec.maximum, LQR_FORCE)  # others are within 1.1
        self._scale, self._middle = (high - low) / 2, (high + low) / 2
        self.action_space = Box(-1.0, 1.0, spec.shape, np.float32)
        self.observation_space = Box(-np.inf, np.inf, self.physics.get_state().shape, np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Starts an episode. Raises ValueError for a seed outside 0..2**32-1."""
        seed = self._first_seed if seed is None else seed
        self._first_seed = None
        super().reset(seed=seed)
        if seed is not None:
            self._env.task.random.seed(seed)
        self._env.reset()
        for camera in self._cameras.values():
            camera.update_terrain()
        return self.physics.get_state(), {}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        timestep = self._env.step(action * self._scale + self._middle)
        terminated = timestep.last() and timestep.discount == 0
        truncated = timestep.last() and not terminated
        return self.physics.get_state(), float(timestep.reward), bool(terminated), bool(truncated), {}

    def state(self) -> NDArray[np.float32]:
        """The physics' positions and velocities, float32 `(N,)`."""
        return self.physics.get_state().astype(np.float32)  # type: ignore[no-any-return]

    def render(self) -> NDArray[np.uint8]:
        """The present frame, uint8 `(image_size, image_size, 3)`."""
        return self.render_image(self._image_size, self._image_size)

    def render_image(self, height: int, width: int) -> NDArray[np.uint8]:
        """The present frame at any size, uint8 `(height, width, 3)`. Each new size keeps an OpenGL context."""
        if (height, width) not in self._cameras:
            self._cameras[height, width] = self._new_camera(height, width)
        return self._cameras[height, width].frame()

    def close(self) -> None:
        """Frees the OpenGL contexts and the simulator."""
        for camera in self._cameras.values():
            camera.close()
        self._cameras.clear()
        self._env.close()


@contextmanager
def _without_mass_warning() -> Iterator[None]:
    """Silences one known message: cheetah's model sets its total mass in a way dm_control calls deprecated."""

    def keep(record: logging.LogRecord) -> bool:
        return "settotalmass' is deprecated" not in record.getMessage()

    logger = logging.getLogger("absl")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def make(
    domain: str,
    task: str,
    seed: int,
    *,
    action_repeat: int = 2,
    image_size: int = 84,
    frame_stack: int = 3,
    render: str = "exact",
    observation: str = "pixels",
) -> gymnasium.Env[Any, Any]:
    """One task, as `suites.base.MakeEnv` describes. render: `exact` or `fast`. observation: `pixels` or `state`."""
    if observation not in OBSERVATIONS:
        raise ValueError(f"observation is {observation!r}; valid: {', '.join(OBSERVATIONS)}")
    env = ActionRepeat(DMControl(domain, task, seed, image_size, render), action_repeat)
    if observation == "state":
        return States(env)
    return FrameStack(Pixels(env, image_size, image_size), frame_stack)


PLANET_REPEATS = {  # Hafner et al. 2019, arXiv:1811.04551
    ("cartpole", "swingup"): 8,
    ("reacher", "easy"): 4,
    ("cheetah", "run"): 4,
    ("walker", "walk"): 2,
    ("finger", "spin"): 2,
    ("ball_in_cup", "catch"): 4,
}
HARD = (("hopper", "hop"), ("walker", "run"), ("pendulum", "swingup"))


def _tasks(action_repeats: Mapping[tuple[str, str], int]) -> tuple[Task, ...]:
    return tuple(
        Task(
            f"{domain}_{task}",
            partial(make, domain, task, action_repeat=repeat),
            score_range=SCORE_RANGES.get((domain, task), (0.0, 1000.0)),
            instruction=INSTRUCTIONS[domain, task],
            max_episode_steps=CONTROL_STEPS,
            needs_gl=True,
            family="dmc",
            observations=OBSERVATIONS,
            player="swing_up" if (domain, task) == ("cartpole", "swingup") else "",
        )
        for (domain, task), repeat in action_repeats.items()
    )


SHORT: dict[str, Any] = {
    **short_settings.SHORT,
    **short_settings.SMALL_FRAMES,
    "env.image_size": 32,
    "env.render": "fast",
    "batch_size": 64,
    "random_agent_steps": 500,
    "drqv2.batch_size": 128,
    "drqv2.seed_steps": 2_000,
    "drqv2.stddev_steps": 50_000,
    "taco.batch_size": 128,
    "taco.seed_steps": 2_000,
    "taco.stddev_steps": 50_000,
    "mrq.random_agent_steps": 500,
    "covr.psi0": 4_500,
    "covr.guidance_after": 3,
}


# CURL's table 3 and its issue 15, RAD's issue 17, DrQ's config.yaml and README. The agents' defaults are the scripts'.
PAPER: dict[str, Any] = {"rad.batch_size": 512, "curl.batch_size": 512, "drq.batch_size": 512}
SCRIPTS: dict[str, Any] = {"madi.batch_size": 64}  # its arguments.py; the paper's 128 is the agent's default


GATE: dict[str, Any] = {
    **short_settings.GATE,
    "env.render": "fast",
    "seed_steps": 1_000,
    "update_every": 8,
    "stddev_steps": 8_000,
    "covr.psi0": 2_000,
}


def _budgets(paper_env_steps: int) -> dict[str, Budget]:
    return {
        "gate": Budget(
            "gate", 4_000, 2_000, 1, tuple(range(8)), GATE, "Is training as it was? Signals of many small runs."
        ),
        "smoke": Budget("smoke", 2_000, 1_000, 1, (0,), short_settings.SMOKE, "Does it run? A few episodes."),
        "short": Budget("short", 60_000, 20_000, 30, (0,), SHORT, "Does it learn? Small frames.", STAND_IN),
        "paper": Budget(
            "paper",
            paper_env_steps,
            10_000,
            10,
            (0, 1, 2),
            PAPER,
            "The published protocol: batches of 512 for rad, curl and drq, as in their tables.",
        ),
        "scripts": Budget(
            "scripts",
            paper_env_steps,
            10_000,
            10,
            (0, 1, 2),
            SCRIPTS,
            "As paper, with the batches of the official scripts: 128 for rad, curl and drq, 64 for madi.",
        ),
    }


SUITES = (
    Suite(
        "dmc6",
        1,
        _tasks(PLANET_REPEATS),
        _budgets(100_000),
        LINE_UP,
        "Six tasks, PlaNet action repeats.",
    ),
    Suite(
        "dmc6-ar2",
        1,
        _tasks(dict.fromkeys(PLANET_REPEATS, 2)),
        _budgets(100_000),
        LINE_UP,
        "The same six, action repeat 2, as DrQ-v2.",
    ),
    Suite(
        "dmc-hard",
        1,
        _tasks(dict.fromkeys(HARD, 2)),
        _budgets(500_000),
        LINE_UP,
        "Three harder tasks, action repeat 2.",
    ),
    Suite(
        "dmc-vision",
        1,
        _tasks(dict.fromkeys(DREAMERV3_VISION, 2)),
        _budgets(1_000_000),
        LINE_UP,
        "The twenty tasks of DreamerV3's dmc_vision, action repeat 2.",
    ),
    Suite(
        "dmc",
        1,
        _tasks(dict.fromkeys(INSTRUCTIONS, 2)),
        _budgets(1_000_000),
        LINE_UP,
        "Every task of dm_control.suite by name; without --task walker_walk alone.",
        default_tasks=("walker_walk",),
    ),
)
