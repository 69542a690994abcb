"""`carla`: driving by camera on a highway, on a street with hidden pedestrians, and in an unseen suburb.

Written against the CARLA client. By default each environment starts an embedded server (no Unreal, no GPU); `env.host`
and `env.port` name a real one. The suite trains on `hw` and `gp`; `a` is held out for `covr-bench eval`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
from gymnasium.wrappers import FlattenObservation

from suites import short_settings
from suites.base import LINE_UP, Budget, Suite, Task
from suites.carla.task.env import Driving
from suites.carla.task.episode import EPISODE_STEPS
from suites.wrappers import ActionRepeat, FrameStack, Pixels

ACTION_REPEAT = 1  # the paper: 1000 steps at 20 Hz, and no word of repeated actions
SMOKE = {**short_settings.SMOKE, "batch_size": 8}  # no action is repeated: most agents update at each of 2,000 steps


def make(
    scenario: str,
    seed: int,
    *,
    image_size: int = 84,
    frame_stack: int = 3,
    cameras: int = 1,
    observation: str = "pixels",
    action_repeat: int = ACTION_REPEAT,
    end_on_collision: bool = True,
    controls: str = "full",
    host: str = "",
    port: int = 2000,
) -> gymnasium.Env[Any, Any]:
    """A pixel environment, as `suites.base.MakeEnv` describes; the options are `Driving`'s.

    With `observation="state"` it is a `StateEnv`: the three tables of `suites.carla` in one row, float32 `(525,)`;
    `frame_stack` means nothing.
    """
    env = Driving(
        scenario,
        seed,
        image_size=image_size,
        cameras=cameras,
        observation=observation,
        end_on_collision=end_on_collision,
        controls=controls,
        host=host,
        port=port,
    )
    stepped = ActionRepeat(env, action_repeat)
    if observation == "state":
        return FlattenObservation(stepped)
    return FrameStack(Pixels(stepped, image_size, cameras * image_size), frame_stack)


ASSISTANT = (
    "You are a driving assistant. The image is the view through the windscreen of your car. {scene} The two numbers "
    "are steering (-1.00 full left, 0.00 straight, +1.00 full right; a bend needs less than 0.10) and pedal (+1.00 "
    "full throttle, 0.00 rolling, -1.00 full brake)."
)
HIGHWAY = ASSISTANT.format(
    scene="You are on a four-lane highway among slower vehicles: drive as far as you can, keep to your lane and do not "
    "run into the vehicle ahead."
)
STREET = ASSISTANT.format(
    scene="You are in a street with parked vehicles, from behind which pedestrians may step out: drive as far as you "
    "can, slow down beside parked vehicles and stop for whoever is on the road."
)
SUBURB = ASSISTANT.format(
    scene="You are on a winding road of a suburb, at dusk, in rain, among vans, cyclists and people on foot: drive "
    "as far as you can, keep to your lane and do not run into anybody."
)
# The score of 1: about the mean return of the agent `driver`; 0: of a car that stands.
TASKS = tuple(
    Task(
        name,
        partial(make, name),
        0,
        (0.0, full),
        instruction,
        EPISODE_STEPS,
        family="carla",
        observations=("pixels", "state"),
        player="driver",
    )
    for name, full, instruction in (("hw", 920.0, HIGHWAY), ("gp", 440.0, STREET), ("a", 320.0, SUBURB))
)
SUITE = Suite(
    name="carla",
    version=1,
    tasks=TASKS,
    budgets={
        "smoke": Budget("smoke", 2_000, 1_000, 1, (0,), SMOKE, "Does it run? A few episodes."),
        "short": Budget(
            "short",
            100_000,
            20_000,
            10,
            (0,),
            short_settings.DRIVING_SHORT | {"env.action_repeat": 4, "env.controls": "gentle"},
            "Does it learn to drive? Small frames, actions held for 0.2 s, gentle controls.",
            short_settings.STAND_IN,
        ),
        "paper": Budget("paper", 100_000, 10_000, 10, (0, 1, 2), doc="The COVR paper's: 100k steps, 10 episodes."),
    },
    agents=("driver", "full_throttle", *LINE_UP),
    doc="Driving by camera on CARLA: highway and street; a suburb is held out.",
    default_tasks=("hw", "gp"),
)
