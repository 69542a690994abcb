"""Which of EGL's devices belongs to which GPU: asked of EGL itself, by ctypes, in a process of its own.

`MUJOCO_EGL_DEVICE_ID` counts EGL's devices, whose order is not that of CUDA. Drivers keep state, and crash, in the
process that asks them; what CUDA calls a device there depends on that process's environment.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
from typing import Any

from covr_bench.run.child import python_child

LIBRARY = "libEGL.so.1"
EGL_CUDA_DEVICE_NV = 0x323A  # EGL_NV_device_cuda
MOST = 64  # devices
PATIENCE_S = 30.0  # some drivers hang


def cuda_devices() -> tuple[int | None, ...]:
    """By EGL device the number of its GPU in PCI bus order; None for a device that is no NVIDIA GPU.

    Empty where there is no EGL, or it does not tell.
    """
    # CUDA numbers all GPUs there, in the order of nvidia-smi.
    hidden = ("CUDA_VISIBLE_DEVICES", "MUJOCO_EGL_DEVICE_ID")
    env = {name: value for name, value in os.environ.items() if name not in hidden} | {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID"
    }
    command = python_child("covr_bench.run.egl")
    try:
        child = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
        return tuple(json.loads(child.stdout.splitlines()[-1]))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError, TypeError):
        return ()


def query(egl: Any) -> list[int | None]:
    """What `cuda_devices` returns, asked of a loaded library. Raises OSError if it cannot list devices."""
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    egl.eglGetProcAddress.argtypes = [ctypes.c_char_p]
    list_devices, attribute = (
        egl.eglGetProcAddress(name) for name in (b"eglQueryDevicesEXT", b"eglQueryDeviceAttribEXT")
    )
    if not list_devices or not attribute:
        raise OSError("this EGL has neither EGL_EXT_device_enumeration nor EGL_EXT_device_query")
    devices, count = (ctypes.c_void_p * MOST)(), ctypes.c_int()
    integers = ctypes.POINTER(ctypes.c_int)
    listing = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p), integers)(list_devices)
    if not listing(MOST, devices, ctypes.byref(count)):
        raise OSError("eglQueryDevicesEXT failed")
    number = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_ssize_t))(attribute)
    return [_number(number, device) for device in devices[: count.value]]


def _number(attribute: Any, device: int | None) -> int | None:
    value = ctypes.c_ssize_t(-1)
    return value.value if attribute(device, EGL_CUDA_DEVICE_NV, ctypes.byref(value)) and value.value >= 0 else None


if __name__ == "__main__":
    print(json.dumps(query(ctypes.CDLL(LIBRARY))))
