"""`carracing`: Gymnasium's CarRacing-v3, a car on a random race track seen from above (Box2D, no OpenGL, no window).

Physics, tracks, rewards and drawing are Gymnasium's own: `reset(seed=s)` is the episode of
`gymnasium.make("CarRacing-v3", lap_complete_percent=1.0)` reset with `s`. Only what is looked at is drawn; the score in
the picture is the one after the step, as Gymnasium's `render()` shows it (its observation still lacks the step's -0.1).
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from suites import short_settings
from suites.base import LINE_UP, Budget, Suite, Task
from suites.wrappers import ActionRepeat, FrameStack, Pixels

EPISODE_STEPS = 1000  # control steps of 1/50 s, as CarRacing-v3 is registered
ACTION_REPEAT = 4  # a choice: no paper names one for v3; 12.5 decisions a second, 250 an episode
CONTROLS = ("full", "gentle")
GENTLE = np.array([0.4, 0.1, 0.1])  # of full steer, gas and brake: a car with this gas and no brake gets round
LOST_STEPS = 100  # control steps without a new tile
LAP_SHARE = 0.95  # of the tiles, for a lap to count: Gymnasium's own `lap_complete_percent`


class CarRacing(gymnasium.Env[NDArray[np.float64], NDArray[np.float32]]):
    """One control step (1/50 s) at a time, observed as the car's `(x, y, angle, vx, vy, yaw rate)`.

    Action, float32 `(3,)` in -1..1 and clipped to it: `steer = a[0]` (-1 left), `gas = (a[1] + 1) / 2`,
    `brake = (a[2] + 1) / 2`. A neutral action is therefore half gas and half brake.
    Reward: 1000/N for each of the N track tiles at its first touch, -0.1 per control step; the step that leaves the
    playing field earns -100 instead.
    An episode terminates when every tile was touched or the car left the field, with `end_when_lost` also after 100
    steps without a new tile; it is truncated after 1000 steps.

    The last step's `info["episode_metrics"]` has, as floats:
    off_track_share: share of control steps after which no wheel touched the track.
    tiles_visited, tiles_visited_share: tiles touched at least once; the same over the track's tiles.
    laps: how often the car was back on the start tile after touching 95% of the tiles since it last was; at least 1
        if all tiles were touched. Never ends the episode.

    labels: `controls` and `ends` (`lost`) where they are not the default.
    Raises ImportError if Box2D or pygame is missing, ValueError for an unknown value of `controls`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012 - gymnasium's own declaration
    render_mode = "rgb_array"
    action_names = ("steer", "gas", "brake")

    def __init__(self, seed: int, *, image_size: int = 84, controls: str = "full", end_when_lost: bool = False) -> None:
        if controls not in CONTROLS:
            raise ValueError(f"controls is {controls!r}; valid: {', '.join(CONTROLS)}")
        self._gentle, self._end_when_lost = controls == "gentle", end_when_lost
        self.labels = {"controls": controls} if self._gentle else {}
        self.labels |= {"ends": "lost"} if end_when_lost else {}
        self._image_size = image_size
        self._first_seed: int | None = seed
        self._game: Any = _new_game()
        self._start_counting()
        self.action_space = Box(-1.0, 1.0, (3,), np.float32)
        self.observation_space = Box(-np.inf, np.inf, (6,), np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        super().reset(seed=self._first_seed if seed is None else seed)
        self._first_seed = None
        self._game.np_random = self.np_random
        self._game.reset()
        self._start_counting()
        return self._state(), {}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        steer, gas, brake = np.clip(action, -1.0, 1.0)
        controls = np.array([steer, (gas + 1) / 2, (brake + 1) / 2])
        if self._gentle:
            controls = GENTLE * (steer, (gas + 1) / 2, max(brake, 0.0))
        _, reward, terminated, _, info = self._game.step(controls.astype(np.float32))
        self._count()
        terminated = terminated or (self._end_when_lost and self._steps - self._found_at >= LOST_STEPS)
        truncated = self._steps >= EPISODE_STEPS and not terminated
        if terminated or truncated:
            info = {**info, "episode_metrics": self._metrics()}
        return self._state(), float(reward), bool(terminated), truncated, info

    def render(self) -> NDArray[np.uint8]:
        """The present frame, uint8 `(image_size, image_size, 3)`."""
        return self.render_image(self._image_size, self._image_size)

    def render_image(self, height: int, width: int) -> NDArray[np.uint8]:
        """The present frame at any size, uint8 `(height, width, 3)`, scaled from the 800 by 1000 drawing."""
        import pygame

        drawing = type(self._game)._render(self._game, "state_pixels")
        scaled = pygame.transform.smoothscale(drawing, (width, height))
        frame: NDArray[np.uint8] = pygame.surfarray.array3d(scaled).transpose(1, 0, 2)
        return frame

    def close(self) -> None:
        """Closes the simulator."""
        self._game.close()

    def _start_counting(self) -> None:
        self._steps = self._off_track = self._laps = self._found = self._found_at = 0
        self._lap_tiles: set[int] = set()

    def _count(self) -> None:
        """Counts this control step, the tiles touched since the lap began and the laps."""
        touched = {tile.idx for wheel in self._game.car.wheels for tile in wheel.tiles}
        self._steps += 1
        self._off_track += not touched
        if self._game.tile_visited_count > self._found:
            self._found, self._found_at = self._game.tile_visited_count, self._steps
        self._lap_tiles |= touched
        if 0 in touched and len(self._lap_tiles) >= LAP_SHARE * len(self._game.track):
            self._laps += 1
            self._lap_tiles = touched

    def _metrics(self) -> dict[str, float]:
        visited, tiles = self._game.tile_visited_count, len(self._game.track)
        return {
            "off_track_share": self._off_track / self._steps,
            "tiles_visited": float(visited),
            "tiles_visited_share": visited / tiles,
            "laps": float(max(self._laps, visited == tiles)),
        }

    def _state(self) -> NDArray[np.float64]:
        hull = self._game.car.hull
        return np.array([*hull.position, hull.angle, *hull.linearVelocity, hull.angularVelocity])


def _new_game() -> Any:
    """Gymnasium's environment without its drawing of every control step. Raises ImportError."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # pygame prints a greeting when imported
    try:
        from gymnasium.envs.box2d.car_racing import CarRacing as Game
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        cause = error.__cause__ or error
        raise ImportError(f"carracing needs Box2D and pygame: pip install 'gymnasium[box2d]' ({cause})") from None
    # 1.0: only touching every tile ends an episode, also in releases that mend Gymnasium's issue 1269.
    game: Any = Game(lap_complete_percent=1.0)
    # `step` draws every control step; ours draws on demand, and keeps the drawing at its full size.
    game._render = lambda mode: None
    game._create_image_array = lambda drawing, size: drawing
    return game


def make(
    action_repeat: int,
    seed: int,
    *,
    image_size: int = 84,
    frame_stack: int = 3,
    controls: str = "full",
    end_when_lost: bool = False,
) -> gymnasium.Env[Any, Any]:
    """A pixel environment, as `suites.base.MakeEnv` describes; the options are `CarRacing`'s."""
    game = CarRacing(seed, image_size=image_size, controls=controls, end_when_lost=end_when_lost)
    env = ActionRepeat(game, action_repeat)
    return FrameStack(Pixels(env, image_size, image_size), frame_stack)


INSTRUCTION = (
    "You are a driving assistant. Top view of a red race car on a grey track through green grass, the car's front "
    "upward: drive round the track as fast as you can without leaving the grey. The three numbers are steering "
    "(-1.00 left, +1.00 right), gas (-1.00 none, +1.00 full) and brake (-1.00 none, +1.00 full); brake with gas at "
    "-1.00, and slow down before a bend."
)
SHORT = {**short_settings.DRIVING_SHORT, "env.controls": "gentle", "env.end_when_lost": True}
SUITE = Suite(
    name="carracing",
    version=1,
    # 1000: every tile touched, before the 0.1 that each control step costs.
    tasks=(Task("car_racing", partial(make, ACTION_REPEAT), ACTION_REPEAT, (0.0, 1000.0), INSTRUCTION, EPISODE_STEPS),),
    budgets={
        "smoke": Budget("smoke", 2_000, 1_000, 1, (0,), short_settings.SMOKE, "Does it run? Two episodes."),
        "short": Budget(
            "short",
            40_000,
            10_000,
            10,
            (0,),
            SHORT,
            "Does it learn? Small frames, gentle controls, episodes end when the track is lost.",
            short_settings.STAND_IN,
        ),
        "paper": Budget(
            "paper", 100_000, 10_000, 10, (0, 1, 2), doc="dmc6's protocol; no paper reports CarRacing-v3 on it."
        ),
    },
    agents=LINE_UP,
    doc="Gymnasium's CarRacing-v3 from 84x84 pixels, action repeat 4.",
)
