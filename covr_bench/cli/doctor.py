"""`covr-bench doctor`: is this machine fit, and what would make it so?"""

from __future__ import annotations

import shutil
import sys
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING

import typer

from covr_bench.cli.options import console

if TYPE_CHECKING:
    from rich.console import Console

REQUIRED = (
    "torch", "transformers", "peft", "gymnasium", "dm_control", "mujoco", "pandas", "rliable", "matplotlib",
    "numpy", "numba", "safetensors", "pyarrow", "pydantic", "jinja2", "av",
)  # fmt: skip
OPTIONAL = {
    "carla": "CARLA client, for driving suites: pip install carla==0.9.16 (Python 3.10-3.12, Linux x86_64)",
    "Box2D": "physics of CarRacing: pip install 'gymnasium[box2d]'",
}


def doctor_command() -> None:
    """Check this machine: versions, rendering, cores, GPU, disk, optional parts."""
    raise typer.Exit(examine(console()))


def examine(console: Console) -> int:
    """Print one line per check; returns 1 if something that a run needs is broken."""
    from rich.table import Table
    from rich.text import Text

    checks = [*_python(), *_packages(), *_rendering(), *_machine(), *_optional()]
    table = Table.grid(padding=(0, 2))
    for verdict, name, finding in checks:
        style = {"ok": "green", "warn": "yellow", "FAIL": "bold red"}.get(verdict, "")
        table.add_row(Text(verdict, style), name, Text(finding))
    console.print(table)
    return int(any(verdict == "FAIL" for verdict, _, _ in checks))


Check = tuple[str, str, str]


def _python() -> list[Check]:
    checks: list[Check] = [("ok", "python", sys.version.split()[0])]
    if sys.platform == "darwin":
        found = "macOS, where nothing is tested: no carla client, so no driving suites; frames need MUJOCO_GL=glfw"
        checks.append(("warn", "system", found))
    return checks


def _packages() -> list[Check]:
    """Installed versions against what covr-bench declares."""
    from packaging.requirements import Requirement

    from suites import gl

    try:
        declared = {
            requirement.name.replace("-", "_"): requirement
            for requirement in map(Requirement, metadata.requires("covr-bench") or ())
        }
    except metadata.PackageNotFoundError:
        declared = {}
    checks: list[Check] = []
    for name in REQUIRED:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            mend = gl.MISSING if name == "dm_control" else f"missing: pip install '{declared.get(name, name)}'"
            checks.append(("FAIL", name, mend))
            continue
        wanted = declared.get(name)
        fits = wanted is None or wanted.specifier.contains(version, prereleases=True)
        checks.append(("ok", name, version) if fits else ("FAIL", name, f"{version}: pip install '{wanted}'"))
    if any(dist.metadata["Name"] == "mujoco-core" for dist in metadata.distributions()):
        checks.append(
            ("FAIL", "mujoco-core", "left over from mujoco 4 and breaks mujoco 3: create the environment anew")
        )
    return checks


def _rendering() -> list[Check]:
    from suites.gl import GLError, choose_backend

    try:
        backend = choose_backend()
    except GLError as error:
        return [("FAIL", "rendering", str(error))]
    device = "in software" if backend.software else "on the GPU"
    return [
        ("ok", "rendering", f"{backend.name}: a test frame was drawn {device} ({backend.vendor}, {backend.renderer})")
    ]


def _machine() -> list[Check]:
    from results.environment import collect

    facts = collect()
    disk = shutil.disk_usage(".")
    checks = [
        ("ok", "cpu", f"{facts['cpu_cores']} cores, {facts['cpu']}"),
        ("ok" if facts["ram_bytes"] > 6e9 else "warn", "memory", f"{facts['ram_bytes'] / 1e9:.0f} GB"),
        ("ok" if disk.free > 10e9 else "warn", "disk here", f"{disk.free / 1e9:.0f} GB free"),
    ]
    import torch

    if torch.cuda.is_available():
        return [*checks, ("ok", "gpu", torch.cuda.get_device_name())]
    if facts["gpus"]:
        found = f"{facts['gpus'][0]}, but torch {torch.__version__} cannot use it: install a CUDA build of torch"
        return [*checks, ("warn", "gpu", found)]
    return [*checks, ("-", "gpu", "none: agents train on the CPU")]


def _optional() -> list[Check]:
    checks: list[Check] = []
    for module, hint in OPTIONAL.items():
        present = find_spec(module) is not None
        checks.append(("ok", module, "present") if present else ("-", module, f"absent. {hint}"))
    compiler = next((name for name in ("c++", "g++", "clang++") if shutil.which(name)), None)
    hint = f"present ({compiler})" if compiler else "absent. For --conv-kernel winograd: apt-get install g++"
    return [*checks, ("ok" if compiler else "-", "C++ compiler", hint)]
