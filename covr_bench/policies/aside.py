"""What a policy draws and computes with, kept apart from its caller's: global random generators and torch's threads."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


class Aside:
    """The global random states and the number of torch's threads of one policy.

    Args:
        device: The policy's. States of GPUs are left alone for one on the CPU: to look at them starts CUDA.
    """

    def __init__(self, device: str) -> None:
        self._gpus = device.startswith("cuda")
        self._own: dict[str, Any] = {}

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Within the block the policy's own are in force, going on from the last block; after it the caller's again.

        The first block starts with the caller's.
        """
        before = self._present()
        if self._own:
            self._put(self._own)
        try:
            yield
        finally:
            self._own = self._present()
            self._put(before)

    def start(self, seed: int, threads: int) -> None:
        """Seed every generator and choose the number of threads, within a block."""
        torch.set_num_threads(threads)  # sums in another order round differently
        torch.default_generator.manual_seed(seed)  # as `torch.manual_seed`, which seeds GPUs that start later too
        if self._gpus:
            torch.cuda.manual_seed_all(seed)
        np.random.seed(seed)
        random.seed(seed)

    def _present(self) -> dict[str, Any]:
        return {
            "python": random.getstate(),
            "numpy": np.random.get_state(),
            "torch": torch.get_rng_state(),
            "gpus": torch.cuda.get_rng_state_all() if self._gpus else [],
            "threads": torch.get_num_threads(),
        }

    def _put(self, state: dict[str, Any]) -> None:
        random.setstate(state["python"])
        np.random.set_state(state["numpy"])
        torch.set_rng_state(state["torch"])
        if self._gpus:
            torch.cuda.set_rng_state_all(state["gpus"])
        if state["threads"] != torch.get_num_threads():
            torch.set_num_threads(state["threads"])
