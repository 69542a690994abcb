"""`effect`: does a VLM in the loop help, and which half of COVR does? The same loop with and without it, by controls.

Arms share base, settings and seeds, so that they are compared in pairs: starts, and everything but the prior, are the
same until guidance begins. It runs on the small game, where a run takes one to two minutes: docs/effect.md. `effect-hw`
and `effect-cartpole` ask once, with the agents as the small game left them, whether its answer holds elsewhere.
"""

from __future__ import annotations

from typing import Any

from suites import catch, dmc, driving, short_settings
from suites.base import Budget, Suite, Variant

# Small enough for many seeds; with the suite's own settings drqv2 does not learn the game in so few steps.
LEARNS: dict[str, Any] = {
    "env.image_size": 24,
    "base": "drqv2",
    "hidden_dim": 256,
    "shift_pad": 1,
    "batch_size": 32,
    "lr": 5e-4,
    "update_every": 2,
    "discount": 0.9,
    "critic_target_tau": 0.05,
    "seed_steps": 500,
    "random_agent_steps": 250,
    "initial_updates": 10,
    "stddev_steps": 2_000,
    "stddev_end": 0.2,
    "query_every": 2,
    "covr.psi0": 1_000,
    "covr.guidance_after": 1,
    "dpl.decode": "expect",
}
# On the highway an action is held for 0.2 s, frames are larger, and noise falls while there is something to explore.
DRIVES: dict[str, Any] = LEARNS | {
    "env.image_size": 36,
    "env.action_repeat": 4,
    "shift_pad": 2,
    "lr": 3e-4,
    "update_every": 4,
    "discount": 0.99,
    "critic_target_tau": 0.01,
    "seed_steps": 1_000,
    "stddev_steps": 20_000,
    "stddev_end": 0.1,
    "query_every": 4,
    "covr.psi0": 3_000,
}
# As dmc's `short`, whose agents have five to eight times fewer actions than steps.
SWINGS: dict[str, Any] = dmc.SHORT | {"base": "drqv2", "query_every": 2, "covr.psi0": 3_000, "covr.guidance_after": 1}
SEEDS = tuple(range(10))
# The rounds of the study as its first runs were made; other short budgets tune the stand-in longer since.
ROUNDS = short_settings.STAND_IN | {"covr.finetune_min_steps": 300}
SMOKE = {**LEARNS, "seed_steps": 100, "random_agent_steps": 50, "covr.psi0": 120, "covr.finetune_min_steps": 10}
SMOKE |= {"covr.vlm_episodes": 1}
SMOKE_ELSEWHERE = {key: short_settings.SMOKE[key] for key in ("covr.episodes", "covr.vlm_episodes", "covr.psi0")}
SMOKE_ELSEWHERE |= {"covr.finetune_min_steps": 10, "seed_steps": 500, "random_agent_steps": 60}
SMOKE_ELSEWHERE |= {f"{agent}.seed_steps": 500 for agent in ("drqv2", "taco")} | {"mrq.random_agent_steps": 60}


def _arm(agent: str, doc: str, **settings: str) -> Variant:
    """Named as `--set` names it, so that both are the same runs."""
    return Variant(agent, ",".join(f"{key}={value}" for key, value in sorted(settings.items())), settings, doc)


LATE = (
    _arm("covr", "the stand-in, tuned by the agent's experience"),
    _arm("covr", "its placebo: guidance as late, always 0", prior="zero"),
    _arm("covr", "its upper bound: guidance as late, the scripted player's action", prior="oracle"),
)
# One switch each, over covr with the stand-in that was taught the game: only it has something that a round can spoil.
SWITCHES = tuple(
    _arm("covr", f"one switch: {doc}", vlm="tiny-knowing", **settings)
    for doc, settings in (
        ("a round that lowers no held-out error is undone", {"accept": "better"}),
        ("the return-to-go less a baseline", {"score": "advantage"}),
        ("the critic's advantage", {"score": "q_advantage"}),
        ("the policy's present action as the label", {"labels": "policy"}),
        ("stored answers are asked for again after a round", {"old_priors": "relabel"}),
        ("a round makes the answers before it void", {"old_priors": "drop"}),
        ("lambda falls to 0", {"guidance_schedule": "anneal"}),
        ("lambda / sigma^2, of answers as expectations", {"guidance_trust": "variance", "decode": "expect"}),
        ("Eq. 4's gradient reaches the encoder", {"guidance_to_encoder": "true"}),
    )
)
VARIANTS = (
    _arm("dpl", "placebo: the pull of a prior that always answers 0", prior="zero"),
    _arm("dpl", "a prior that knows nothing and varies", prior="uniform"),
    _arm("dpl", "upper bound: the scripted player's action", prior="oracle"),
    _arm("dpl", "the same, pulled harder", prior="oracle", guidance_weight="30"),
    _arm("dpl", "the scripted player's action in half of the answers", prior="oracle:0.5"),
    _arm("dpl", "the scripted player's action, off by half the range", prior="noise:0.5"),
    _arm("dpl", "the stand-in as it comes"),
    _arm("dpl", "a stand-in that was taught the game", vlm="tiny-knowing"),
    _arm("covr", "the stand-in, tuned by the scripted player's experience", teacher="scripted"),
    _arm("covr", "a stand-in that was taught the game, tuned by the agent's experience", vlm="tiny-knowing"),
    _arm("covr", "its frozen twin: every round is measured and undone", vlm="tiny-knowing", accept="never"),
    *LATE,
    *SWITCHES,
)
SMALL_GAME = Suite(
    name="effect",
    version=1,
    tasks=tuple(catch.SUITE.task(name) for name in ("catch_or_end", "catch")),
    budgets={
        "smoke": Budget("smoke", 400, 200, 1, (0,), SMOKE, "Does it run?"),
        "short": Budget("short", 4_000, 500, 10, SEEDS, LEARNS, "Does a good prior reach the policy?", ROUNDS),
        "paper": Budget(
            "paper", 20_000, 2_000, 10, SEEDS, LEARNS, "Does the agent teach the VLM? No paper's budget.", ROUNDS
        ),
    },
    agents=("drqv2", "dpl", "covr", "covr_plus"),
    doc="Does a VLM in the loop help? COVR, a frozen VLM, placebo and oracle on the small game.",
    default_tasks=("catch_or_end",),
    variants=VARIANTS,
)


def _elsewhere(name: str, home: Suite, task: str, settings: dict[str, Any], env_steps: int, seeds: int) -> Suite:
    """The questions about rounds on a task of another suite."""
    doc = f"Does the agent teach the VLM on {task}? Seeds 0 to {seeds - 1}; no paper's."
    return Suite(
        name=name,
        version=1,
        tasks=(home.task(task),),
        budgets={
            "smoke": Budget("smoke", 2_000, 1_000, 1, (0,), settings | SMOKE_ELSEWHERE, "Does it run?"),
            "paper": Budget("paper", env_steps, env_steps // 10, 5, tuple(range(seeds)), settings, doc, ROUNDS),
        },
        agents=("drqv2", "covr", "covr_plus"),
        doc=f"COVR, its placebo and its upper bound on {task}, as `effect` has them on the small game.",
        variants=LATE,
    )


SUITES = (
    SMALL_GAME,
    _elsewhere("effect-hw", driving.SUITE, "hw", DRIVES, 30_000, 5),
    _elsewhere("effect-cartpole", dmc.SUITES[0], "cartpole_swingup", SWINGS, 60_000, 3),
)
