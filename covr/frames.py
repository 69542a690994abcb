"""What the VLM is shown of an observation: its newest frame, or its newest two, at the size the VLM sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt

    from covr_bench.kit.api import Context, Render
    from covr_bench.kit.replay import Replay

PICTURE_BYTES = 1 << 30  # kept at most


def as_images(obs: npt.NDArray[np.uint8] | torch.Tensor, frames: int, size: int) -> npt.NDArray[np.uint8]:
    """Observations uint8 `(B, 3 * stack, H, W)` as images uint8 `(B, size, size, 3)`, of two frames
    `(B, 2, size, size, 3)`. A frame of another size is resized, antialiased."""
    newest = torch.as_tensor(obs)[:, -3 * frames :]
    if newest.shape[-2:] != (size, size):
        resized = F.interpolate(newest.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
        newest = resized.round_().clamp_(0, 255).to(torch.uint8)
    images = newest.reshape(len(newest), -1, 3, size, size).permute(0, 1, 3, 4, 2)
    array: npt.NDArray[np.uint8] = (images if frames > 1 else images[:, 0]).contiguous().numpy()
    return array


def check_stacked(context: Context, frames: int, size: int) -> None:
    """Raises UserError, before a step, if a VLM is to be shown more frames than the observation it is shown holds.

    frames, size: how many it is shown at once, and their pixels a side; larger than the agent's, they are drawn for it.
    """
    channels, _, side = context.obs_shape
    if size <= side and channels < 3 * frames:
        raise UserError(
            f"vlm_frames={frames} shows the VLM as many frames of the observation, which has {channels // 3}: set "
            f"env.frame_stack to at least {frames}, or vlm_frames=1"
        )


class Frames:
    """Images of replay slots. A VLM that sees more pixels than the replay holds is shown pictures drawn for it, of the
    slots it is asked about; of these the newest gigabyte is kept."""

    def __init__(self, frames: int, size: int, obs_size: int, render: Render) -> None:
        self.frames, self.size, self.render = frames, size, render
        self.draws = size > obs_size
        self.pictures: dict[int, npt.NDArray[np.uint8]] = {}  # by slot
        self.before: npt.NDArray[np.uint8] | None = None  # the frame before the newest one, of two
        self.most = max(PICTURE_BYTES // (frames * size * size * 3), 64)

    def see(self, replay: Replay, asked: bool) -> None:
        """Draw the newest slot's picture if the VLM will be asked about it."""
        if not self.draws or not (asked or self.frames == 2):
            return
        slot = replay.head - 1
        now = self.render(self.size, self.size).copy()
        if asked:
            starts = self.before is None or replay.first[slot % replay.capacity] == slot
            before = now if starts or self.before is None else self.before
            self.pictures[slot] = np.stack([before, now]) if self.frames == 2 else now
            for old in list(self.pictures)[: -self.most]:
                del self.pictures[old]
        self.before = now

    def known(self, slots: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Those of the slots that there are images of."""
        return np.array([s for s in slots.tolist() if s in self.pictures], np.int64) if self.draws else slots

    def of(self, replay: Replay, slots: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Images of slots, as `as_images`."""
        if self.draws:
            return np.stack([self.pictures[s] for s in slots.tolist()])
        return as_images(replay.obs(slots), self.frames, self.size)

    def drop(self, until: int) -> None:
        """Forget the pictures of slots before `until`."""
        self.pictures = {slot: picture for slot, picture in self.pictures.items() if slot >= until}

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"slots": list(self.pictures)}
        if self.pictures:
            state["pictures"] = torch.from_numpy(np.stack(list(self.pictures.values())))
        if self.frames == 2 and self.before is not None:
            state["before"] = torch.from_numpy(self.before)
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pictures = state["pictures"].numpy() if "pictures" in state else ()
        self.pictures = dict(zip(state.get("slots", ()), pictures, strict=True))
        self.before = state["before"].numpy() if "before" in state else None
