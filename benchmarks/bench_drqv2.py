"""DrQ-v2 against the official code's arithmetic: one update, and one batch from replay to network input.

`pytest benchmarks/bench_drqv2.py` prints the ratios. The official side runs as its users run it: channel-first
convolutions, bilinear shifts, whole stacks in the replay, glibc's default allocator.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from paired import Contestant, ask, compare, hear, tell

BATCH, EPISODES, LENGTH = 256, 8, 125


def _frames(rng: np.random.Generator) -> Any:
    return rng.integers(0, 256, (LENGTH + 1, 3, 84, 84), dtype=np.uint8)


def _our_replay() -> Any:
    from covr_bench.kit.replay import Replay

    rng = np.random.default_rng(0)
    replay = Replay(EPISODES * (LENGTH + 1) + 8, (9, 84, 84), 1, seed=0)
    for _ in range(EPISODES):
        frames = _frames(rng)
        replay.start(np.concatenate([frames[0]] * 3))
        for frame in frames[1:]:
            replay.add(rng.uniform(-1, 1, 1).astype(np.float32), 1.0, False, np.concatenate([frame] * 3))
    return replay


def _official_episodes() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    episodes = []
    for _ in range(EPISODES):
        frames = _frames(rng)
        stacks = np.stack([np.concatenate([frames[max(i - k, 0)] for k in (2, 1, 0)]) for i in range(LENGTH + 1)])
        column = np.ones((LENGTH, 1), np.float32)
        episodes.append({"obs": stacks, "action": column * 0.5, "reward": column, "discount": column})
    return episodes


def _our_update(conv_kernel: str) -> Callable[[], Any]:
    from baselines.drqv2 import Config, DrQV2
    from covr_bench.kit.api import Context

    context = Context((9, 84, 84), 1, 8, 100_000, "cpu", 0, conv_kernel=conv_kernel)
    agent = DrQV2(Config(seed_steps=0, update_every=8), context)
    replay = _our_replay()
    steps = itertools.count(50_000, 8)
    return lambda: agent.update(replay, next(steps))


def our_update() -> Callable[[], Any]:
    return _our_update("torch")


def our_update_winograd() -> Callable[[], Any]:
    return _our_update("winograd")


def official_update() -> Callable[[], Any]:
    import torch
    from reference_drqv2 import ReferenceDrQV2, episodes_sample

    agent, episodes, rng = ReferenceDrQV2(), _official_episodes(), np.random.default_rng(0)

    def update() -> None:
        batch = episodes_sample(episodes, rng, BATCH, 3, 0.99)
        shifts = [torch.randint(0, 9, (BATCH, 2)) for _ in range(2)]
        agent.update(batch, shifts, [torch.randn(BATCH, 1) for _ in range(2)], 0.775)

    return update


def our_batch() -> Callable[[], Any]:
    from covr_bench.kit.augment import random_shift

    replay = _our_replay()

    def batch() -> None:
        sampled = replay.sample(BATCH, 3, 0.99)
        random_shift(sampled.obs, 4), random_shift(sampled.next_obs, 4)

    return batch


def official_batch() -> Callable[[], Any]:
    import torch
    from reference_drqv2 import bilinear_shift, episodes_sample

    episodes, rng = _official_episodes(), np.random.default_rng(0)

    def batch() -> None:
        obs, *_, next_obs = episodes_sample(episodes, rng, BATCH, 3, 0.99)
        for images in (obs, next_obs):
            bilinear_shift(images.float(), torch.randint(0, 9, (BATCH, 2))) / 255.0 - 0.5

    return batch


@pytest.mark.parametrize("threads", [1, 2])
def test_update(benchmark: Any, threads: int) -> None:
    ours = Contestant("bench_drqv2:our_update", keep_heap=True, threads=threads)
    theirs = Contestant("bench_drqv2:official_update", keep_heap=False, threads=threads)
    compare(benchmark, ours, theirs, clock="cpu" if threads == 1 else "wall")


def test_update_winograd(benchmark: Any) -> None:
    ours = Contestant("bench_drqv2:our_update_winograd", keep_heap=True)
    compare(benchmark, ours, Contestant("bench_drqv2:official_update", keep_heap=False))


def test_batch_from_replay_to_network_input(benchmark: Any) -> None:
    ours = Contestant("bench_drqv2:our_batch", keep_heap=True)
    compare(benchmark, ours, Contestant("bench_drqv2:official_batch", keep_heap=False), rounds=15)


def test_two_workers_against_one(benchmark: Any) -> None:
    """Updates a second of two single-threaded processes side by side, over one alone on the same machine."""
    first, second = (Contestant("bench_drqv2:our_update", keep_heap=True).start() for _ in range(2))
    try:
        ask(first), ask(second)  # warm up
        ratios = []
        for _ in range(5):
            alone = ask(first)["wall"]
            for process in (first, second):
                tell(process)
            together = max(hear(process)["wall"] for process in (first, second))
            ratios.append(2 * alone / together)
        benchmark.extra_info["ratio"] = statistics.median(ratios)
        benchmark.pedantic(lambda: ask(first), rounds=3)
    finally:
        for process in (first, second):
            process.kill()
            process.wait()
    print(f"\ntwo workers: {statistics.median(ratios):.2f}x the throughput of one")
