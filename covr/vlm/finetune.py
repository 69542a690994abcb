"""LoRA fine-tuning on weighted samples (COVR, Eq. 6).

    L = 1/N_v * sum_b w_b * sum_t -log p(y_bt | x, y_b<t)        N_v: valid label tokens of the batch

The vision part is frozen, so each image goes through it once per round. The prompt up to the image is the same for all
samples: it is computed once per pass, at batch 1, and its gradient is the sum over the batch.
"""

from __future__ import annotations

import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from covr.vlm.base import FinetuneReport, relative_error
from covr.vlm.tree import values_of
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from covr.vlm.base import Samples
    from covr.vlm.decoding import Reader
    from covr.vlm.hf import HFPrior
    from covr.vlm.prompts import Prompt

ADAPTED = r".*language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
"""The language model's projections; a list of suffixes would also catch the vision part's, of the same names."""


@dataclass(frozen=True)
class FinetuneSettings:
    """rank, alpha: of LoRA, as the paper for DMControl; a rank above the narrowest adapted matrix is cut to it, alpha
    in proportion. label_smoothing: the paper gives no value. micro_batch: samples per pass; batch_size is reached by
    accumulating. min_steps: epochs are added until so many steps are made. heldout: share of the samples set aside,
    at most `max_heldout` of them.
    """

    rank: int = 128
    alpha: float = 16.0
    lr: float = 1e-3
    epochs: int = 2
    min_steps: int = 1
    batch_size: int = 32
    micro_batch: int = 32
    label_smoothing: float = 0.1
    max_grad_norm: float = 1.0
    heldout: float = 0.2
    max_heldout: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        whole = {
            "rank": self.rank,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "micro_batch": self.micro_batch,
        }
        for name, value in whole.items():
            if value < 1:
                raise UserError(f"{name} of fine-tuning is {value}; it must be at least 1")
        if not (0 <= self.label_smoothing < 1 and 0 <= self.heldout < 1 and self.lr > 0):
            raise UserError("fine-tuning needs lr > 0 and label_smoothing and heldout in [0, 1)")


def weighted_loss(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, label_smoothing: float, valid_tokens: int
) -> torch.Tensor:
    """Eq. 6 of one batch, or of a part of it: the parts of a batch add up to the batch.

    logits: `(B, T, vocabulary)`. labels: int64 `(B, T)`, -100 where there is none. weights: `(B,)`. valid_tokens: N_v,
    the labels other than -100 of the whole batch, samples of weight 0 included.
    """
    loss = F.cross_entropy(
        logits.transpose(1, 2), labels, reduction="none", ignore_index=-100, label_smoothing=label_smoothing
    )
    return (weights[:, None] * loss).sum() / valid_tokens


def answer_logits(reader: Reader, image_embeds: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Logits `(B, T, vocabulary)` of each token of the labels `(B, T)`, given those before it. Gradients flow."""
    return reader.logits(reader.answer_states(image_embeds, labels))


def attach(model: Any, settings: FinetuneSettings, seed: int) -> Any:
    """Put a fresh adapter, which changes nothing yet, into the model; returns peft's wrapper."""
    from peft import LoraConfig, get_peft_model

    rank = min(settings.rank, narrowest(model))
    config = LoraConfig(
        r=rank,
        lora_alpha=settings.alpha * rank / settings.rank,  # type: ignore[arg-type]  # peft only divides by it
        target_modules=ADAPTED,
        lora_dropout=0.0,
    )
    with torch.random.fork_rng(), _quiet_peft():
        torch.manual_seed(seed)
        return get_peft_model(model, config)


@contextmanager
def _quiet_peft() -> Iterator[None]:
    """peft reads an attribute that transformers has renamed, and warns of keys `load_adapter` raises about."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Found missing adapter keys", UserWarning)
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def narrowest(model: Any) -> int:
    """The smallest side of an adapted matrix: the rank that already spans it."""
    layers = model.model.language_model.layers[0]
    return min(min(m.in_features, m.out_features) for m in layers.modules() if isinstance(m, torch.nn.Linear))


def load_adapter(model: Any, folder: Path) -> Any:
    """Put a saved adapter into the model. Raises UserError if the folder holds none, or one for another model."""
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    weights = folder / "adapter_model.safetensors"
    if not weights.is_file() or not (folder / "adapter_config.json").is_file():
        raise UserError(f"no peft adapter in {folder}: adapter_config.json and adapter_model.safetensors are expected")
    try:
        with _quiet_peft():
            adapter = PeftModel.from_pretrained(model, str(folder), is_trainable=True)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the adapter in {folder} is for another model: {str(error).splitlines()[0]}") from error
    with safe_open(weights, "pt") as file:
        stored = set(file.keys())
    if stored != (expected := set(get_peft_model_state_dict(adapter))):
        odd = sorted(stored ^ expected)
        raise UserError(f"the adapter in {folder} is for another model: {len(odd)} weights differ, first {odd[0]!r}")
    return adapter


def merge(model: Any) -> dict[str, torch.Tensor]:
    """Add the adapter to the weights of its layers; returns copies of those weights as they were."""
    from peft.tuners.lora import LoraLayer

    saved: dict[str, torch.Tensor] = {}
    layers: list[tuple[str, Any]] = [(n, m) for n, m in model.named_modules() if isinstance(m, LoraLayer)]
    for name, module in layers:
        saved[name] = module.get_base_layer().weight.detach().clone()
        module.merge()
    return saved


def unmerge(model: Any, saved: dict[str, torch.Tensor]) -> None:
    """Undo `merge` exactly: subtracting the adapter again would leave its rounding behind, more in every round."""
    for name, weight in saved.items():
        module = model.get_submodule(name)
        module.unmerge()
        module.get_base_layer().weight.data.copy_(weight)


@dataclass
class Parts:
    """How many samples go through at once; halved once when memory runs out."""

    size: int
    halved: bool = False


def tune(prior: HFPrior, samples: Samples, prompt: Prompt, settings: FinetuneSettings) -> FinetuneReport:
    """One round on the adapter that is attached. Raises UserError if memory runs out twice."""
    started = time.perf_counter()
    rng = np.random.default_rng(settings.seed)
    reader = prior.reader(samples.images, prompt)
    order = rng.permutation(len(samples))
    held = order[: min(int(settings.heldout * len(samples)), settings.max_heldout)]
    train = order[len(held) :]
    embeds = _all_embeds(prior, samples)
    labels = torch.from_numpy(_labels(prior, reader, samples)).to(embeds.device)
    weights = torch.from_numpy(samples.weights).to(embeds.device)
    before = _heldout_answers(prior, reader, embeds[held]) if len(held) else samples.actions[held]

    trained = prior.trainable()
    optimizer = torch.optim.AdamW(trained, lr=settings.lr, weight_decay=0.0)
    parts = Parts(settings.micro_batch)
    losses: list[float] = []
    batches = _batches(rng, train, settings)
    for batch in batches:
        loss = _gradients(reader, embeds, labels, weights, batch, settings, parts)
        torch.nn.utils.clip_grad_norm_(trained, settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss)
    reader.prefix = None
    after = _heldout_answers(prior, reader, embeds[held]) if len(held) else before
    reader.prefix = None
    equal = np.ones(len(samples))
    return FinetuneReport(
        samples=len(train),
        steps=len(losses),
        loss=float(np.mean(losses[-len(losses) // settings.epochs :])),
        first_loss=losses[0],
        seconds=time.perf_counter() - started,
        heldout_error=_heldout_error(after, samples, held, train, equal),
        heldout_error_weighted=_heldout_error(after, samples, held, train, samples.weights),
        error_before=_heldout_error(before, samples, held, train, equal),
        batch_halved=parts.halved,
    )


def _batches(rng: np.random.Generator, train: Any, settings: FinetuneSettings) -> list[Any]:
    batches: list[Any] = []
    epoch = 0
    while epoch < settings.epochs or len(batches) < settings.min_steps:
        epoch += 1
        order = rng.permutation(train)
        batches += [order[i : i + settings.batch_size] for i in range(0, len(order), settings.batch_size)]
    return batches


def _all_embeds(prior: HFPrior, samples: Samples) -> torch.Tensor:
    size = prior.batch_size
    return torch.cat([prior.image_embeds(samples.images[i : i + size]) for i in range(0, len(samples), size)])


def _labels(prior: HFPrior, reader: Reader, samples: Samples) -> Any:
    """The answers that state the actions, and the token that ends the turn, int64 `(N, T)`."""
    try:
        answers = reader.template.answer_ids(samples.actions)
    except ValueError as error:
        raise UserError(f"cannot fine-tune on these actions: {error}") from error
    end = prior.checkpoint.tokenizer.convert_tokens_to_ids("<|im_end|>")
    return np.concatenate([answers, np.full((len(answers), 1), end)], 1)


def _gradients(
    reader: Reader,
    embeds: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor,
    batch: Any,
    settings: FinetuneSettings,
    parts: Parts,
) -> float:
    """Accumulate the gradient of one batch; returns its loss. Samples of weight 0 count in N_v and are not computed."""
    index = torch.as_tensor(batch, device=embeds.device)
    valid_tokens = int((labels[index] != -100).sum())
    index = index[weights[index] > 0]
    if not len(index):
        return 0.0
    while True:
        try:
            total = 0.0
            for some in torch.split(index, parts.size):
                logits = answer_logits(reader, embeds[some], labels[some])
                loss = weighted_loss(logits, labels[some], weights[some], settings.label_smoothing, valid_tokens)
                loss.backward()  # type: ignore[no-untyped-call]
                total += loss.item()
            return total
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            if parts.halved or parts.size == 1:
                raise UserError(
                    f"fine-tuning ran out of memory with {parts.size} samples at once; lower micro_batch or lora rank"
                ) from error
        reader.model.zero_grad(set_to_none=True)
        parts.size, parts.halved = (parts.size + 1) // 2, True
        if embeds.is_cuda:
            torch.cuda.empty_cache()


def _out_of_memory(error: BaseException) -> bool:
    known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return known or "can't allocate memory" in str(error)  # what torch says on a CPU


def _heldout_answers(prior: HFPrior, reader: Reader, embeds: torch.Tensor) -> Any:
    """The actions answered, float32 `(N, A)`."""

    def answered(some: torch.Tensor) -> torch.Tensor:
        if prior.decode == "expect":
            mean = reader.expect(some).mean
            assert mean is not None
            return mean.cpu()
        return values_of(reader.forced(some).choices).cpu()

    return torch.cat([answered(some) for some in torch.split(embeds, prior.batch_size)]).numpy()


def _heldout_error(answers: Any, samples: Samples, held: Any, train: Any, weights: Any) -> float:
    """That of answers to the held-out samples, NaN if nothing was held out or taught."""
    if not weights[train].any():
        return float("nan")
    mean = np.average(samples.actions[train], 0, weights[train])
    return relative_error(answers, samples.actions[held], mean, weights[held])
