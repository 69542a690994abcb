"""A VisionLanguagePrior without a model: it answers by a rule. For tests, demonstrations, and agents' dry runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from covr.vlm.base import (
    FinetuneReport,
    Proposals,
    Samples,
    VLMSpec,
    check_images,
    proposals_from_texts,
)
from covr.vlm.grammar import format_action, parse
from covr.vlm.measures import relative_error
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt

    from covr.vlm.prompts import Prompt

Rule = Callable[["npt.NDArray[np.uint8]", "Prompt"], str]
"""The text that answers an image, uint8 `(H, W, 3)` or `(2, H, W, 3)`."""

FILE = "scripted.json"


def brightness(image: npt.NDArray[np.uint8], prompt: Prompt) -> str:
    """Where the image is brightest, left to right, as every number: -1 at the left edge, +1 at the right."""
    columns = image.reshape(-1, *image.shape[-2:]).mean((0, 2), dtype=np.float64)
    weight = columns - columns.min()
    place = np.linspace(-1, 1, len(columns))
    centre = float((weight * place).sum() / weight.sum()) if weight.any() else 0.0
    return format_action(np.full(prompt.action_dim, centre))


def silent(image: npt.NDArray[np.uint8], prompt: Prompt) -> str:
    """An answer that states no action: a model that never learned the format."""
    return "I cannot tell from this picture."


class ScriptedPrior:
    """Answers by `rule`, through the same parser as a real model.

    Tuning shifts its answers by the weighted mean difference from the samples' actions, which lowers the error of any
    rule that is off by a constant; answers are held inside [-1, 1]. The rule itself never changes.
    """

    tunable = True

    def __init__(self, rule: Rule = brightness, name: str = "scripted") -> None:
        self.rule = rule
        self.name = name
        self.rounds = 0
        self.shift: list[float] | None = None

    def propose(self, images: npt.NDArray[np.uint8], prompt: Prompt) -> Proposals:
        started = time.perf_counter()
        texts = [self._answer(image, prompt) for image in check_images(images)]
        parsed = [parse(text, prompt.action_dim) for text in texts]
        statuses, actions = [p.status for p in parsed], [p.action for p in parsed]
        return proposals_from_texts(texts, statuses, actions, prompt.action_dim, time.perf_counter() - started)

    def _answer(self, image: npt.NDArray[np.uint8], prompt: Prompt) -> str:
        text = self.rule(image, prompt)
        action = parse(text, prompt.action_dim).action
        if action is None or self.shift is None:
            return text
        return format_action(np.clip(action + self.shift, -1, 1))

    def finetune(self, samples: Samples, prompt: Prompt) -> FinetuneReport:
        if not len(samples):
            raise UserError("fine-tuning got no samples; a round with an empty selection is not due")
        started = time.perf_counter()
        before, error_before, weighted_before = self._errors(samples, prompt)
        weights = np.where(before.valid, samples.weights, 0.0)
        if weights.sum():
            step = (weights[:, None] * (samples.actions - before.actions)).sum(0) / weights.sum()
            self.shift = (np.asarray(self.shift or [0.0] * prompt.action_dim) + step).tolist()
        self.rounds += 1
        _, error, weighted = self._errors(samples, prompt)
        seconds = time.perf_counter() - started
        errors = (error, weighted, error_before, weighted_before)
        return FinetuneReport(len(samples), 1, error, error_before, seconds, *errors)

    def _errors(self, samples: Samples, prompt: Prompt) -> tuple[Proposals, float, float]:
        """Errors of the answers that state an action: all counted alike, and by their weights."""
        answers = self.propose(samples.images, prompt)
        mean, valid = samples.actions.mean(0), answers.valid.astype(np.float32)
        alike, weighted = (
            relative_error(answers.actions, samples.actions, mean, weights)
            for weights in (valid, valid * samples.weights)
        )
        return answers, alike, weighted

    def save_adapter(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(json.dumps({"rounds": self.rounds, "shift": self.shift}))

    def load_adapter(self, folder: Path) -> None:
        if not (Path(folder) / FILE).is_file():
            raise UserError(f"no {FILE} in {folder}; this VLM takes up only what it saved itself")
        try:
            saved = json.loads((Path(folder) / FILE).read_text())
            self.rounds, self.shift = saved["rounds"], saved["shift"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{Path(folder) / FILE} is damaged: take that of an earlier round") from error

    def reset_adapter(self) -> None:
        self.rounds, self.shift = 0, None

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "decode": "rule", "parameters": 0, "stand_in": True, "rounds": self.rounds}


VLM = VLMSpec(
    "scripted", lambda options: ScriptedPrior(), stand_in=True, doc="A rule without a model: looks where it is bright."
)
