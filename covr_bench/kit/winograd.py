"""relu(conv2d) for the pixel encoder's 3x3 layers of 32 or 64 channels on CPU, compiled from ``winograd.cpp``.

The same mathematics as torch, with Winograd's F(4x4, 3x3) instead of direct products (Lavin and Gray,
arXiv:1509.09308): results agree to about 1e-6 of the largest value but are not bit-equal to torch. They are bit-equal
from run to run with the same ``torch.get_num_threads()``.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch.autograd.function import once_differentiable

from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

Kernel = Literal["torch", "winograd"]
KERNELS = get_args(Kernel)
CHANNELS = (32, 64)  # in and out
CPUINFO = Path("/proc/cpuinfo")
SOURCE = Path(__file__).with_name("winograd.cpp")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")
BUILD_S = 300  # seconds a compiler may take; 8 are ordinary
TURN_OFF = "Or go on without the kernel: --conv-kernel auto or torch."


class KernelUnavailable(UserError, RuntimeError):
    """The kernel cannot be built or loaded on this machine.

    Attributes:
        reason: What is missing, in one sentence.
    """

    def __init__(self, reason: str, mend: str = "") -> None:
        super().__init__("\n".join(filter(None, [reason, mend, TURN_OFF])))
        self.reason = reason


@dataclass(frozen=True)
class Choice:
    """kernel: what runs convolve with. reason: why, in one sentence."""

    kernel: Kernel
    reason: str


def choose(asked: Literal["auto", "torch", "winograd"], device: str = "cpu") -> Choice:
    """Which convolution a run of this machine has. Builds the compiled one if that is chosen and not yet done.

    Args:
        asked: `auto` is `winograd` where it can be built and `torch` otherwise.
        device: A torch device. The compiled kernel is for CPUs: others have torch's, whatever was asked.

    Returns:
        The kernel and why.

    Raises:
        KernelUnavailable: `winograd` was asked for and cannot be built here.
        ValueError: An unknown name.
    """
    if asked not in ("auto", *KERNELS):
        raise ValueError(f"unknown convolution kernel {asked!r}; valid: auto, {', '.join(KERNELS)}")
    if torch.device(device).type != "cpu":
        return Choice("torch", f"The compiled kernel is for CPUs, and this runs on {device}.")
    if asked == "torch":
        return Choice("torch", "It was asked for.")
    try:
        build()
    except KernelUnavailable as error:
        if asked == "winograd":
            raise
        return Choice("torch", error.reason)
    return Choice("winograd", "It was asked for." if asked == "winograd" else "A C++ compiler and AVX2 were found.")


@functools.cache
def build() -> ctypes.CDLL:
    """Compile the kernel unless the user's cache folder has it, and load it.

    The cache is ``$XDG_CACHE_HOME/covr-bench`` or ``~/.cache/covr-bench``; the file name is a hash of source, flags,
    compiler version and CPU, so a new compiler or another machine with the same home folder builds its own. Processes
    that build at the same time wait for the first; a damaged file is built anew.

    Raises:
        KernelUnavailable: no AVX2 and FMA, no compiler, a failed compilation, or a cache folder that is not writable.
    """
    cpu = _cpu_description()
    if not {"avx2", "fma"} <= set(cpu.split()):
        raise KernelUnavailable("The Winograd kernel needs an x86-64 CPU with AVX2 and FMA on Linux.")
    compiler = _compiler()
    version = _run([*compiler, "--version"])
    key = "\0".join([SOURCE.read_text(), *FLAGS, *compiler, version, cpu])
    name = f"winograd-{hashlib.sha256(key.encode()).hexdigest()[:20]}.so"
    try:
        library = _cache_folder() / name
        with _one_builder(library):
            return _load(library) if library.exists() and _loads(library) else _load(_compile(compiler, library))
    except OSError as error:
        raise KernelUnavailable(
            f"The Winograd kernel cannot be stored or loaded: {error}.", "Set XDG_CACHE_HOME to a writable folder."
        ) from error


def serves(conv: torch.nn.Conv2d) -> bool:
    """Whether the kernel is written for this layer of 3x3."""
    return conv.in_channels == conv.out_channels and conv.in_channels in CHANNELS and conv.stride == (1, 1)


def conv3x3_relu(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return ``relu(conv2d(x, weight, bias))``, differentiable once with respect to all three.

    A NaN or infinity in ``x`` may spread over the 4x4 output tiles that it touches, a little further than in torch.

    Args:
        x: (B, C, H, W), C of `CHANNELS`, H and W at least 3, float32 on the CPU; fastest in ``torch.channels_last``.
        weight: (C, C, 3, 3) float32.
        bias: (C,) float32.

    Returns:
        (B, C, H - 2, W - 2) float32 in ``torch.channels_last`` memory.

    Raises:
        ValueError: another shape, dtype or device.
        KernelUnavailable: the kernel cannot be built here.
    """
    _check(x, weight, bias)
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad or bias.requires_grad):
        y: torch.Tensor = _Conv3x3Relu.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return y
    return _forward(x, weight, bias)


class _Conv3x3Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        y = _forward(x, weight, bias)
        ctx.save_for_backward(x, weight, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        x, weight, y = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        dx, dw, db = _backward(x, weight, y, grad, needs_x, needs_weight or needs_bias)
        return dx, dw if needs_weight else None, db if needs_bias else None


def _forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    # Names, not expressions, in the call: a temporary would be freed before the kernel reads it.
    x, weight, bias = _nhwc(x), weight.contiguous(), bias.contiguous()
    batch, channels, height, width = x.shape
    y = _empty_nhwc(batch, channels, height - 2, width - 2)
    build().conv3x3_relu_forward(
        *map(torch.Tensor.data_ptr, (x, weight, bias, y)),
        channels,
        batch,
        height,
        width,
        torch.get_num_threads(),
    )
    return y


def _backward(
    x: torch.Tensor,
    weight: torch.Tensor,
    y: torch.Tensor,
    grad: torch.Tensor,
    needs_x: bool,
    needs_weight: bool,
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    x, weight, grad = _nhwc(x), weight.contiguous(), _nhwc(grad)
    batch, channels, height, width = x.shape
    dx = _empty_nhwc(batch, channels, height, width) if needs_x else None
    dw = torch.empty_like(weight) if needs_weight else None
    db = weight.new_empty(channels) if needs_weight else None
    pointers = [None if tensor is None else tensor.data_ptr() for tensor in (x, weight, y, grad, dx, dw, db)]
    build().conv3x3_relu_backward(*pointers, channels, batch, height, width, torch.get_num_threads())
    return dx, dw, db


def _nhwc(tensor: torch.Tensor) -> torch.Tensor:
    nhwc: torch.Tensor = tensor.contiguous(memory_format=torch.channels_last)
    return nhwc


def _empty_nhwc(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.float32, memory_format=torch.channels_last)


def _check(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> None:
    if x.dim() != 4 or x.shape[1] not in CHANNELS or min(x.shape[2:]) < 3:
        raise ValueError(f"x must have the shape (B, 32 or 64, H >= 3, W >= 3), not {tuple(x.shape)}")
    channels = x.shape[1]
    if weight.shape != (channels, channels, 3, 3):
        raise ValueError(f"weight must have the shape ({channels}, {channels}, 3, 3), not {tuple(weight.shape)}")
    if bias.shape != (channels,):
        raise ValueError(f"bias must have the shape ({channels},), not {tuple(bias.shape)}")
    for name, tensor in (("x", x), ("weight", weight), ("bias", bias)):
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
            raise ValueError(f"{name} must be float32 on the cpu, not {tensor.dtype} on {tensor.device}. {TURN_OFF}")


def _cpu_description() -> str:
    """Model name and feature flags of the first CPU; empty where Linux's /proc/cpuinfo is absent or hidden."""
    try:
        text = CPUINFO.read_text()
    except OSError:
        return ""
    first = text.split("\n\n", 1)[0].splitlines()
    return "\n".join(line for line in first if line.startswith(("model name", "flags")))


def _compiler() -> list[str]:
    chosen = os.environ.get("CXX")
    for command in [chosen] if chosen else ["c++", "g++", "clang++"]:
        words = command.split()
        if words and shutil.which(words[0]):
            return words
    tried = f"CXX={chosen} is not on the PATH" if chosen else "none of c++, g++, clang++ is on the PATH"
    raise KernelUnavailable(
        f"The Winograd kernel needs a C++17 compiler: {tried}.", "Install one (for example g++) or set CXX."
    )


def _run(command: list[str]) -> str:
    """What a command prints. Raises KernelUnavailable if it fails."""
    name = shlex.join(command[:1])
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=BUILD_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelUnavailable(f"The Winograd kernel's compiler {name} does not run: {error}.") from error
    if done.returncode != 0:
        words = done.stderr.strip()[-2000:]
        raise KernelUnavailable(f"The Winograd kernel's compiler {name} failed.", f"{shlex.join(command)}:\n{words}")
    return done.stdout


def _cache_folder() -> Path:
    """Made if it is not there. Raises OSError."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "covr-bench"
    except RuntimeError as error:  # a user without a home
        raise OSError(str(error)) from error
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _one_builder(library: Path) -> Iterator[None]:
    """Others who ask for this library wait until it is built. The lock ends with its process."""
    import fcntl  # no such module where there is no /proc/cpuinfo either

    with open(library.with_suffix(".lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _compile(compiler: list[str], library: Path) -> Path:
    # Built under a private name and moved into place, so that one who is stopped leaves nothing half written.
    with tempfile.TemporaryDirectory(dir=library.parent, prefix="build-") as folder:
        built = Path(folder) / library.name
        _run([*compiler, *FLAGS, str(SOURCE), "-o", str(built)])
        os.replace(built, library)
    return library


def _loads(library: Path) -> bool:
    try:
        _load(library)
    except (OSError, AttributeError):  # cut off, or none of ours
        return False
    return True


def _load(library: Path) -> ctypes.CDLL:
    kernel = ctypes.CDLL(str(library))
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    kernel.conv3x3_relu_forward.argtypes = [*[pointer] * 4, *[size] * 4, ctypes.c_int]
    kernel.conv3x3_relu_backward.argtypes = [*[pointer] * 7, *[size] * 4, ctypes.c_int]
    kernel.conv3x3_relu_forward.restype = kernel.conv3x3_relu_backward.restype = None
    return kernel
