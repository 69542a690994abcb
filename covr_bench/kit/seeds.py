"""Seeds of a run's sources of randomness, all derived from the run's own seed."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, purpose: str, index: int = 0) -> int:
    """A 31-bit seed for one source of randomness of a run: `(seed, purpose, index)` hashed by SHA-256.

    Args:
        seed: The run's seed.
        purpose: What it is for, such as `agent`, `replay`, `train_env` or `eval_episode`.
        index: Of the episode, where there are several.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1


def starts(seed: int, episodes: int) -> list[int]:
    """Reset seeds of the evaluation episodes of a run with that seed."""
    return [derive_seed(seed, "eval_episode", index) for index in range(episodes)]
