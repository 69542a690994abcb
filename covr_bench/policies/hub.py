"""The hub of Hugging Face, by its own client: what is published there, and what is fetched from there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

HUB = "hf:"
_NOT_LET_IN = (401, 403, 404)  # what is private is "not found" for others
Repository = Literal["model", "dataset"]


def on_hub(place: str) -> str:
    """The repository that `hf:USER/NAME` names; empty for any other place. Raises UserError for `hf:` alone."""
    name = place.removeprefix(HUB)
    if name == place or name.startswith("//"):
        return ""
    if name.count("/") != 1 or not all(name.split("/")):
        raise UserError(f"{place!r} names no repository of the hub; write hf:USER/NAME")
    return name


def client() -> Any:
    """The hub's own package. Raises UserError where it is missing."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(f"{HUB} needs huggingface_hub ({error}): pip install 'covr-bench[hub]'") from error
    return huggingface_hub


def fetch(name: str, kind: Repository = "model") -> Path:
    """The folder of a repository's newest state on this machine, fetched where it is not there yet.

    With `HF_HUB_OFFLINE=1` only what was fetched before is looked at. Raises UserError if it cannot be had.
    """
    return Path(_asked(f"fetch {HUB}{name}", client().snapshot_download, repo_id=name, repo_type=kind))


def send(folder: Path, name: str, kind: Repository, *, private: bool) -> str:
    """Make a folder the state of a repository, which is made where it is not there. Returns its address.

    Raises UserError if it cannot be sent.
    """
    api = client().HfApi()
    _asked(f"make {HUB}{name}", api.create_repo, repo_id=name, repo_type=kind, private=private, exist_ok=True)
    said = f"covr-bench publish {kind}"
    _asked(
        f"send {HUB}{name}",
        api.upload_folder,
        folder_path=folder,
        repo_id=name,
        repo_type=kind,
        commit_message=said,
        delete_patterns="*",  # a checkpoint of an earlier publication would be taken for this one's
    )
    return f"{HUB}{name}"


def _asked(what: str, call: Callable[..., Any], **arguments: Any) -> Any:
    try:
        return call(**arguments)
    except Exception as error:  # also of the client's own HTTP library, whose errors are no OSError
        first = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        status = getattr(getattr(error, "response", None), "status_code", None)
        log_in = ". Log in by `hf auth login`, or set HF_TOKEN" if status in _NOT_LET_IN else ""
        raise UserError(f"cannot {what}: {first}{log_in}") from error
