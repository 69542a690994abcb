"""Replay memory that keeps every frame once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

DRAWS = 100  # tries of slots that begin a whole window, before those that do are looked for


class Batch(NamedTuple):
    """n transitions on the agent's device.

    obs, next_obs: uint8 `(n, C, H, W)`, newest frame last. action: float32 `(n, A)`.
    reward: float32 `(n, 1)`, the discounted sum over the n-step window.
    discount: float32 `(n, 1)`, what the value of next_obs is multiplied by: 0 after a true termination.
    slot: int64 `(n,)` on the CPU, number of the slot that obs ends with (see `Replay.head`).
    """

    obs: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    discount: torch.Tensor
    next_obs: torch.Tensor
    slot: torch.Tensor


class Window(NamedTuple):
    """n windows of `length` steps, one step after another; what is past a termination is arbitrary, but stored.

    slot: int64 `(length + 1, n)`, of the observations; after a terminal observation, that one again.
    action: float32 `(length, n, A)`. reward, discount: float32 `(length, n)` of each step; discount is 0 of a terminal
    one, else 1.
    """

    slot: npt.NDArray[np.int64]
    action: torch.Tensor
    reward: torch.Tensor
    discount: torch.Tensor


class Replay:
    """A ring of environment frames with uniform n-step sampling.

    One slot holds one frame and the action taken on it; an episode of T steps takes T + 1 slots. A stack is gathered
    when it is sampled, the first frame of the episode repeated before its start, so it equals the observation the
    agent saw. An observation that is no picture is one frame, and no stack. An n-step window never crosses an episode's
    end (as in the official DrQ-v2 replay); unlike there, the running episode can be sampled too. A slot is 21.2 kB at
    84x84.
    """

    _ARRAYS: ClassVar = ("frames", "action", "reward", "discount", "first")

    def __init__(
        self,
        capacity: int,
        obs_shape: tuple[int, ...],
        action_dim: int,
        *,
        seed: int,
        device: str = "cpu",
        dtype: npt.DTypeLike = np.uint8,
    ) -> None:
        self.stack, frame = _frame(obs_shape)
        self.capacity = capacity
        self.device = torch.device(device)
        self.frames = np.empty((capacity, *frame), dtype)  # untouched pages cost no memory
        self.action = np.zeros((capacity, action_dim), np.float32)
        self.reward = np.zeros(capacity, np.float32)
        self.discount = np.zeros(capacity, np.float32)  # 1 - terminated
        self.first = np.zeros(capacity, np.int64)  # number of the slot its episode began with
        self.abandoned: list[int] = []  # slots that episodes began with which were given up before their end
        self.head = 0  # slots ever written; slot number s lives at s % capacity
        self.rng = np.random.default_rng(seed)
        self.on_batch: Callable[[Batch], object] | None = None  # is shown what `at` returns

    def __len__(self) -> int:
        """Slots held."""
        return min(self.head, self.capacity)

    def start(self, obs: npt.NDArray[np.uint8]) -> None:
        """Begin an episode with the observation a reset returned."""
        self._push(obs, first=self.head)

    def add(
        self, action: npt.NDArray[np.float32], reward: float, terminated: bool, next_obs: npt.NDArray[np.uint8]
    ) -> None:
        """Store the step that led from the newest observation to `next_obs`."""
        last = (self.head - 1) % self.capacity
        self.action[last] = action
        self.reward[last] = reward
        self.discount[last] = 1.0 - terminated
        self._push(next_obs, first=int(self.first[last]))

    def abandon(self) -> None:
        """The running episode goes no further, though it has not ended: its simulator failed."""
        self.abandoned.append(int(self.first[(self.head - 1) % self.capacity]))

    def _push(self, obs: npt.NDArray[np.uint8], first: int) -> None:
        slot = self.head % self.capacity
        self.frames[slot] = obs[-self.frames.shape[1] :]
        self.first[slot] = first
        self.head += 1

    def newest_frame(self) -> npt.NDArray[Any]:
        """The frame stored last, `(3, H, W)`; of observations that are no pictures, the whole one."""
        frame: npt.NDArray[Any] = self.frames[(self.head - 1) % self.capacity]
        return frame

    def ends_with(self, obs: npt.NDArray[Any]) -> bool:
        """Whether an observation's newest frame is the one stored last."""
        return np.array_equal(obs[-self.frames.shape[1] :], self.newest_frame())

    def can_sample(self, nstep: int = 1) -> bool:
        """Whether one whole n-step window is stored."""
        end = self.head - 1 - nstep
        newest = np.arange(max(self.oldest(), end - 2 * nstep), end + 1)
        # The whole replay is looked through only where the newest episodes are all shorter than a window.
        return bool(self._whole(newest, nstep).any() or len(self.starts(nstep)))

    def sample(
        self, n: int, nstep: int = 1, discount: float = 0.99, newest: int | None = None, window: int | None = None
    ) -> Batch:
        """n transitions, uniform over all stored n-step windows, with replacement. Raises ValueError if there is none.

        discount: per agent step; a reward i steps ahead is weighted by discount**i.
        newest: how many of the newest slots that a window can begin with are drawn from; None for all.
        window: steps for which the episode has to go on, if more than nstep.
        """
        return self.at(self._draw(n, window or nstep, newest), nstep, discount)

    def at(self, start: npt.NDArray[np.int64], nstep: int = 1, discount: float = 0.99) -> Batch:
        """The transitions that begin with these slots, each of which is one of `starts(nstep)`.

        Of a window that a termination cuts short, next_obs is the terminal observation.
        """
        reward = np.zeros(len(start), np.float32)
        factor = np.ones(len(start), np.float32)
        for i in range(nstep):
            slot = (start + i) % self.capacity
            reward += factor * self.reward[slot]
            factor *= self.discount[slot] * np.float32(discount)

        def move(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(self.device, non_blocking=True)

        batch = Batch(
            obs=move(self.obs(start)),
            action=move(torch.from_numpy(self.action[start % self.capacity])),
            reward=move(torch.from_numpy(reward[:, None])),
            discount=move(torch.from_numpy(factor[:, None])),
            next_obs=move(self.obs(self._ends(start, nstep))),
            slot=torch.from_numpy(start),
        )
        if self.on_batch is not None:
            self.on_batch(batch)
        return batch

    def oldest(self) -> int:
        """The oldest slot number whose stack is whole; the slot the next push overwrites counts as gone."""
        return 0 if self.head < self.capacity else self.head - self.capacity + self.stack

    def _whole(self, start: npt.NDArray[np.int64], nstep: int) -> npt.NDArray[np.bool_]:
        begin, end = self.first[start % self.capacity], self.first[(start + nstep) % self.capacity]
        return np.equal(begin, end)

    def starts(self, nstep: int = 1, *, until_terminal: bool = False) -> npt.NDArray[np.int64]:
        """Every slot that a whole n-step window begins with, oldest first.

        until_terminal: windows that a termination cuts short count as whole; those that a truncation cuts never do.
        """
        if not until_terminal:
            slots = np.arange(self.oldest(), self.head - nstep)
            return slots[self._whole(slots, nstep)]
        slots = np.arange(self.oldest(), self.head - 1)
        ends = self._ends(slots, nstep)
        same_episode = np.equal(self.first[slots % self.capacity], self.first[ends % self.capacity])
        return slots[(ends < self.head) & same_episode]

    def _ends(self, start: npt.NDArray[np.int64], nstep: int) -> npt.NDArray[np.int64]:
        """The slots n steps later; if a step before is terminal, the slot it led to."""
        end: npt.NDArray[np.int64] = start.copy()
        running = np.ones(len(start), np.bool_)
        for _ in range(nstep):
            end += running
            running &= self.discount[(end - 1) % self.capacity] > 0
        return end

    def window(self, start: npt.NDArray[np.int64], length: int) -> Window:
        """The windows that begin with these slots, each of which is one of `starts(length, until_terminal=True)`."""
        slots = np.stack([self._ends(start, i) for i in range(length + 1)])
        steps = slots[:-1] % self.capacity
        arrays = (self.action, self.reward, self.discount)
        return Window(slots, *(torch.from_numpy(array[steps]).to(self.device) for array in arrays))

    def _draw(self, n: int, nstep: int, newest: int | None) -> npt.NDArray[np.int64]:
        low, high = self.oldest(), self.head - nstep
        if newest is not None:
            low = max(low, high - newest)
            if not self._whole(np.arange(low, high), nstep).any():  # an episode has just begun
                low = int(self.starts(nstep)[-1:].sum())
        if not self.can_sample(nstep):
            raise ValueError(f"no {nstep}-step window stored yet: {len(self)} frames")
        start = self.rng.integers(low, high, n)
        for _ in range(DRAWS):
            if not (crossing := ~self._whole(start, nstep)).any():
                return start
            start[crossing] = self.rng.integers(low, high, int(crossing.sum()))
        slots = np.arange(low, high)
        crossing = ~self._whole(start, nstep)
        start[crossing] = self.rng.choice(slots[self._whole(slots, nstep)], int(crossing.sum()))
        return start

    def obs(self, newest: npt.NDArray[np.int64]) -> torch.Tensor:
        """Observations that end with these slots, uint8 `(n, C, H, W)` on the CPU."""
        back = np.arange(1 - self.stack, 1)
        slots = np.maximum(newest[:, None] + back, self.first[newest % self.capacity, None])  # (n, stack)
        stacks = self.frames[slots % self.capacity]  # (n, stack, 3, H, W)
        return torch.from_numpy(stacks.reshape(len(newest), -1, *stacks.shape[3:]))

    def before(self, slot: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The step before each slot's in its episode, zeros before the first: observation and action taken on it.

        slot: `Batch.slot`. Returns uint8 `(n, C, H, W)` and float32 `(n, A)` on the agent's device.
        """
        newest = slot.numpy()
        begins = self.first[newest % self.capacity] == newest
        earlier = np.where(begins, newest, newest - 1)
        obs, action = self.obs(earlier), torch.from_numpy(self.action[earlier % self.capacity])
        for zeroed in (obs, action):
            zeroed[torch.from_numpy(begins)] = 0
        return obs.to(self.device), action.to(self.device)

    def actions(self, slot: torch.Tensor, steps: int) -> torch.Tensor:
        """Those taken from each slot on, which has to begin a window of `steps`: float32 `(n, steps, A)`.

        slot: `Batch.slot`. On the agent's device.
        """
        taken = self.action[(slot.numpy()[:, None] + np.arange(steps)) % self.capacity]
        return torch.from_numpy(taken).to(self.device)

    def after(self, slot: torch.Tensor, steps: int) -> torch.Tensor:
        """Observations `steps` after each slot's, as `actions` takes it: uint8 `(n, C, H, W)` on the agent's device."""
        return self.obs(slot.numpy() + steps).to(self.device)

    def sequences(self, n: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """n windows of `length` steps of one episode each, uniform over all: observations and the actions on them.

        uint8 `(length, n, C, H, W)` and float32 `(length, n, A)`. Raises ValueError if none is stored.
        """
        slots = self._draw(n, length, None) + np.arange(length)[:, None]  # (length, n)
        obs = self.obs(slots.ravel()).reshape(length, n, -1, *self.frames.shape[2:])
        return obs.to(self.device), torch.from_numpy(self.action[slots % self.capacity]).to(self.device)

    def progress(self) -> tuple[int, int]:
        """Steps of the running episode, and of the one before, which are 0 where none is stored."""
        begin = int(self.first[(self.head - 1) % self.capacity])
        before = int(self.first[(begin - 1) % self.capacity]) if begin > self.oldest() else begin - 1
        return self.head - 1 - begin, begin - 1 - before

    def slots(self, start: int, end: int) -> dict[str, npt.NDArray[Any]]:
        """Copies of slots number start..end-1, for a checkpoint."""
        at = np.arange(start, end) % self.capacity
        return {name: getattr(self, name)[at] for name in self._ARRAYS}

    def put(self, start: int, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """The inverse of `slots`."""
        at = np.arange(start, start + len(arrays["first"])) % self.capacity
        for name in self._ARRAYS:
            kept = getattr(self, name)
            kept[at] = arrays[name].reshape(-1, *kept.shape[1:])  # states were once stored as tables


def _frame(obs_shape: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """Frames in an observation and a frame's shape: of a stack of pictures, or of an observation that is none."""
    if len(obs_shape) != 3:
        return 1, obs_shape
    channels, height, width = obs_shape
    if channels % 3:
        raise ValueError(f"observations of {channels} channels are not a stack of RGB frames")
    return channels // 3, (3, height, width)
