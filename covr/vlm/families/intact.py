"""Whether a checkpoint's files are whole: seen before they are read, and said in one line with the mend."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from covr_bench.kit.errors import UserError

POINTER = b"version https://git-lfs"
INDEX = "model.safetensors.index.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "vocab.txt", "spiece.model")
IMAGES = ("preprocessor_config.json", "processor_config.json")
TEMPLATES = ("chat_template.jinja", "chat_template.json")
AGAIN = "use --vlm tiny, or download the model again (hf download OWNER/NAME)"


def check_folder(folder: Path) -> None:
    """Raises UserError if a file that a model needs is missing or damaged; names it and the mend."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and _begins(path).startswith(POINTER):
            raise UserError(
                f"{path} is a git-lfs pointer, not the file itself: run `git lfs pull` in {folder}, or {AGAIN}"
            )
    config = _read_json(folder / "config.json")
    if "model_type" not in config:
        raise UserError(f"{folder / 'config.json'} names no model_type, so nobody knows whose it is: {AGAIN}")
    for path in _weights(folder):
        if path.suffix == ".safetensors":
            _check_safetensors(path)
    for path in sorted(folder.glob("*.json")):
        _read_json(path)
    for names, what in ((TOKENIZERS, "tokenizer"), (IMAGES, "image processor")):
        if not any((folder / name).is_file() for name in names):
            raise UserError(f"no {what} in {folder}: one of {', '.join(names)} is expected; {AGAIN}")


def _begins(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(POINTER))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({str(error).splitlines()[0]}): {AGAIN}") from error
    return found if isinstance(found, dict) else {}


def _weights(folder: Path) -> list[Path]:
    """The files that hold the weights."""
    if (folder / INDEX).is_file():
        shards = sorted(set(_read_json(folder / INDEX).get("weight_map", {}).values()))
        if missing := [name for name in shards if not (folder / name).is_file()]:
            raise UserError(
                f"{folder} lacks {len(missing)} of the {len(shards)} weight files that {INDEX} names, first "
                f"{missing[0]}: {AGAIN}"
            )
        return [folder / name for name in shards]
    found = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    if not found:
        raise UserError(f"no weights in {folder}: {WEIGHTS[0]} or {INDEX} is expected; {AGAIN}")
    return found


def _check_safetensors(path: Path) -> None:
    """Its header says how long the file is."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        try:
            header = json.loads(file.read(length)) if length <= size - 8 else None
        except ValueError:
            header = None
    if not isinstance(header, dict):
        raise UserError(f"{path} is no safetensors file, or a cut-off one ({size:,} bytes): {AGAIN}")
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    if (whole := 8 + length + max(ends, default=0)) != size:
        raise UserError(f"{path} has {size:,} bytes where {whole:,} are expected: it is cut off or damaged; {AGAIN}")


def check_loaded(name: str, report: dict[str, Any], tied: set[str]) -> None:
    """Raises UserError if weights of the model were not in the files. tied: those that others stand for."""
    missing = sorted(set(report["missing_keys"]) - tied)
    if missing:
        raise UserError(
            f"the weights of {name} lack {len(missing)} of the model's, first {missing[0]!r}: {AGAIN}. A model whose "
            "weights are made up would answer as if it were whole"
        )


def missing_template(source: str) -> UserError:
    return UserError(
        f"no chat template in {source}: {' or '.join(TEMPLATES)}, or the key chat_template of tokenizer_config.json, "
        f"says how this model is shown an image; {AGAIN}"
    )
