"""What a prompt states, and that the contract's light modules stay light."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from covr.vlm.base import Samples, check_images
from covr.vlm.prompts import task_prompt
from covr.vlm.scripted import ScriptedPrior, silent
from covr_bench.kit.errors import UserError
from suites.dmc import SUITES

PROMPT = task_prompt("Push the cart.", 2)


def test_prompt_states_task_dimension_range_and_form() -> None:
    for part in ("Push the cart.", "2 numbers", "-1.00", "+1.00", "two decimals", "Action: [a1, a2]"):
        assert part in PROMPT.user
    assert "1 number " in task_prompt("Push.", 1).user


def test_every_task_of_the_suites_has_a_prompt() -> None:
    for suite in SUITES:
        for task in suite.tasks:
            assert task.instruction in task_prompt(task.instruction, 1).user


def test_a_task_says_who_the_model_is_to_be() -> None:
    assert PROMPT.system.startswith("You control a robot. Look at the image")
    driving = task_prompt("You are a driving assistant. A road. Stay on it.", 2)
    assert driving.system.startswith("You are a driving assistant. Look at the image")
    assert driving.user.startswith("A road. Stay on it.\n")
    assert task_prompt("You are approx. 30 m behind, e.g. in fog. Keep to it.", 2).user.startswith("Keep to it.\n")
    assert task_prompt("You are late.", 1).user.startswith("You are late.\n")


@pytest.mark.parametrize(("image_first", "order"), [(False, ["text", "image"]), (True, ["image", "text"])])
def test_order_of_text_and_image(image_first: bool, order: list[str]) -> None:
    system, user = task_prompt("Push.", 1, image_first=image_first).messages()
    assert (system["role"], user["role"]) == ("system", "user")
    assert [part["type"] for part in user["content"]] == order


def test_an_image_can_be_put_into_the_chat() -> None:
    image = object()
    assert {"type": "image", "image": image} in PROMPT.messages(image)[1]["content"]


def test_prompt_without_task_or_action_is_refused() -> None:
    with pytest.raises(UserError, match=r"Task\.instruction"):
        task_prompt(" ", 1)
    with pytest.raises(UserError, match="action_dim is 0"):
        task_prompt("Push.", 0)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((84, 84, 3), np.uint8),
        np.zeros((2, 3, 84, 84), np.uint8),
        np.zeros((2, 84, 84, 3), np.float32),
        np.zeros((2, 3, 84, 84, 3), np.uint8),
        np.zeros((0, 84, 84, 3), np.uint8),
        [np.zeros((8, 8, 3), np.uint8), np.zeros((9, 8, 3), np.uint8)],
    ],
)
def test_wrong_images_are_refused(images: object) -> None:
    with pytest.raises(UserError, match="images"):
        check_images(images)


def test_samples_must_fit_together() -> None:
    images = np.zeros((3, 28, 28, 3), np.uint8)
    with pytest.raises(UserError, match="do not fit"):
        Samples(images, np.zeros((2, 1), np.float32), np.ones(3, np.float32))
    with pytest.raises(UserError, match="weights"):
        Samples(images, np.zeros((3, 1), np.float32), np.array([1, np.nan, 0], np.float32))


def test_scripted_prior_answers_learns_and_reloads(tmp_path) -> None:  # type: ignore[no-untyped-def]
    images = np.zeros((6, 28, 28, 3), np.uint8)
    for i, image in enumerate(images):
        image[:, 4 * i : 4 * i + 4] = 255
    prior = ScriptedPrior()
    first = prior.propose(images, PROMPT)
    assert first.valid.all() and first.actions.shape == (6, 2) and first.actions.dtype == np.float32
    assert (np.diff(first.actions[:, 0]) > 0).all()
    wanted = (first.actions * 0.5 + 0.3).astype(np.float32)
    report = prior.finetune(Samples(images, wanted, np.ones(6, np.float32)), PROMPT)
    assert report.heldout_error < report.error_before
    prior.save_adapter(tmp_path)
    other = ScriptedPrior()
    other.load_adapter(tmp_path)
    assert np.array_equal(other.propose(images, PROMPT).actions, prior.propose(images, PROMPT).actions)


def test_scripted_prior_that_never_parses_is_masked() -> None:
    proposals = ScriptedPrior(silent).propose(np.zeros((3, 28, 28, 3), np.uint8), PROMPT)
    assert not proposals.valid.any() and set(proposals.statuses) == {"no_action_word"}
    assert not proposals.actions.any()


def test_contract_prompts_grammar_and_script_need_no_torch() -> None:
    code = (
        "import sys, covr.eddf, covr.ralw, covr.schedule, covr.vlm.base, covr.vlm.prompts, covr.vlm.grammar, "
        "covr.vlm.scripted, covr.vlm.open, covr.vlm.tiny, covr.vlm.server; "
        "print([m for m in ('torch', 'transformers', 'peft') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
