"""Code, packages and machine of this process, for provenance."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch", "numpy", "numba", "mujoco", "dm_control", "gymnasium", "box2d", "box2d-py", "carla", "transformers",
    "peft", "pandas", "pyarrow", "safetensors",
)  # fmt: skip
_SOURCE = Path(__file__).resolve().parent.parent


def collect() -> dict[str, Any]:
    """Code, packages and machine as JSON values, without a host or user name; imports none of the packages."""
    return {
        "version": _version("covr-bench"),
        **_git(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version for name in PACKAGES if (version := _version(name)) is not None},
        "cpu": _cpu_model(),
        "cpu_cores": os.cpu_count(),
        "ram_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": (_output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader") or "").splitlines(),
        "mujoco_gl": os.environ.get("MUJOCO_GL"),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, Any]:
    """Commit and whether tracked files differ from it; None if the packages are not in a checkout of their own."""
    git = ("git", "-C", str(_SOURCE))
    sha = _output(*git, "rev-parse", "--verify", "--quiet", "HEAD") if (_SOURCE / ".git").exists() else None
    if sha is None:
        return {"git_sha": None, "git_dirty": None, "content_sha256": _content()}
    changes = _output(*git, "status", "--porcelain", "--untracked-files=no")
    return {"git_sha": sha, "git_dirty": None if changes is None else bool(changes)}


def _content() -> str:
    """SHA-256 of the installed packages' sources, which stands in for a missing commit."""
    digest = hashlib.sha256()
    for package in ("analysis", "baselines", "covr", "covr_bench", "results", "suites"):
        for file in sorted((_SOURCE / package).rglob("*.py")):
            digest.update(f"{file.relative_to(_SOURCE).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _output(*command: str) -> str | None:
    """What a command prints, or None if it is absent, fails or hangs."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # not Linux
        return platform.processor()
    return platform.processor() or platform.machine()
