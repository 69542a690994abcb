"""Choosing a headless OpenGL backend, before dm_control or mujoco is imported.

Both libraries read MUJOCO_GL once, at import, and their errors for a missing backend are obscure. Each backend is
therefore tried in a child process that draws one frame.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BACKENDS = ("egl", "osmesa", "glfw")
PROBE_TIMEOUT = 30.0  # seconds; some drivers hang in context creation or in reading the frame
PACKAGES = """\
  Debian, Ubuntu: apt-get install libegl1 libgl1-mesa-dri   (EGL)   or   apt-get install libosmesa6     (OSMesa)
  Fedora:         dnf install mesa-libEGL mesa-dri-drivers  (EGL)   or   dnf install mesa-libOSMesa     (OSMesa)"""
SOFTWARE_RENDERERS = ("llvmpipe", "softpipe", "swrast")

# OpenGL is asked for its names in the same context that draws: a driver may list a device it cannot draw on.
PROBE = """
import json, warnings
warnings.simplefilter("ignore")
from dm_control import mujoco
physics = mujoco.Physics.from_xml_string("<mujoco><worldbody><light pos='0 0 3'/><geom size='1'/></worldbody></mujoco>")
frame = physics.render(32, 32)
if not frame.any():
    raise RuntimeError("the frame drawn is black")
from OpenGL import GL
with physics.contexts.gl.make_current() as context:
    names = [context.call(GL.glGetString, name) for name in (GL.GL_VENDOR, GL.GL_RENDERER)]
print(json.dumps([name.decode() if name else "unknown" for name in names]), flush=True)
"""


MISSING = "dm_control is not installed: pip install --no-deps 'dm_control>=1.0.30,<2'" + (
    "  (pip leaves it out on Python 3.13, for which labmaze, that it names and these tasks do not use, has no wheel)"
    if sys.version_info >= (3, 13)
    else ""
)


class GLError(RuntimeError):
    """No OpenGL backend can draw a frame."""


@dataclass(frozen=True)
class Backend:
    """A backend that drew a frame: its MUJOCO_GL name, and OpenGL's own vendor and renderer strings."""

    name: str
    vendor: str
    renderer: str

    @property
    def software(self) -> bool:
        """Whether the frames are drawn on the CPU."""
        return any(name in self.renderer.lower() for name in SOFTWARE_RENDERERS)


def require_dm_control() -> None:
    """Raises ImportError, which says how to add it, where dm_control is missing."""
    if importlib.util.find_spec("dm_control") is None:
        raise ImportError(MISSING)


def probe(name: str, timeout: float = PROBE_TIMEOUT) -> Backend:
    """Draws one frame with that backend in a child process. Raises GLError with the child's last error line."""
    # A PyOpenGL platform left over from another backend would make the child refuse this one.
    environ = {key: value for key, value in os.environ.items() if key != "PYOPENGL_PLATFORM"}
    command = [sys.executable, "-c", PROBE]
    try:
        child = subprocess.run(
            command, env={**environ, "MUJOCO_GL": name}, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise GLError(f"{name}: no frame after {timeout:g} s (killed)") from None
    if child.returncode != 0:
        lines = child.stderr.strip().splitlines() or [f"exit status {child.returncode}, no message"]
        raise GLError(f"{name}: {_cause(lines)}")
    vendor, renderer = json.loads(child.stdout.strip().splitlines()[-1])
    return Backend(name, vendor, renderer)


def _cause(lines: list[str]) -> str:
    """The line that names the error: the last one that looks like `SomeError: ...`, else the last."""
    errors = [line for line in lines if line and not line[0].isspace() and "Error" in line.split(":")[0]]
    return (errors or lines)[-1]


def choose_backend(
    probe: Callable[[str], Backend] = probe, nvidia_present: Callable[[], bool] | None = None
) -> Backend:
    """The first backend of EGL, OSMesa, GLFW that draws a frame; of MUJOCO_GL alone when that is set.

    Warns when frames are drawn in software although an NVIDIA GPU is present. Nothing is stored: each call probes.
    Raises GLError naming each backend's failure and the packages that mend it; also without dm_control.
    """
    if importlib.util.find_spec("dm_control") is None:
        raise GLError(MISSING)
    asked = os.environ.get("MUJOCO_GL")
    failures = []
    for name in (asked,) if asked else BACKENDS:
        try:
            backend = probe(name)
        except GLError as error:
            failures.append(str(error))
            continue
        if backend.software and (nvidia_present or _nvidia_present)():
            warnings.warn(
                f"{name} draws in software ({backend.renderer}) although an NVIDIA GPU is present; "
                "install the driver's EGL library, or set MUJOCO_EGL_DEVICE_ID to its device",
                stacklevel=2,
            )
        return backend
    tried = "\n".join(f"  {failure}" for failure in failures)
    hint = f"\nMUJOCO_GL={asked} is set, so nothing else was tried; unset it to try all of {BACKENDS}." if asked else ""
    raise GLError(f"no OpenGL backend can draw a frame:\n{tried}{hint}\nInstall one of:\n{PACKAGES}")


def ensure_backend() -> None:
    """Sets MUJOCO_GL for this process and its children when it is unset and no backend has been loaded yet."""
    if "MUJOCO_GL" not in os.environ and "dm_control" not in sys.modules and "mujoco" not in sys.modules:
        os.environ["MUJOCO_GL"] = choose_backend().name


def _nvidia_present() -> bool:
    return os.path.exists("/proc/driver/nvidia/version") or shutil.which("nvidia-smi") is not None
