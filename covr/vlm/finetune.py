"""LoRA fine-tuning on weighted samples (COVR, Eq. 6).

    L = 1/N_v * sum_b w_b * sum_t -log p(y_bt | x, y_b<t)        N_v: valid label tokens of the batch

The vision part is frozen, so each image goes through it once per round. The prompt up to the image is the same for all
samples: it is computed once per pass, at batch 1, and its gradient is the sum over the batch.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F

from covr.vlm.base import FinetuneReport
from covr.vlm.measures import relative_error
from covr.vlm.tree import values_of
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt

    from covr.vlm.base import DecodeMode, FinetuneSettings, Samples
    from covr.vlm.checkpoint import Checkpoint
    from covr.vlm.decoding import Reader
    from covr.vlm.families.plain import PlainReader
    from covr.vlm.prompts import Prompt


class LocalModel(Protocol):
    """A VLM in this process, as a round of fine-tuning sees it."""

    checkpoint: Checkpoint
    batch_size: int  # images of a pass
    decode: DecodeMode

    @property
    def end(self) -> int:
        """The token that ends an answer."""
        ...

    def reader(self, images: npt.NDArray[np.uint8], prompt: Prompt) -> Reader | PlainReader:
        """The reader of a prompt at these images' size."""
        ...

    def image_embeds(self, images: npt.NDArray[np.uint8]) -> torch.Tensor:
        """What the reader takes of each image, `(B, ...)`."""
        ...

    def trainable(self) -> list[torch.nn.Parameter]:
        """The adapter's parameters, ready to be trained."""
        ...


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


def answer_logits(reader: Reader | PlainReader, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Logits `(B, T, vocabulary)` of each token of the labels `(B, T)`, given those before it. Gradients flow.

    images: as the prior's `image_embeds` gives them.
    """
    return reader.answer_logits(images, labels)


@dataclass
class Parts:
    """How many samples go through at once; halved once when memory runs out."""

    size: int
    halved: bool = False


def tune(prior: LocalModel, samples: Samples, prompt: Prompt, settings: FinetuneSettings) -> FinetuneReport:
    """One round on the adapter that is attached. Raises UserError if memory runs out twice."""
    started = time.perf_counter()
    rng = np.random.default_rng(settings.seed)
    reader = prior.reader(samples.images, prompt)
    order = rng.permutation(len(samples))
    held, train = np.split(order, [min(int(settings.heldout * len(samples)), settings.max_heldout)])
    if not samples.weights[train].any() and samples.weights.any():  # of few samples all that teaches can be held out
        taught = int(samples.weights[held].argmax())
        held[taught], train[0] = train[0], held[taught]
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
        losses.append(loss)
        if not np.isfinite(loss):  # the prior undoes the round
            optimizer.zero_grad(set_to_none=True)
            break
        torch.nn.utils.clip_grad_norm_(trained, settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    reader.prefix = None
    after = _heldout_answers(prior, reader, embeds[held]) if len(held) else before
    reader.prefix = None
    equal = np.ones(len(samples))
    return FinetuneReport(
        samples=len(train),
        steps=len(losses),
        loss=float(np.mean(losses[-math.ceil(len(train) / settings.batch_size) :])),
        first_loss=losses[0],
        seconds=time.perf_counter() - started,
        heldout_error=_heldout_error(after, samples, held, train, equal),
        heldout_error_weighted=_heldout_error(after, samples, held, train, samples.weights),
        error_before=_heldout_error(before, samples, held, train, equal),
        error_before_weighted=_heldout_error(before, samples, held, train, samples.weights),
        batch_halved=parts.halved,
        finite=bool(np.isfinite(losses).all()),
    )


def _batches(rng: np.random.Generator, train: Any, settings: FinetuneSettings) -> list[Any]:
    batches: list[Any] = []
    epoch = 0
    while epoch < settings.epochs or len(batches) < settings.min_steps:
        epoch += 1
        order = rng.permutation(train)
        batches += [order[i : i + settings.batch_size] for i in range(0, len(order), settings.batch_size)]
    return batches


def _all_embeds(prior: LocalModel, samples: Samples) -> torch.Tensor:
    size = prior.batch_size
    return torch.cat([prior.image_embeds(samples.images[i : i + size]) for i in range(0, len(samples), size)])


def _labels(prior: LocalModel, reader: Reader | PlainReader, samples: Samples) -> Any:
    """The answers that state the actions, and the token that ends the turn, int64 `(N, T)`; -100 after the end."""
    try:
        answers = reader.template.answer_ids(samples.actions)
    except ValueError as error:
        raise UserError(f"cannot fine-tune on these actions: {error}") from error
    ended = np.concatenate([answers, np.full((len(answers), 1), -100)], 1)
    ended[np.arange(len(ended)), (answers != -100).sum(1)] = prior.end
    return ended


def _gradients(
    reader: Reader | PlainReader,
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


def _heldout_answers(prior: LocalModel, reader: Reader | PlainReader, embeds: torch.Tensor) -> Any:
    """The actions answered, float32 `(N, A)`."""

    def answered(some: torch.Tensor) -> torch.Tensor:
        if prior.decode == "expect":
            return reader.expect(some).mean.cpu()
        return values_of(reader.forced(some).choices).cpu()

    return torch.cat([answered(some) for some in torch.split(embeds, prior.batch_size)]).numpy()


def _heldout_error(answers: Any, samples: Samples, held: Any, train: Any, weights: Any) -> float:
    """That of answers to the held-out samples, NaN if nothing was held out or taught."""
    if not weights[train].any():
        return float("nan")
    mean = np.average(samples.actions[train], 0, weights[train])
    return relative_error(answers, samples.actions[held], mean, weights[held])
