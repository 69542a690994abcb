"""The driving environment: a car on a CARLA server, one control step (1/20 s) at a time."""

from __future__ import annotations

import importlib.util
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from suites.base import EpisodeLost
from suites.carla.task.episode import Episode, Tick
from suites.carla.task.scenarios import SCENARIOS
from suites.carla.task.session import Session

CAMERAS = (1, 3, 5)
OBSERVATIONS = ("pixels", "state")
CONTROLS = ("full", "gentle")
STATE_SHAPE = (3, 25, 7)
FULL_STEER, ROLL = 4, 6  # columns of the first row: the wheels' angle at full steer, the throttle of a neutral pedal


class Driving(gymnasium.Env[NDArray[Any], NDArray[np.float32]]):
    """One car in one scenario.

    Observation: the newest picture, uint8 `(3, image_size, cameras * image_size)`, the cameras side by side from left
    to right; with `observation="state"` what a scripted driver is told, float32 `(3, 25, 7)`: see `privileged`.
    Action, float32 `(2,)` in -1..1 and clipped to it: steer (-1 left), pedal (throttle above 0, brake below).
    Reward: `v * 0.05 - 1e-4 * impulse - |steer|`: speed along the lane in m/s, impulse of the step's collisions in N s.
    An episode terminates at the first collision (unless `end_on_collision` is false), when the car's middle is on no
    driving lane, and when it moved less than 2 m in the last 100 steps; it is truncated after 1000.
    docs/driving.md describes the last step's `info["episode_metrics"]`.

    Args:
        scenario: a name of `SCENARIOS`.
        seed: of the first reset that names none.
        image_size: pixels of a picture's side.
        cameras: 1, 3 or 5, each 60 degrees wide.
        observation: `pixels` or `state`.
        end_on_collision: whether the first collision ends the episode.
        controls: `full`, or `gentle`: an action of 1 steers as much as the scenario's lanes need; on `hw` a neutral
            pedal rolls, 1 gives three times its throttle, and the brake begins at -0.5.
        host: of a running server; empty starts an embedded one at the first reset.
        port: of that server.

    Attributes:
        labels: the kind of server (`backend`), and `cameras`, `collisions`, `controls` where they are not the default.

    Raises:
        ImportError: the CARLA client is not installed.
        ValueError: an option has an unknown value.
        SimulatorError: no server can be started or reached, or its release does not fit.
        EpisodeLost: the simulator failed in `reset` or `step`; the next `reset` starts or awaits a new one.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 - gymnasium's own declaration
    render_mode = "rgb_array"
    action_names = ("steer", "pedal")

    def __init__(
        self,
        scenario: str,
        seed: int,
        *,
        image_size: int = 84,
        cameras: int = 1,
        observation: str = "pixels",
        end_on_collision: bool = True,
        controls: str = "full",
        host: str = "",
        port: int = 2000,
    ) -> None:
        if cameras not in CAMERAS:
            raise ValueError(f"cameras is {cameras}; valid: 1, 3, 5")
        if observation not in OBSERVATIONS:
            raise ValueError(f"observation is {observation!r}; valid: pixels, state")
        if controls not in CONTROLS:
            raise ValueError(f"controls is {controls!r}; valid: full, gentle")
        if importlib.util.find_spec("carla") is None:
            raise ImportError(
                "the driving tasks need the CARLA client, which has wheels for CPython 3.10 to 3.12 on x86-64: "
                "pip install carla==0.9.16"
            )
        self._state = observation == "state"
        self._options = {"cameras": cameras, "size": image_size, "private": self._state}
        self._scenario, self._host, self._port = scenario, host, port
        self._end_on_collision = end_on_collision
        gentle = SCENARIOS[scenario] if controls == "gentle" else None
        self._steer, self._roll = (gentle.gentle, gentle.roll) if gentle else (1.0, 0.0)
        self._first_seed: int | None = seed
        self._episode = Episode(end_on_collision)
        self._actions: list[tuple[float, float]] = []  # of the running episode
        self._sizes: list[tuple[int, int]] = []  # pictures asked for beside the observation
        self._session: Session | None = None
        self._tick: Tick | None = None
        if host:
            self._session = self._open()
        self.labels = {"backend": "embedded"}
        if self._session and not self._session.embedded:
            self.labels["backend"] = f"carla-{self._session.release}"
        if cameras != 1:
            self.labels["cameras"] = str(cameras)
        if not end_on_collision:
            self.labels["collisions"] = "go-on"
        if gentle:
            self.labels["controls"] = controls
        self.action_space = Box(-1.0, 1.0, (2,), np.float32)
        shape = (3, image_size, cameras * image_size)
        self.observation_space: Box = (
            Box(-np.inf, np.inf, STATE_SHAPE, np.float32) if self._state else Box(0, 255, shape, np.uint8)
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        super().reset(seed=self._first_seed if seed is None else seed)
        self._first_seed = None
        self._episode_seed = int(self.np_random.integers(2**31))
        self._begin()
        return self._observation(), {}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        steer, pedal = (float(part) for part in np.clip(action, -1.0, 1.0))
        if self._roll:
            pedal = 2 * (pedal + 0.5) * (self._roll if pedal > -0.5 else 1.0)
        reward = self._advance(steer * self._steer, pedal)
        reason = self._episode.reason
        info = {"episode_metrics": self._episode.metrics()} if reason else {}
        return self._observation(), reward, reason not in ("", "horizon"), reason == "horizon", info

    def render(self) -> NDArray[np.uint8]:
        """The newest picture, uint8 `(image_size, cameras * image_size, 3)`."""
        assert self._tick
        return self._tick.picture

    def render_image(self, height: int, width: int) -> NDArray[np.uint8]:
        """The newest picture at another size, uint8 `(height, width, 3)`; 60 degrees across its shorter side.

        A size costs a camera of its own from its first use on. An embedded server then repeats the running episode
        with that camera; a real one cannot, and what comes of it is the observation, enlarged, until the next episode.
        """
        assert self._tick
        if self._tick.picture.shape[:2] == (height, width):
            return self._tick.picture
        if (height, width) not in self._sizes:
            self._sizes.append((height, width))
            if self._session and self._session.embedded:
                actions = self._actions
                self._begin()
                for action in actions:
                    self._advance(*action)
            else:
                self._ask("watch", height, width)
        picture = self._ask("picture", height, width)
        frame: NDArray[np.uint8] = _enlarged(self._tick.picture, height, width) if picture is None else picture
        return frame

    def state(self) -> NDArray[np.float32]:
        """What a scripted driver is told of the present moment, float32 `(525,)`."""
        return self._tables().reshape(-1)

    def close(self) -> None:
        """Ends what this environment started; a named server gets its settings back."""
        if self._session:
            self._session.close()
            self._session = None

    def _open(self) -> Session:
        return Session(self._scenario, self._host, self._port, **self._options)

    def _begin(self) -> None:
        if not self._session:
            self._session = self._open()
        for size in self._sizes:
            self._ask("watch", *size)
        self._tick = self._ask("reset", self._episode_seed)
        self._episode, self._actions = Episode(self._end_on_collision), []

    def _advance(self, steer: float, pedal: float) -> float:
        """One control step; returns its reward."""
        self._tick = self._ask("step", steer, pedal)
        self._actions.append((steer, pedal))
        return self._episode.add(self._tick, steer, pedal)

    def _ask(self, name: str, *arguments: Any) -> Any:
        assert self._session, "reset before step"
        try:
            return getattr(self._session, name)(*arguments)
        except EpisodeLost:
            self._session.kill()
            self._session = None
            raise

    def _tables(self) -> NDArray[np.float32]:
        assert self._tick
        tables: NDArray[np.float32] = (self._ask("state") if self._tick.state is None else self._tick.state).copy()
        tables[0, 0, FULL_STEER] *= self._steer
        tables[0, 0, ROLL] = self._roll
        return tables

    def _observation(self) -> NDArray[Any]:
        assert self._tick
        if self._state:
            return self._tables()
        return np.ascontiguousarray(self._tick.picture.transpose(2, 0, 1))


def _enlarged(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Nearest pixels, uint8 `(height, width, 3)`."""
    rows = np.arange(height) * picture.shape[0] // height
    columns = np.arange(width) * picture.shape[1] // width
    enlarged: NDArray[np.uint8] = picture[rows[:, None], columns]
    return enlarged
