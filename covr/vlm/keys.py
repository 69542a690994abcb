"""Keys and values that a language model keeps of what it has read."""

from __future__ import annotations

import inspect
from functools import cache as once
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import DynamicCache

KeysValues = list[tuple[torch.Tensor, torch.Tensor]]
"""Of every layer: keys and values, `(B, heads, length, width)`."""


@once
def cache_name() -> str:
    """What models and their outputs call it: transformers renamed it in 5.24, and drops the former name in 5.40."""
    from transformers import GenerationMixin

    steps = inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters
    return "cache" if "cache" in steps else "past_key_values"


def new_cache(layers: KeysValues) -> DynamicCache:
    from transformers import DynamicCache

    return DynamicCache(ddp_cache_data=layers)


def keys_values(cache: DynamicCache) -> KeysValues:
    return [(layer.keys, layer.values) for layer in cache.layers]  # type: ignore[union-attr, misc]


def kept_path(cache: DynamicCache, length: int, nodes: torch.Tensor) -> DynamicCache:
    """The cache with its first `length` entries and, of the tree after them, each sample's own nodes `(B, depth)`."""

    def kept(x: torch.Tensor) -> torch.Tensor:
        at = (length + nodes.to(x.device))[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3])
        return torch.cat([x[:, :, :length], x.gather(2, at)], 2)

    return new_cache([(kept(k), kept(v)) for k, v in keys_values(cache)])
