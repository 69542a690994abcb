"""The parts of a model, found by what they do: its language model, and the matrices of it that LoRA takes."""

from __future__ import annotations

import re
from typing import Any

import torch

from covr_bench.kit.errors import UserError

QWEN = r".*language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
"""The projections of the commonest language model; a list of suffixes would also catch a vision part's."""


def adapted(model: Any) -> dict[str, Any]:
    """The language model's linear layers by name; its head and embeddings are left as they are.

    Raises:
        UserError: There are none, or the language model cannot be told from the rest.
    """
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    if decoder is model or (decoder is model.base_model and _sees(decoder)):
        raise UserError(f"where the language model of {type(model).__name__} ends cannot be told, so it is not tuned")
    prefix = next(name for name, module in model.named_modules() if module is decoder)
    found = {
        f"{prefix}.{name}": module
        for name, module in decoder.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head and "lora_" not in name
    }
    if not found:
        raise UserError(f"the language model of {type(model).__name__} has no linear layers for LoRA to take")
    return {name.removesuffix(".base_layer"): module for name, module in found.items()}


def _sees(decoder: Any) -> bool:
    """Whether a module takes images itself."""
    return any(isinstance(module, (torch.nn.Conv2d, torch.nn.Conv3d)) for module in decoder.modules())


def targets(names: list[str]) -> str:
    """A pattern of exactly these layers, for peft: one alternative for each name, the numbers of layers apart."""
    if all(re.fullmatch(QWEN, name) for name in names):
        return QWEN
    shapes = dict.fromkeys(re.sub(r"\\\.\d+\\\.", r"\\.\\d+\\.", re.escape(name)) for name in names)
    return "|".join(shapes)
