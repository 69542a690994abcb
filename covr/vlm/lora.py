"""LoRA adapters (peft) on the language model of a VLM: put in, saved, loaded, merged into the weights and taken out."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from covr.vlm.families.intact import reason
from covr.vlm.families.parts import adapted, targets
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from covr.vlm.base import FinetuneSettings


def attach(model: Any, settings: FinetuneSettings, seed: int) -> Any:
    """Put a fresh adapter, which changes nothing yet, into the model; returns peft's wrapper."""
    from peft import LoraConfig, get_peft_model

    rank = min(settings.rank, narrowest(model))
    config = LoraConfig(
        r=rank,
        lora_alpha=settings.alpha * rank / settings.rank,  # type: ignore[arg-type]  # peft only divides by it
        target_modules=targets(list(adapted(model))),
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
    return min(min(int(layer.in_features), int(layer.out_features)) for layer in adapted(model).values())


def load_adapter(model: Any, folder: Path) -> Any:
    """Put a saved adapter into the model. Raises UserError if the folder holds none that fits; the model is then as it
    was."""
    from peft import PeftModel

    weights = folder / "adapter_model.safetensors"
    if not weights.is_file() or not (folder / "adapter_config.json").is_file():
        raise UserError(f"no peft adapter in {folder}: adapter_config.json and adapter_model.safetensors are expected")
    try:
        with torch.random.fork_rng(), _quiet_peft():  # peft draws fresh weights before it overwrites them
            adapter = PeftModel.from_pretrained(model, str(folder), is_trainable=True)
        _check(adapter, weights)
    except Exception as error:  # of peft, or of a file it read
        _take_out(model)
        if isinstance(error, UserError):
            raise
        raise UserError(f"the adapter in {folder} is damaged or for another model: {reason(error)}") from error
    return adapter


def _check(adapter: Any, weights: Path) -> None:
    """Raises UserError if the file's weights are not all of the adapter's, or are no numbers to go on with."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        stored = set(file.keys())
    it = f"the adapter in {weights.parent}"
    if stored != (expected := set(get_peft_model_state_dict(adapter))):
        odd = sorted(stored ^ expected)
        raise UserError(f"{it} is for another model: {len(odd)} weights differ, first {odd[0]!r}")
    if not all(bool(weight.isfinite().all()) for name, weight in adapter.named_parameters() if "lora_" in name):
        raise UserError(f"{it} holds NaN or infinite numbers: take that of an earlier round")


def _take_out(model: Any) -> None:
    """Give the model its own layers back, however many of them peft had replaced when it failed."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers: list[tuple[str, Any]] = [(n, m) for n, m in model.named_modules() if isinstance(m, BaseTunerLayer)]
    for name, layer in layers:
        model.set_submodule(name, layer.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config


def mergeable(model: Any) -> bool:
    """Whether the adapter's layers all keep their weights in float32."""
    from peft.tuners.lora import LoraLayer

    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    return all(layer.get_base_layer().weight.dtype == torch.float32 for layer in layers)


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
