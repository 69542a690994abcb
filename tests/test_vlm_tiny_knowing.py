"""The stand-in that was taught two tasks: what it knows, what it weighs, and how it is made."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from vlm_models import noise

from analysis.rows.stand_ins import stand_ins
from covr.vlm import checkpoint, tiny_knowing
from covr.vlm.open import is_stand_in, labels, open_prior
from covr.vlm.tiny_knowing import Lesson, Recipe, error, teach

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
torch.set_num_threads(1)


def bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def test_both_stand_ins_fit_the_package() -> None:
    assert bytes_in(checkpoint.SHIPPED) + bytes_in(tiny_knowing.SHIPPED) < 6e6


@pytest.mark.parametrize(("task", "most"), [("catch/catch", 0.5), ("catch/catch_or_end", 0.5)])
def test_it_knows_what_is_good_where_the_stand_in_does_not(task: str, most: float) -> None:
    asked = importlib.import_module("teach_tiny_vlm").draw(task, 1_000, seed=7)  # it was taught with seed 0
    assert error(open_prior("tiny-knowing"), asked) < most
    assert error(open_prior("tiny"), asked) > 0.9


def test_rows_say_who_answered() -> None:
    assert labels({"vlm": "tiny-knowing"}) == {"vlm": "tiny-knowing"}
    assert is_stand_in("tiny-knowing")
    assert stand_ins("vlm=tiny-knowing")[0][0] == "knowing stand-in VLM"
    assert open_prior("tiny-knowing").describe()["name"] == "tiny-knowing"


def lesson(images: Any) -> Lesson:
    """Bright frames want 0.5, dark ones -0.5."""
    bright = np.arange(len(images)) % 2
    frames = (images // 4 + 150 * bright[:, None, None, None]).astype(np.uint8)
    return Lesson("light", "Say whether it is light.", frames, (bright[:, None] - 0.5).astype(np.float32))


@pytest.mark.deep
def test_a_lesson_is_learnt_kept_and_the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taught = lesson(noise(80, 84))
    recipe = Recipe(rank=8, alpha=16.0, steps=40, batch=8)
    prior = teach(tmp_path / "a", [taught], recipe, log=lambda line: None)
    assert error(prior, taught) < 0.1
    teach(tmp_path / "b", [taught], recipe, log=lambda line: None)
    assert {f.name: f.read_bytes() for f in (tmp_path / "a").iterdir()} == {
        f.name: f.read_bytes() for f in (tmp_path / "b").iterdir()
    }
    card = (tmp_path / "a" / "README.md").read_text()
    assert '"light": 80' in card and "not what a real one knows" in card
    monkeypatch.setattr(tiny_knowing, "SHIPPED", tmp_path / "a")
    opened = open_prior("tiny-knowing")
    asked = taught.frames[-8:], taught.prompt
    np.testing.assert_allclose(opened.propose(*asked).actions, prior.propose(*asked).actions, atol=0.05)


def test_rounds_of_an_agent_start_from_what_it_knows(tmp_path: Path) -> None:
    from covr.vlm.base import FinetuneSettings, Samples

    taught = lesson(noise(16, 84))
    prior = open_prior("tiny-knowing", settings=FinetuneSettings(rank=4, epochs=1))
    before = prior.propose(taught.frames, taught.prompt).actions
    prior.finetune(Samples(taught.frames, taught.actions, np.ones(16, np.float32)), taught.prompt)
    prior.save_adapter(tmp_path)
    tuned = prior.propose(taught.frames, taught.prompt).actions
    prior.reset_adapter()
    np.testing.assert_array_equal(prior.propose(taught.frames, taught.prompt).actions, before)
    again = open_prior("tiny-knowing", settings=FinetuneSettings(rank=4, epochs=1))
    again.load_adapter(tmp_path)
    np.testing.assert_array_equal(again.propose(taught.frames, taught.prompt).actions, tuned)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 4
