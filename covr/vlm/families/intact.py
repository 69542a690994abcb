"""Whether a checkpoint's files are whole: seen before they are read, and said in one line with the mend."""

from __future__ import annotations

import json
import math
import re
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
MORE = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
ADAPTER = "adapter_config.json"
FLOATS = ("F64", "F32", "F16", "BF16")
TOLD = 200  # characters of a library's error in ours
AGAIN = "use --vlm tiny, or download the model again (hf download OWNER/NAME)"


def check_config(folder: Path) -> None:
    """Raises UserError if a folder holds no model at all, and says what it holds where that is known."""
    if (folder / ADAPTER).is_file():
        raise UserError(
            f"{folder} holds a peft adapter ({ADAPTER}), not a model: give the folder of its model, and the adapter to "
            "`covr-bench vlm ask --adapter`"
        )
    if not (folder / "config.json").is_file():
        gguf = any(folder.glob("*.gguf"))
        served = "; a GGUF file is for a server such as llama.cpp (--vlm openai:URL)" if gguf else ""
        raise UserError(f"no config.json in the folder {folder.resolve()}; it holds no model{served}: {AGAIN}")
    if "model_type" not in (config := _read_json(folder / "config.json")):
        raise UserError(f"{folder / 'config.json'} names no model_type, so nobody knows whose it is: {AGAIN}")
    if not isinstance(config["model_type"], str):
        raise UserError(f"{folder / 'config.json'} has {config['model_type']!r} for a model_type: {AGAIN}")


def check_folder(folder: Path) -> None:
    """Raises UserError if a file that a model needs is missing or damaged; names it and the mend."""
    for name in dict.fromkeys((*MORE, *IMAGES, *TOKENIZERS, *TEMPLATES, INDEX)):
        if (path := folder / name).is_file():
            _check_no_pointer(path)
            if path.suffix == ".json":
                _read_json(path)
    for path in _weights(folder):
        _check_no_pointer(path)
        if path.suffix == ".safetensors":
            _check_safetensors(path)
        elif not path.stat().st_size:
            raise UserError(f"{path} is empty: {AGAIN}")
    for names, what in ((TOKENIZERS, "tokenizer"), (IMAGES, "image processor")):
        if not any((folder / name).is_file() for name in names):
            raise UserError(f"no {what} in {folder}: one of {', '.join(names)} is expected; {AGAIN}")


def _check_no_pointer(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(len(POINTER))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): let this user read it, or {AGAIN}") from error
    if start == POINTER:
        raise UserError(
            f"{path} is a git-lfs pointer, not the file itself: run `git lfs pull` in {path.parent}, or {AGAIN}"
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({reason(error)}): {AGAIN}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} holds a {type(found).__name__} where names and values are expected: {AGAIN}")
    return found


def reason(error: BaseException) -> str:
    """What a library's error says, in a line that fits into one of ours."""
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(str(error).split()))
    told = line if " " in line else f"{type(error).__name__} {line}".strip()  # a bare key says nothing by itself
    return told if len(told) <= TOLD else f"{told[:TOLD]} ..."


def _weights(folder: Path) -> list[Path]:
    """The files that hold the weights."""
    if (folder / INDEX).is_file():
        named = _read_json(folder / INDEX).get("weight_map")
        if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
            raise UserError(f"{folder / INDEX} says of no weight which file it is in: {AGAIN}")
        shards = sorted(set(named.values()))
        if missing := [name for name in shards if not (folder / name).is_file()]:
            raise UserError(
                f"{folder} lacks {len(missing)} of the {len(shards)} weight files that {INDEX} names, first "
                f"{missing[0]}: {AGAIN}"
            )
        return [folder / name for name in shards]
    found = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    if not found:
        raise UserError(f"no weights in {folder}: {WEIGHTS[0]} or {INDEX} is expected; {AGAIN}")
    return found[:1]  # which transformers takes


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Of a safetensors file: type, shape and place of each weight, and where the weights begin."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        try:
            header = json.loads(file.read(length)) if length <= size - 8 else None
        except (ValueError, RecursionError):
            header = None
    if not isinstance(header, dict):
        raise UserError(f"{path} is no safetensors file, or a cut-off one ({size:,} bytes): {AGAIN}")
    header.pop("__metadata__", None)
    return header, 8 + length


def _check_safetensors(path: Path) -> None:
    """Its header says how long the file is."""
    (header, begin), size = _header(path), path.stat().st_size
    try:
        whole = begin + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        [(math.prod(entry["shape"]), entry["dtype"]) for entry in header.values()]
    except (KeyError, IndexError, TypeError) as error:
        raise UserError(f"{path} is no safetensors file ({reason(error)} in its header): {AGAIN}") from error
    if whole != size:
        raise UserError(f"{path} has {size:,} bytes where {whole:,} are expected: it is cut off or damaged; {AGAIN}")


def check_numbers(folder: Path, wanted: int) -> None:
    """Whether the weights can be those of a model of so many numbers: seen before memory is taken for them.

    Raises UserError if they are far too few, or are no floating-point numbers.
    """
    files = _weights(folder)
    if any(path.suffix != ".safetensors" for path in files):
        return
    entries = [entry for path in files for entry in _header(path)[0].values()]
    stored = sum(math.prod(entry["shape"]) for entry in entries)
    odd = [entry for entry in entries if entry["dtype"] not in FLOATS]
    if 2 * sum(math.prod(entry["shape"]) for entry in odd) > stored:
        raise UserError(
            f"most weights in {folder} are of type {odd[0]['dtype']}, and config.json has no quantization_config that "
            f"says what these stand for: {AGAIN}"
        )
    if wanted > 2 * stored:  # of tied weights one is counted, and stored
        raise UserError(
            f"config.json in {folder} describes a model of {wanted:,} numbers, and its weights hold {stored:,}: {AGAIN}"
        )


def check_loaded(name: str, report: dict[str, Any], tied: set[str], language: set[str]) -> None:
    """Raises UserError if weights and model do not fit each other.

    report: of transformers, what it did not find or not take. tied: weights that others stand for. language: those of
    the language model.
    """
    if odd := sorted(map(str, report.get("mismatched_keys") or ())):
        raise UserError(
            f"{len(odd)} weights of {name} have another shape than config.json says, first {odd[0]}: {AGAIN}"
        )
    missing = sorted(set(report["missing_keys"]) - tied)
    if missing:
        raise UserError(
            f"the weights of {name} lack {len(missing)} of the model's, first {missing[0]!r}: {AGAIN}. A model whose "
            "weights are made up would answer as if it were whole"
        )
    known = {_kind(each) for each in language}
    if more := sorted(each for each in report.get("unexpected_keys") or () if _kind(each) in known):
        raise UserError(
            f"the weights of {name} hold {len(more)} more of a kind that the model has, first {more[0]!r}: config.json "
            f"says fewer layers than there are; {AGAIN}"
        )


def _kind(weight: str) -> str:
    """A weight's name, whatever the number of its layer."""
    return re.sub(r"\d+", "#", weight)


def missing_template(source: str) -> UserError:
    return UserError(
        f"no chat template in {source}: {' or '.join(TEMPLATES)}, or the key chat_template of tokenizer_config.json, "
        f"says how this model is shown an image; {AGAIN}"
    )
