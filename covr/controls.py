"""Controls: who answers in the VLM's place, so that what a VLM contributes can be told from what any prior would.

    oracle          what the task's scripted player does now: an upper bound
    oracle:SHARE    that in a share of the answers, else uniform: how good a VLM has to be
    noise:SIGMA     that plus Gaussian noise, held inside [-1, 1]
    zero            always 0: a placebo, the pull of any prior towards moderate actions
    uniform         uniform in [-1, 1]: a prior that knows nothing and varies

Each answer is drawn from the run's seed and the number of its slot: it does not depend on when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from covr.vlm.base import Proposals
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt

    from covr.vlm.base import FinetuneReport
    from covr.vlm.grammar import Status

VLM = "vlm"
KNOWING = "knowing"  # a stand-in that was taught some tasks: covr/config.py
PLAIN = ("oracle", "zero", "uniform")
GRADED = {"oracle": "a share between 0 and 1", "noise": "a standard deviation of at least 0"}
FORMS = "vlm, oracle, oracle:SHARE, noise:SIGMA, zero, uniform, knowing"


def checked(prior: str) -> str:
    """The setting as it is. Raises ValueError for one that is none of `FORMS`."""
    kind, colon, grade = prior.partition(":")
    if not colon and kind in (VLM, *PLAIN):
        return prior
    if not colon or kind not in GRADED:
        raise ValueError(f"prior is {prior!r}; choose one of {FORMS}")
    try:
        number = float(grade)
    except ValueError:
        number = -1.0
    if not 0 <= number <= (1 if kind == "oracle" else float("inf")):
        raise ValueError(f"prior is {prior!r}; what follows {kind}: is {GRADED[kind]}")
    return prior


class Control:
    """A `VisionLanguagePrior` without a model, for one run. Its images are `(slots, good)`: numbers of slots, int64
    `(B,)`, and what the scripted player did there, float32 `(B, A)`, NaN where that is not known.

    prior: as set. seed: of the run.
    """

    tunable = False

    def __init__(self, prior: str, seed: int) -> None:
        self.prior = prior
        kind, _, grade = prior.partition(":")
        self.kind, self.grade = kind, float(grade or 1)
        self.seed = seed

    @property
    def needs_player(self) -> bool:
        """Whether it answers by the task's scripted player."""
        return self.kind in GRADED

    def propose(self, images: Any, prompt: Any) -> Proposals:
        slots, good = images
        actions = np.stack([self._answer(int(slot), row) for slot, row in zip(slots, good, strict=True)])
        known = np.atleast_1d(np.isfinite(actions).all(axis=1))
        statuses: tuple[Status, ...] = tuple("ok" if each else "no_answer" for each in known)
        texts = tuple("" for _ in slots)
        return Proposals(np.where(known[:, None], actions, 0).astype(np.float32), known, texts, statuses, 0.0)

    def _answer(self, slot: int, good: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        rng = np.random.default_rng((self.seed, slot))
        if self.kind == "zero":
            return np.zeros(len(good))
        if self.kind == "noise":
            return np.clip(good + rng.normal(0, self.grade, len(good)), -1, 1)
        if self.kind == "oracle" and rng.uniform() < self.grade:
            return good.astype(np.float64)
        return rng.uniform(-1, 1, len(good))

    def finetune(self, samples: Any, prompt: Any) -> FinetuneReport:
        raise UserError(f"prior={self.prior} has no model that could be tuned")

    def save_adapter(self, folder: Any) -> None:
        raise UserError(f"prior={self.prior} has no adapter")

    load_adapter = save_adapter

    def reset_adapter(self) -> None: ...

    def describe(self) -> dict[str, Any]:
        return {"name": f"control:{self.prior}", "decode": "none", "parameters": 0, "stand_in": True}
