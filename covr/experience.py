"""D_f: the transitions that a round of fine-tuning chooses from, the agent's own or a teacher's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from covr.frames import as_images
from covr.selection import transitions

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from covr.frames import Frames
    from covr_bench.kit.api import Services
    from covr_bench.kit.replay import Replay

    Rows = npt.NDArray[np.int64]

SELF, SCRIPTED = "self", "scripted"


def absolute_teacher(name: str) -> str:
    """The setting as it is; a run's folder as an absolute path."""
    return name if name in (SELF, SCRIPTED) else str(Path(name).resolve())


@dataclass(frozen=True)
class Experience:
    """N transitions in the order they were made; `len` gives N.

    Attributes:
        slots: int64 `(N,)`, of the replay; empty of a teacher's, which has none.
        actions: float32 `(N, A)`, that were taken.
        rewards: float64 `(N,)`.
        episode: int64 `(N,)`, equal within an episode.
        age: int64 `(N,)`, agent steps since the episode's start.
        pictured: bool `(N,)`, whether the VLM has an image of it.
        images: Of rows, int64 `(n,)`, what the VLM is shown, uint8 `(n, H, W, 3)` or of two frames.
    """

    slots: Rows
    actions: npt.NDArray[np.float32]
    rewards: npt.NDArray[np.float64]
    episode: Rows
    age: Rows
    pictured: npt.NDArray[np.bool_]
    images: Callable[[Rows], npt.NDArray[np.uint8]]

    def __len__(self) -> int:
        return len(self.actions)


def own(replay: Replay, start: int, end: int, frames: Frames) -> Experience:
    """What the agent did in slots start..end-1 of its replay."""
    slots = transitions(replay, start, end)
    at = slots % replay.capacity
    first = replay.first[at].astype(np.int64)
    return Experience(
        slots,
        replay.action[at],
        replay.reward[at].astype(np.float64),
        first,
        slots - first,
        np.isin(slots, frames.known(slots)),
        lambda rows: frames.of(replay, slots[rows]),
    )


def taught(services: Services, name: str, agent_steps: int, number: int, frames: Frames) -> Experience:
    """What a teacher does in as many decisions, at least. Raises UserError if there is no such teacher."""

    def image(obs: Any) -> Any:
        return as_images(obs[None], frames.frames, frames.size)[0]

    shown = services.demonstrate(name, agent_steps, number, image)
    return Experience(
        np.empty(0, np.int64),
        shown.actions,
        shown.rewards,
        shown.episode,
        shown.age,
        np.ones(len(shown.actions), np.bool_),
        lambda rows: shown.images[rows],
    )
