"""Three ways to read an action out of the model.

generate  free text by transformers' own `generate`: the paper's way, and the reference for the others.
forced    the answer's template is given and only its digits are free: greedy, one pass per free position.
expect    the exact mean and variance of each number under the constrained model: one pass per number, over the tree of
          all its digits. A later number is conditioned on the greedy digits of those before it.

`forced` and `expect` compute the prompt up to the image once and keep its keys and values; the cache must be dropped
when the language model changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from covr.vlm.keys import cache_name, kept_path, keys_values, new_cache
from covr.vlm.tree import Tree, mass_of, only_zero, tree_values
from covr.vlm.written import Watch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import DynamicCache

    from covr.vlm.keys import KeysValues
    from covr.vlm.template import Layout, Slot, Template
    from covr.vlm.written import Written


class Forced(NamedTuple):
    """Answers read digit by digit.

    choices: int64 `(B, A, 4)`, index into `CHOICES` of each free position, by greedy choice or drawn.
    valid_mass: float32 `(B,)`, mean probability of the allowed tokens over the free positions.
    log_prob: float32 `(B,)`, of all choices together, each among the allowed ones.
    state: `(B, width)`, hidden state of the prompt's last token, which has seen the image.
    """

    choices: torch.Tensor
    valid_mass: torch.Tensor
    log_prob: torch.Tensor
    state: torch.Tensor


class Expected(NamedTuple):
    """Answers read as distributions. choices, valid_mass: as of `Forced`. mean, variance: float32 `(B, A)`."""

    choices: torch.Tensor
    valid_mass: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor


Decoded = Forced | Expected


@dataclass
class Reader:
    """Asks one prompt of one model about images of one size. prefix: cached keys and values, computed on first use."""

    model: Any
    layout: Layout
    template: Template
    prefix: KeysValues | None = None

    @property
    def slots(self) -> list[Slot]:
        """The answer's free positions, in order."""
        return [slot for number in self.template.numbers for slot in number]

    def prefix_pass(self) -> KeysValues:
        """The prompt up to its image, at batch 1; gradients flow unless they are switched off."""
        start = self.layout.image[0]
        cache = new_cache([])
        self.run(self.prompt_embeds(0, start), self.layout.positions[:, None, :start], cache)
        return keys_values(cache)

    def prompt_embeds(self, start: int, end: int | None) -> torch.Tensor:
        """What the language model takes of the prompt's tokens start..end-1, `(1, n, width)`."""
        if self.layout.embeds is None:
            return self.embed(self.layout.ids[None, start:end])
        return self.layout.embeds[:, start:end].to(self.model.device)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model.get_input_embeddings()(ids.to(self.model.device))  # type: ignore[no-any-return]

    def run(
        self, embeds: torch.Tensor, positions: torch.Tensor, cache: DynamicCache, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Hidden states `(B, q, width)` of q further tokens; the cache grows by them.

        positions: `(3, 1, q)`, or `(1, 1, q)`. mask: bool `(q, length of the cache + q)`; causal if None. Positions
        and masks are always given: the model would otherwise keep state of its own between calls.
        """
        q, past = embeds.shape[1], cache.get_seq_length()
        if mask is None and q > 1:
            mask = torch.ones(q, past + q, dtype=torch.bool).tril(past)
        if mask is not None:
            mask = mask.to(embeds.device)[None, None]  # the same for every sample
        out = self.model.get_decoder()(
            inputs_embeds=embeds,
            position_ids=(positions if len(positions) > 1 else positions[0]).to(embeds.device),
            attention_mask={"full_attention": mask} if self.layout.masks_by_kind else mask,
            use_cache=True,
            **{cache_name(): cache},
        )
        return out.last_hidden_state  # type: ignore[no-any-return]

    def start(self, image_embeds: torch.Tensor, first: list[int]) -> tuple[torch.Tensor, torch.Tensor, DynamicCache]:
        """Inputs and positions of image, suffix and the answer's first tokens, and a cache that holds the prefix."""
        if self.prefix is None:
            self.prefix = self.prefix_pass()
        return self.inputs(image_embeds, torch.tensor([first]), self.prefix)

    def inputs(
        self, image_embeds: torch.Tensor, answer: torch.Tensor, prefix: KeysValues
    ) -> tuple[torch.Tensor, torch.Tensor, DynamicCache]:
        """What follows the prefix, for image_embeds `(B, n, width)` and answer tokens `(1 or B, t)`."""
        batch, (start, end) = len(image_embeds), self.layout.image
        suffix = self.prompt_embeds(end, None).expand(batch, -1, -1)
        embeds = torch.cat([image_embeds, suffix, self.embed(answer).expand(batch, -1, -1)], 1)
        positions = torch.cat([self.layout.positions[:, start:], self.answer_positions(0, answer.shape[1])], 1)
        expanded = [(k.expand(batch, -1, -1, -1), v.expand(batch, -1, -1, -1)) for k, v in prefix]
        return embeds, positions[:, None], new_cache(expanded)

    def answer_positions(self, start: int, end: int) -> torch.Tensor:
        """Positions of answer tokens start..end-1, int64 `(3, end - start)`, or `(1, end - start)`."""
        return (self.layout.next_position + torch.arange(start, end)).expand(len(self.layout.positions), -1)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        # torch multiplies a slice sample by sample, with a copy of the head for each: 0.6 GB with Qwen's vocabulary
        return self.model.get_output_embeddings()(hidden.contiguous()).float()  # type: ignore[no-any-return]

    def allowed(self, logits: torch.Tensor, i: int, choices: Sequence[torch.Tensor]) -> torch.Tensor:
        """Of logits `(B, vocabulary)` those of the choices `(B, c)` at the i-th free position, after these choices."""
        allowed = logits[:, list(self.slots[i].choices)]
        return only_zero(allowed, choices[i - i % 4 + 1]) if i % 4 >= 2 else allowed

    def answer_states(self, image_embeds: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
        """Hidden states `(B, T, width)` that the tokens of answers int64 `(B, T)` are read from: the first is that of
        the prompt's last token. Gradients flow."""
        embeds, positions, cache = self.inputs(image_embeds, answer[:, :-1], self.prefix_pass())
        return self.run(embeds, positions, cache)[:, -answer.shape[1] :]

    def answer_logits(self, image_embeds: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logits `(B, T, vocabulary)` of each token of the labels `(B, T)`, given those before it. Gradients flow."""
        return self.logits(self.answer_states(image_embeds, labels))

    def log_probs(self, image_embeds: torch.Tensor, choices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logarithm of the probability of digits int64 `(B, A, 4)`, each given those before it and among the allowed
        ones, float32 `(B, A, 4)`; and the hidden state of the prompt's last token, `(B, width)`. Gradients flow."""
        digits = choices.flatten(1).unbind(1)
        answer = torch.tensor(self.template.ids, device=choices.device).repeat(len(choices), 1)
        for slot, digit in zip(self.slots, digits, strict=True):
            answer[:, slot.position] = torch.tensor(slot.choices, device=choices.device)[digit]
        states = self.answer_states(image_embeds, answer[:, : self.slots[-1].position + 1])
        logits = self.logits(states[:, [slot.position for slot in self.slots]])
        each = [
            self.allowed(logits[:, i], i, digits).log_softmax(-1).gather(1, digit[:, None])
            for i, digit in enumerate(digits)
        ]
        return torch.cat(each, 1).view(choices.shape), states[:, 0]

    @torch.no_grad()
    def forced(self, image_embeds: torch.Tensor, draw: bool = False) -> Forced:
        """Digits for image_embeds `(B, n, width)`: the likeliest at each position, or drawn by their probability."""
        template, slots, batch = self.template, self.slots, len(image_embeds)
        first = template.between(0, slots[0].position)
        embeds, positions, cache = self.start(image_embeds, first)
        choices: list[torch.Tensor] = []
        masses: list[torch.Tensor] = []
        log_prob = torch.zeros(batch, device=embeds.device)
        for i, slot in enumerate(slots):
            hidden = self.run(embeds, positions, cache)
            if i == 0:
                state = hidden[:, -1 - len(first)]
            logits = self.logits(hidden[:, -1])
            allowed = self.allowed(logits, i, choices)
            each = allowed.log_softmax(-1)
            choices.append(drawn(each) if draw else each.argmax(-1))
            log_prob += each.gather(1, choices[-1][:, None])[:, 0]
            masses.append(mass_of(allowed, logits))
            if i + 1 == len(slots):
                break
            end = slots[i + 1].position
            fixed = torch.tensor([template.between(slot.position + 1, end)], dtype=torch.int64).expand(batch, -1)
            token = torch.tensor(slot.choices)[choices[-1].cpu()]
            embeds = self.embed(torch.cat([token[:, None], fixed], 1))
            positions = self.answer_positions(slot.position, end)[:, None]
        valid_mass = torch.stack(masses, 1).mean(1)
        return Forced(torch.stack(choices, 1).view(batch, -1, 4), valid_mass, log_prob, state)

    @torch.no_grad()
    def expect(self, image_embeds: torch.Tensor) -> Expected:
        """Mean and variance of each number for image_embeds `(B, n, width)`, and the greedy digits."""
        template, batch = self.template, len(image_embeds)
        embeds, positions, cache = self.start(image_embeds, template.between(0, template.numbers[0][0].position))
        choices, masses, means, variances = [], [], [], []
        for d, number in enumerate(template.numbers):
            tree = Tree.of(number, template.ids)
            past, lead = cache.get_seq_length(), embeds.shape[1]
            nodes = self.embed(torch.tensor([tree.tokens])).expand(batch, -1, -1)
            node_positions = (self.layout.next_position + torch.tensor(tree.depths)).expand(len(positions), 1, -1)
            hidden = self.run(
                torch.cat([embeds, nodes], 1), torch.cat([positions, node_positions], 2), cache, tree.mask(past, lead)
            )
            joint, greedy, mass = tree.distribution(self.logits, hidden[:, lead - 1 :], number)
            value = tree_values().to(joint.device)
            mean = (joint * value).sum((1, 2, 3, 4))
            means.append(mean)
            variances.append((joint * (value - mean.view(-1, 1, 1, 1, 1)) ** 2).sum((1, 2, 3, 4)))
            choices.append(greedy)
            masses.append(mass)
            if d + 1 == len(template.numbers):
                break
            cache = kept_path(cache, past + lead, tree.path(greedy))
            last, end = number[3], template.numbers[d + 1][0].position
            fixed = torch.tensor([template.between(last.position + 1, end)], dtype=torch.int64).expand(batch, -1)
            embeds = self.embed(torch.cat([torch.tensor(last.choices)[greedy[:, 3].cpu()][:, None], fixed], 1))
            positions = self.answer_positions(last.position, end)[:, None]
        return Expected(
            torch.stack(choices, 1), torch.cat(masses, 1).mean(1), torch.stack(means, 1), torch.stack(variances, 1)
        )


def drawn(log_probs: torch.Tensor) -> torch.Tensor:
    """One choice of each row `(B, k)` by its probabilities, int64 `(B,)`; of a row without any, whichever."""
    return log_probs.exp().nan_to_num(1.0).multinomial(1)[:, 0]


@torch.no_grad()
def generate(
    model: Any, tokenizer: Any, layout: Layout, pixel_values: torch.Tensor, batch: int, max_new_tokens: int
) -> list[Written]:
    """Free greedy text of each image."""
    stop = stop_ids(model, tokenizer)
    ids = layout.ids.expand(batch, -1).to(model.device)
    assert layout.grid is not None
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == model.config.image_token_id).int(),
        pixel_values=pixel_values,
        image_grid_thw=layout.grid.expand(batch, -1).to(model.device),
        generation_config=greedy(stop, max_new_tokens),
        logits_processor=[watch := Watch(batch)],
    )
    model.model.rope_deltas = None  # state that would reach into the next call
    return watch.ended(out[:, ids.shape[1] :].tolist(), stop, tokenizer)


def greedy(stop: list[int], limit: int) -> Any:
    """Settings of `generate`: the likeliest tokens, `limit` at most. The rest is the model's, see `checkpoint.load`."""
    from transformers import GenerationConfig

    return GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=limit, eos_token_id=stop, pad_token_id=stop[-1]
    )


def stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer: the checkpoint's own, the chat's end of turn, the end of text."""
    declared = model.generation_config.eos_token_id
    named = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    stop = [declared] if isinstance(declared, int) else list(declared or [])
    return list(dict.fromkeys([*named, *stop]))
