"""Small random models of transformers' image-text-to-text families, each from its own config and processor classes.

Tokenizers are the stand-in's, with a family's own special tokens; chat templates are short forms of the published ones.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from vlm_parts import CLIP, GEMMA, GRID, PIXTRAL, SIGLIP, TEXT, VICUNA, VISION, Family, images, shown, text, tokens

from covr.vlm import tiny


def llava() -> Family:
    tokenizer = tokens({"image_token": "<image>"}, VICUNA)
    marker = tokenizer.convert_tokens_to_ids("<image>")
    config = transformers.LlavaConfig(text_config=text(), vision_config=CLIP, image_token_index=marker)
    cut = images("llava", "LlavaImageProcessorPil", size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    settings = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    return Family(config, tokenizer, cut, "LlavaProcessor", settings)


def llava_next() -> Family:
    tokenizer = tokens({"image_token": "<image>"}, VICUNA)
    marker = tokenizer.convert_tokens_to_ids("<image>")
    config = transformers.LlavaNextConfig(
        text_config=text(), vision_config=CLIP, image_token_index=marker, image_grid_pinpoints=GRID
    )
    sizes = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}, "image_grid_pinpoints": GRID}
    cut = images("llava_next", "LlavaNextImageProcessorPil", **sizes)
    return Family(config, tokenizer, cut, "LlavaNextProcessor", llava().settings)


def llava_onevision() -> Family:
    tokenizer = tokens({"image_token": "<image>", "video_token": "<video>"}, shown("<image>\n"))
    config = transformers.LlavaOnevisionConfig(
        text_config=text(transformers.Qwen2Config),
        vision_config=SIGLIP,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=GRID,
    )
    sizes = {"size": {"height": 28, "width": 28}, "image_grid_pinpoints": GRID}
    cut = images("llava_onevision", "LlavaOnevisionImageProcessorPil", **sizes)
    settings = {"num_image_tokens": 4, "vision_feature_select_strategy": "full"}
    return Family(config, tokenizer, cut, "LlavaOnevisionProcessor", settings)


def _idefics(config: Any, cut: Any, processor: str) -> Family:
    named = {
        "image_token": "<image>",
        "fake_image_token": "<fake_token_around_image>",
        "end_of_utterance_token": "<end_of_utterance>",
        "global_image_token": "<global-img>",
    }
    places = tuple(f"<row_{i}_col_{j}>" for i in (1, 2) for j in (1, 2))
    tokenizer = tokens(named, shown("<image>", "<end_of_utterance>"), places)
    marker = tokenizer.convert_tokens_to_ids("<image>")
    made = config(text_config=text(), vision_config=VISION, image_token_id=marker, scale_factor=2)
    return Family(made, tokenizer, cut, processor, {"image_seq_len": 1})


def idefics3() -> Family:
    sizes = {"size": {"longest_edge": 56}, "max_image_size": {"longest_edge": 28}}
    cut = images("idefics3", "Idefics3ImageProcessorPil", **sizes)
    return _idefics(transformers.Idefics3Config, cut, "Idefics3Processor")


def smolvlm() -> Family:
    sizes = {"size": {"longest_edge": 56}, "max_image_size": {"longest_edge": 28}}
    return _idefics(
        transformers.SmolVLMConfig, images("smolvlm", "SmolVLMImageProcessorPil", **sizes), "SmolVLMProcessor"
    )


def internvl() -> Family:
    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = tokens(named, shown("<IMG_CONTEXT>\n"))
    vision = {name: VISION[name] for name in VISION if name not in ("image_size", "patch_size")}
    config = transformers.InternVLConfig(
        text_config=text(transformers.Qwen2Config),
        vision_config=vision | {"image_size": [28, 28], "patch_size": [14, 14]},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=1,
        downsample_ratio=0.5,
    )
    sizes = {"size": {"height": 28, "width": 28}, "crop_to_patches": True, "max_patches": 4}
    cut = images("got_ocr2", "GotOcr2ImageProcessorPil", **sizes)
    return Family(config, tokenizer, cut, "InternVLProcessor", {"image_seq_length": 1})


def gemma3() -> Family:
    named = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    tokenizer = tokens(named, GEMMA, ("<start_of_turn>", "<end_of_turn>"))
    layers = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
    config = transformers.Gemma3Config(
        text_config=TEXT | layers | {"model_type": "gemma3_text", "query_pre_attn_scalar": 8},
        vision_config=SIGLIP,
        mm_tokens_per_image=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
        boi_token_index=tokenizer.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<end_of_image>"),
    )
    cut = images("gemma3", "Gemma3ImageProcessorPil", size={"height": 28, "width": 28})
    return Family(config, tokenizer, cut, "Gemma3Processor", {"image_seq_length": 4})


def paligemma() -> Family:
    tokenizer = tokens({"image_token": "<image>"})
    config = transformers.PaliGemmaConfig(
        text_config=TEXT | {"model_type": "gemma", "vocab_size": 2000},
        vision_config=SIGLIP,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=32,
    )
    cut = images("siglip", "SiglipImageProcessorPil", size={"height": 28, "width": 28})
    cut.image_seq_length = 4
    return Family(config, tokenizer, cut, "PaliGemmaProcessor", {})


def _mistral() -> Any:
    named = {"image_token": "[IMG]", "image_break_token": "[IMG_BREAK]", "image_end_token": "[IMG_END]"}
    return tokens(named, shown("[IMG]"))


def _pixtral_images() -> Any:
    sizes = {"size": {"longest_edge": 56}, "patch_size": {"height": 14, "width": 14}}
    return images("pixtral", "PixtralImageProcessorPil", **sizes)


def mistral3() -> Family:
    tokenizer = _mistral()
    config = transformers.Mistral3Config(
        text_config=text(transformers.MistralConfig),
        vision_config=PIXTRAL,
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
    )
    settings = {"patch_size": 14, "spatial_merge_size": 2}
    return Family(config, tokenizer, _pixtral_images(), "PixtralProcessor", settings)


def pixtral() -> Family:
    tokenizer = _mistral()
    config = transformers.LlavaConfig(
        text_config=text(transformers.MistralConfig),
        vision_config=PIXTRAL,
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    return Family(config, tokenizer, _pixtral_images(), "PixtralProcessor", {"patch_size": 14})


def florence2() -> Family:
    tokenizer = tokens({"image_token": "<image>"})
    sides = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (("layers", 2), ("ffn_dim", 48))}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    ends = {"bos_token_id": 0, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    begins = {"decoder_start_token_id": tokenizer.eos_token_id, "forced_bos_token_id": tokenizer.bos_token_id}
    bart = {"model_type": "bart", "d_model": 32, "vocab_size": 700, "max_position_embeddings": 512, "init_std": 0.2}
    stages = {"depths": [1] * 4, "num_heads": [2] * 4, "num_groups": [2] * 4, "embed_dim": [16, 16, 16, 32]}
    strides = {"patch_size": [7, 3, 3, 3], "patch_stride": [4, 2, 2, 2], "patch_padding": [3, 1, 1, 1]}
    config = transformers.Florence2Config(
        text_config=bart | sides | heads | ends | begins | {"forced_eos_token_id": None},
        vision_config=stages | strides | {"window_size": 4, "projection_dim": 32, "max_position_embeddings": 16},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    cut = images("clip", "CLIPImageProcessorPil", size={"height": 64, "width": 64}, do_center_crop=False)
    cut.image_seq_length = 5
    return Family(config, tokenizer, cut, "Florence2Processor", {"num_additional_image_tokens": 1})


def _qwen(config: Any, vision: dict[str, Any], processor: str) -> Family:
    tokenizer = tiny.tokenizer()
    marks = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    marks |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    ids: dict[str, Any] = {name: tokenizer.convert_tokens_to_ids(mark) for name, mark in marks.items()}
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1]}
    ends = {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
    made = config(text_config=TEXT | ends | {"rope_parameters": rope}, vision_config=vision, **ids)
    side = vision.get("patch_size", 14)
    sizes = {"patch_size": side, "size": {"shortest_edge": 4 * side**2, "longest_edge": 10**6}}
    return Family(made, tokenizer, images("qwen2_vl", "Qwen2VLImageProcessorPil", **sizes), processor, {})


def qwen2_vl() -> Family:
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "initializer_range": 0.2}
    return _qwen(transformers.Qwen2VLConfig, vision, "Qwen2VLProcessor")


def qwen2_5_vl() -> Family:
    vision = {"depth": 2, "hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 48, "num_heads": 2}
    return _qwen(transformers.Qwen2_5_VLConfig, vision | {"fullatt_block_indexes": [1]}, "Qwen2_5_VLProcessor")


def qwen3_vl() -> Family:
    vision = {"depth": 3, "hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 48, "num_heads": 2}
    vision |= {"patch_size": 16, "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16}
    return _qwen(transformers.Qwen3VLConfig, vision, "Qwen3VLProcessor")


FAMILIES: dict[str, Callable[[], Family]] = {
    made.__name__: made
    for made in (
        qwen2_vl, qwen2_5_vl, qwen3_vl, llava, llava_next, llava_onevision, idefics3, smolvlm, internvl, gemma3,
        paligemma, mistral3, pixtral, florence2,
    )
}  # fmt: skip


@cache
def folder(name: str) -> Path:
    """A checkpoint of the family with random weights, made once."""
    return build(FAMILIES[name](), Path(tempfile.mkdtemp()))


def build(family: Family, target: Path) -> Path:
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForImageTextToText.from_config(family.config, dtype=torch.float32)
        for parameter in model.parameters():
            if not parameter.any():  # some projections begin at 0, and would show no image
                torch.nn.init.normal_(parameter.data, 0, 0.2)
    model.generation_config.eos_token_id = family.tokenizer.eos_token_id
    model.generation_config.pad_token_id = family.tokenizer.pad_token_id
    if model.config.is_encoder_decoder:  # as the published one: it begins with a token of its own, and bends its text
        model.generation_config.forced_bos_token_id = family.tokenizer.bos_token_id
        model.generation_config.num_beams, model.generation_config.no_repeat_ngram_size = 3, 3
    for part in (model, family.tokenizer, family.images):
        part.save_pretrained(target)
    (target / "processor_config.json").write_text(json.dumps({"processor_class": family.processor} | family.settings))
    return target
