"""What a whole run consists of: each of its files with its size and checksum."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from results.layout import LOCK_FILE, ROWS_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

MANIFEST, PART = "manifest.json", "manifest.part.json"
FORMAT = 1
BLOCK = 1 << 20  # bytes hashed at a time
OF_THE_WRITER = (LOCK_FILE, "lease.json", "cancel")  # who writes the run on this machine
UNFINISHED = (".tmp", ".part")


@dataclass(frozen=True)
class Entry:
    """A file. bytes: Its size."""

    sha256: str
    bytes: int


def entry_of_bytes(data: bytes) -> Entry:
    """A file of these bytes."""
    return Entry(hashlib.sha256(data).hexdigest(), len(data))


NOTHING = entry_of_bytes(b"")


@dataclass(frozen=True)
class Manifest:
    """A folder. name: Of it, such as a run's id. files: By their paths in it."""

    name: str
    files: dict[str, Entry]

    @property
    def rows(self) -> Entry:
        """The file of rows; an empty one if there is none."""
        return self.files.get(ROWS_FILE, NOTHING)

    def to_json(self) -> bytes:
        """As `parsed` reads it."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode()


def parsed(data: bytes, name: str) -> Manifest:
    """A manifest as stored.

    Args:
        data: The file.
        name: The folder it should be of.

    Raises:
        ValueError: It is none, or of another folder, or names files outside it.
    """
    try:
        record = json.loads(data)
        files = {path: Entry(str(each["sha256"]), int(each["bytes"])) for path, each in record["files"].items()}
        found = int(record["format"]), str(record["name"])
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"it is no manifest: {error!r}") from error
    if found[0] > FORMAT:
        raise ValueError(
            f"it has format {found[0]}, this version reads up to {FORMAT}: pip install --upgrade covr-bench"
        )
    if found[1] != name:
        raise ValueError(f"it is of {found[1]}")
    for path in files:
        if not belongs(path) or ".." in path.split("/") or PurePosixPath(path).is_absolute() or "\\" in path:
            raise ValueError(f"it names {path!r}, which is no file of a run")
    return Manifest(name, files)


def belongs(path: str) -> bool:
    """Whether a file is part of a run, and neither of its writer, nor half-written, nor a manifest."""
    top, *below = path.split("/")
    hidden = any(part.startswith(".") or part.endswith(UNFINISHED) or not part for part in (top, *below))
    return not (hidden or top.startswith("fence-") or (not below and top in (*OF_THE_WRITER, MANIFEST, PART)))


def names_in(folder: Path) -> Iterator[str]:
    """Files of a folder that belong to it, in order; none of one that is not there. Raises OSError."""

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    walk = os.walk(folder, onerror=fail, followlinks=True)
    found = (Path(top, name) for top, _, names in walk for name in names)
    for file in sorted(found):
        name = file.relative_to(folder).as_posix()
        if belongs(name) and file.is_file():
            yield name


def of_folder(folder: Path, name: str) -> Manifest:
    """The manifest of a folder as it is now. Raises OSError, also for a file that vanishes meanwhile."""
    return Manifest(name, {path: entry_of(folder / path) for path in names_in(folder)})


def entry_of(file: Path, first: int | None = None) -> Entry:
    """A file, or only its first bytes. Raises OSError."""
    digest, size = hashlib.sha256(), 0
    with file.open("rb") as stream:
        while block := stream.read(BLOCK if first is None else min(BLOCK, first - size)):
            digest.update(block)
            size += len(block)
    return Entry(digest.hexdigest(), size)


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of each file, to see whether a folder is still as it was. Raises OSError."""
    found = {name: (folder / name).stat() for name in names_in(folder)}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in found.items()}
