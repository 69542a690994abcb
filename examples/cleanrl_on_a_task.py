"""A script of CleanRL on a task of ours, with CleanRL's sources beside it (pip install tyro tensorboard):

PYTHONPATH=cleanrl python examples/cleanrl_on_a_task.py cleanrl/cleanrl/sac_continuous_action.py \
    --env-id suites:covr-bench/catch-catch-v1 --total-timesteps 20000 --buffer-size 5000

CleanRL pins Gymnasium 0.29, and ours needs 1.1 or newer. What its scripts for continuous actions (SAC, TD3, DDPG) take
from 0.29 is given back here: how vectors of environments tell of an episode's end. Their networks are for states, so
that pixels come to them as one long vector; they run, and learn little.
"""

import runpy
import sys
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv


class Vector(SyncVectorEnv):
    """Environments that are reset in the step that ends their episode, which `infos` tells in the words of 0.29."""

    def __init__(self, makers: Any) -> None:
        flat = [lambda make=make: gymnasium.wrappers.FlattenObservation(make()) for make in makers]
        super().__init__(flat, autoreset_mode=AutoresetMode.SAME_STEP)

    def step(self, actions: Any) -> Any:
        """Gymnasium's five values."""
        obs, rewards, terminated, truncated, infos = super().step(actions)
        if "final_obs" in infos:
            infos["final_observation"] = infos.pop("final_obs")
            final = infos["final_info"]
            infos["final_info"] = [_of(final, i) if end else None for i, end in enumerate(terminated | truncated)]
        return obs, rewards, terminated, truncated, infos


def _of(infos: dict[str, Any], index: int) -> dict[str, Any]:
    """What infos of a vector say of one of its environments."""
    named = {key: value for key, value in infos.items() if not key.startswith("_")}
    return {key: _of(value, index) if isinstance(value, dict) else value[index] for key, value in named.items()}


if __name__ == "__main__":
    gymnasium.vector.SyncVectorEnv = Vector
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
