"""What the VLM costs a COVR run of 100k environment steps with the tiny model, in CPU seconds on one thread.

`pytest benchmarks/bench_covr.py -s`. One part in fifty of the work is done and multiplied: 10,000 questions in batches
of 32; five rounds that keep 2,000 samples each, two epochs; the VLM by itself for 6 x 3 episodes of 100 questions. The
paper's 150 s are for questions and rounds; the episodes are given beside them.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch

PART = 50
QUERIES, SAMPLES, ALONE = 10_000 // PART, 10_000 // PART, 1_800 // PART


@pytest.mark.parametrize("action_dim", [1, 2, 6])
def test_vlm_work_of_a_run(benchmark: Any, action_dim: int) -> None:
    from covr.priors import Priors
    from covr.vlm.base import Samples
    from covr.vlm.open import open_prior
    from covr.vlm.prompts import task_prompt
    from covr_bench.kit.replay import Replay

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    vlm, prompt = open_prior("tiny"), task_prompt("a task seen from the side", action_dim)
    frames = rng.integers(0, 256, (QUERIES + 1, 84, 84, 3), dtype=np.uint8)
    actions = rng.uniform(-1, 1, (SAMPLES, action_dim)).astype(np.float32)
    obs = np.zeros((9, 84, 84), np.uint8)

    def ask() -> None:
        replay = Replay(QUERIES + 8, (9, 84, 84), action_dim, seed=0)
        priors = Priors(vlm, prompt, lambda replay, slots: frames[slots], batch=32, hold=False, background=False)
        replay.start(obs)
        for _ in range(QUERIES):
            priors.see(replay, ask=True)
            replay.add(np.zeros(action_dim, np.float32), 0.0, False, obs)

    def tune() -> None:
        vlm.finetune(Samples(frames[:SAMPLES], actions, rng.uniform(0, 1, SAMPLES).astype(np.float32)), prompt)

    def alone() -> None:
        for i in range(ALONE):
            vlm.propose(frames[i : i + 1], prompt)

    ask(), tune()  # warm up, and an adapter to merge
    seconds: dict[str, list[float]] = {"questions": [], "rounds": [], "episodes": []}
    for _ in range(3):
        for name, work in (("questions", ask), ("rounds", tune), ("episodes", alone)):
            started = time.process_time()
            work()
            seconds[name].append(time.process_time() - started)
    cost = {name: PART * min(values) for name, values in seconds.items()}
    benchmark.extra_info |= {"cpu_s_per_100k_steps": cost}
    benchmark.pedantic(ask, rounds=1)
    print(f"\n{action_dim}-D: " + ", ".join(f"{name} {value:.0f} s" for name, value in cost.items()))
