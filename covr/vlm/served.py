"""A vision-language model that a server answers with and this process tunes, on a copy of its weights."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covr.vlm.base import FinetuneReport, Proposals, Samples, check_images, proposals_from_texts
from covr.vlm.transport import ServerDown, ServerRefused
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from covr.vlm.hf import HFPrior
    from covr.vlm.prompts import Prompt
    from covr.vlm.server import ServerPrior


class ServedPrior:
    """A VisionLanguagePrior that asks a server and tunes a copy of its weights in this process.

    local: the same model as the server's. folder: adapters go here, a folder for each round, where the server must find
    them by the same path. An adapter the server cannot take up because it is down goes to it before the next question;
    until then questions count as unanswered, so that no answer is an older model's. A server that refuses the first
    adapter is not set up for them; a later refusal counts as being down.
    """

    tunable = True

    def __init__(self, server: ServerPrior, local: HFPrior, folder: Path) -> None:
        self.server, self.local, self.folder = server, local, Path(folder)
        self.waiting: Path | None = None  # an adapter the server does not have yet

    def propose(self, images: npt.NDArray[np.uint8], prompt: Prompt) -> Proposals:
        started = time.perf_counter()
        if self._hand_over():
            return self.server.propose(images, prompt)
        number, seconds = len(check_images(images)), time.perf_counter() - started
        return proposals_from_texts([""] * number, ["no_answer"] * number, [None] * number, prompt.action_dim, seconds)

    def finetune(self, samples: Samples, prompt: Prompt) -> FinetuneReport:
        """Also raises UserError if the server refuses the adapter."""
        report = self.local.finetune(samples, prompt)
        self._publish()
        return report

    def save_adapter(self, folder: Path) -> None:
        self.local.save_adapter(folder)

    def load_adapter(self, folder: Path) -> None:
        self.local.load_adapter(folder)
        self._publish()

    def reset_adapter(self) -> None:
        self.local.reset_adapter()
        self.waiting = None
        self.server.reset_adapter()

    def _publish(self) -> None:
        target = self.folder / f"round_{self.local.rounds}"
        self.local.save_adapter(target)
        self.waiting = target
        self._hand_over()

    def _hand_over(self) -> bool:
        """Whether the server has the newest adapter, after an attempt to give it."""
        if self.waiting is None:
            return True
        try:
            self.server.take_up(self.waiting)
        except ServerDown as error:
            if isinstance(error, ServerRefused) and not self.server.adapter:
                raise UserError(f"the VLM server refused the adapter {self.waiting}: {error}") from error
            self.server.down, self.server.last_error = True, str(error)
            return False
        self.waiting = None
        return True

    def describe(self) -> dict[str, Any]:
        local = self.local.describe()
        same = {name: local[name] for name in ("parameters", "stand_in")}
        return {**local, **self.server.describe(), **same, "tuner": local["name"]}
