"""SAC and RAD against the official codes' arithmetic: an even and an odd update, from replay to weights.

`pytest benchmarks/bench_sac.py` prints the ratios. The official side runs as its users run it: channel-first
convolutions, a pass of them for actor and critic each, crops one image at a time, whole stacks of s and s' in the
replay, glibc's default allocator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from paired import Contestant, compare

BATCH, EPISODES, LENGTH = 128, 4, 125
RENDERED = {"none": 84, "crop": 100, "translate": 108}
WINDOW = {"none": 84, "crop": 84, "translate": 100}


def _frames(rng: np.random.Generator, augmentation: str) -> Any:
    side = RENDERED[augmentation]
    return rng.integers(0, 256, (LENGTH + 1, 3, side, side), dtype=np.uint8)


def _our_update(augmentation: str, conv_kernel: str = "torch") -> Callable[[], Any]:
    from baselines.rad import RAD
    from baselines.rad import Config as RADConfig
    from baselines.sac import SAC, Config
    from covr_bench.api import Context
    from covr_bench.nets import set_conv_kernel
    from covr_bench.replay import Replay

    set_conv_kernel(conv_kernel)
    side = RENDERED[augmentation]
    rng = np.random.default_rng(0)
    replay = Replay(EPISODES * (LENGTH + 1) + 8, (9, side, side), 1, seed=0)
    for _ in range(EPISODES):
        frames = _frames(rng, augmentation)
        replay.start(np.concatenate([frames[0]] * 3))
        for frame in frames[1:]:
            replay.add(rng.uniform(-1, 1, 1).astype(np.float32), 1.0, False, np.concatenate([frame] * 3))
    context = Context((9, side, side), 1, 8, 100_000, "cpu", 0)
    agent: Any
    if augmentation == "none":
        agent = SAC(Config(random_agent_steps=0), context)
    else:
        agent = RAD(RADConfig(random_agent_steps=0, augmentation=augmentation), context)  # type: ignore[arg-type]

    def updates() -> None:
        agent.update(replay, 0)
        agent.update(replay, 8)

    return updates


def _official_update(augmentation: str) -> Callable[[], Any]:
    import torch
    from reference_sac import ReferenceReplay, ReferenceSAC

    rng = np.random.default_rng(0)
    stacks = []
    for _ in range(EPISODES):
        frames = _frames(rng, augmentation)
        stacks.append([np.concatenate([frames[max(i - k, 0)] for k in (2, 1, 0)]) for i in range(LENGTH + 1)])
    replay = ReferenceReplay(
        *(np.stack([s for episode in stacks for s in episode[at]]) for at in (slice(-1), slice(1, None)))
    )
    window = WINDOW[augmentation]
    agent = ReferenceSAC(RENDERED[augmentation] if augmentation == "translate" else window)

    def updates() -> None:
        for even in (True, False):
            transitions = replay.sample(rng, BATCH, augmentation, window)
            agent.update(transitions, [torch.randn(BATCH, 1) for _ in range(2)], even)

    return updates


def our_sac() -> Callable[[], Any]:
    return _our_update("none")


def our_crop() -> Callable[[], Any]:
    return _our_update("crop")


def our_translate() -> Callable[[], Any]:
    return _our_update("translate")


def our_crop_winograd() -> Callable[[], Any]:
    return _our_update("crop", "winograd")


def our_translate_winograd() -> Callable[[], Any]:
    return _our_update("translate", "winograd")


def official_sac() -> Callable[[], Any]:
    return _official_update("none")


def official_crop() -> Callable[[], Any]:
    return _official_update("crop")


def official_translate() -> Callable[[], Any]:
    return _official_update("translate")


@pytest.mark.parametrize("what", ["sac", "crop", "translate"])
def test_two_updates(benchmark: Any, what: str) -> None:
    ours = Contestant(f"bench_sac:our_{what}", keep_heap=True)
    compare(benchmark, ours, Contestant(f"bench_sac:official_{what}", keep_heap=False), rounds=5)


@pytest.mark.parametrize("what", ["crop", "translate"])
def test_two_updates_winograd(benchmark: Any, what: str) -> None:
    ours = Contestant(f"bench_sac:our_{what}_winograd", keep_heap=True)
    compare(benchmark, ours, Contestant(f"bench_sac:official_{what}", keep_heap=False), rounds=5)
