"""The VLM a name stands for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from covr.vlm.base import DecodeMode, VisionLanguagePrior
    from covr.vlm.finetune import FinetuneSettings
    from covr.vlm.hf import HFPrior

SERVER = "openai:"


def open_prior(
    name: str,
    *,
    decode: DecodeMode | None = None,
    device: str = "cpu",
    settings: FinetuneSettings | None = None,
    seed: int = 0,
    tuner: str = "",
    adapter_folder: Path | None = None,
) -> VisionLanguagePrior:
    """The VLM of that name, loaded and ready to be asked.

    name: `tiny` (the stand-in), a local folder or hub id of a real model, `openai:URL` of a server (its model after a
    `#`, else its first), or `scripted` (a rule instead of a model). decode: None is `forced`, and of a server, which
    writes free text, `generate`. tuner, adapter_folder: a server's model is tuned on this copy of it, a folder or hub
    id, and takes up the adapters from this folder. Raises UserError where there is no such model.
    """
    if tuner and not name.startswith(SERVER):
        raise UserError(f"a tuner is for the VLM of a server; {name!r} is tuned itself, so give no tuner")
    if name == "scripted":
        from covr.vlm.scripted import ScriptedPrior

        return ScriptedPrior()
    if not name.startswith(SERVER):
        from covr.vlm.hf import HFPrior

        return HFPrior(name, decode=decode or "forced", device=device, settings=settings, seed=seed)
    from covr.vlm.server import ServedPrior, ServerPrior

    if decode not in (None, "generate"):
        raise UserError(f"a VLM server writes free text: set decode=generate (it is {decode!r})")
    url, _, model = name.removeprefix(SERVER).partition("#")
    server = ServerPrior(url, model)
    if not tuner:
        return server
    if adapter_folder is None:
        raise UserError("a tuned VLM server needs an adapter folder, on a path that the server can read")
    from covr.vlm.hf import HFPrior

    return ServedPrior(server, HFPrior(tuner, device=device, settings=settings, seed=seed), adapter_folder)


def open_model(
    name: str, needs: str, *, device: str = "cpu", settings: FinetuneSettings | None = None, seed: int = 0
) -> HFPrior:
    """The VLM of that name as a model in this process, for an agent that needs more of it than answers.

    needs: what, for the error: `vpf needs the VLM's gradients`. Raises UserError for a server and for `scripted`.
    """
    if name == "scripted" or name.startswith(SERVER):
        raise UserError(f"{needs}, which {name!r} does not give: set vlm to tiny, a model's folder or a hub id")
    from covr.vlm.hf import HFPrior

    return HFPrior(name, device=device, settings=settings, seed=seed)


def label(name: str) -> str:
    """What rows made with this VLM are marked with: a stand-in as such, whatever folder it lies in."""
    if name.startswith(SERVER):
        return "server:" + (name.partition("#")[2] or "default").replace(",", "_").replace("=", "_")
    if is_stand_in(name):
        return name if name == "scripted" else "tiny"
    path = Path(name)
    return (path.resolve().name if path.is_dir() else name).replace(",", "_").replace("=", "_")


def is_stand_in(name: str) -> bool:
    """Whether rows made with this VLM are those of a stand-in for a real one."""
    from covr.vlm.tiny import MARKER

    return name in ("tiny", "scripted") or (Path(name) / MARKER).is_file()
