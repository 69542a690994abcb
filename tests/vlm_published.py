"""Config-only folders of the models that the paper compares, at their published sizes: no weights, no tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers

QWEN_TEXT: dict[str, Any] = {"vocab_size": 151_936, "tie_word_embeddings": True, "max_position_embeddings": 32_768}
MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}}


def qwen2_vl_2b() -> Any:
    text = {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28}
    heads = {"num_attention_heads": 12, "num_key_value_heads": 2}
    vision = {"depth": 32, "embed_dim": 1280, "hidden_size": 1536, "num_heads": 16, "mlp_ratio": 4}
    return transformers.Qwen2VLConfig(text_config=QWEN_TEXT | MROPE | text | heads, vision_config=vision, **TIED)


def qwen2_5_vl_3b() -> Any:
    text = {"hidden_size": 2048, "intermediate_size": 11_008, "num_hidden_layers": 36}
    heads = {"num_attention_heads": 16, "num_key_value_heads": 2}
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 2048}
    return transformers.Qwen2_5_VLConfig(text_config=QWEN_TEXT | MROPE | text | heads, vision_config=vision, **TIED)


def llava_7b() -> Any:
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    clip = {"model_type": "clip_vision_model", "image_size": 336, "patch_size": 14, "projection_dim": 768}
    text = {"model_type": "llama", "vocab_size": 32_064, "max_position_embeddings": 4096}
    return transformers.LlavaConfig(text_config=text, vision_config=vision | clip)


TIED = {"tie_word_embeddings": True}
PUBLISHED = {  # hub id: config, parameters
    "Qwen/Qwen2-VL-2B-Instruct": (qwen2_vl_2b, 2_208_985_600),
    "Qwen/Qwen2.5-VL-3B-Instruct": (qwen2_5_vl_3b, 3_754_622_976),
    "llava-hf/llava-1.5-7b-hf": (llava_7b, 7_063_427_072),
}


def config_only(name: str, where: Path) -> Path:
    """A folder of the hub's name in `where`, which a command started there takes for the model's."""
    folder = where / name
    PUBLISHED[name][0]().save_pretrained(folder)
    return folder
