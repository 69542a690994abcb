"""SAC, RAD, CURL and DrQ against the official codes' arithmetic: an even and an odd update, from replay to weights.

`pytest benchmarks/bench_sac.py` prints the ratios. The official side runs as its users run it: channel-first
convolutions, a pass of them for actor, critic and contrast each, crops one image at a time, whole stacks of s and s' in
the replay, glibc's default allocator.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from paired import Contestant, compare

BATCH, EPISODES, LENGTH = 128, 4, 125
RENDERED = {"sac": 84, "crop": 100, "translate": 108, "curl": 100, "drq": 84}
WINDOW = {"sac": 84, "crop": 84, "translate": 100, "curl": 84, "drq": 84}


def _frames(rng: np.random.Generator, what: str) -> Any:
    side = RENDERED[what]
    return rng.integers(0, 256, (LENGTH + 1, 3, side, side), dtype=np.uint8)


def _our_update(what: str, conv_kernel: str = "torch") -> Callable[[], Any]:
    from covr_bench.config import registry
    from covr_bench.kit.api import Context
    from covr_bench.kit.replay import Replay

    side = RENDERED[what]
    rng = np.random.default_rng(0)
    replay = Replay(EPISODES * (LENGTH + 1) + 8, (9, side, side), 1, seed=0)
    for _ in range(EPISODES):
        frames = _frames(rng, what)
        replay.start(np.concatenate([frames[0]] * 3))
        for frame in frames[1:]:
            replay.add(rng.uniform(-1, 1, 1).astype(np.float32), 1.0, False, np.concatenate([frame] * 3))
    spec = registry.agent("rad" if what in ("crop", "translate") else what)
    settings = {"augmentation": what} if spec.name == "rad" else {}
    context = Context((9, side, side), 1, 8, 100_000, "cpu", 0, conv_kernel=conv_kernel)
    agent: Any = spec.make(spec.Config(batch_size=BATCH, random_agent_steps=0, **settings), context)

    def updates() -> None:
        agent.update(replay, 0)
        agent.update(replay, 8)

    return updates


def _official_update(what: str) -> Callable[[], Any]:
    import torch
    from reference_sac import ReferenceCURL, ReferenceDrQ, ReferenceReplay, ReferenceSAC

    rng = np.random.default_rng(0)
    stacks = []
    for _ in range(EPISODES):
        frames = _frames(rng, what)
        stacks.append([np.concatenate([frames[max(i - k, 0)] for k in (2, 1, 0)]) for i in range(LENGTH + 1)])
    obs, next_obs = (np.stack([s for episode in stacks for s in episode[at]]) for at in (slice(-1), slice(1, None)))
    window = WINDOW[what]
    if what in ("curl", "drq"):  # their encoders divide by 255, RAD's replay
        replay = ReferenceReplay(obs, next_obs, scale=1.0)
        agent: Any = (ReferenceCURL if what == "curl" else ReferenceDrQ)(window, scale=255.0)
    else:
        replay = ReferenceReplay(obs, next_obs)
        agent = ReferenceSAC(RENDERED[what] if what == "translate" else window)

    def updates() -> None:
        for even in (True, False):
            transitions = replay.sample(rng, BATCH, what, window)
            agent.update(transitions, [torch.randn(BATCH, 1) for _ in range(3)], even)

    return updates


our_sac, our_crop, our_translate, our_curl, our_drq = (partial(_our_update, what) for what in RENDERED)
official_sac, official_crop, official_translate, official_curl, official_drq = (
    partial(_official_update, what) for what in RENDERED
)
our_crop_winograd, our_translate_winograd, our_curl_winograd, our_drq_winograd = (
    partial(_our_update, what, "winograd") for what in RENDERED if what != "sac"
)


@pytest.mark.parametrize("what", RENDERED)
def test_two_updates(benchmark: Any, what: str) -> None:
    ours = Contestant(f"bench_sac:our_{what}", keep_heap=True)
    compare(benchmark, ours, Contestant(f"bench_sac:official_{what}", keep_heap=False), rounds=5)


@pytest.mark.parametrize("what", ["crop", "translate", "curl", "drq"])
def test_two_updates_winograd(benchmark: Any, what: str) -> None:
    ours = Contestant(f"bench_sac:our_{what}_winograd", keep_heap=True)
    compare(benchmark, ours, Contestant(f"bench_sac:official_{what}", keep_heap=False), rounds=5)
