"""What a VLM asks of a machine, from its config alone: before any of its weights is read.

Parameters are counted on a model without memory. Times follow from them, from the tokens of a question, and from how
fast this machine multiplies and reads: a statement of size, not a measurement.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from covr_bench.kit.errors import UserError

TEXT_TOKENS = 120  # of a task's question; the DMControl tasks have 77 to 110
ANSWER_PASSES = 8  # of `forced`, for two numbers
ANSWER_TOKENS = 15
SIDE = 1024  # of the matrices that the speed is measured with
BYTES = {"float32": 4.0, "bfloat16": 2.0, "int8": 1.0, "int4": 0.5}


@dataclass(frozen=True)
class Cost:
    """parameters: of the model, language of them in its language model. image: its tokens of a question. kind: the
    dtype of its weights."""

    parameters: int
    language: int
    image: int
    kind: str

    @property
    def tokens(self) -> int:
        """Of a question."""
        return self.image + TEXT_TOKENS

    @property
    def weights(self) -> float:
        """Their bytes."""
        return self.parameters * BYTES[self.kind]

    def seconds(self, device: str) -> tuple[float, float]:
        """Of one question by itself, and of a sample of a fine-tuning step, at this machine's speed now."""
        flops, read = _speed(device, self.kind)
        vision = (self.parameters - self.language) * self.image * 4  # a token of four patches or fewer
        seen = 2.0 * (vision + self.language * self.tokens)
        question = seen / flops + ANSWER_PASSES * self.language * BYTES[self.kind] / read
        return question, 6.0 * self.language * (self.tokens + ANSWER_TOKENS) / flops


def of_config(source: str, dtype: str, device: str) -> Cost:
    """The cost of a checkpoint by its config.json. Raises UserError if there is none that transformers knows."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    try:
        config = AutoConfig.from_pretrained(source, local_files_only=True)
        with torch.device("meta"):
            model: Any = AutoModelForImageTextToText.from_config(config)  # type: ignore[no-untyped-call]
    except Exception as error:  # what is wrong with a model is said when it is opened
        raise UserError(f"no cost of {source}: {str(error).splitlines()[0]}") from error
    parameters = sum(p.numel() for p in model.parameters())
    parts = model.get_decoder(), model.get_output_embeddings()  # which may share the embedding
    language = sum({id(p): p.numel() for part in parts for p in part.parameters()}.values())
    kind = ("float32" if device == "cpu" else "bfloat16") if dtype == "auto" else dtype
    return Cost(parameters, language, _image_tokens(config), kind)


def statement(name: str, dtype: str, device: str, samples: int) -> str:
    """The cost of a VLM in a line, empty for one that has no config to go by: a server, a rule, the stand-in.

    samples: of a round of fine-tuning; 0 for an agent that has none.
    """
    from covr.vlm.open import HUB_ID, SERVER

    if name.startswith(SERVER) or not (Path(name).is_dir() or HUB_ID.fullmatch(name)):
        return ""
    try:
        cost = of_config(name, dtype, device)
    except UserError:
        return f"VLM {name}: what it asks of this machine is not known before its config.json is here"
    parts = f"{cost.parameters / 1e9:.2f} billion parameters, {cost.weights / 1e9:.1f} GB of weights"
    if not _is_here(device):
        return f"VLM {name}: {parts}; its times are not known, since {device} is not of this machine"
    question, sample = cost.seconds(device)
    times = f"about {_span(question)} a question of {cost.tokens} tokens"
    if samples:
        times += f" and {_span(samples * sample)} a round of {samples:,} samples"
    return f"VLM {name}: {parts}; {times}, by its config and this machine's speed on {device}"


def _is_here(device: str) -> bool:
    """Whether this machine has the device: a run may be planned for others."""
    import torch

    kind, _, number = device.partition(":")
    return kind != "cuda" or torch.cuda.device_count() > int(number or 0)


def _image_tokens(config: Any) -> int:
    """What the language model is given of one image, as far as the config tells."""
    if length := getattr(config, "image_seq_length", None) or getattr(config, "mm_tokens_per_image", None):
        return int(length)
    vision: Any = getattr(config, "vision_config", config)
    side: Any = getattr(vision, "image_size", 84)
    patch: Any = getattr(vision, "patch_size", 14)
    side, patch = (x[0] if isinstance(x, (list, tuple)) else x for x in (side, patch))
    merge: Any = getattr(vision, "spatial_merge_size", None) or getattr(config, "scale_factor", 1)
    return max(int((side // patch / merge) ** 2), 1)


def _speed(device: str, kind: str) -> tuple[float, float]:
    """Floating-point operations and bytes of weights per second, of this machine, now."""
    import torch

    dtype = torch.float32 if kind == "float32" else torch.bfloat16
    matrix = torch.ones(SIDE, SIDE, dtype=dtype, device=device)
    many = torch.ones(8, SIDE, SIDE, dtype=dtype, device=device)
    return 2.0 * SIDE**3 / _seconds(lambda: matrix @ matrix, device), many.nbytes / _seconds(many.sum, device)


def _seconds(call: Any, device: str) -> float:
    """Of the fastest of three calls, after one that warms up."""
    import torch

    times = []
    for _ in range(4):
        started = time.perf_counter()
        call()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return max(min(times[1:]), 1e-9)


def _span(seconds: float) -> str:
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.2g} s"
