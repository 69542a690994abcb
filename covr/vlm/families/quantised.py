"""8-bit and 4-bit weights, by bitsandbytes or torchao."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from covr.vlm.families.parts import adapted
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from covr.vlm.base import Dtype


def quantisation(dtype: Dtype, device: str, model: Any) -> Any:
    """What transformers quantises the language model's matrices with; the vision part and the head stay as they are.

    model: of the same config, whatever its weights are. Raises UserError where no package is installed that can do it.
    """
    from transformers import BitsAndBytesConfig, TorchAoConfig
    from transformers.utils.import_utils import is_bitsandbytes_available, is_torchao_available

    taken = adapted(model)
    left = [name for name, each in model.named_modules() if isinstance(each, torch.nn.Linear) and name not in taken]
    if is_bitsandbytes_available():
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)  # a line for every product
        return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_8bit=dtype == "int8", load_in_4bit=dtype == "int4", llm_int8_skip_modules=left
        )
    if dtype == "int4" and device == "cpu":
        raise UserError("vlm_dtype=int4 on a CPU needs bitsandbytes (torchao's needs a GPU): pip install bitsandbytes")
    if is_torchao_available():
        kinds = import_module("torchao.quantization")
        kind = kinds.Int8WeightOnlyConfig() if dtype == "int8" else kinds.Int4WeightOnlyConfig()
        return TorchAoConfig(kind, modules_to_not_convert=left)
    raise UserError(f"vlm_dtype={dtype} needs bitsandbytes or torchao: pip install bitsandbytes")


def numbers_of(weight: torch.nn.Parameter) -> int:
    """How many numbers a weight holds: two of 4 bits lie in a byte."""
    state = getattr(weight, "quant_state", None)
    return weight.numel() if state is None else int(state.shape.numel())
