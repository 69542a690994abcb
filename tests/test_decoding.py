"""Constrained decoding equals transformers' own generation and brute-force scoring."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
import torch
from vlm_models import bars, noise, prior, prompt, speaking_folder

from covr.vlm import decoding
from covr.vlm.base import FinetuneSettings, Samples
from covr.vlm.finetune import answer_logits
from covr.vlm.grammar import format_action, parse
from covr.vlm.hf import HFPrior
from covr.vlm.prompts import task_prompt
from covr.vlm.template import CHOICES, text_of
from covr.vlm.tree import Tree, only_zero, tree_values


def constrained_log_probs(vlm: HFPrior, images: Any, asked: Any, rows: torch.Tensor) -> torch.Tensor:
    """Log-probability of each answer (token rows `(N, T)`) for one image, every slot renormalised, teacher-forced."""
    reader = vlm.reader(images, asked)
    with torch.no_grad():
        logits = answer_logits(reader, vlm.image_embeds(images[:1]).expand(len(rows), -1, -1), rows)
    total = torch.zeros(len(rows), len(reader.template.numbers))
    for d, number in enumerate(reader.template.numbers):
        unit = torch.tensor([number[1].choices.index(int(r[number[1].position])) for r in rows])
        for i, slot in enumerate(number):
            allowed = logits[:, slot.position, list(slot.choices)]
            if i >= 2:
                allowed = only_zero(allowed, unit)
            chosen = torch.tensor([slot.choices.index(int(r[slot.position])) for r in rows])
            total[:, d] += allowed.log_softmax(-1).gather(1, chosen[:, None])[:, 0]
    return total


def test_forced_text_equals_generated_text_wherever_that_keeps_to_the_form() -> None:
    vlm = prior(speaking_folder(), decode="generate")
    images = noise(24)
    generated = vlm.propose(images, prompt())
    vlm.decode = "forced"
    forced = vlm.propose(images, prompt())
    # An answer with other than two decimals parses too, but the template cannot spell it.
    form = re.compile(r"Action: \[[+-]\d\.\d\d, [+-]\d\.\d\d\]", re.ASCII)
    same = [i for i, text in enumerate(generated.texts) if generated.valid[i] and form.fullmatch(text)]
    assert len(same) >= 6 and len({forced.texts[i] for i in same}) >= 3, generated.texts
    for i in same:
        assert forced.texts[i] == generated.texts[i]
        assert np.array_equal(generated.actions[i], forced.actions[i])
    assert forced.valid_mass is not None and forced.valid_mass.min() > 0.5


@pytest.mark.parametrize("image_first", [False, True])
def test_forced_digits_are_the_likeliest_of_the_uncached_model(image_first: bool) -> None:
    vlm, images = prior(), noise(5)
    asked = prompt(3, image_first)
    answers = vlm.propose(images, asked)
    reader = vlm.reader(images, asked)
    pixel_values, grid = vlm.pixels(images)
    rows = torch.from_numpy(reader.template.answer_ids(answers.actions))
    # -0.00 is written +0.00 as an action: put back the sign the model chose
    for row, text in zip(rows, answers.texts, strict=True):
        row[:] = torch.tensor(vlm.checkpoint.tokenizer(text).input_ids)
    ids = torch.cat([reader.layout.ids.expand(5, -1), rows], 1)
    model = vlm.checkpoint.model
    model.model.rope_deltas = None
    with torch.no_grad():
        logits = model(
            input_ids=ids,
            pixel_values=pixel_values,
            image_grid_thw=grid,
            mm_token_type_ids=(ids == model.config.image_token_id).int(),
        ).logits[:, len(reader.layout.ids) - 1 : -1]
    for number in reader.template.numbers:
        unit = (rows[:, number[1].position] == number[1].choices[1]).long()
        for i, slot in enumerate(number):
            allowed = logits[:, slot.position, list(slot.choices)]
            allowed = only_zero(allowed, unit) if i >= 2 else allowed
            assert torch.equal(torch.tensor(slot.choices)[allowed.argmax(1)], rows[:, slot.position])


def test_batch_and_single_image_agree_and_chunks_do_not_matter() -> None:
    vlm, images = prior(), noise(5)
    together = vlm.propose(images, prompt())
    alone = [vlm.propose(images[i : i + 1], prompt()) for i in range(5)]
    assert together.texts == tuple(a.texts[0] for a in alone)
    vlm.batch_size = 2
    chunked = vlm.propose(images, prompt())
    assert chunked.texts == together.texts and np.array_equal(chunked.actions, together.actions)
    assert chunked.valid_mass == pytest.approx(together.valid_mass, rel=1e-4)


@pytest.mark.parametrize("mode", ["forced", "expect"])
def test_constrained_answers_always_parse_and_show_ignorance_as_mass(mode: Any) -> None:
    answers = prior(decode=mode).propose(noise(4), prompt(3))
    assert answers.valid.all() and set(answers.statuses) == {"ok"}
    assert all(parse(text, 3).status == "ok" for text in answers.texts)
    assert answers.valid_mass is not None and (answers.valid_mass < 0.2).all()


def test_an_untrained_model_that_writes_freely_is_masked() -> None:
    answers = prior(decode="generate").propose(noise(3), prompt())
    assert not answers.valid.any() and not answers.actions.any()
    assert set(answers.statuses) <= {"truncated", "no_action_word", "no_match"}
    assert answers.variance is None and answers.valid_mass is None


def test_expectation_equals_scoring_all_202_numbers() -> None:
    for folder in (None, speaking_folder()):
        vlm = prior(folder, decode="expect")
        images, asked = bars(1)[0], prompt(1)
        got = vlm.propose(images, asked)
        digits = [c for c in itertools.product(*(range(len(x)) for x in CHOICES)) if c[1] == 0 or c[2] == c[3] == 0]
        assert len(digits) == 202
        texts = [text_of(np.array([c])) for c in digits]
        rows = torch.tensor([vlm.checkpoint.tokenizer(text).input_ids for text in texts])
        p = constrained_log_probs(vlm, images, asked, rows)[:, 0].double().exp()
        assert float(p.sum()) == pytest.approx(1, abs=1e-5)
        value = torch.tensor([float(text[len("Action: [") : -1]) for text in texts]).double()
        mean = float((p * value).sum())
        assert got.actions[0, 0] == pytest.approx(mean, abs=1e-5)
        assert got.variance is not None
        assert got.variance[0, 0] == pytest.approx(float((p * (value - mean) ** 2).sum()), abs=1e-5)


def test_later_numbers_are_conditioned_on_the_greedy_digits_before() -> None:
    vlm = prior(decode="expect")
    images, asked = noise(2), prompt(2)
    got = vlm.propose(images, asked)
    vlm.decode = "forced"
    forced = vlm.propose(images, asked)
    assert got.texts == forced.texts
    assert got.valid_mass == pytest.approx(forced.valid_mass, rel=1e-4)
    first = got.texts[0][len("Action: [") : -1].split(", ")[0]
    digits = [c for c in itertools.product(*(range(len(x)) for x in CHOICES)) if c[1] == 0 or c[2] == c[3] == 0]
    seconds = [text_of(np.array([c]))[len("Action: [") : -1] for c in digits]
    rows = torch.tensor([vlm.checkpoint.tokenizer(f"Action: [{first}, {s}]").input_ids for s in seconds])
    p = constrained_log_probs(vlm, images, asked, rows)[:, 1].double().exp()
    assert got.actions[0, 1] == pytest.approx(float((p * torch.tensor([float(s) for s in seconds])).sum()), abs=1e-5)


def test_tree_spells_every_number_and_sees_only_ancestors() -> None:
    reader = prior().reader(noise(1), prompt(1))
    tree = Tree.of(reader.template.numbers[0], reader.template.ids)
    assert len(tree.tokens) == 2 + 4 + 4 + 22  # sign; unit; point; tenth
    mask = tree.mask(past=5, lead=3)
    assert mask.shape == (35, 40)
    assert mask[:3, :8].equal(torch.ones(3, 8, dtype=torch.bool).tril(5)) and not mask[:3, 8:].any()
    for node, way in enumerate(tree.ancestors):
        assert mask[3 + node, :8].all() and mask[3 + node, 8:].nonzero()[:, 0].tolist() == list(way)
    assert tree_values()[0, 0, 1, 2] == pytest.approx(0.12) and tree_values()[1, 1, 0, 0] == -1


def test_a_one_is_followed_by_zeros_only() -> None:
    allowed = only_zero(torch.zeros(2, 10), torch.tensor([0, 1]))
    assert torch.isfinite(allowed).sum(1).tolist() == [10, 1]


def test_prefix_cache_is_dropped_when_the_model_learns() -> None:
    vlm, (images, places) = prior(), bars(8)
    vlm.settings = FinetuneSettings(rank=8, alpha=64, lr=0.05, epochs=1, heldout=0)
    before = vlm.propose(images, prompt())
    assert vlm.reader(images, prompt()).prefix is not None
    vlm.finetune(Samples(images, places, np.ones(8, np.float32)), prompt())
    assert vlm.reader(images, prompt()).prefix is None
    after = vlm.propose(images, prompt())
    assert after.texts != before.texts
    fresh = vlm.reader(images, prompt())
    fresh.prefix = None
    assert vlm.propose(images, prompt()).texts == after.texts


def test_asking_leaves_no_state_in_the_model() -> None:
    vlm, images = prior(decode="generate"), noise(2)
    first = vlm.propose(images, prompt())
    vlm.propose(noise(3, 84), task_prompt("Another task with more words in it.", 1))
    assert vlm.checkpoint.model.model.rope_deltas is None
    assert vlm.propose(images, prompt()).texts == first.texts


def test_generation_ends_at_either_end_token() -> None:
    vlm = prior().checkpoint
    names = vlm.tokenizer.convert_ids_to_tokens(decoding.stop_ids(vlm.model, vlm.tokenizer))
    assert names == ["<|im_end|>", "<|endoftext|>"]


def test_two_frames_and_other_sizes_are_answered() -> None:
    vlm, one = prior(), noise(2)
    two = np.stack([one, one], 1)
    assert vlm.propose(two, prompt()).texts == vlm.propose(one, prompt()).texts  # one frame fills both slots
    assert vlm.propose(noise(1, 84), prompt()).valid.all()


def test_text_of_choices_and_action_agree() -> None:
    action = [0.37, -1.0]
    assert text_of(np.array([[0, 0, 3, 7], [1, 1, 0, 0]])) == format_action(action)
