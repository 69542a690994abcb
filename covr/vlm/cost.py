"""What a VLM asks of a machine, from its config alone: before any of its weights is read.

Parameters are counted on a model without memory. Times follow from them, from the tokens of a question, and from how
fast this machine multiplies and reads; memory from what a pass keeps. A statement of size, not a measurement.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from covr_bench.kit.errors import Note, UserError

BEFORE, AFTER = 110, 10  # tokens of a task's question before and after the image; the DMControl tasks have 77 to 110
ANSWER_PASSES = 8  # of `forced`, for two numbers
ANSWER_TOKENS = 15
SIDE = 1024  # of the matrices that the speed is measured with
BYTES = {"float32": 4.0, "bfloat16": 2.0, "int8": 1.0, "int4": 0.5}
HUB_TIMEOUT_S = 5.0
TRAINED = 16  # bytes of a number of the adapter: itself, its gradient, and two moments of AdamW


@dataclass(frozen=True)
class Tuning:
    """A round of fine-tuning. samples: in all its steps. part: of them computed at once. rank: of LoRA."""

    samples: int
    part: int
    rank: int


@dataclass(frozen=True)
class Cost:
    """What a model is made of.

    parameters: of the model, language of them in its language model. image: its tokens of a question. kind: the dtype
    of its weights. matrices: sides of those that LoRA takes. words: of its vocabulary. kept: numbers that it keeps of
    a token it has read.
    """

    parameters: int
    language: int
    image: int
    kind: str
    matrices: tuple[tuple[int, int], ...]
    words: int
    kept: int

    @property
    def tokens(self) -> int:
        """Of a question."""
        return BEFORE + self.image + AFTER

    @property
    def weights(self) -> float:
        """Their bytes. Only the language model's matrices are quantised."""
        adapted = sum(rows * columns for rows, columns in self.matrices)
        whole = BYTES["float32" if self.kind == "float32" else "bfloat16"]
        return adapted * BYTES[self.kind] + (self.parameters - adapted) * whole

    @property
    def number(self) -> float:
        """Bytes of a number that is computed."""
        return 4.0 if self.kind == "float32" else 2.0

    @property
    def question_bytes(self) -> float:
        """Memory of one more question asked at the same time: what is kept of its tokens."""
        return self.number * self.kept * (self.tokens + ANSWER_TOKENS)

    def round_bytes(self, tuning: Tuning) -> float:
        """Memory of a round, the weights and, in float32, their copies for merging included. The question up to the
        image is read once for all samples."""
        sides = sum(rows + columns for rows, columns in self.matrices)
        rank = min(tuning.rank, min(min(pair) for pair in self.matrices))
        copies = 4.0 * sum(rows * columns for rows, columns in self.matrices) if self.kind == "float32" else 0.0
        tokens = BEFORE + tuning.part * (self.image + AFTER + ANSWER_TOKENS)
        passing = 2 * self.number * sides * tokens  # each matrix's input and output, and what lies between them
        logits = 3 * 4.0 * tuning.part * ANSWER_TOKENS * self.words
        return self.weights + max(copies, passing + logits) + TRAINED * rank * sides

    def seconds(self, device: str) -> tuple[float, float]:
        """Of one question by itself, and of a sample of a fine-tuning step, at this machine's speed now. What stands
        before the image is read once; no gradient is computed of the weights themselves."""
        flops, read = _speed(device, self.kind)
        vision = (self.parameters - self.language) * self.image * 4  # a token of four patches or fewer
        seen = 2.0 * (vision + self.language * (self.image + AFTER))
        question = seen / flops + ANSWER_PASSES * self.language * self.weights / self.parameters / read
        return question, 4.0 * self.language * (self.image + AFTER + ANSWER_TOKENS) / flops


def of_config(source: str, dtype: str, device: str, side: int = 84) -> Cost:
    """The cost of a checkpoint by its config.json; side: of the images it is shown, in pixels.

    Raises UserError if there is none that transformers knows."""
    import torch
    from transformers import AutoModelForImageTextToText

    from covr.vlm.families.parts import adapted

    try:
        config = _config(source)
        with torch.device("meta"):
            model: Any = AutoModelForImageTextToText.from_config(config)  # type: ignore[no-untyped-call]
        matrices = tuple((int(each.in_features), int(each.out_features)) for each in adapted(model).values())
    except Exception as error:  # what is wrong with a model is said when it is opened
        raise UserError(f"no cost of {source}: {str(error).splitlines()[0]}") from error
    parameters = sum(p.numel() for p in model.parameters())
    parts = model.get_decoder(), model.get_output_embeddings()  # which may share the embedding
    language = sum({id(p): p.numel() for part in parts for p in part.parameters()}.values())
    kind = ("float32" if device == "cpu" else "bfloat16") if dtype == "auto" else dtype
    words = int(model.get_output_embeddings().weight.shape[0])
    return Cost(parameters, language, _image_tokens(config, side), kind, matrices, words, _kept(config))


def _config(source: str) -> Any:
    """The one that is here, else the hub's: a few kB."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    except Exception:
        if Path(source).is_dir() or not _hub_answers():
            raise
        return AutoConfig.from_pretrained(source, trust_remote_code=False)


@cache
def _hub_answers() -> bool:
    """Whether the hub can be reached, tried once: its own client tries five times for each model."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT_S)
    except Exception as error:  # of whichever client it has, or none is allowed (HF_HUB_OFFLINE)
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        warnings.warn(
            f"{constants.ENDPOINT} cannot be reached ({reason}), so of models that are not on this machine no cost is "
            "known",
            Note,
            stacklevel=2,
        )
        return False
    return True


def statement(name: str, dtype: str, device: str, side: int = 84, tuning: Tuning | None = None) -> str:
    """The cost of a VLM in a line, empty for one that has no config to go by: a server, a rule, the stand-in.

    side: of the images, in pixels. tuning: a round's; None for an agent that has none.
    """
    if not _has_config(name):
        return ""
    try:
        cost = of_config(name, dtype, device, side)
    except UserError:
        return f"VLM {name}: what it asks of this machine is not known before its config.json is here"
    parts = f"{_count(cost.parameters)} parameters, {_size(cost.weights)} of weights in {cost.kind}"
    memory = f"memory: {_size(cost.question_bytes)} more for each question at once"
    if tuning:
        memory += f", about {_size(cost.round_bytes(tuning))} in all for a round (rank {tuning.rank})"
    if not _is_here(device):
        return f"VLM {name}: {parts}; {memory}; its times are not known, since {device} is not of this machine"
    question, sample = cost.seconds(device)
    times = f"time: about {_span(question)} a question of {cost.tokens} tokens"
    if tuning:
        times += f", {_span(tuning.samples * sample)} a round of {tuning.samples:,} samples"
    return f"VLM {name}: {parts}; {memory}; {times}, by its config and this machine's speed on {device}"


def out_of_reach(name: str) -> str:
    """Why a VLM can neither be had from this machine nor from the hub, and the mend; empty if it may be."""
    from huggingface_hub import try_to_load_from_cache

    if not _has_config(name) or Path(name).is_dir():
        return ""
    if isinstance(try_to_load_from_cache(name, "config.json"), str) or _hub_answers():
        return ""
    from covr.vlm.checkpoint import missing

    return missing(name)


def lack_of_memory(name: str, dtype: str, device: str, ram: int) -> str:
    """Why this machine cannot hold a VLM's weights, and the mend; empty if it can, or if that is not known.

    ram: its bytes.
    """
    import torch

    if not _has_config(name) or not _is_here(device):
        return ""
    kind, _, number = device.partition(":")
    there = torch.cuda.get_device_properties(int(number or 0)).total_memory if kind == "cuda" else ram
    try:
        weights = of_config(name, dtype, device).weights
    except UserError:
        return ""
    if weights <= there:
        return ""
    return (
        f"the weights of {name} take {_size(weights)}, and {device} has {_size(there)}: set vlm_dtype=bfloat16, int8 "
        "or int4, another vlm_device, or ask a server (--vlm openai:URL)"
    )


def _has_config(name: str) -> bool:
    from covr.vlm.open import HUB_ID, SERVER

    return not name.startswith(SERVER) and (Path(name).is_dir() or HUB_ID.fullmatch(name) is not None)


def _is_here(device: str) -> bool:
    """Whether this machine has the device: a run may be planned for others."""
    import torch

    kind, _, number = device.partition(":")
    return kind != "cuda" or torch.cuda.device_count() > int(number or 0)


def _kept(config: Any) -> int:
    """Keys and values of a token in all layers."""
    text = config.get_text_config(decoder=True)
    heads = getattr(text, "num_attention_heads", 0) or getattr(text, "decoder_attention_heads", 1)
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    return int(2 * text.num_hidden_layers * (getattr(text, "num_key_value_heads", None) or heads) * width)


def _image_tokens(config: Any, shown: int) -> int:
    """What the language model is given of one image of so many pixels a side, as far as the config tells."""
    if length := getattr(config, "image_seq_length", None) or getattr(config, "mm_tokens_per_image", None):
        return int(length)
    vision: Any = getattr(config, "vision_config", config)
    side: Any = getattr(vision, "image_size", shown)
    patch: Any = getattr(vision, "patch_size", 14)
    side, patch = (x[0] if isinstance(x, (list, tuple)) else x for x in (side, patch))
    merge: Any = getattr(vision, "spatial_merge_size", None) or getattr(config, "scale_factor", 1)
    return max(int((side // patch / merge) ** 2), 1)


def _speed(device: str, kind: str) -> tuple[float, float]:
    """Floating-point operations per second, and bytes of weights that are read and used for one token."""
    import torch
    from torch.nn.functional import linear

    dtype = torch.float32 if kind == "float32" else torch.bfloat16
    many = torch.ones(8, SIDE, SIDE, dtype=dtype, device=device)
    multiplying = _seconds(lambda: linear(many[0], many[1]), device)
    reading = _seconds(lambda: [linear(many[0, :1], matrix) for matrix in many], device)
    return 2.0 * SIDE**3 / multiplying, many.nbytes / reading


def _seconds(call: Any, device: str) -> float:
    """Of the fastest of three calls, after one that warms up; on a CPU what others compute meanwhile is left out."""
    import torch

    clock = time.perf_counter if device.startswith("cuda") else time.thread_time
    times = []
    for _ in range(4):
        started = clock()
        call()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(clock() - started)
    return max(min(times[1:]), 1e-9)


def _span(seconds: float) -> str:
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.2g} s"


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{max(count / 1e6, 1):.0f} MB"


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:.2f} billion" if parameters >= 1e8 else f"{parameters / 1e6:.2f} million"
