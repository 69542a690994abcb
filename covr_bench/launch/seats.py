"""Places for runs on GPUs: so many on each, one run on a place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from covr_bench.run import gpus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from covr_bench.run.gpus import Gpu, Inventory


@dataclass(frozen=True)
class Placement:
    """What a launcher makes of `--per-gpu`.

    Attributes:
        workers: Runs at a time.
        remarks: What the plan says of it, a sentence each.
        memory_bytes: Of the smallest GPU, for all of its runs; 0 where it is not known.
    """

    workers: int
    remarks: tuple[str, ...]
    memory_bytes: int = 0


class Seats:
    """Who uses which GPU.

    Args:
        inventory: The GPUs.
        per_gpu: Runs on each.
        shared: Environment variables of every run.
    """

    def __init__(self, inventory: Inventory, per_gpu: int, shared: Mapping[str, str] | None = None) -> None:
        self.inventory, self.per_gpu, self._shared = inventory, per_gpu, dict(shared or {})
        self._taken: dict[str, Gpu] = {}  # by run

    @property
    def count(self) -> int:
        """Places, taken or free."""
        return self.per_gpu * len(self.inventory.gpus)

    def take(self, run_id: str) -> dict[str, str]:
        """A place on the GPU with the fewest runs, the first of several; returns the run's environment variables.

        Raises:
            RuntimeError: Every place is taken, or the run has one.
        """
        used = list(self._taken.values())
        gpu = min(self.inventory.gpus, key=lambda gpu: used.count(gpu))
        if used.count(gpu) >= self.per_gpu or run_id in self._taken:
            raise RuntimeError(f"no place for {run_id}: {len(used)} of {self.count} are taken")
        self._taken[run_id] = gpu
        return self._shared | gpu.environment()

    def leave(self, run_id: str) -> None:
        """Give a run's place to others: its process has ended."""
        self._taken.pop(run_id, None)

    def placement(self, backend: str) -> Placement:
        """For the plan. backend: what draws, such as `egl`; empty if nothing draws with OpenGL."""
        found = self.inventory.gpus
        runs = "one run" if self.per_gpu == 1 else f"{self.per_gpu} runs"
        used = f"GPUs: {gpus.names(found)}, {runs} on each; {self.inventory.reason}"
        return Placement(
            self.count, tuple(filter(None, (used, gpus.graphics(self.inventory, backend)))), self.inventory.memory_bytes
        )
