"""Settings of the agents for short budgets, in suites whose episodes have 1000 control steps.

With the published settings agents would learn nothing in so few steps; docs/budgets.md has the evidence. COVR's first
round comes after its base has begun to learn: before, there is nothing to teach. In SMOKE there are two rounds and then
guidance (a run has two episodes, so the running one counts), in SHORT two to five, guided after the first to the third
as the length allows.
"""

from __future__ import annotations

from typing import Any

PIXELS_36: dict[str, Any] = {
    "image_size": 36,
    "window": 28,
    "patch_size": 4,
    "shift_pad": 2,
    "vbe.image_size": 84,  # the VLM's
    "vpf.image_size": 84,
}
"""Pictures as small as every agent takes them, for the gate and the probe."""

# The gate asks whether training is as it was, not how well an agent does: small networks, batches and many seeds.
GATE: dict[str, Any] = {
    **PIXELS_36,
    "layers": 5,  # eleven convolutions need 46 pixels
    "env.image_size": 36,
    "mrq.image_size": 48,  # of 36 its strided convolutions would leave one place
    "batch_size": 16,
    "madi.batch_size": 8,  # each image costs it three times what svea's does
    "hidden_dim": 128,
    "random_agent_steps": 200,
    "initial_updates": 10,
    "seed_steps": 200,
    "update_every": 2,
    "stddev_steps": 1_500,
    "model_batch_size": 4,
    "target_period": 50,
    "covr.psi0": 450,
    "covr.guidance_after": 1,
    "covr.episodes": "cut",
    "covr.vlm_episodes": 1,
    "covr.finetune_min_steps": 10,
    "vpf.rollout": 32,
    "vpf.minibatch": 16,
    "dgc.query_batch": 8,
}
STAND_IN: dict[str, Any] = {"covr.lora_alpha": 256.0, "covr.finetune_min_steps": 600, "covr.decode": "expect"}
"""So that rounds teach the stand-in something: from 1,000 labelled frames of catch it learns to answer fresh ones with
an error of 0.55 of the mean's (`benchmarks/bench_tuning.py`); with the paper's alpha of 16, 100 steps and `forced` it
is 1.0. A real one keeps it."""

SMOKE: dict[str, Any] = {
    "batch_size": 32,
    "seed_steps": 500,
    "random_agent_steps": 60,  # of 250 in the shortest run, cartpole's
    "initial_updates": 10,
    "target_period": 25,  # mrq's bursts
    "model_batch_size": 4,
    "madi.batch_size": 8,  # each image costs it three times what svea's does
    "covr.psi0": 600,
    "covr.guidance_after": 2,
    "covr.episodes": "cut",
    "covr.vlm_episodes": 1,
    "covr.finetune_min_steps": 10,
    "vpf.rollout": 32,
    "vpf.minibatch": 16,
    "dgc.query_batch": 8,
}
SMALL_FRAMES: dict[str, Any] = {
    "image_size": 36,
    "window": 32,
    "patch_size": 4,
    "svea.image_size": 48,  # eleven convolutions need 46
    "madi.image_size": 48,
    "mrq.image_size": 48,  # of 32 its strided convolutions would leave one place
    "vbe.image_size": 84,  # the VLM's
    "vpf.image_size": 84,
    "hidden_dim": 256,
    "shift_pad": 2,
}
"""What counts is the number of updates, and an hour has room for it only so. `env.image_size` is for the others."""

SHORT: dict[str, Any] = {
    "batch_size": 32,
    "model_batch_size": 4,
    "drqv2.lr": 3e-4,
    "drqv2.seed_steps": 1_000,
    "drqv2.stddev_steps": 10_000,
    "taco.lr": 3e-4,
    "taco.seed_steps": 1_000,
    "taco.stddev_steps": 10_000,
    "covr.psi0": 1_300,
    "mrq.random_agent_steps": 1_000,
    "vpf.rollout": 64,
    "vpf.minibatch": 32,
}
DRIVING_SHORT: dict[str, Any] = {
    **SHORT,
    **SMALL_FRAMES,
    "env.image_size": 36,
    "shift_pad": 1,
    "lr": 5e-4,
    "vpf.lr": 3e-4,
    "actor_every": 1,
    "target_every": 1,
    "random_agent_steps": 250,
    "drq.target_views": 1,
    "drq.loss_views": 1,
    "drqv2.stddev_steps": 20_000,
    "taco.stddev_steps": 20_000,
    "mrq.random_agent_steps": 250,
    "covr.psi0": 3_000,
    "covr.guidance_after": 1,
}
