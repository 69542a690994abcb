"""The GPUs that runs may use: what nvidia-smi lists, as `CUDA_VISIBLE_DEVICES` limits it, with their EGL devices."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from covr_bench.kit.errors import UserError
from covr_bench.run.egl import cuda_devices

if TYPE_CHECKING:
    from collections.abc import Sequence

VISIBLE, ORDER, EGL = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "MUJOCO_EGL_DEVICE_ID"
PCI, FASTEST = "PCI_BUS_ID", "FASTEST_FIRST"
QUERY = ("nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits")
LISTING = ("nvidia-smi", "-L")
PATIENCE_S = 60.0  # without its persistence daemon a driver starts anew for each question
NOTHING = ("", "-1", "NoDevFiles")  # of CUDA_VISIBLE_DEVICES; the last is Slurm's
_GPU = re.compile(r"GPU (\d+): ")
_PART = re.compile(r"\s+MIG (\S+)\s.*\(UUID: (MIG-[^)]+)\)")
_GB = re.compile(r"(\d+)gb")


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a MIG part of one.

    Attributes:
        index: Number of the whole GPU in PCI bus order, as nvidia-smi counts.
        uuid: Its own, or the part's.
        name: Such as `NVIDIA H100 80GB HBM3`.
        memory_bytes: 0 where it is not known.
        visible: What CUDA_VISIBLE_DEVICES calls it, as the user does if they named it.
        is_part: Whether it is a MIG part.
        egl: Number of its EGL device; None if it has none.
    """

    index: int
    uuid: str
    name: str
    memory_bytes: int
    visible: str
    is_part: bool = False
    egl: int | None = None

    def environment(self) -> dict[str, str]:
        """The environment variables of a process that shall use this GPU and no other."""
        chosen = {VISIBLE: self.visible, ORDER: os.environ.get(ORDER, PCI)}
        return chosen if self.egl is None else chosen | {EGL: str(self.egl)}


@dataclass(frozen=True)
class Inventory:
    """The GPUs that may be used. reason: why these, for the plan."""

    gpus: tuple[Gpu, ...]
    reason: str

    @property
    def memory_bytes(self) -> int:
        """Of the smallest; 0 where it is not known."""
        return min((gpu.memory_bytes for gpu in self.gpus), default=0)


def inventory() -> Inventory:
    """The GPUs of this machine or allocation.

    Raises:
        UserError: nvidia-smi cannot be asked, CUDA_VISIBLE_DEVICES names what is not there, or nothing is left.
    """
    there = installed(_output(QUERY), _output(LISTING))
    asked = os.environ.get(VISIBLE)
    found = with_egl(visible(there, asked), () if any(gpu.is_part for gpu in there) else cuda_devices())
    _check_order(there, asked)
    if not found:
        limit = "" if asked is None else f"; {VISIBLE}={asked!r} hides {len(there)}"
        raise UserError(f"--per-gpu: there is no GPU to use{limit}. Leave --per-gpu out to run on the CPU")
    return Inventory(found, "all that nvidia-smi lists" if asked is None else f"{VISIBLE}={asked}")


def installed(table: str, listing: str) -> tuple[Gpu, ...]:
    """Every GPU, those in MIG mode by their parts.

    Args:
        table: What `QUERY` prints.
        listing: What `LISTING` prints; the only one that tells of MIG parts.
    """
    parts = _parts(listing)
    found: list[Gpu] = []
    for line in filter(None, map(str.strip, table.splitlines())):
        index, *rest = map(str.strip, line.split(","))
        if not index.isdigit() or len(rest) < 3:  # a warning, such as of a corrupted infoROM
            continue
        uuid, *names, mebibytes = rest
        memory = int(mebibytes) << 20 if mebibytes.isdigit() else 0  # [N/A] where memory is shared with the CPU
        gpu = Gpu(int(index), uuid, ",".join(names), memory, index)
        found += [_part(gpu, *each) for each in parts.get(gpu.index, ())] or [gpu]
    return tuple(found)


def _parts(listing: str) -> dict[int, list[tuple[str, str]]]:
    """By GPU the profile and the UUID of its MIG parts."""
    found: dict[int, list[tuple[str, str]]] = {}
    index = -1
    for line in listing.splitlines():
        if gpu := _GPU.match(line):
            index = int(gpu[1])
        elif part := _PART.match(line):
            found.setdefault(index, []).append((part[1], part[2]))
    return found


def _part(gpu: Gpu, profile: str, uuid: str) -> Gpu:
    size = _GB.search(profile)
    memory = int(size[1]) * 10**9 if size else 0
    return replace(gpu, uuid=uuid, name=f"{gpu.name} {profile}", memory_bytes=memory, visible=uuid, is_part=True)


def visible(there: Sequence[Gpu], asked: str | None) -> tuple[Gpu, ...]:
    """Those that CUDA_VISIBLE_DEVICES leaves, in its order; a GPU in MIG mode stands for all its parts.

    Args:
        there: Of `installed`.
        asked: Its value: indices, UUIDs or their beginnings, MIG names; None if it is not set. As CUDA does, what
            follows -1 does not count.

    Raises:
        UserError: It names what is not there, or names something twice.
    """
    if asked is None:
        return tuple(there)
    found: list[Gpu] = []
    for name in map(str.strip, asked.split(",")):
        if name in NOTHING:
            break
        meant = [_called(gpu, name) for gpu in there if _is_called(gpu, name)]
        if len({gpu.index for gpu in meant}) != 1 or {gpu.uuid for gpu in meant} & {gpu.uuid for gpu in found}:
            raise _unclear(name, asked, there, len(meant))
        found += meant
    return tuple(found)


def _is_called(gpu: Gpu, name: str) -> bool:
    return gpu.index == int(name) if name.isdigit() else gpu.uuid.startswith(name)


def _called(gpu: Gpu, name: str) -> Gpu:
    return gpu if gpu.is_part else replace(gpu, visible=name)


def _unclear(name: str, asked: str, there: Sequence[Gpu], meant: int) -> UserError:
    what = "names several GPUs or one twice" if meant else "is none of this machine's GPUs"
    known = ", ".join(gpu.uuid if gpu.is_part else f"{gpu.index} or {gpu.uuid}" for gpu in there) or "none"
    return UserError(f"{VISIBLE}={asked}: {name!r} {what}. Valid: {known}")


def _check_order(there: Sequence[Gpu], asked: str | None) -> None:
    """Numbers mean nvidia-smi's; refuse those that CUDA would be told to count otherwise. Raises UserError."""
    by_number = asked is None or any(name.strip().isdigit() for name in asked.split(","))
    if os.environ.get(ORDER) == FASTEST and by_number and len({gpu.name for gpu in there}) > 1:
        raise UserError(
            f"{ORDER}={FASTEST} counts the GPUs of this machine, which differ, in an order that nvidia-smi does not "
            f"tell: unset it, or name them in {VISIBLE} by UUID"
        )


def with_egl(gpus: Sequence[Gpu], devices: Sequence[int | None]) -> tuple[Gpu, ...]:
    """GPUs with their EGL devices. devices: of `egl.cuda_devices`."""
    by_index = {index: number for number, index in enumerate(devices) if index is not None}
    return tuple(replace(gpu, egl=None if gpu.is_part else by_index.get(gpu.index)) for gpu in gpus)


def graphics(found: Inventory, backend: str) -> str:
    """How runs on these GPUs draw, in words.

    Args:
        found: The GPUs.
        backend: The OpenGL backend, such as `egl`; empty where nothing is drawn with OpenGL.
    """
    if not backend:
        return ""
    if backend != "egl":
        return f"frames are drawn by {backend}, not on the GPUs"
    if any(gpu.is_part for gpu in found.gpus):
        return "MIG parts draw nothing: every run draws on EGL's default device"
    without = [gpu.visible for gpu in found.gpus if gpu.egl is None]
    if without:
        return (
            f"EGL has no device for GPU {', '.join(without)}: their runs draw on its default device. Install the "
            "driver's EGL library; in a container, set NVIDIA_DRIVER_CAPABILITIES=all"
        )
    return "each run draws on its own GPU: EGL device " + ", ".join(
        f"{gpu.egl} of GPU {gpu.visible}" for gpu in found.gpus
    )


def names(gpus: Sequence[Gpu]) -> str:
    """Such as `4 NVIDIA H100 80GB HBM3 (85.5 GB)`, several kinds joined."""
    kinds = [f"{gpu.name} ({gpu.memory_bytes / 1e9:.1f} GB)" if gpu.memory_bytes else gpu.name for gpu in gpus]
    return " and ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))


def _output(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    except (OSError, subprocess.SubprocessError) as error:
        reason = "it hangs" if isinstance(error, subprocess.TimeoutExpired) else error
        raise _unlisted(str(reason)) from error
    if done.returncode:
        raise _unlisted((done.stdout + done.stderr).strip() or f"exit status {done.returncode}")
    return done.stdout


def _unlisted(reason: str) -> UserError:
    return UserError(
        f"--per-gpu needs nvidia-smi to list this machine's GPUs, and that fails: {reason}. Install the NVIDIA "
        "driver's tools; on a machine without a GPU, leave --per-gpu out"
    )
