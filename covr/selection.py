"""D_f, the fine-tuning buffer: which transitions it holds, and which of them a round learns from.

D_f is a range of replay slots, so its frames are stored once. Its samples are `(o_i, a_i, g_i)` with
`g_t = sum_{k>=t} gamma^{k-t} r_k` to the end of the episode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from covr import eddf

if TYPE_CHECKING:
    import numpy.typing as npt

    from covr_bench.kit.replay import Replay

Rule = Literal["eddf", "top", "random"]
"""`eddf`: the paper's filter. `top`: a fixed share of the highest scores. `random`: as many as EDDF, at random."""


Score = Literal["return", "reward", "q", "advantage", "q_advantage"]
"""`return`: to the end of the episode, the paper's. `reward`, `q`: its ablations. `advantage`: the return less the mean
return at that age of an episode. `q_advantage`: Q of the action taken less Q of the policy's own."""


def transitions(replay: Replay, start: int, end: int) -> npt.NDArray[np.int64]:
    """Slot numbers in start..end-1 that are followed by a slot of the same episode, int64 `(N,)`.

    Without episodes that were given up before their end, whose returns are cut short.
    """
    slots = np.arange(max(start, replay.oldest()), end)
    episode = replay.first[slots % replay.capacity]
    after = replay.first[(slots + 1) % replay.capacity]
    followed = (episode == after) & (slots + 1 < replay.head)
    return np.asarray(slots[followed & ~np.isin(episode, replay.abandoned)], np.int64)


def returns_to_go(
    rewards: npt.NDArray[np.floating[Any]], episode: npt.NDArray[np.integer[Any]], gamma: float
) -> npt.NDArray[np.float64]:
    """g of each transition in the order they were made, float64 `(N,)`: to the last of its episode.

    rewards: `(N,)`. episode: `(N,)`, equal within an episode. gamma: per agent step. Nothing is bootstrapped at a time
    limit.
    """
    result = np.zeros(len(rewards))
    running = 0.0
    for i in range(len(rewards) - 1, -1, -1):
        same = i + 1 < len(rewards) and episode[i] == episode[i + 1]
        running = float(rewards[i]) + (gamma * running if same else 0.0)
        result[i] = running
    return result


def less_typical(scores: npt.NDArray[np.float64], age: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Scores `(N,)` less the mean of those at the same age `(N,)` of an episode, float64 `(N,)`.

    A return-to-go falls with age whatever is done; this is what is left of it. Where only one episode is so old, 0.
    """
    _, at, counts = np.unique(age, return_inverse=True, return_counts=True)
    return scores - (np.bincount(at, scores) / counts)[at]


def choose(
    scores: npt.NDArray[np.float64],
    entropy: float,
    rng: np.random.Generator,
    *,
    rule: Rule = "eddf",
    direction: eddf.Direction = "eq5",
    compare: eddf.Compare = "z",
    top_share: float = 0.8,
) -> npt.NDArray[np.bool_]:
    """Which samples a round learns from, bool `(N,)`.

    scores: float64 `(N,)`, the return, or what takes its place in an ablation. top_share: of the rule `top`.
    """
    if rule == "top":
        finite = np.isfinite(scores)
        return finite & (scores >= np.quantile(scores[finite], 1 - top_share)) if finite.any() else finite
    kept = eddf.select(scores, entropy, direction, compare)
    if rule == "random":
        drawn = np.zeros(len(scores), np.bool_)
        drawn[rng.choice(len(scores), int(kept.sum()), replace=False)] = True
        return drawn
    return kept
