"""A model's checkpoint, loaded by transformers: the stand-in that is shipped, a folder, or a hub id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from covr_bench.kit.errors import UserError, unknown

MARKER = "stand_in.json"  # marks a folder as a stand-in and says how it was made
SHIPPED = Path(__file__).parent / "tiny_weights"
FAMILIES = ("qwen2_5_vl", "qwen2_vl")  # whose positions, image tokens and language model are as `template` expects


@dataclass
class Checkpoint:
    """A loaded model.

    Attributes:
        name: What it was loaded by.
        model: An image-text-to-text model of transformers.
        tokenizer: Its own.
        image_processor: Its own.
        stand_in: Whether it is the project's own, not a real one.
    """

    name: str
    model: Any
    tokenizer: Any
    image_processor: Any
    stand_in: bool


def load(name: str, device: str = "cpu", dtype: str = "auto") -> Checkpoint:
    """Load `tiny`, a local folder or a hub id.

    Args:
        name: Of the model, a path or an id.
        device: Where it runs, such as `cpu` or `cuda:1`.
        dtype: `float32`, `bfloat16` or `auto`: bfloat16 on a GPU, float32 on a CPU, where bfloat16 is far slower.

    Raises:
        UserError: There are no weights (the message names where they were looked for), or the architecture is neither
            Qwen2-VL's nor Qwen2.5-VL's.
    """
    import torch
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer
    from transformers.utils import logging

    from covr.vlm.images import cut_by_matmul

    dtypes = {"auto": torch.float32 if device == "cpu" else torch.bfloat16}
    dtypes |= {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype not in dtypes:
        raise unknown("dtype of the VLM", dtype, dtypes)
    source = _source(name)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        config = AutoConfig.from_pretrained(source)
        if config.model_type not in FAMILIES:
            raise UserError(f"{name} is a {config.model_type!r} model; this loader knows {', '.join(FAMILIES)}")
        # AutoProcessor would need torchvision; its parts do not.
        image_processor = AutoImageProcessor.from_pretrained(source, backend="pil")  # type: ignore[no-untyped-call]
        tokenizer = AutoTokenizer.from_pretrained(source)
        model: Any = AutoModelForImageTextToText.from_pretrained(source, dtype=dtypes[dtype])
    except (OSError, ValueError) as error:
        raise UserError(f"{_missing(name)} ({str(error).splitlines()[0]})") from error
    model.requires_grad_(False)
    model.train(False)
    model.to(device)
    cut_by_matmul(model.model.visual)
    stand_in = (Path(source) / MARKER).is_file()
    return Checkpoint(name, model, tokenizer, image_processor, stand_in)


def _source(name: str) -> str:
    if name == "tiny":
        if not SHIPPED.is_dir():
            raise UserError(
                f"the tiny VLM's weights are not in {SHIPPED}; make them with examples/pretrain_tiny_vlm.py, or "
                "give a folder or a hub id"
            )
        return str(SHIPPED)
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise UserError(f"no config.json in the folder {Path(name).resolve()}; it holds no model. {_WAYS_OUT}")
        return str(Path(name))
    return name


_WAYS_OUT = "Use --vlm tiny, or download a model (hf download Qwen/Qwen2.5-VL-3B-Instruct) and give its folder."


def _missing(name: str) -> str:
    from huggingface_hub import constants

    looked = f"the folder {Path(name).resolve()}" if Path(name).is_dir() else f"the cache {constants.HF_HUB_CACHE}"
    return f"cannot load the VLM {name!r}: looked in {looked}. {_WAYS_OUT}"
