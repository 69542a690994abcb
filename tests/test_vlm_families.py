"""Every family is asked, tuned and looked into by one path, and answers as transformers' own steps do."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from vlm_families import FAMILIES, folder
from vlm_models import noise

from covr.vlm.base import FinetuneSettings, Samples
from covr.vlm.families.seeing import inputs_of
from covr.vlm.families.spelling import FORMS, Spelling
from covr.vlm.hf import HFPrior
from covr.vlm.prompts import task_prompt
from covr.vlm.template import text_of

ASKED = task_prompt("Push the cart.", 2)
FAST = set(FAMILIES) - {"qwen3_vl", "gemma3", "paligemma", "florence2"}
SETTINGS = FinetuneSettings(rank=4, alpha=64, lr=0.02, epochs=1, batch_size=4, heldout=0.0)
IMAGES = noise(4, 84)
SAMPLES = Samples(IMAGES, np.linspace(-0.9, 0.9, 8, dtype=np.float32).reshape(4, 2), np.ones(4, np.float32))
FORM_TEXTS = [f"Action: [{form}]" for form in FORMS]


@cache
def opened(name: str) -> HFPrior:
    if name == "smolvlm":
        pytest.importorskip("num2words", reason="SmolVLM's processor asks for num2words")
    return HFPrior(str(folder(name)), settings=SETTINGS)


def fresh(name: str) -> HFPrior:
    opened(name)  # skips where the family's processor cannot be had
    return HFPrior(str(folder(name)), settings=SETTINGS)


def generated_logits(vlm: HFPrior, model: Any, images: Any, rows: list[list[int]]) -> torch.Tensor:
    """Logits that transformers' own `generate` reads these answers' tokens from, `(B, T, vocabulary)`."""
    processor = vlm.checkpoint.processor
    text = vlm.path.plain.text(images, ASKED) if hasattr(vlm.path, "plain") else plain_text(vlm, images)
    inputs: dict[str, Any] = inputs_of(vlm.checkpoint.model, processor, text, images)
    start = inputs["input_ids"].shape[1]
    own = model.generation_config
    if model.config.is_encoder_decoder:
        lead = [own.decoder_start_token_id, own.forced_bos_token_id]
        inputs["decoder_input_ids"], start = torch.tensor([lead] * len(images)), len(lead)

    def given(sample: int, ids: Any) -> list[int]:
        return [rows[sample][min(len(ids) - start, len(rows[sample]) - 1)]]

    out = model.generate(
        **inputs,
        do_sample=False,
        num_beams=1,
        max_new_tokens=len(rows[0]),
        eos_token_id=None,
        prefix_allowed_tokens_fn=given,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return torch.stack(out.logits, 1)


def plain_text(vlm: HFPrior, images: Any) -> str:
    from covr.vlm.families.paths import PlainPath

    return PlainPath(vlm.checkpoint).text(images, ASKED)


def scored(logits: torch.Tensor, rows: torch.Tensor, spelling: Spelling) -> torch.Tensor:
    """Log-probability of each row's numbers, each token among those that the forms beginning alike have there, `(N,
    A)`; written for one token a character, by trying every form's row."""
    total = torch.zeros(len(rows), len(spelling.numbers))
    for n, row in enumerate(rows.tolist()):
        place = 0
        for a, number in enumerate(spelling.numbers):
            place += len(number.lead)
            length = number.rows.shape[1]
            own = row[place : place + length]
            for t in range(length):
                options = sorted({form[t] for form in number.rows.tolist() if form[:t] == own[:t]})
                total[n, a] += logits[n, place + t, options].log_softmax(-1)[options.index(own[t])]
            place += length
    return total


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_asked_and_says_by_which_path(name: str) -> None:
    vlm = opened(name)
    answers = vlm.propose(IMAGES, ASKED)
    assert answers.valid.all() and len(set(answers.statuses)) == 1
    facts = vlm.describe()
    assert facts["path"] == "fast" if name in FAST else facts["path"].startswith("plain: ")
    assert facts["family"] == vlm.checkpoint.model.config.model_type
    free = vlm.path.generate(IMAGES[:2], ASKED, 4)
    assert len(free) == 2 and all(each.finite for each in free)


@pytest.mark.parametrize("name", FAMILIES)
def test_forced_digits_are_the_likeliest_by_transformers_own_generate(name: str) -> None:
    vlm = opened(name)
    reader = vlm.reader(IMAGES, ASKED)
    got = reader.forced(vlm.image_embeds(IMAGES))
    tokenizer = vlm.checkpoint.tokenizer
    rows = [tokenizer(text_of(row), add_special_tokens=False).input_ids for row in got.choices.numpy()]
    logits = generated_logits(vlm, vlm.checkpoint.model, IMAGES, rows)
    spelling = Spelling.of(tokenizer, 2)
    expected = scored(logits, torch.tensor(rows), spelling)
    assert got.log_prob.numpy() == pytest.approx(expected.sum(1).numpy(), abs=2e-4)
    for n, row in enumerate(rows):  # at each choice nothing allowed is likelier
        place = len(spelling.numbers[0].lead)
        for t in range(spelling.numbers[0].rows.shape[1]):
            begun = [f for f in spelling.numbers[0].rows.tolist() if f[:t] == row[place : place + t]]
            best = max({f[t] for f in begun}, key=lambda token: float(logits[n, place + t, token]))
            assert best == row[place + t]


@pytest.mark.parametrize("name", FAMILIES)
def test_expectation_is_that_of_scoring_all_202_numbers(name: str) -> None:
    vlm, one = opened(name), task_prompt("Push the cart.", 1)
    reader = vlm.reader(IMAGES, one)
    got = reader.expect(vlm.image_embeds(IMAGES[:1]))
    tokenizer = vlm.checkpoint.tokenizer
    rows = torch.tensor(tokenizer(FORM_TEXTS, add_special_tokens=False).input_ids)
    image = vlm.image_embeds(IMAGES[:1])
    with torch.no_grad():
        logits = torch.cat([reader.answer_logits(image.expand(len(x), *image.shape[1:]), x) for x in rows.split(101)])
    p = scored(logits, rows, Spelling.of(tokenizer, 1))[:, 0].double().exp()
    values = torch.tensor([float(form) for form in FORMS]).double()
    mean = float((p * values).sum())
    assert float(p.sum()) == pytest.approx(1, abs=1e-5)
    assert float(got.mean) == pytest.approx(mean, abs=1e-5)
    assert float(got.variance) == pytest.approx(float((p * (values - mean) ** 2).sum()), abs=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_tuned_adapter_is_a_plain_peft_folder(name: str, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    vlm = fresh(name)
    before = vlm.propose(IMAGES, ASKED)
    report = vlm.finetune(SAMPLES, ASKED)
    assert np.isfinite([report.loss, report.first_loss]).all() and report.steps == 1
    vlm.save_adapter(tmp_path)
    after = vlm.propose(IMAGES, ASKED)
    assert not np.array_equal(before.valid_mass, after.valid_mass)  # type: ignore[arg-type]

    tokenizer = vlm.checkpoint.tokenizer
    rows = [tokenizer(text, add_special_tokens=False).input_ids for text in after.texts]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = AutoModelForImageTextToText.from_pretrained(folder(name), dtype=torch.float32)
        tuned = PeftModel.from_pretrained(base, str(tmp_path)).merge_and_unload()
    logits = generated_logits(vlm, tuned, IMAGES, rows)
    with torch.no_grad():
        ours = vlm.reader(IMAGES, ASKED).answer_logits(vlm.image_embeds(IMAGES), torch.tensor(rows))
    assert float((ours - logits).abs().max()) < 1e-4 * float(logits.abs().max())

    again = fresh(name)
    again.load_adapter(tmp_path)
    taken = again.propose(IMAGES, ASKED)
    assert taken.texts == after.texts and np.array_equal(taken.valid_mass, after.valid_mass)  # type: ignore[arg-type]
    vlm.reset_adapter()
    assert np.array_equal(vlm.propose(IMAGES, ASKED).valid_mass, before.valid_mass)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FAMILIES)
def test_only_the_language_model_is_tuned(name: str) -> None:
    vlm = fresh(name)
    trained = vlm.trainable()
    names = [n for n, p in vlm.checkpoint.model.named_parameters() if p.requires_grad]
    assert len(trained) == len(names) and names and all("lora_" in n for n in names)
    assert not any("vision" in n or "visual" in n or "projector" in n or "connector" in n for n in names)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_policy_draws_digits_and_its_probabilities_have_gradients(name: str) -> None:
    vlm = fresh(name)
    trained = vlm.trainable()
    reader, embeds = vlm.reader(IMAGES, ASKED), vlm.image_embeds(IMAGES)
    drawn = reader.forced(embeds, draw=True)
    each, state = reader.log_probs(embeds, drawn.choices)
    assert each.flatten(1).sum(1).detach().numpy() == pytest.approx(drawn.log_prob.numpy(), abs=1e-4)
    assert torch.allclose(state, drawn.state, atol=1e-4) and state.shape == (4, vlm.width)
    each.sum().backward()  # type: ignore[no-untyped-call]
    assert any(p.grad is not None and p.grad.any() for p in trained)


SIDES = {"qwen2_vl": 3, "qwen2_5_vl": 3, "qwen3_vl": 3, "idefics3": 1, "smolvlm": 1, "internvl": 1, "pixtral": 4}


@pytest.mark.parametrize("name", FAMILIES)
def test_features_are_a_map_of_the_whole_image(name: str) -> None:
    vlm = opened(name)
    maps = vlm.image_map(IMAGES)
    side = SIDES.get(name, 2)
    assert maps.shape[:3] == (4, side, side) and not maps.requires_grad
    assert not torch.equal(maps[0], maps[1])
    assert torch.allclose(maps[1:2], vlm.image_map(IMAGES[1:2]), atol=1e-4)
