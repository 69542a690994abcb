"""The identity of a model's checkpoint in a folder, by its bytes. Runs are planned with it, so it needs no torch."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from covr.vlm.open import vlm_names
from covr_bench.kit.errors import UserError

WHOLE = 1 << 26  # bytes; a larger file is sampled
HEAD = 1 << 20  # of a sampled file's beginning, which tells what follows
STEP = 1 << 22  # of the rest a piece in every so many bytes: no matrix as large as that is passed over
PIECE = 1 << 12


def checkpoint_hash(name: str) -> str:
    """SHA-256, in hex, of the files in a VLM's folder, by name, size and bytes; empty if the VLM is no folder.

    Hidden files, subfolders and times do not count.

    Raises:
        UserError: A file cannot be read.
    """
    folder = Path(name)
    if not folder.is_dir() or name in vlm_names():
        return ""
    digest = hashlib.sha256()
    try:
        for file in sorted(folder.iterdir(), key=lambda each: each.name):
            if file.is_file() and not file.name.startswith("."):
                size = file.stat().st_size
                digest.update(os.fsencode(file.name) + f"\0{size}\0".encode())
                with file.open("rb") as opened:
                    for start, length in _pieces(size):
                        opened.seek(start)
                        digest.update(opened.read(length))
    except OSError as error:
        raise UserError(
            f"{error.filename or folder} of the VLM cannot be read ({error.strerror}): let this user read it"
        ) from error
    return digest.hexdigest()


def _pieces(size: int) -> list[tuple[int, int]]:
    """Where to read a file, and how many bytes there."""
    if size <= WHOLE:
        return [(0, size)]
    return [(0, HEAD), *((start, PIECE) for start in range(HEAD, size, STEP)), (size - PIECE, PIECE)]
