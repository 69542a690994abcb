"""A vision-language model in this process: loaded by transformers, tuned by peft.

`HFPrior("tiny")` is the project's stand-in; `HFPrior("Qwen/Qwen2.5-VL-3B-Instruct")` or a local folder is a real one,
on the same path.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch

from covr.vlm import decoding, finetune, grammar, lora
from covr.vlm.base import DecodeMode, Dtype, FinetuneSettings, Proposals, check_images, proposals_from_texts
from covr.vlm.checkpoint import load
from covr.vlm.families.choose import choose
from covr.vlm.families.features import image_map
from covr.vlm.families.quantised import numbers_of
from covr.vlm.template import text_of
from covr.vlm.tree import values_of
from covr_bench.kit.errors import UserError, unknown

if TYPE_CHECKING:
    import numpy.typing as npt

    from covr.vlm.base import FinetuneReport, Samples
    from covr.vlm.families.plain import PlainReader
    from covr.vlm.prompts import Prompt

NONFINITE = grammar.Parsed(None, "nonfinite_model")
ROUNDS = "covr_rounds.json"  # beside an adapter: how many rounds made it


class HFPrior:
    """A VisionLanguagePrior on the model in this process; one owner per model, since transformers keeps state in it.

    decode: how an answer is read, see `decoding`. batch_size: images per pass.
    """

    tunable = True

    def __init__(
        self,
        name: str = "tiny",
        *,
        decode: DecodeMode = "forced",
        device: str = "cpu",
        dtype: Dtype = "auto",
        batch_size: int = 64,
        settings: FinetuneSettings | None = None,
        seed: int = 0,
    ) -> None:
        if decode not in get_args(DecodeMode):
            raise unknown("decode mode of the VLM", decode, get_args(DecodeMode))
        self.checkpoint = load(name, device, dtype)
        self.path, self.plain_because = choose(self.checkpoint)
        self.decode: DecodeMode = decode
        self.batch_size = batch_size
        self.settings = settings or FinetuneSettings()
        self.seed = seed
        self.rounds = 0
        self.adapter: Any = None  # peft's wrapper, from the first round on
        self._ready = False  # whether the adapter, if there is one, has been got ready for questions
        self._base_weights: dict[str, torch.Tensor] = {}  # of the layers the adapter is merged into
        self._readers: dict[tuple[Prompt, tuple[int, ...]], decoding.Reader | PlainReader] = {}

    def propose(self, images: npt.NDArray[np.uint8], prompt: Prompt) -> Proposals:
        started = time.perf_counter()
        images = check_images(images)
        chunks = [images[i : i + self.batch_size] for i in range(0, len(images), self.batch_size)]
        answer = self._generate if self.decode == "generate" else self._constrained
        parts = [answer(chunk, prompt) for chunk in chunks]
        joined = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("actions", "valid", "variance", "valid_mass")
            if getattr(parts[0], name) is not None
        }
        texts = tuple(text for part in parts for text in part.texts)
        statuses = tuple(status for part in parts for status in part.statuses)
        return Proposals(texts=texts, statuses=statuses, seconds=time.perf_counter() - started, **joined)

    def check_asked(self, prompt: Prompt, frames: int, size: int) -> None:
        """Raises UserError if the model cannot be asked this about so many frames of so many pixels a side."""
        self.propose(np.zeros((1, *(2,) * (frames - 1), size, size, 3), np.uint8), prompt)

    def _generate(self, images: npt.NDArray[np.uint8], prompt: Prompt) -> Proposals:
        limit = 16 + 8 * prompt.action_dim  # a canonical answer takes 6 per number and 3
        self.merge()
        written = self.path.generate(images, prompt, limit)
        texts = [each.text for each in written]
        parsed = [
            grammar.parse(each.text, prompt.action_dim, finished=each.finished) if each.finite else NONFINITE
            for each in written
        ]
        return proposals_from_texts(
            texts, [p.status for p in parsed], [p.action for p in parsed], prompt.action_dim, 0.0
        )

    def _constrained(self, images: npt.NDArray[np.uint8], prompt: Prompt) -> Proposals:
        self.merge()
        embeds, reader = self.image_embeds(images), self.reader(images, prompt)
        decoded: decoding.Decoded
        if self.decode == "forced":
            decoded, variance = reader.forced(embeds), None
            actions = values_of(decoded.choices)
        else:
            decoded = expected = reader.expect(embeds)
            actions, variance = expected.mean.cpu(), expected.variance.cpu().numpy()
        mass = decoded.valid_mass.cpu().numpy()
        valid = np.isfinite(mass)
        return Proposals(
            actions=np.where(valid[:, None], actions.numpy(), 0).astype(np.float32),
            valid=valid,
            texts=tuple(text_of(row) for row in decoded.choices.cpu().numpy()),
            statuses=tuple("ok" if finite else "nonfinite_model" for finite in valid),
            seconds=0.0,
            variance=variance,
            valid_mass=mass,
        )

    def reader(self, images: npt.NDArray[np.uint8], prompt: Prompt) -> decoding.Reader | PlainReader:
        """The reader of a prompt at these images' size, its prompt prefix cached until the next round."""
        key = prompt, images.shape[1:]
        if key not in self._readers:
            self._readers[key] = self.path.reader(images, prompt)
        return self._readers[key]

    @property
    def end(self) -> int:
        """The token that ends an answer."""
        return self.path.end

    def pixels(self, images: npt.NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches `(B * patches, values)` and their grid, int64 `(B, 3)`, where the vision part takes patches."""
        return self.path.pixels(images)  # type: ignore[attr-defined, no-any-return]

    def image_embeds(self, images: npt.NDArray[np.uint8]) -> torch.Tensor:
        """What the reader takes of each image, `(B, ...)`: on a fast path what the language model sees of it, `(B,
        tokens, width)`. Fine-tuning leaves it as it is."""
        return self.path.image_embeds(images)

    def image_map(self, images: npt.NDArray[np.uint8]) -> torch.Tensor:
        """What the vision part makes of images as it lies in them, `(B, rows, columns, width)`."""
        return image_map(self.checkpoint, self.path, check_images(images))

    def finetune(self, samples: Samples, prompt: Prompt) -> FinetuneReport:
        if not len(samples):
            raise UserError("fine-tuning got no samples; a round with an empty selection is not due")
        adapter = self.trainable()
        before = [weight.detach().clone() for weight in adapter]
        report = finetune.tune(self, samples, prompt, replace(self.settings, seed=self.seed + self.rounds))
        if not report.finite or not all(bool(weight.isfinite().all()) for weight in adapter):
            with torch.no_grad():
                for weight, former in zip(adapter, before, strict=True):
                    weight.copy_(former)
            report = replace(report, undone=True)
        self.rounds += not report.undone  # as after a restart, which takes up the adapter that stayed
        self.forget()
        return report

    @property
    def width(self) -> int:
        """Of the language model's hidden states, from which its head reads tokens."""
        return int(self.checkpoint.model.get_output_embeddings().weight.shape[1])

    def trainable(self) -> list[torch.nn.Parameter]:
        """The adapter's parameters, apart from the weights and ready to be trained; it is put in if there is none."""
        self.unmerge()
        if self.adapter is None:
            self.adapter = lora.attach(self.checkpoint.model, self.settings, self.seed)
        return [p for p in self.checkpoint.model.parameters() if p.requires_grad]

    def forget(self) -> None:
        """Drop what was computed with the language model's former weights."""
        for reader in self._readers.values():
            reader.prefix = None

    def merge(self) -> None:
        """Be ready for questions: forget what former weights computed, and add the adapter to the weights where that is
        exact and quick, in float32. To others it stays applied: rounding to bfloat16 would change it, and a model of
        billions takes a minute and a second copy of itself."""
        if self.adapter is not None and not self._ready:
            if lora.mergeable(self.checkpoint.model):
                self._base_weights = lora.merge(self.checkpoint.model)
            self.forget()
            self._ready = True

    def unmerge(self) -> None:
        """Put the very weights back that `merge` changed."""
        self._ready = False
        if self._base_weights:
            lora.unmerge(self.checkpoint.model, self._base_weights)
            self._base_weights = {}
            self.forget()

    def save_adapter(self, folder: Path) -> None:
        """A standard peft folder (adapter_config.json, adapter_model.safetensors), and the number of rounds beside it,
        so that the rounds after a restart are those of a run that never stopped. Raises UserError before a round."""
        if self.adapter is None:
            raise UserError("there is no adapter to save before the first fine-tuning round")
        self.unmerge()
        self.adapter.save_pretrained(str(folder))
        (Path(folder) / ROUNDS).write_text(json.dumps({"rounds": self.rounds}))

    def load_adapter(self, folder: Path) -> None:
        self.reset_adapter()  # what is refused leaves the model as it came
        rounds = _rounds(Path(folder) / ROUNDS)
        self.adapter = lora.load_adapter(self.checkpoint.model, Path(folder))
        self.rounds = rounds

    def reset_adapter(self) -> None:
        self.unmerge()
        if self.adapter is not None:
            self.checkpoint.model, self.adapter = self.adapter.unload(), None
        self._readers.clear()
        self.rounds = 0

    def describe(self) -> dict[str, Any]:
        model = self.checkpoint.model
        adapter = self.adapter.peft_config["default"] if self.adapter is not None else None
        return {
            "name": self.checkpoint.name,
            "decode": self.decode,
            "parameters": sum(numbers_of(p) for n, p in model.named_parameters() if "lora_" not in n),
            "stand_in": self.checkpoint.stand_in,
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": str(model.device),
            "family": model.config.model_type,
            "path": "fast" if self.path.fast else f"plain: {self.plain_because}",
            "lora_rank": adapter.r if adapter else None,
            "lora_alpha": adapter.lora_alpha if adapter else None,
            "rounds": self.rounds,
        }


def _rounds(file: Path) -> int:
    """Of fine-tuning that made an adapter; 0 where nobody counted. Raises UserError."""
    if not file.is_file():
        return 0
    try:
        return int(json.loads(file.read_text())["rounds"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file} does not say how many rounds made the adapter: delete it to count from 0") from error
