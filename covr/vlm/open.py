"""The VLM a name stands for: one known by name, one in a user's file, a model's folder or hub id, or a server.

A VLM joins as every extension does (`covr_bench.kit.extensions`): ours are the modules of `covr/vlm/` that end in
`VLM = VLMSpec(...)`, a user's is such a file, and a package names one in the entry point group `covr_bench.vlms`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covr.vlm.base import FinetuneSettings, VisionLanguagePrior, VLMOptions, VLMSpec
from covr.vlm.held import opened
from covr_bench.kit import extensions
from covr_bench.kit.code import is_path
from covr_bench.kit.errors import UserError, unknown
from covr_bench.kit.extensions import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from covr.vlm.base import DecodeMode, Dtype, Proposer
    from covr.vlm.hf import HFPrior
    from covr.vlm.prompts import Prompt

VLMS = Kind("vlm", VLMSpec)
SERVER = "openai:"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
OTHER_FORMS = ("a .py file that defines VLM", "a model's folder", "OWNER/NAME of a hub model", f"{SERVER}URL")


def vlm_names() -> list[str]:
    """Every VLM known by name, ours first, without opening any. Raises UserError if two share a name."""
    return extensions.names(VLMS, _our_vlms())


def vlm_spec(ref: str) -> VLMSpec:
    """The VLM of that name, or the one in that file. Raises UserError."""
    return extensions.find(VLMS, ref, _our_vlms())


def open_prior(
    name: str,
    *,
    decode: DecodeMode | None = None,
    device: str = "cpu",
    settings: FinetuneSettings | None = None,
    seed: int = 0,
    dtype: Dtype = "auto",
    tuner: str = "",
    adapter_folder: Path | None = None,
) -> VisionLanguagePrior:
    """The VLM of that name, loaded and ready to be asked.

    Args:
        name: One of `vlm_names`, a `.py` file that defines VLM, a local folder or hub id of a real model, or
            `openai:URL` of a server (its model after a `#`, else its only one).
        decode: How answers are read; None leaves it to the VLM: `forced` of a model in this process, `generate` of a
            server, which writes free text.
        device: Where a model in this process runs.
        settings: Of fine-tuning.
        seed: Of fine-tuning.
        dtype: Of the weights of a model in this process.
        tuner: Of a server: its model is tuned on this copy of it, a folder or hub id.
        adapter_folder: Of a server with a tuner: it takes up the adapters from this folder.

    Raises:
        UserError: There is no such VLM, or the options do not fit it.
    """
    if tuner and not name.startswith(SERVER):
        raise UserError(f"a tuner is for the VLM of a server; {name!r} is tuned itself, so give no tuner")
    options = VLMOptions(decode, device, settings or FinetuneSettings(), seed, dtype)
    if name.startswith(SERVER):
        return _served(name, options, tuner, adapter_folder)
    if _is_named(name):
        return opened(vlm_spec(name), options)
    if name.startswith(("http://", "https://")):
        raise UserError(f"a VLM server is given as {SERVER}{name}")
    if not name or not (Path(name).is_dir() or Path(name).is_absolute() or HUB_ID.fullmatch(name)):
        raise UserError(f"{unknown('VLM', name, vlm_names())} Besides names it can be {', '.join(OTHER_FORMS)}.")
    return _model(name, options)


def open_model(
    name: str,
    needs: str,
    *,
    device: str = "cpu",
    settings: FinetuneSettings | None = None,
    seed: int = 0,
    dtype: Dtype = "auto",
) -> HFPrior:
    """The VLM of that name as a model in this process, for an agent that needs more of it than answers.

    Args:
        name: As of `open_prior`.
        needs: Who needs what, for the error: `vpf needs the VLM's gradients`.
        device: Where the model runs.
        settings: Of fine-tuning.
        seed: Of fine-tuning.
        dtype: Of its weights.

    Raises:
        UserError: There is no such VLM, or it is a server or a rule, which has no model in this process.
    """
    refusal = f"{needs}, which {name!r} does not give: set vlm to tiny, a model's folder or a hub id"
    if name.startswith(SERVER):
        raise UserError(refusal)
    prior = open_prior(name, device=device, settings=settings, seed=seed, dtype=dtype)
    from covr.vlm.hf import HFPrior

    if not isinstance(prior, HFPrior):
        raise UserError(refusal)
    return prior


def check_asked(prior: Proposer, prompt: Prompt, frames: int, size: int) -> None:
    """Raises UserError, before a step, if a model in this process cannot be asked what it will be.

    frames, size: how many it is shown at once, and their pixels a side.
    """
    if hasattr(prior, "checkpoint"):
        from covr.vlm.hf import HFPrior

        if isinstance(prior, HFPrior):
            prior.check_asked(prompt, frames, size)


def label(name: str) -> str:
    """What rows made with this VLM are marked with: a stand-in as such, whatever folder it lies in."""
    if name.startswith(SERVER):
        return "server:" + _plain(name.partition("#")[2] or "default")
    if _is_named(name):
        spec = vlm_spec(name)
        return f"stand-in:{_plain(spec.name)}" if spec.stand_in and name not in _our_vlms() else _plain(spec.name)
    if is_stand_in(name):
        return "tiny"
    if not Path(name).is_dir():
        return _plain(name)
    folder = Path(name).resolve().name
    return f"folder:{_plain(folder)}" if folder in vlm_names() else _plain(folder)  # `tiny` is the stand-in


def labels(settings: Mapping[str, Any]) -> dict[str, str]:
    """`AgentSpec.labels` of an agent whose setting `vlm` names a VLM, and `prior` what may answer in its place."""
    if (prior := settings.get("prior", "vlm")) != "vlm":
        return {"vlm": f"control:{prior}"}
    silent = {"vlm_silent": "allowed"} if settings.get("vlm_silent") == "allow" else {}
    return {"vlm": label(settings["vlm"])} | silent


def is_stand_in(name: str) -> bool:
    """Whether rows made with this VLM are those of a stand-in for a real one."""
    from covr.vlm.checkpoint import MARKER

    return vlm_spec(name).stand_in if _is_named(name) else (Path(name) / MARKER).is_file()


def _our_vlms() -> dict[str, str]:
    """Modules of the VLMs that ship with the project, by name: the module's, with hyphens."""
    found = extensions.modules_with("covr.vlm", VLMS.constant)
    return {name.replace("_", "-"): module for name, module in found.items()}


def _is_named(name: str) -> bool:
    return is_path(name) or name in vlm_names()


def _plain(text: str) -> str:
    """Without the characters that separate labels."""
    return text.replace(",", "_").replace("=", "_")


def _model(name: str, options: VLMOptions) -> HFPrior:
    from covr.vlm.hf import HFPrior

    return HFPrior(
        name,
        decode=options.decode or "forced",
        device=options.device,
        dtype=options.dtype,
        settings=options.settings,
        seed=options.seed,
    )


def _served(name: str, options: VLMOptions, tuner: str, adapter_folder: Path | None) -> VisionLanguagePrior:
    from covr.vlm.served import ServedPrior
    from covr.vlm.server import ServerPrior

    if options.decode not in (None, "generate"):
        raise UserError(f"a VLM server writes free text: set decode=generate (it is {options.decode!r})")
    url, _, model = name.removeprefix(SERVER).partition("#")
    server = ServerPrior(url, model)
    server.check()
    if not tuner:
        return server
    if adapter_folder is None:
        raise UserError("a tuned VLM server needs an adapter folder, on a path that the server can read")
    return ServedPrior(server, _model(tuner, replace(options, decode=None)), adapter_folder)
