"""A model's turn in a chat, by the steps that `generate` itself takes: the prompt once, then its answer's tokens.

How a family counts positions, masks an image's tokens or keeps its cache is transformers' own business here.
"""

from __future__ import annotations

import copy
import inspect
from typing import TYPE_CHECKING, Any

import torch

from covr.vlm.keys import cache_name

if TYPE_CHECKING:
    from collections.abc import Mapping


class Turn:
    """Answers to a batch of prompts, as far as they are written. Gradients flow unless they are switched off.

    model: of transformers. inputs: what it takes for the batch, `input_ids` `(B, L)` among them. lead: the tokens an
    encoder-decoder's answer begins with; others take the answer right after the prompt.
    """

    def __init__(self, model: Any, inputs: Mapping[str, torch.Tensor], lead: tuple[int, ...] = ()) -> None:
        from transformers import DynamicCache, EncoderDecoderCache

        self.model = model
        given: dict[str, Any] = dict(inputs)
        self.encodes = bool(model.config.is_encoder_decoder)
        ids = given.pop("input_ids")
        if self.encodes:
            given |= {"input_ids": ids, "use_cache": True}
            self.ids = torch.tensor([lead], device=ids.device).expand(len(ids), -1)
            first: dict[str, Any] = given | {"decoder_input_ids": self.ids}
            first[cache_name()] = EncoderDecoderCache(DynamicCache(), DynamicCache())
            self.rest: dict[str, Any] = {"attention_mask": given.get("attention_mask"), "use_cache": True}
        else:
            self.ids, self.rest = ids, given | {"use_cache": True}
            if "position_ids" in inspect.signature(model.forward).parameters:
                self.rest["position_ids"] = model._prepare_position_ids_for_generation(ids, dict(self.rest))
            cache = DynamicCache(config=model.config.get_text_config(decoder=True))
            first = model.prepare_inputs_for_generation(
                ids, is_first_iteration=True, **{cache_name(): cache}, **self.rest
            )
        self.new = self.ids.shape[1]
        self.state = torch.empty(0)
        head = model.get_output_embeddings()
        hook = head.register_forward_pre_hook(self._keep_state)
        if "logits_to_keep" in inspect.signature(model.forward).parameters:
            first["logits_to_keep"] = 1
        try:
            self.out = model(**first, return_dict=True)
        finally:
            hook.remove()
        if self.encodes:
            from transformers.modeling_outputs import BaseModelOutput

            self.rest["encoder_outputs"] = BaseModelOutput(last_hidden_state=self.out.encoder_last_hidden_state)

    def _keep_state(self, head: Any, given: tuple[torch.Tensor, ...]) -> None:
        """The hidden state that the answer's first token is read from, `(B, width)`."""
        self.state = given[0][:, -1]

    @property
    def last(self) -> torch.Tensor:
        """Logits of the next token, float32 `(B, vocabulary)`."""
        return self.out.logits[:, -1].float()  # type: ignore[no-any-return]

    def write(self, tokens: torch.Tensor) -> torch.Tensor:
        """Add tokens int64 `(B, t)`; logits `(B, t, vocabulary)` of the token after each."""
        number = tokens.shape[1]
        self.rest = self.model._update_model_kwargs_for_generation(
            self.out, self.rest, is_encoder_decoder=self.encodes, num_new_tokens=number
        )
        self.ids = torch.cat([self.ids, tokens.to(self.ids.device)], 1)
        given = self.model.prepare_inputs_for_generation(
            self.ids, next_sequence_length=number, is_first_iteration=False, **self.rest
        )
        self.out = self.model(**given, return_dict=True)
        return self.out.logits.float()  # type: ignore[no-any-return]

    def branched(self, branches: int) -> Turn:
        """The same turn `branches` times for each sample, to be written on by itself. Not for gradients."""
        twin = copy.copy(self)
        twin.ids = self.ids.repeat_interleave(branches, 0)
        twin.out = copy.copy(self.out)
        cache = copy.deepcopy(self.out[cache_name()])
        cache.batch_repeat_interleave(branches)
        twin.out[cache_name()] = cache
        twin.rest = {name: _repeated(name, value, branches) for name, value in self.rest.items()}
        twin.rest.pop(cache_name(), None)
        return twin


def _repeated(name: str, value: Any, branches: int) -> Any:
    if name == "position_ids":  # time, row and column may stand before the batch
        return value if value.shape[-2] == 1 else value.repeat_interleave(branches, -2)
    if isinstance(value, torch.Tensor):
        seen = value.is_floating_point() and value.ndim > 2  # an image, which only the prompt's pass takes
        return value if seen else value.repeat_interleave(branches, 0)
    if hasattr(value, "last_hidden_state"):
        return type(value)(last_hidden_state=value.last_hidden_state.repeat_interleave(branches, 0))
    return value
