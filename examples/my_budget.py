"""A budget of your own: covr-bench run --suite catch --agent drqv2 --budget examples/my_budget.py"""

from covr_bench import Budget

BUDGET = Budget(
    "quick",
    env_steps=1_000,  # environment steps, action repeat counted
    eval_every=500,
    eval_episodes=2,
    seeds=(0, 1),
    overrides={"batch_size": 32, "drqv2.seed_steps": 200},  # a misspelt name is refused
)
