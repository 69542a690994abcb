"""The tiny checkpoint is a standard folder, the same every time, and cuts answers as the real tokenizer does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from vlm_models import bars, noise, prior, prompt, random_folder

from covr.vlm import checkpoint, pretrain, tiny
from covr.vlm.hf import HFPrior
from covr.vlm.images import patches
from covr.vlm.template import Layout, Template
from covr_bench.kit.errors import UserError


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_same_seed_same_bytes_and_another_seed_other_weights(tmp_path: Path) -> None:
    built = contents(tiny.build(tmp_path / "a"))
    assert built == contents(random_folder())
    other = contents(tiny.build(tmp_path / "b", seed=1))
    assert other["model.safetensors"] != built["model.safetensors"]
    assert other["tokenizer.json"] == built["tokenizer.json"]


def test_building_leaves_the_callers_random_state(tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    tiny.build(tmp_path)
    assert torch.equal(torch.rand(1), expected)


def test_loads_through_the_auto_classes() -> None:
    from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

    model = AutoModelForImageTextToText.from_pretrained(random_folder())
    assert type(model).__name__ == "Qwen2_5_VLForConditionalGeneration"
    assert model.num_parameters() < 1.3e6
    assert AutoTokenizer.from_pretrained(random_folder()).eos_token == "<|im_end|>"
    assert AutoImageProcessor.from_pretrained(random_folder(), backend="pil").merge_size == 2


def test_weights_fit_the_package_and_card_says_it_is_not_qwen() -> None:
    assert (random_folder() / "model.safetensors").stat().st_size < 6e6
    card = (random_folder() / "README.md").read_text()
    assert "not Qwen" in card and "random" in card
    assert json.loads((random_folder() / checkpoint.MARKER).read_text())["seed"] == 0


def test_unknown_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'xl'.*xs"):
        tiny.build(tmp_path, size="xl")


def test_tokenizer_glues_signs_as_qwens_does_and_loses_nothing() -> None:
    tokens = tiny.tokenizer()
    cut = [tokens.decode([i]) for i in tokens("Action: [+0.01, -0.98]").input_ids]
    assert cut == ["Action", ":", " [+", "0", ".", "0", "1", ",", " -", "0", ".", "9", "8", "]"]
    for text in ("Action: [0.5, +1]", "naïve 日本 \n\t x-y", "  two  spaces"):
        assert tokens.decode(tokens(text).input_ids, clean_up_tokenization_spaces=False) == text
    assert len(tokens("user\nGive the image").input_ids) == 5


@pytest.mark.parametrize(("action_dim", "length"), [(1, 8), (2, 14), (6, 38)])
def test_answers_of_one_dimension_have_one_length(action_dim: int, length: int) -> None:
    tokens = tiny.tokenizer()
    template = Template.of(tokens, action_dim)
    actions = np.random.default_rng(0).uniform(-1, 1, (20, action_dim)).astype(np.float32)
    rows = template.answer_ids(actions)
    assert rows.shape == (20, length)
    from covr.vlm.grammar import format_action

    for row, action in zip(rows, actions, strict=True):
        assert row.tolist() == tokens(format_action(action)).input_ids


def test_a_tokenizer_that_glues_digits_has_no_template() -> None:
    class Pairs:
        def __call__(self, text: str, add_special_tokens: bool = True) -> object:
            return type("Out", (), {"input_ids": [hash(text[i : i + 2]) for i in range(0, len(text), 2)]})

    class Words:
        def __call__(self, text: str, add_special_tokens: bool = True) -> object:
            return type("Out", (), {"input_ids": [hash(word) for word in text.split()]})

    with pytest.raises(UserError, match="generate"):
        Template.of(Words(), 2)
    with pytest.raises(UserError, match="generate"):
        Template.of(Pairs(), 2)


@pytest.mark.parametrize("size", [56, 84, 112])
def test_own_patches_equal_the_processors(size: int) -> None:
    processor = prior().checkpoint.image_processor
    images = noise(3, size)
    values, grid = patches(images, processor)
    official = processor(images=list(images), return_tensors="pt")
    assert torch.equal(grid, official["image_grid_thw"])
    assert torch.allclose(values, official["pixel_values"], atol=1e-6)


def test_image_embeds_equal_those_of_plain_transformers() -> None:
    from transformers import AutoModelForImageTextToText

    vlm, images = prior(), noise(3, 84)
    plain = AutoModelForImageTextToText.from_pretrained(random_folder(), dtype=torch.float32)
    with torch.no_grad():
        features = plain.get_image_features(*vlm.pixels(images)).pooler_output
    assert torch.allclose(vlm.image_embeds(images), torch.stack(list(features)), atol=1e-4, rtol=1e-4)


def test_images_of_other_sizes_are_resized_by_the_processor() -> None:
    processor = prior().checkpoint.image_processor
    values, grid = patches(noise(2, 64), processor)
    assert grid.tolist() == [[1, 4, 4]] * 2 and values.shape == (32, 1176)


@pytest.mark.parametrize("size", [56, 64])
def test_two_frames_fill_the_time_slots(size: int) -> None:
    processor = prior().checkpoint.image_processor
    first, second = noise(4, size)[:2], noise(4, size)[2:]
    values, _ = patches(np.stack([first, second], 1), processor)
    both = values.view(len(values), 3, 2, -1)
    one = [patches(f, processor)[0].view(len(values), 3, 2, -1) for f in (first, second)]
    assert torch.equal(both[:, :, 0], one[0][:, :, 0]) and torch.equal(both[:, :, 1], one[1][:, :, 1])


def test_layout_counts_image_tokens_and_three_positions() -> None:
    vlm = prior()
    images = noise(1, 84)
    for image_first in (False, True):
        layout = vlm.reader(images, prompt(image_first=image_first)).layout
        start, end = layout.image
        assert end - start == 9
        assert layout.positions[:, :start].eq(torch.arange(start)).all()
        assert layout.positions[0, start:end].unique().tolist() == [start]
        assert layout.positions[1, start:end].tolist() == [start + i // 3 for i in range(9)]
        assert layout.next_position == len(layout.ids) - 9 + 3
        assert (start > len(layout.ids) / 2) != image_first


def test_a_prompt_with_two_images_is_refused() -> None:
    vlm = prior().checkpoint

    class Twice:
        def __call__(self, text: str, add_special_tokens: bool = True) -> object:
            return type("Out", (), {"input_ids": [vlm.model.config.image_token_id] * 2})

        def apply_chat_template(self, *args: object, **options: object) -> str:
            return ""

    with pytest.raises(UserError, match="2 times"):
        Layout.of(vlm.model, Twice(), prompt(), torch.tensor([[1, 4, 4]]))


def test_missing_weights_name_the_place_and_the_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=rf"{tmp_path}.*--vlm tiny.*download"):
        HFPrior(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    with pytest.raises(UserError, match=rf"{tmp_path}.*--vlm tiny.*download"):
        HFPrior(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match=r"'bert' model.*has none such.*Qwen"):
        HFPrior(str(tmp_path))
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path / "none")
    with pytest.raises(UserError, match="pretrain_tiny_vlm"):
        HFPrior("tiny")


def test_a_hub_id_without_network_names_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=rf"{tmp_path}.*--vlm tiny.*download"):
        checkpoint.load("nobody/no-such-model")


def test_unknown_mode_or_dtype_names_the_valid_ones() -> None:
    with pytest.raises(UserError, match=r"'beam'.*forced"):
        prior(decode="beam")
    with pytest.raises(UserError, match=r"'float8'.*bfloat16"):
        prior(dtype="float8")


def test_quantised_weights_name_what_they_need(monkeypatch: Any) -> None:
    for library in ("bitsandbytes", "torchao"):
        monkeypatch.setattr(f"transformers.utils.import_utils.is_{library}_available", lambda: False)
    with pytest.raises(UserError, match=r"vlm_dtype=int8 needs bitsandbytes or torchao: pip install bitsandbytes"):
        prior(dtype="int8")


def test_describe_is_json_and_marks_the_stand_in() -> None:
    about = json.loads(json.dumps(prior().describe()))
    assert about["stand_in"] is True and about["decode"] == "forced" and about["dtype"] == "float32"
    assert about["parameters"] == prior().checkpoint.model.num_parameters()


def test_pretraining_learns_to_see_and_keeps_a_card(tmp_path: Path) -> None:
    frames, places = bars(200)
    constant = np.ones((200, 1), np.float32)
    domain = pretrain.Domain("bars", "Push.", 1, frames, np.hstack([places, constant]))
    domain.save(tmp_path / "bars.npz")
    loaded = pretrain.Domain.load(tmp_path / "bars.npz")
    assert loaded.standardised().states.shape == (200, 2)
    recipe = pretrain.Recipe(see_steps=40, see_batch=16, answer_steps=1, answer_batch=2, rules=2, shift=0)
    made = pretrain.pretrain(tmp_path / "out", [loaded], recipe, log=lambda line: None)
    assert made["see_error"]["bars"] < 0.8
    assert "never" in (tmp_path / "out" / "README.md").read_text()
    assert prior(tmp_path / "out").propose(frames[:1], prompt(1)).valid.all()


def test_pretraining_refuses_what_teaches_nothing(tmp_path: Path) -> None:
    frames, _ = bars(20)
    with pytest.raises(UserError, match="no state of still varies"):
        pretrain.Domain("still", "Push.", 1, frames, np.ones((20, 1), np.float32)).standardised()
    with pytest.raises(UserError, match="at least one"):
        pretrain.pretrain(tmp_path, [], pretrain.Recipe())
    (tmp_path / "bad.npz").write_bytes(b"no")
    with pytest.raises(UserError, match=r"bad\.npz"):
        pretrain.Domain.load(tmp_path / "bad.npz")


def test_first_rules_report_the_state_and_all_stay_in_range() -> None:
    frames, places = bars(50)
    domain = pretrain.Domain("bars", "Push.", 1, frames, places)
    maps = pretrain.rule_maps(domain, pretrain.Recipe(rules=6))
    for rule in (0, 1):
        told = pretrain.apply_rules(maps, np.full(50, rule), places)
        assert told[:, 0] == pytest.approx(places[:, rule])
    drawn = pretrain.apply_rules(maps, np.arange(50) % 6, places * 5)
    assert (np.abs(drawn) <= 1).all()
    assert "Rule 3." in pretrain.rule_prompt(domain, 3).user and "Rule" not in pretrain.rule_prompt(domain, -1).user


def test_augmentation_shifts_by_at_most_the_given_pixels() -> None:
    recipe = pretrain.Recipe(shift=2, jitter=0.0)
    image = np.zeros((200, 56, 56, 3), np.uint8)
    image[:, 20, 30] = 255
    moved = pretrain.augmented(image, np.random.default_rng(0), recipe)
    assert moved.dtype == np.uint8
    _, row, column, _ = np.nonzero(moved)
    assert set(row) == {18, 19, 20, 21, 22} and set(column) == {28, 29, 30, 31, 32}
