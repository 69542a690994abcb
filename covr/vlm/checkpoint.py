"""A model's checkpoint, loaded by transformers: the stand-in that is shipped, a folder, or a hub id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from covr.vlm.base import Dtype
from covr_bench.kit.errors import UserError, unknown

MARKER = "stand_in.json"  # marks a folder as a stand-in and says how it was made
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id")
SHIPPED = Path(__file__).parent / "tiny_weights"


@dataclass
class Checkpoint:
    """A loaded model.

    Attributes:
        name: What it was loaded by.
        model: An image-text-to-text model of transformers.
        processor: Its own; `tokenizer` and `image_processor` are its parts.
        stand_in: Whether it is the project's own, not a real one.
        source: The folder or hub id it came from.
    """

    name: str
    model: Any
    processor: Any
    stand_in: bool
    source: str = ""

    @property
    def tokenizer(self) -> Any:
        return self.processor.tokenizer

    @property
    def image_processor(self) -> Any:
        return self.processor.image_processor


def load(name: str, device: str = "cpu", dtype: Dtype = "auto") -> Checkpoint:
    """Load `tiny`, a local folder or a hub id.

    Args:
        name: Of the model, a path or an id.
        device: Where it runs, such as `cpu` or `cuda:1`.
        dtype: Of the weights, see `base.Dtype`.

    Raises:
        UserError: There are no weights (the message names where they were looked for), they are incomplete or damaged,
            or transformers' Auto class knows no image-text-to-text model of this architecture.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING as FAMILIES
    from transformers.utils import logging

    from covr.vlm.families.processing import load_processor
    from covr.vlm.families.prompting import template_of

    if dtype not in get_args(Dtype):
        raise unknown("dtype of the VLM", dtype, get_args(Dtype))
    source = _source(name)
    _check_device(device)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # of transformers, or of a class that its file is given to
        _check(source)  # may know better what is wrong
        raise _unloadable(name, error) from error
    if type(config) not in FAMILIES:
        raise UserError(
            f"{name} is a {config.model_type!r} model, and transformers' AutoModelForImageTextToText has none "
            "such: give one that is shown an image and answers in text, such as Qwen/Qwen2.5-VL-3B-Instruct"
        )
    _check(source)
    try:
        processor = load_processor(source, config)
        model = _model(name, source, config, device, dtype)
    except UserError:
        raise
    except Exception as error:  # of transformers, or of a file it read
        raise _unloadable(name, error) from error
    if processor.tokenizer.chat_template is None:
        processor.tokenizer.chat_template = template_of(processor)
    stand_in = (Path(source) / MARKER).is_file()
    return Checkpoint(name, model, processor, stand_in, source)


def _check(source: str) -> None:
    from covr.vlm.families import intact

    if Path(source).is_dir():
        intact.check_folder(Path(source))


def _unloadable(name: str, error: Exception) -> UserError:
    from covr.vlm.families.intact import reason

    if "trust_remote_code" in str(error) or "custom code" in str(error):
        return UserError(
            f"{name} brings code of its own, which is not run here: give a model whose classes transformers has, such "
            "as Qwen/Qwen2.5-VL-3B-Instruct, or put this one behind a server (--vlm openai:URL)"
        )
    return UserError(f"{missing(name)} ({reason(error)})")


def _check_device(device: str) -> None:
    import torch

    from covr.vlm.families.intact import reason

    try:
        torch.zeros(1, device=device).item()
    except Exception as error:  # torch has a class for each kind of device
        raise UserError(f"the VLM cannot run on the device {device!r}: {reason(error)}; try cpu or cuda") from error


def _model(name: str, source: str, config: Any, device: str, dtype: Dtype) -> Any:
    """The model with its weights, all of them from the files."""
    import torch
    from transformers import AutoModelForImageTextToText

    from covr.vlm.families import intact
    from covr.vlm.families.processing import quiet
    from covr.vlm.families.quantised import quantisation

    options: dict[str, Any] = {"dtype": torch_dtype(dtype, device), "trust_remote_code": False}
    family: Any = AutoModelForImageTextToText
    if dtype in ("int8", "int4"):
        with torch.random.fork_rng(devices=[]), torch.device("meta"), quiet():
            whole = family.from_config(config)
        options |= {"quantization_config": quantisation(dtype, device, whole), "device_map": device}
    with quiet():
        if Path(source).is_dir() and not getattr(config, "quantization_config", None):
            with torch.random.fork_rng(devices=[]), torch.device("meta"):
                numbers = sum(weight.numel() for weight in family.from_config(config).parameters())
            intact.check_numbers(Path(source), numbers)
        model, report = family.from_pretrained(
            source, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )  # mismatches are told by us
    intact.check_loaded(name, report, _tied(model), _language(model))
    model.requires_grad_(False)
    model.train(False)
    model.generation_config = _unbent(model.generation_config)
    if dtype not in ("int8", "int4"):
        model.to(device)
    return model


def _unbent(own: Any) -> Any:
    """Settings of `generate` with a checkpoint's token ids alone: its beams, penalties and bans would bend answers."""
    from transformers import GenerationConfig

    return GenerationConfig(**{name: getattr(own, name) for name in TOKEN_IDS})  # type: ignore[no-untyped-call]


def _language(model: Any) -> set[str]:
    """Names of the language model's weights; none where it is not a part by itself."""
    decoder = model.get_decoder()
    prefix = next((name for name, module in model.named_modules() if module is decoder), "")
    return {f"{prefix}.{name}" for name, _ in decoder.named_parameters()} if prefix else set()


def torch_dtype(dtype: Dtype, device: str) -> Any:
    """What the weights that are not quantised are kept as: bfloat16 on a GPU, float32 on a CPU, where bfloat16 is far
    slower unless it has instructions for it."""
    import torch

    named = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    return named.get(dtype, torch.float32 if device == "cpu" else torch.bfloat16)


def _tied(model: Any) -> set[str]:
    tied = getattr(model, "all_tied_weights_keys", None) or getattr(model, "_tied_weights_keys", None) or {}
    return set(tied)


def _source(name: str) -> str:
    from covr.vlm.families.intact import check_config

    if name == "tiny":
        if not SHIPPED.is_dir():
            raise UserError(
                f"the tiny VLM's weights are not in {SHIPPED}; make them with examples/pretrain_tiny_vlm.py, or "
                "give a folder or a hub id"
            )
        return str(SHIPPED)
    if Path(name).is_dir():
        check_config(Path(name))
    elif Path(name).is_absolute() or name.startswith("."):
        raise UserError(f"no folder {name}. {_WAYS_OUT}")
    return name


_WAYS_OUT = "Use --vlm tiny, or download a model (hf download Qwen/Qwen2.5-VL-3B-Instruct) and give its folder."


def missing(name: str) -> str:
    """That a model is not here, where it was looked for, and what mends it."""
    from huggingface_hub import constants

    here = Path(name).resolve()
    looked = f"the folder {here}" if here.is_dir() else f"the cache {constants.HF_HUB_CACHE}, and no folder {here}"
    return f"cannot load the VLM {name!r}: looked in {looked}. {_WAYS_OUT}"
