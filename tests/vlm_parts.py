"""Parts that small models of several families are built of: widths, chat templates, tokenizers, image processors."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import transformers

from covr.vlm import tiny

TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 700,
    "max_position_embeddings": 2048,
    "initializer_range": 0.2,
}
VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
    "initializer_range": 0.2,
}
CLIP = VISION | {"model_type": "clip_vision_model", "projection_dim": 32}
SIGLIP = VISION | {"model_type": "siglip_vision_model", "vision_use_head": False}
PIXTRAL = VISION | {"model_type": "pixtral", "image_size": 56, "head_dim": 8}
GRID = [[28, 56], [56, 28], [56, 56]]
CHAT = tiny.CHAT_TEMPLATE
VICUNA = (  # LLaVA-1.5's: roles in capitals, the image first, parts picked by their type
    "{% for m in messages %}{% if m['role'] != 'system' %}{{ m['role'].upper() + ': ' }}{% endif %}"
    "{% for c in m['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for c in m['content'] | selectattr('type', 'equalto', 'text') %}{{ c['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
GEMMA = (  # Gemma's: it begins the text itself, and puts the system's words before the user's
    "{{ bos_token }}{% set first = '' %}{% if messages[0]['role'] == 'system' %}"
    "{% set first = messages[0]['content'][0]['text'] + '\n\n' %}{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + (first if loop.first else '') }}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}{{ '<start_of_image>' }}"
    "{% else %}{{ c['text'] | trim }}{% endif %}{% endfor %}{{ '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


class Family(NamedTuple):
    """What a checkpoint is built of. settings: of the processor."""

    config: Any
    tokenizer: Any
    images: Any
    processor: str
    settings: dict[str, Any]


def tokens(named: dict[str, str], template: str | None = None, more: tuple[str, ...] = ()) -> Any:
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tiny.tokenizer().backend_tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        bos_token="<|im_start|>",
        extra_special_tokens=named,
        chat_template=template,
    )
    if more:
        made.add_special_tokens({"additional_special_tokens": list(more)})
    return made


def shown(mark: str, end: str = "<|im_end|>") -> str:
    return CHAT.replace("<|vision_start|><|image_pad|><|vision_end|>", mark).replace("<|im_end|>", end)


def images(module: str, name: str, **settings: Any) -> Any:
    """A family's image processor, of the backend without torchvision."""
    return getattr(import_module(f"transformers.models.{module}.image_processing_pil_{module}"), name)(**settings)


def text(config: Any = transformers.LlamaConfig, **more: Any) -> dict[str, Any]:
    return TEXT | {"model_type": config.model_type} | more
