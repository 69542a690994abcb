"""The two fast ways to ask a model, and the plain one. All read the same answers.

PatchPath    the image's patches are cut here, and the vision part is called by itself: Qwen2-VL's geometry.
SegmentPath  the model's own forward is stopped where it hands the prompt to its language model: what it hands over for
             the image is one segment, the rest is the same for every image of one size.
PlainPath    the model's own steps, from the processor to the last token.

Both fast paths compute what stands before the image once (`decoding.Reader`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from covr.vlm import decoding
from covr.vlm.decoding import Reader
from covr.vlm.families import intact
from covr.vlm.families.plain import PlainReader
from covr.vlm.families.processing import quiet
from covr.vlm.families.prompting import end_of_answer, prompt_text, template_of
from covr.vlm.families.seeing import inputs_of
from covr.vlm.families.spelling import Spelling, check_writes
from covr.vlm.images import cut_by_matmul, patches
from covr.vlm.keys import cache_name
from covr.vlm.prompts import Prompt
from covr.vlm.template import Layout, Template
from covr.vlm.written import Watch
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt

    from covr.vlm.checkpoint import Checkpoint
    from covr.vlm.written import Written

ANY = Prompt("You control a robot.", "Push the cart.", 1)  # whatever is asked, an image is prepared alike


class Path(Protocol):
    """A way to ask one model. end: the token that ends an answer."""

    fast: bool
    end: int

    def reader(self, images: npt.NDArray[np.uint8], prompt: Prompt) -> Reader | PlainReader: ...

    def image_embeds(self, images: npt.NDArray[np.uint8]) -> torch.Tensor:
        """What the reader takes of each image, `(B, ...)`."""
        ...

    def generate(self, images: npt.NDArray[np.uint8], prompt: Prompt, limit: int) -> list[Written]:
        """Free greedy text of each image, `limit` tokens at most."""
        ...


class PatchPath:
    """What Qwen2-VL and those that keep to its geometry are asked by."""

    fast = True

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.model, self.tokenizer = checkpoint.model, checkpoint.tokenizer
        self.processor = checkpoint.image_processor
        cut_by_matmul(self.model.model.visual)
        self.end = int(self.tokenizer.convert_tokens_to_ids("<|im_end|>"))

    def reader(self, images: npt.NDArray[np.uint8], prompt: Prompt) -> Reader:
        template = Template.of(self.tokenizer, prompt.action_dim)
        return Reader(self.model, self.layout(images, prompt), template)

    def layout(self, images: npt.NDArray[np.uint8], prompt: Prompt) -> Layout:
        _, grid = self.pixels(images[:1])
        return Layout.of(self.model, self.tokenizer, prompt, grid[:1])

    def pixels(self, images: npt.NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches `(B * patches, values)` and their grid, int64 `(B, 3)`, as the model's vision part takes them."""
        values, grid = patches(images, self.processor)
        return values.to(self.model.device), grid.to(self.model.device)

    @torch.no_grad()
    def image_embeds(self, images: npt.NDArray[np.uint8]) -> torch.Tensor:
        return torch.stack(list(self.model.model.get_image_features(*self.pixels(images)).pooler_output))

    def generate(self, images: npt.NDArray[np.uint8], prompt: Prompt, limit: int) -> list[Written]:
        pixel_values, _ = self.pixels(images)
        layout = self.layout(images, prompt)
        return decoding.generate(self.model, self.tokenizer, layout, pixel_values, len(images), limit)

    def undo(self) -> None:
        """Leave the model as it came."""
        del self.model.model.visual.patch_embed.forward


class PlainPath:
    """What every family can be asked by. Its reader takes images as they are."""

    fast = False

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.model, self.processor = checkpoint.model, checkpoint.processor
        self.marks = ""
        if template_of(self.processor) is None:
            self.marks = self._marks(checkpoint.source)
        config = self.model.generation_config
        declared = config.eos_token_id
        self.stops = [declared] if isinstance(declared, int) else list(declared or [])
        self.end = end_of_answer(self.processor, ANY, self.stops)
        self.lead = tuple(
            token for token in (config.decoder_start_token_id, config.forced_bos_token_id) if token is not None
        )

    def _marks(self, source: str) -> str:
        """What stands for an image in front of a text. Raises UserError where only a chat template could tell."""
        token = getattr(self.processor, "image_token", "") or ""
        marker = getattr(self.processor, "image_token_id", None)
        by_itself = False
        with quiet():
            for marks in ("", token):
                try:
                    text = prompt_text(self.processor, ANY, marks=marks)
                    found = inputs_of(self.model, self.processor, text, np.zeros((1, 64, 64, 3), np.uint8))
                except UserError:
                    continue
                if not marks and marker is not None and not (found["input_ids"] == marker).any():
                    break  # the image goes where a template puts it
                by_itself = by_itself or not marks
                if by_itself and marks == token:
                    return marks
        if by_itself:
            return ""
        raise intact.missing_template(source)

    def reader(self, images: npt.NDArray[np.uint8], prompt: Prompt) -> PlainReader:
        spelling = Spelling.of(self.processor.tokenizer, prompt.action_dim)
        return PlainReader(self.model, self.processor, self.text(images, prompt), spelling, self._lead())

    def text(self, images: npt.NDArray[np.uint8], prompt: Prompt) -> str:
        frames = images.shape[1] if images.ndim == 5 else 1
        return prompt_text(self.processor, prompt, frames, self.marks)

    def _lead(self) -> tuple[int, ...]:
        return self.lead if self.model.config.is_encoder_decoder else ()

    def image_embeds(self, images: npt.NDArray[np.uint8]) -> torch.Tensor:
        return torch.from_numpy(images).to(self.model.device)

    @torch.no_grad()
    def generate(self, images: npt.NDArray[np.uint8], prompt: Prompt, limit: int) -> list[Written]:
        tokenizer = self.processor.tokenizer
        check_writes(tokenizer, prompt.action_dim)
        inputs: dict[str, Any] = inputs_of(self.model, self.processor, self.text(images, prompt), images)
        start = inputs["input_ids"].shape[1]
        if lead := self._lead():
            inputs["decoder_input_ids"] = torch.tensor([lead] * len(images), device=self.model.device)
            start = len(lead)
        stop = list(dict.fromkeys([self.end, *self.stops]))
        watch = Watch(len(images))
        out = self.model.generate(**inputs, generation_config=decoding.greedy(stop, limit), logits_processor=[watch])
        return watch.ended(out[:, start:].tolist(), stop, tokenizer)


class SegmentPath:
    """What a family is asked by whose language model takes the image as one segment, causally."""

    fast = True

    def __init__(self, checkpoint: Checkpoint, plain: PlainPath, masks_by_kind: bool) -> None:
        self.model, self.plain, self.end = checkpoint.model, plain, plain.end
        self.tokenizer, self.masks_by_kind = checkpoint.tokenizer, masks_by_kind
        self._bounds: dict[tuple[int, ...], tuple[int, int]] = {}

    def reader(self, images: npt.NDArray[np.uint8], prompt: Prompt) -> Reader:
        noise = np.random.default_rng(0).integers(0, 256, (2, *images.shape[1:]), dtype=np.uint8)
        given = self._handed_over(noise, prompt)
        embeds = given["inputs_embeds"]
        positions = given.get("position_ids")
        if positions is None:
            positions = torch.arange(embeds.shape[1])[None, None]
        elif positions.ndim == 2:
            positions = positions[None]
        layout = Layout(
            positions=positions[:, 0].cpu(),
            image=_segment(embeds),
            ids=torch.empty(0, dtype=torch.int64),
            embeds=embeds[:1].cpu(),
            masks_by_kind=self.masks_by_kind,
        )
        return Reader(self.model, layout, Template.of(self.tokenizer, prompt.action_dim))

    @torch.no_grad()
    def _handed_over(self, images: npt.NDArray[np.uint8], prompt: Prompt) -> dict[str, Any]:
        """What the model gives its language model for this prompt about these images."""
        inputs = inputs_of(self.model, self.plain.processor, self.plain.text(images, prompt), images)

        def stop(module: Any, args: Any, given: dict[str, Any]) -> None:
            raise HandedOver(given)

        hook = self.model.get_decoder().register_forward_pre_hook(stop, with_kwargs=True)
        try:
            self.model(**inputs, use_cache=False)
        except HandedOver as handed:
            return _plainly(handed.given)
        finally:
            hook.remove()
        raise UserError("its language model is not called with the prompt")

    def image_embeds(self, images: npt.NDArray[np.uint8]) -> torch.Tensor:
        size = images.shape[1:]
        if size not in self._bounds:
            noise = np.random.default_rng(0).integers(0, 256, (2, *size), dtype=np.uint8)
            self._bounds[size] = _segment(self._handed_over(noise, ANY)["inputs_embeds"])
        start, end = self._bounds[size]
        return self._handed_over(images, ANY)["inputs_embeds"][:, start:end]  # type: ignore[no-any-return]

    def generate(self, images: npt.NDArray[np.uint8], prompt: Prompt, limit: int) -> list[Written]:
        return self.plain.generate(images, prompt, limit)


class HandedOver(Exception):
    def __init__(self, given: dict[str, Any]) -> None:
        super().__init__("what the language model was given")
        self.given = given


def _plainly(given: dict[str, Any]) -> dict[str, Any]:
    """Raises UserError if the language model takes more of an image than embeddings and positions."""
    known = ("input_ids", "inputs_embeds", "position_ids", "attention_mask", cache_name(), "cache_position")
    more = [name for name, value in given.items() if name not in known and _holds_tensors(value)]
    if more:
        raise UserError(f"its language model also takes {', '.join(more)}")
    if given.get("inputs_embeds") is None:
        raise UserError("its language model takes no embeddings")
    return given


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, torch.Tensor) or (
        isinstance(value, (list, tuple)) and any(isinstance(each, torch.Tensor) for each in value)
    )


def _segment(embeds: torch.Tensor) -> tuple[int, int]:
    """Where the embeddings of two images differ, first to last. Raises UserError if they do not."""
    differs = (embeds[0] != embeds[1]).any(-1).nonzero()[:, 0]
    if not len(differs):
        raise UserError("its language model sees every image alike")
    return int(differs[0]), int(differs[-1]) + 1
