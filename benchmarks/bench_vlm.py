"""The tiny VLM: cost of a query by decoding mode and batch, and of a fine-tuning step, against plain transformers.

`pytest benchmarks/bench_vlm.py -s` prints the ratios. 84x84 frames, two-dimensional actions, random weights of size xs:
time does not depend on what the weights are. The naive side writes as many tokens as a whole answer has, 15.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from paired import Contestant, compare

QUERIES, ANSWER_TOKENS = 32, 15
INSTRUCTION = (
    "Top view of a two-link arm in a square arena: turn the two joints so that the tip of the arm reaches the coloured "
    "target disc and stays on it."
)


def _prior(decode: str) -> tuple[Any, Any, Any]:
    from covr.vlm import tiny
    from covr.vlm.base import FinetuneSettings
    from covr.vlm.hf import HFPrior
    from covr.vlm.prompts import task_prompt

    folder = str(tiny.build(tempfile.mkdtemp()))
    vlm = HFPrior(folder, decode=decode, settings=FinetuneSettings(rank=16))  # type: ignore[arg-type]
    frames = np.random.default_rng(0).integers(0, 256, (QUERIES, 84, 84, 3), dtype=np.uint8)
    return vlm, task_prompt(INSTRUCTION, 2), frames


def _plain(vlm: Any) -> Any:
    """The same weights in a model that only transformers has touched."""
    import torch
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(vlm.checkpoint.name, dtype=torch.float32)
    return model.requires_grad_(False).eval()


def _naive(batch: int) -> Callable[[], Any]:
    """All queries through transformers' processor and `generate`, `batch` at a time."""
    from covr.vlm.decoding import generate

    vlm, prompt, frames = _prior("generate")
    part, model = vlm.checkpoint, _plain(vlm)
    layout = vlm.reader(frames, prompt).layout

    def ask() -> None:
        for i in range(0, QUERIES, batch):
            pixels = part.image_processor(images=list(frames[i : i + batch]), return_tensors="pt")["pixel_values"]
            generate(model, part.tokenizer, layout, pixels, batch, ANSWER_TOKENS)

    return ask


def _ours(decode: str, batch: int) -> Callable[[], Any]:
    vlm, prompt, frames = _prior(decode)
    vlm.batch_size = batch
    return lambda: vlm.propose(frames, prompt)


naive_1, naive_32 = partial(_naive, 1), partial(_naive, 32)
forced_1, forced_32 = partial(_ours, "forced", 1), partial(_ours, "forced", 32)
expect_1, expect_32 = partial(_ours, "expect", 1), partial(_ours, "expect", 32)


def _step() -> tuple[Any, ...]:
    import torch

    from covr.vlm import finetune, lora
    from covr.vlm.base import Samples

    vlm, prompt, frames = _prior("forced")
    vlm.adapter = lora.attach(vlm.checkpoint.model, vlm.settings, 0)
    actions = np.random.default_rng(0).uniform(-1, 1, (QUERIES, 2)).astype(np.float32)
    samples = Samples(frames, actions, np.ones(QUERIES, np.float32))
    reader = vlm.reader(frames, prompt)
    labels = torch.from_numpy(finetune._labels(vlm, reader, samples))
    return vlm, reader, samples, labels, torch.ones(QUERIES)


def our_step() -> Callable[[], Any]:
    """Forward and backward of a batch whose image features are there, as in all but the first epoch's look-up."""
    from covr.vlm import finetune

    vlm, reader, samples, labels, weights = _step()
    embeds, parts = vlm.image_embeds(samples.images), finetune.Parts(QUERIES)
    batch = np.arange(QUERIES)
    return lambda: finetune._gradients(reader, embeds, labels, weights, batch, vlm.settings, parts)


def plain_step() -> Callable[[], Any]:
    """The same through transformers' own forward: whole sequences, pixels in, logits of every position out."""
    import torch
    import torch.nn.functional as F

    from covr.vlm.lora import attach

    vlm, reader, samples, labels, weights = _step()
    model = _plain(vlm)
    attach(model, vlm.settings, 0)
    ids = torch.cat([reader.layout.ids.expand(QUERIES, -1), labels], 1)
    pixel_values, grid = vlm.pixels(samples.images)
    types = (ids == model.config.image_token_id).int()
    length = labels.shape[1]

    def step() -> None:
        logits = model(input_ids=ids, pixel_values=pixel_values, image_grid_thw=grid, mm_token_type_ids=types).logits
        answers = logits[:, -length - 1 : -1].transpose(1, 2)
        loss = F.cross_entropy(answers, labels, reduction="none", label_smoothing=0.1)
        ((weights[:, None] * loss).sum() / labels.numel()).backward()

    return step


def _llava() -> tuple[Any, Any, Any]:
    """A small LLaVA, which the generic path serves."""
    from vlm_families import folder

    from covr.vlm.hf import HFPrior
    from covr.vlm.prompts import task_prompt

    frames = np.random.default_rng(0).integers(0, 256, (QUERIES, 84, 84, 3), dtype=np.uint8)
    return HFPrior(str(folder("llava")), decode="generate"), task_prompt(INSTRUCTION, 2), frames


def generic_generate() -> Callable[[], Any]:
    vlm, prompt, frames = _llava()
    return lambda: vlm.path.generate(frames, prompt, ANSWER_TOKENS)


def plain_generate() -> Callable[[], Any]:
    """The family's own processor and `generate`, as its model card has it."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from vlm_families import folder

    vlm, prompt, frames = _llava()
    text, path = vlm.path.plain.text(frames, prompt), folder("llava")
    processor = AutoProcessor.from_pretrained(path)
    model = AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32).eval()

    def ask() -> None:
        inputs = processor(images=list(frames), text=[text] * len(frames), return_tensors="pt")
        with torch.no_grad():
            processor.batch_decode(model.generate(**inputs, do_sample=False, max_new_tokens=ANSWER_TOKENS))

    return ask


def _compare(benchmark: Any, ours: str, theirs: str, queries: int, rounds: int = 3) -> None:
    contestants = [Contestant(f"bench_vlm:{name}", keep_heap=True) for name in (ours, theirs)]
    compare(benchmark, *contestants, rounds=rounds)
    for side in ("ours", "theirs"):
        per_query = 1e3 * float(np.median(benchmark.extra_info[f"{side}_s"])) / queries
        benchmark.extra_info[f"{side}_ms_per_query"] = per_query
        print(f"  {ours if side == 'ours' else theirs}: {per_query:.2f} CPU-ms")


@pytest.mark.parametrize("ours", ["forced_1", "forced_32", "expect_1", "expect_32"])
def test_query_against_naive_one_by_one(benchmark: Any, ours: str) -> None:
    _compare(benchmark, ours, "naive_1", QUERIES)


@pytest.mark.parametrize("ours", ["forced_32", "expect_32"])
def test_query_against_naive_in_the_same_batch(benchmark: Any, ours: str) -> None:
    _compare(benchmark, ours, "naive_32", QUERIES)


def test_finetune_step(benchmark: Any) -> None:
    _compare(benchmark, "our_step", "plain_step", 1)


def test_generic_path(benchmark: Any) -> None:
    _compare(benchmark, "generic_generate", "plain_generate", QUERIES)
