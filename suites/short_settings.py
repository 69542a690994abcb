"""Settings of the agents for short budgets, in suites whose episodes have 1000 control steps.

With the published settings agents would learn nothing in so few steps; docs/budgets.md has the evidence. COVR
fine-tunes as often as the length allows: in SMOKE two rounds and then guidance (a run has two episodes, so the running
one counts), in SHORT five rounds, guided from the fourth on as in the paper.
"""

from __future__ import annotations

from typing import Any

SMOKE: dict[str, Any] = {
    "batch_size": 32,
    "seed_steps": 500,
    "random_agent_steps": 60,  # of 250 in the shortest run, cartpole's
    "initial_updates": 10,
    "target_period": 25,  # mrq's bursts
    "model_batch_size": 4,
    "madi.batch_size": 8,  # each image costs it three times what svea's does
    "covr.psi0": 500,
    "covr.guidance_after": 2,
    "covr.episodes": "cut",
    "covr.vlm_episodes": 1,
    "covr.finetune_min_steps": 10,
    "vpf.rollout": 32,
    "vpf.minibatch": 16,
    "dgc.query_batch": 8,
}
SHORT: dict[str, Any] = {
    "batch_size": 32,
    "model_batch_size": 4,
    "drqv2.lr": 3e-4,
    "drqv2.seed_steps": 1_000,
    "drqv2.stddev_steps": 10_000,
    "taco.lr": 3e-4,
    "taco.seed_steps": 1_000,
    "taco.stddev_steps": 10_000,
    "covr.psi0": 1_000,
    "vpf.rollout": 64,
    "vpf.minibatch": 32,
}
