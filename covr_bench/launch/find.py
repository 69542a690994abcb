"""Launchers by name, by file and by entry point."""

from __future__ import annotations

from collections.abc import Mapping

from covr_bench.config import problems
from covr_bench.config.extension import settings_of
from covr_bench.kit import extensions
from covr_bench.kit.built import built
from covr_bench.kit.extensions import Kind
from covr_bench.launch.base import Launcher, LauncherSpec

LAUNCHERS = Kind("launcher", LauncherSpec, problems.of_settings)


def launcher_names() -> list[str]:
    """Every launcher known here, ours first, without importing any. Raises UserError if two share a name."""
    return extensions.names(LAUNCHERS, _ours())


def launcher(ref: str) -> LauncherSpec:
    """The launcher of that name, or the one in that file. Raises UserError."""
    return extensions.find(LAUNCHERS, ref, _ours())


def make_launcher(ref: str = "local", settings: Mapping[str, str] | None = None) -> Launcher:
    """A launcher, ready to run.

    Args:
        ref: Its name, or the path of its file.
        settings: Those of its settings that the user gave, as typed.

    Raises:
        UserError: No such launcher, one that cannot be made, or a setting that it does not have or cannot read.
    """
    spec = launcher(ref)
    owner = f"launcher {spec.name}"
    return built(owner, Launcher, spec.make, settings_of(owner, spec.Settings, settings or {}))  # type: ignore[type-abstract]


def _ours() -> dict[str, str]:
    return extensions.modules_with("covr_bench.launch", LAUNCHERS.constant)
