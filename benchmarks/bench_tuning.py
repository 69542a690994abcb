"""What the stand-in learns from 1,000 clean labels in one round, by the settings of the tuning.

It is asked about frames of other episodes of `catch_or_end`; labels are what the scripted player would do.
"""

from __future__ import annotations

import runpy
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from covr.vlm.base import FinetuneSettings, Samples
from covr.vlm.hf import HFPrior
from covr.vlm.measures import relative_error
from covr.vlm.tiny_knowing import Lesson

TASK, TAUGHT, ASKED = "catch/catch_or_end", 1_000, 600
ROUND = FinetuneSettings(alpha=256.0, min_steps=600)
TRIED = (
    replace(ROUND, alpha=16.0, min_steps=100),  # the paper's
    replace(ROUND, min_steps=300),
    ROUND,
    replace(ROUND, min_steps=300, lr=5e-4),
    replace(ROUND, min_steps=300, lr=2e-3),
    replace(ROUND, alpha=128.0),
    replace(ROUND, rank=32, alpha=64.0, min_steps=300),
)


@pytest.fixture(scope="module")
def lessons() -> tuple[Lesson, Lesson]:
    draw = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "teach_tiny_vlm.py"))["draw"]
    return draw(TASK, TAUGHT, 7), draw(TASK, ASKED, 8)


@pytest.mark.parametrize("settings", TRIED)
def test_a_round(settings: FinetuneSettings, lessons: tuple[Lesson, Lesson]) -> None:
    taught, asked = lessons
    prior = HFPrior("tiny", decode="expect", settings=settings)
    begun = time.perf_counter()
    report = prior.finetune(Samples(taught.frames, taught.actions, np.ones(TAUGHT, np.float32)), taught.prompt)
    seconds = time.perf_counter() - begun
    answers = prior.propose(asked.frames, asked.prompt).actions
    error = relative_error(answers, asked.actions, taught.actions.mean(0), np.ones(ASKED))
    chosen = f"rank {settings.rank}, alpha {settings.alpha:g}, rate {settings.lr:g}, {report.steps} steps"
    print(f"{chosen}: error {error:.2f} of the mean's, {seconds:.0f} s")
