"""What this machine has for runs: devices, cores, memory, and an OpenGL backend to draw with."""

from __future__ import annotations

import os
from functools import cache

from covr_bench.kit.errors import UserError
from covr_bench.run.cgroups import memory_limit
from covr_bench.run.cores import cores

RUN_MEMORY = 3 << 30  # bytes of RAM a worker may need on a 100k-step run


def device(name: str, *, here: bool = True) -> str:
    """A torch device by name, `auto` for a GPU if there is one here. Raises UserError.

    Args:
        name: Such as `cuda:0`.
        here: Whether this machine is to compute on it.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError:
        raise UserError(f"unknown device {name!r}. Valid: auto, cpu, cuda, cuda:0, ...") from None
    if kind == "cuda" and here and not torch.cuda.is_available():
        raise UserError(f"device {name!r} needs an NVIDIA GPU and a CUDA build of torch; this torch sees none")
    return name


def idle_gpus(name: str) -> str:
    """A sentence for the plan if runs on this device leave GPUs of this machine idle, else empty."""
    import torch

    there = torch.cuda.device_count() if name.startswith("cuda") else 1
    return f"all runs share one of {there} GPUs; give --per-gpu 1, or more, to use them all" if there > 1 else ""


def sees(device: str) -> bool:
    """Whether this machine can compute on a torch device."""
    import torch

    return torch.device(device).type != "cuda" or torch.cuda.is_available()


def most_workers() -> int:
    """Runs at a time: one per core that memory allows."""
    return max(1, min(cores().count, ram_bytes() // RUN_MEMORY))


def ram_bytes() -> int:
    """RAM of this machine, or what its control group allows, if that is less."""
    return memory_limit()


@cache
def rendering() -> dict[str, str]:
    """Choose the OpenGL backend of this process and its children, once; what was chosen, for provenance.

    Raises:
        UserError: No backend works here.
    """
    from suites.gl import GLError, choose_backend

    try:
        chosen = choose_backend()
    except GLError as error:
        raise UserError(str(error)) from error
    os.environ["MUJOCO_GL"] = chosen.name
    return {"gl_backend": chosen.name, "gl_vendor": chosen.vendor, "gl_renderer": chosen.renderer}
