"""A registered Gymnasium environment as a suite: covr-bench run --suite examples/gymnasium_suite.py --agent random"""

from covr_bench import Budget, Suite
from suites import from_gymnasium

SUITE = Suite(
    name="my_pendulum",
    version=1,
    tasks=(from_gymnasium("Pendulum-v1", action_repeat=2, score_range=(-1600, 0)),),
    budgets={"paper": Budget("paper", env_steps=20_000, eval_every=2_000, eval_episodes=5)},
    agents=("random", "drqv2"),
)
