"""Small vision-language models and images for the tests, each made once per session."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from covr.vlm import pretrain, tiny
from covr.vlm.hf import HFPrior
from covr.vlm.prompts import Prompt, task_prompt

INSTRUCTION = "Side view of a cart on a rail carrying a hinged pole: push the cart to swing the pole up."
torch.set_num_threads(1)


@cache
def random_folder() -> Path:
    """A checkpoint with random weights: it knows neither format nor images."""
    return tiny.build(tempfile.mkdtemp())


@cache
def speaking_folder() -> Path:
    """A checkpoint taught for seconds to answer each of four images of noise with its own two-dimensional action.

    Its image features are centred first: random weights see every image nearly alike, and would answer all alike.
    """
    folder = tiny.build(tempfile.mkdtemp())
    images, corners = noise(4), np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], np.float32)
    vlm = HFPrior(str(folder))
    with torch.no_grad():
        vlm.checkpoint.model.model.visual.merger.mlp[2].bias -= vlm.image_embeds(images).mean((0, 1))
    vlm.checkpoint.model.requires_grad_(True)
    recipe = pretrain.Recipe(answer_steps=60, answer_batch=8, answer_lr=4e-3, rules=1, shift=0, jitter=0.0)
    domain = pretrain.Domain("noise", INSTRUCTION, 2, np.tile(images, (8, 1, 1, 1)), np.tile(corners * 0.37, (8, 1)))
    pretrain.answer(vlm, [domain], recipe, log=lambda line: None)
    vlm.checkpoint.model.save_pretrained(folder)
    return folder


def prior(folder: Path | None = None, **options: Any) -> HFPrior:
    return HFPrior(str(folder or random_folder()), **options)


def prompt(action_dim: int = 2, image_first: bool = False) -> Prompt:
    return task_prompt(INSTRUCTION, action_dim, image_first=image_first)


def bars(count: int, size: int = 56) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Images of a bright vertical and horizontal bar, and where they are, `(count, 2)` in [-1, 1]."""
    rng = np.random.default_rng(0)
    places = rng.integers(0, size - 8, (count, 2))
    images = np.full((count, size, size, 3), 40, np.uint8)
    for image, (x, y) in zip(images, places, strict=True):
        image[:, x : x + 8, 0] = 250
        image[y : y + 8, :, 1] = 250
    return images, (places / (size - 8) * 2 - 1).astype(np.float32)


def noise(count: int, size: int = 56) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
