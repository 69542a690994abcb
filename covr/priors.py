"""a_v, the action the VLM proposes, for every slot of the replay whose observation it was asked about.

An answer that comes a little later guides little less, so questions are collected and asked in batches; in the mode
`async` another thread asks them, for a VLM on a device or server of its own, and the agent waits where it is more
than a few batches ahead. Answers say nothing when they state no action: those are masked and counted.
"""

from __future__ import annotations

from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from covr.answers import words_of
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from covr.vlm.base import Proposals, VisionLanguagePrior
    from covr.vlm.prompts import Prompt
    from covr_bench.kit.replay import Replay

    Slots = npt.NDArray[np.int64]
    Images = npt.NDArray[np.uint8]

HEALTH_OVER = 200  # answers
HEALTHY = 0.5  # share of them that state an action
PATIENCE = 512  # slots after which a question does not wait for the rest of its batch
QUEUED = 4  # batches that another thread has to ask at most, the one it is asking among them
LEAST_VARIANCE = 0.01  # that an answer is trusted with


class Priors:
    """Answers by slot number; one is forgotten when the replay's ring overwrites its slot.

    images: of slots of a replay, what the VLM is shown, or a control is told. pictured: those of slots that there are
    images of still. batch: questions asked at once. hold: a
    slot between two questions of one episode has the answer of the first; otherwise it has none. background: another
    thread asks.
    """

    def __init__(
        self,
        vlm: VisionLanguagePrior,
        prompt: Prompt,
        images: Callable[[Replay, Slots], Images],
        pictured: Callable[[Slots], Slots],
        *,
        batch: int,
        hold: bool,
        background: bool,
    ) -> None:
        self.vlm, self.prompt, self.images, self.pictured = vlm, prompt, images, pictured
        self.batch, self.hold = batch, hold
        self.reserve(0)
        self.last = -1  # newest slot asked about
        self.unasked: list[int] = []  # slots
        self.stale: deque[int] = deque()  # slots to ask about again
        self.statuses: Counter[str] = Counter()
        self.recent: deque[bool] = deque(maxlen=HEALTH_OVER)
        self.seconds = 0.0
        self.words = ""  # of the latest answer without an action
        self.rounds = 0  # of fine-tuning, that the VLM has had
        self.newest = -1  # slot
        self.thread = ThreadPoolExecutor(1) if background else None
        self.running: list[tuple[Slots, Future[Proposals]]] = []

    def reserve(self, capacity: int) -> None:
        """Room for the answers of as many slots as a replay has; there are none yet."""
        self.actions = np.zeros((capacity, self.prompt.action_dim), np.float32)
        self.valid = np.zeros(capacity, np.bool_)
        self.answered = np.full(capacity, -1, np.int64)  # number of the slot that the answer here is for
        self.source = np.full(capacity, -1, np.int64)  # number of the slot whose answer counts here; -1: none
        self.version = np.zeros(capacity, np.int64)  # rounds of fine-tuning that the answer's VLM had had
        self.answered_at = np.zeros(capacity, np.int64)  # number of the newest slot when it was answered
        self.variance = np.full((capacity, self.prompt.action_dim), np.nan, np.float32)  # of the answer; NaN: unknown
        self.good = np.full((capacity, self.prompt.action_dim), np.nan, np.float32)  # of the scripted player

    @property
    def capacity(self) -> int:
        """That of the replay; 0 until it was seen."""
        return len(self.valid)

    @property
    def waiting(self) -> list[int]:
        """Slots that an answer is to come to: their pictures may be needed still."""
        return [slot for slots, _ in self.running for slot in slots.tolist()] + self.unasked

    def see(self, replay: Replay, ask: bool, good: npt.NDArray[np.float32] | None = None) -> None:
        """Take note of the replay's newest slot; ask about it, or not. good: what the scripted player does there."""
        if not self.capacity:
            self.reserve(replay.capacity)
        slot = self.newest = replay.head - 1
        self.good[slot % self.capacity] = np.nan if good is None else good
        if ask:
            self.unasked.append(slot)
            self.last = slot
        held = self.hold and self.last >= int(replay.first[slot % self.capacity])
        self.source[slot % self.capacity] = self.last if ask or held else -1
        while len(self.unasked) >= self.batch or (self.unasked and slot - self.unasked[0] >= PATIENCE):
            self._ask(replay, np.array(self.unasked[: self.batch]))
            self.unasked = self.unasked[self.batch :]
        if self.stale:
            again = [self.stale.popleft() for _ in range(min(self.batch, len(self.stale)))]
            self._ask(replay, self.pictured(np.array([s for s in again if s >= replay.oldest()], np.int64)))
        while self.running and self.running[0][1].done():
            self._take()

    def of(self, slots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """a_v float32 `(B, A)` and whether there is one, float32 `(B,)` of 0 and 1, for slot numbers int64 `(B,)`."""
        at, known = self._counting(slots)
        return torch.from_numpy(self.actions[at]), torch.from_numpy(known.astype(np.float32))

    def _counting(self, slots: torch.Tensor) -> tuple[Slots, npt.NDArray[np.bool_]]:
        """Where the answers are that count for these slots, and whether each is one."""
        source = self.source[slots.numpy() % self.capacity]
        at = source % self.capacity
        known = (source >= 0) & (self.answered[at] == source) & self.valid[at]
        return at, known

    def variance_of(self, slots: torch.Tensor) -> torch.Tensor:
        """Of the answers that count for slot numbers int64 `(B,)`, float32 `(B, A)`, at least `LEAST_VARIANCE`.

        Raises UserError if the VLM does not tell it.
        """
        at, known = self._counting(slots)
        variance = self.variance[at]
        if np.isnan(variance[known]).any():
            raise UserError("guidance_trust=variance needs answers that tell their variance: set decode=expect")
        return torch.from_numpy(np.nan_to_num(variance, nan=1.0).clip(LEAST_VARIANCE))

    def ask_again(self, replay: Replay) -> None:
        """Have every answer in the replay replaced whose picture is kept, a batch with each slot that follows, oldest
        first."""
        answered = self.pictured(np.sort(self.answered[self.answered >= replay.oldest()]))
        self.stale = deque(answered.tolist())

    def forget(self) -> None:
        """Mask every answer so far: those of a VLM that is another by now."""
        self.valid[:] = False

    def settle(self) -> None:
        """Wait for questions another thread has to ask."""
        while self.running:
            self._take()

    def recall(self) -> None:
        """Wait for the batch that another thread is asking, and take back those that it has not begun."""
        back = [slots.tolist() for slots, answer in self.running if answer.cancel()]
        self.running = [(slots, answer) for slots, answer in self.running if not answer.cancelled()]
        self.unasked = [slot for slots in back for slot in slots] + self.unasked
        self.settle()

    def valid_share(self) -> float:
        """Share of the latest answers that state an action; NaN before the first."""
        return sum(self.recent) / len(self.recent) if self.recent else float("nan")

    def unhealthy(self) -> bool:
        return len(self.recent) == HEALTH_OVER and self.valid_share() < HEALTHY

    def _ask(self, replay: Replay, slots: Slots) -> None:
        if self.thread:
            slots = self.pictured(slots[slots >= replay.oldest()])  # those taken back have waited for long
        if not len(slots):
            return
        if not self.thread:
            self._keep(slots, self.vlm.propose(self.images(replay, slots), self.prompt))
            return
        while len(self.running) >= QUEUED:
            self._take()
        answer = self.thread.submit(self.vlm.propose, self.images(replay, slots), self.prompt)
        self.running.append((slots, answer))

    def _take(self) -> None:
        """Wait for the oldest batch that another thread has to ask."""
        slots, answer = self.running.pop(0)
        self._keep(slots, answer.result())

    def _keep(self, slots: Slots, proposals: Proposals) -> None:
        at = slots % self.capacity
        self.actions[at] = np.where(proposals.valid[:, None], proposals.actions, 0)  # a masked NaN would spread
        self.valid[at] = proposals.valid
        if proposals.variance is not None:
            self.variance[at] = proposals.variance
        self.answered[at] = slots
        self.version[at], self.answered_at[at] = self.rounds, self.newest
        self.statuses.update(proposals.statuses)
        self.words = words_of(proposals) or self.words
        self.recent.extend(proposals.valid.tolist())
        self.seconds += proposals.seconds

    def use(self, replay: Replay) -> dict[str, float]:
        """Of the answers that count in the replay: mean age in slots, and mean number of rounds behind the present."""
        kept = self.answered[(self.answered >= replay.oldest()) & self.valid] % max(self.capacity, 1)
        if not len(kept):
            return {}
        age = (self.newest - self.answered_at[kept]).mean()
        return {"prior_age": float(age), "prior_rounds_behind": float((self.rounds - self.version[kept]).mean())}

    _ARRAYS = ("actions", "valid", "answered", "source")
    _LATER = ("version", "answered_at", "variance", "good")  # that earlier versions did not store

    def state_dict(self) -> dict[str, Any]:
        self.recall()
        arrays = {name: torch.from_numpy(getattr(self, name).copy()) for name in (*self._ARRAYS, *self._LATER)}
        lists = {"waiting": self.waiting, "stale": list(self.stale), "recent": list(self.recent)}
        counts = {"last": self.last, "newest": self.newest, "rounds": self.rounds}
        told = {"statuses": dict(self.statuses), "seconds": self.seconds, "words": self.words}
        return arrays | lists | counts | told

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.reserve(len(state["valid"]))
        for name in (*self._ARRAYS, *(later for later in self._LATER if later in state)):
            setattr(self, name, state[name].numpy().copy())
        self.newest, self.rounds = state.get("newest", -1), state.get("rounds", 0)
        self.unasked, self.last, self.seconds = list(state["waiting"]), state["last"], state["seconds"]
        self.stale, self.statuses = deque(state["stale"]), Counter(state["statuses"])
        self.recent = deque(state["recent"], maxlen=HEALTH_OVER)
        self.words = state.get("words", "")  # earlier versions did not store them
