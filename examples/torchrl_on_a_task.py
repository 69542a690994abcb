"""TorchRL on a task of ours, with a random policy: pip install torchrl; python examples/torchrl_on_a_task.py"""

import argparse

import gymnasium
from torchrl.envs import GymEnv, RewardSum, TransformedEnv

import suites

gymnasium.register_envs(suites)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--env-id", default="covr-bench/catch-catch-v1")
    parser.add_argument("--agent-steps", type=int, default=40)
    options = parser.parse_args()
    env = TransformedEnv(GymEnv(options.env_id, image_size=36), RewardSum())
    frames = env.rollout(options.agent_steps, break_when_any_done=False)
    ended = frames["next", "done"].squeeze(-1)
    print(
        f"{tuple(frames['observation'].shape)} uint8 frames, returns {frames['next', 'episode_reward'][ended].tolist()}"
    )


if __name__ == "__main__":
    main()
