"""Stable-Baselines3 on a task of ours: pip install stable-baselines3; python examples/sb3_on_a_task.py"""

import argparse

import gymnasium
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy

import suites

gymnasium.register_envs(suites)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--env-id", default="covr-bench/catch-catch-v1")
    parser.add_argument("--agent-steps", type=int, default=20_000)
    options = parser.parse_args()
    env = gymnasium.make(options.env_id, image_size=36)
    model = PPO("CnnPolicy", env, n_steps=min(256, options.agent_steps), batch_size=32, verbose=1, seed=0)
    model.learn(options.agent_steps)
    mean, deviation = evaluate_policy(model, env, n_eval_episodes=10)
    print(f"return {mean:.1f}, standard deviation over episodes {deviation:.1f}")


if __name__ == "__main__":
    main()
