"""The compiled convolution against float64 torch, its reproducibility, and what happens where it cannot be built."""

from __future__ import annotations

import errno
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from covr_bench.kit import winograd
from covr_bench.kit.errors import UserError


def _missing() -> str:
    try:
        winograd.build()
    except winograd.KernelUnavailable as error:
        return str(error)
    return ""


MISSING = _missing()
needs_kernel = pytest.mark.skipif(bool(MISSING), reason=f"kernel not built: {MISSING}")


@pytest.fixture(autouse=True)
def restore_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _case(batch: int, height: int, width: int, seed: int = 0, channels: int = 32) -> tuple[torch.Tensor, ...]:
    """x, weight, bias with an encoder's scales, and a gradient of the output."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, channels, height, width, generator=generator).relu()
    weight = torch.randn(channels, channels, 3, 3, generator=generator) * 0.08
    bias = torch.randn(channels, generator=generator) * 0.1
    grad = torch.randn(batch, channels, height - 2, width - 2, generator=generator)
    x = x.contiguous(memory_format=torch.channels_last)
    return x, weight, bias, grad.contiguous(memory_format=torch.channels_last)


def _run(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, grad: torch.Tensor) -> list[torch.Tensor]:
    """y, dx, dw, db of the kernel."""
    inputs = [t.detach().clone().requires_grad_() for t in (x, weight, bias)]
    y = winograd.conv3x3_relu(*inputs)
    return [y.detach(), *torch.autograd.grad(y, inputs, grad)]


def _assert_same_mathematics(batch: int, height: int, width: int, seed: int = 0, channels: int = 32) -> None:
    x, weight, bias, grad = _case(batch, height, width, seed, channels)
    y, *gradients = _run(x, weight, bias, grad)
    inputs = x64, weight64, bias64 = tuple(t.double().requires_grad_() for t in (x, weight, bias))
    before_relu = F.conv2d(x64, weight64, bias64)
    scale = before_relu.detach().abs().max()
    assert (y - before_relu.detach().relu()).abs().max() < 5e-6 * scale
    clear = before_relu.abs() > 1e-4 * scale
    assert torch.equal((y > 0)[clear], (before_relu > 0)[clear])
    # Where the sign is not clear both masks are right, so the reference takes the kernel's.
    expected = torch.autograd.grad(before_relu, inputs, grad.double() * (y > 0))
    for name, ours, reference in zip(("dx", "dw", "db"), gradients, expected, strict=True):
        assert ours.shape == reference.shape
        assert (ours - reference).abs().max() < 2e-5 * reference.abs().max(), name


@needs_kernel
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 5),
    height=st.integers(3, 30),
    width=st.integers(3, 90),
    threads=st.sampled_from([1, 2]),
    seed=st.integers(0, 2**31),
    channels=st.sampled_from(winograd.CHANNELS),
)
def test_equals_float64_torch(batch: int, height: int, width: int, threads: int, seed: int, channels: int) -> None:
    torch.set_num_threads(threads)
    _assert_same_mathematics(batch, height, width, seed, channels)


@needs_kernel
@pytest.mark.parametrize(("size", "channels"), [(s, 32) for s in (41, 39, 37, 47, 84, 100, 108)] + [(41, 64)])
def test_equals_float64_torch_at_encoder_sizes(size: int, channels: int) -> None:
    _assert_same_mathematics(2, size, size, channels=channels)


@needs_kernel
@pytest.mark.parametrize("channels", winograd.CHANNELS)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_is_bitwise_reproducible(threads: int, channels: int) -> None:
    case = _case(5, 23, 41, channels=channels)
    torch.set_num_threads(1)
    y, dx, *_ = _run(*case)
    torch.set_num_threads(threads)
    first, second = _run(*case), _run(*case)
    assert all(map(torch.equal, first, second))
    assert torch.equal(first[0], y)
    assert torch.equal(first[1], dx)


@needs_kernel
@pytest.mark.parametrize("wanted", range(1, 8))
def test_gradient_only_where_wanted(wanted: int) -> None:
    *case, grad = _case(2, 11, 14)
    _, *expected = _run(case[0], case[1], case[2], grad)
    inputs = [t.detach().clone().requires_grad_(bool(wanted >> i & 1)) for i, t in enumerate(case)]
    torch.autograd.backward(winograd.conv3x3_relu(*inputs), grad)
    for tensor, reference in zip(inputs, expected, strict=True):
        assert (tensor.grad is not None) == tensor.requires_grad
        assert tensor.grad is None or torch.equal(tensor.grad, reference)


@needs_kernel
def test_any_memory_layout_gives_the_same_result() -> None:
    x, weight, bias, grad = _case(4, 13, 10)
    expected = _run(x, weight, bias, grad)
    other = _run(x.contiguous(), weight.contiguous(memory_format=torch.channels_last), bias, grad.contiguous())
    assert all(map(torch.equal, expected, other))
    assert expected[0].is_contiguous(memory_format=torch.channels_last)
    odd_address = torch.empty(x.numel() + 1)[1:].view(4, 13, 10, 32).copy_(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    assert torch.equal(winograd.conv3x3_relu(odd_address, weight, bias), expected[0])
    ones = _run(x, weight, bias, torch.ones(1).expand_as(grad))
    assert all(map(torch.equal, ones, _run(x, weight, bias, torch.ones_like(grad))))


@needs_kernel
def test_no_grad_records_nothing() -> None:
    x, weight, bias, grad = _case(2, 9, 9)
    weight.requires_grad_()
    with torch.no_grad():
        y = winograd.conv3x3_relu(x, weight, bias)
    assert y.grad_fn is None and not y.requires_grad
    assert torch.equal(y, _run(x, weight, bias, grad)[0])


@needs_kernel
def test_empty_batch() -> None:
    y, dx, dw, db = _run(*_case(0, 9, 8))
    assert y.shape == (0, 32, 7, 6)
    assert dx.shape == (0, 32, 9, 8)
    assert not dw.any() and not db.any()


@needs_kernel
def test_nan_is_not_hidden_by_the_relu() -> None:
    x, weight, bias, _ = _case(2, 12, 12)
    x[1, 3, 5, 5] = float("nan")
    y = winograd.conv3x3_relu(x, weight, bias)
    assert y[1, :, 3:6, 3:6].isnan().all()
    assert not y[0].isnan().any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, w, b: (x[:, :16], w, b), r"x must have the shape"),
        (lambda x, w, b: (x[0], w, b), r"x must have the shape"),
        (lambda x, w, b: (x[:, :, :2], w, b), r"not \(2, 32, 2, 8\)"),
        (lambda x, w, b: (x, w[:, :, :1], b), r"weight must have the shape"),
        (lambda x, w, b: (x, w, b[:5]), r"bias must have the shape"),
        (lambda x, w, b: (x.double(), w, b), r"x must be float32 on the cpu, not torch.float64"),
        (lambda x, w, b: (x, w.to("meta"), b), r"weight must be float32 on the cpu, not torch.float32 on meta"),
    ],
)
def test_wrong_input_is_refused(change, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        winograd.conv3x3_relu(*change(*_case(2, 8, 8)[:3]))


@pytest.fixture
def fresh_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    winograd.build.cache_clear()
    yield monkeypatch
    winograd.build.cache_clear()


@needs_kernel
@pytest.mark.parametrize(("height", "width"), [(41, 39), (3, 8), (30, 100)])
def test_avx2_code_on_a_cpu_with_avx512(fresh_build: pytest.MonkeyPatch, height: int, width: int) -> None:
    fresh_build.setattr(winograd, "FLAGS", (*winograd.FLAGS, "-mno-avx512f"))
    for channels in winograd.CHANNELS:
        _assert_same_mathematics(3, height, width, channels=channels)


def _assert_unavailable(message: str, told: str = "") -> None:
    """Asked for, the kernel's absence is an error that says how to go on; by itself it is torch, and one sentence."""
    with pytest.raises(UserError, match=told or message) as caught:
        winograd.choose("winograd")
    assert "--conv-kernel auto or torch" in str(caught.value)
    choice = winograd.choose("auto")
    assert choice.kernel == "torch"
    assert re.search(message, choice.reason)
    assert choice.reason.endswith(".") and "\n" not in choice.reason


def test_without_compiler(fresh_build: pytest.MonkeyPatch) -> None:
    fresh_build.setattr(winograd, "_cpu_description", lambda: "flags : avx2 fma")
    fresh_build.setenv("CXX", "no-such-compiler")
    _assert_unavailable("CXX=no-such-compiler is not on the PATH")
    fresh_build.delenv("CXX")
    fresh_build.setenv("PATH", "")
    _assert_unavailable("none of c\\+\\+, g\\+\\+, clang\\+\\+ is on the PATH")


@pytest.mark.parametrize(
    "cpuinfo", ["model name : Old\nflags : sse4_2 fma\n\nmodel name : New\nflags : avx2 fma", None]
)
def test_without_avx2(fresh_build: pytest.MonkeyPatch, tmp_path: Path, cpuinfo: str | None) -> None:
    """What counts is the first CPU, as Linux lists them; elsewhere there is no such list."""
    fresh_build.setattr(winograd, "CPUINFO", tmp_path / "cpuinfo")
    if cpuinfo:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    _assert_unavailable("AVX2 and FMA")


@needs_kernel
def test_failed_compilation_shows_the_compilers_words(fresh_build: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = tmp_path / "broken.cpp"
    source.write_text("#error broken on purpose\n")
    fresh_build.setattr(winograd, "SOURCE", source)
    _assert_unavailable("compiler .* failed", told="broken on purpose")


@pytest.mark.parametrize("content", ["\0", "#!/no/such/interpreter\n"])
def test_compiler_that_does_not_run(fresh_build: pytest.MonkeyPatch, tmp_path: Path, content: str) -> None:
    fresh_build.setattr(winograd, "_cpu_description", lambda: "flags : avx2 fma")
    _compiler(fresh_build, tmp_path, content)
    _assert_unavailable("does not run")


def test_compiler_that_never_ends(fresh_build: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fresh_build.setattr(winograd, "_cpu_description", lambda: "flags : avx2 fma")
    fresh_build.setattr(winograd, "BUILD_S", 0.2)
    _compiler(fresh_build, tmp_path, "#!/bin/sh\nexec sleep 60\n")
    _assert_unavailable("does not run")


def _compiler(patch: pytest.MonkeyPatch, folder: Path, content: str) -> None:
    compiler = folder / "compiler"
    compiler.write_text(content)
    compiler.chmod(0o755)
    patch.setenv("CXX", str(compiler))


@needs_kernel
def test_cache_folder_that_cannot_be_made(fresh_build: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fresh_build.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    _assert_unavailable("cannot be stored or loaded", told="XDG_CACHE_HOME")


@needs_kernel
@pytest.mark.parametrize("function", ["replace", "open"])
def test_cache_folder_that_cannot_be_written(fresh_build: pytest.MonkeyPatch, function: str) -> None:
    """A full disk, or another's folder; as root, permissions would not show it."""

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    fresh_build.setattr(winograd, "_run", lambda command: "")
    place = winograd.os if function == "replace" else winograd
    fresh_build.setattr(place, function, full, raising=False)
    _assert_unavailable("No space left on device")


@needs_kernel
def test_user_without_a_home(fresh_build: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory")

    fresh_build.delenv("XDG_CACHE_HOME")
    fresh_build.setattr(winograd.Path, "home", home)
    _assert_unavailable("Could not determine home directory")


@needs_kernel
def test_damaged_library_is_built_anew(fresh_build: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "_load", lambda library: library)  # a process that has it loaded would not look again
        made = winograd.build.__wrapped__()
    made.write_bytes(b"")  # type: ignore[attr-defined]
    assert winograd.choose("auto").kernel == "winograd"
    assert made.stat().st_size  # type: ignore[attr-defined]


@pytest.mark.deep
@needs_kernel
def test_processes_that_start_together_compile_once(fresh_build: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log, real = tmp_path / "log", shlex.join(winograd._compiler())
    _compiler(fresh_build, tmp_path, f'#!/bin/sh\necho "$*" >> {log}\nexec {real} "$@"\n')
    command = [sys.executable, "-c", "from covr_bench.kit.winograd import build; build().conv3x3_relu_forward"]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert sum("-shared" in line for line in log.read_text().splitlines()) == 1
    assert sorted(file.suffix for file in (tmp_path / "covr-bench").iterdir()) == [".lock", ".so"]


@needs_kernel
def test_what_was_asked_for_is_chosen() -> None:
    assert winograd.choose("winograd").kernel == winograd.choose("auto").kernel == "winograd"
    assert winograd.choose("torch").kernel == "torch"
    with pytest.raises(ValueError, match="unknown convolution kernel 'fft'; valid: auto, torch, winograd"):
        winograd.choose("fft")  # type: ignore[arg-type]


@pytest.mark.parametrize("asked", ["auto", "torch", "winograd"])
def test_a_gpu_has_torchs_convolution(fresh_build: pytest.MonkeyPatch, asked: Any) -> None:
    fresh_build.setenv("PATH", "")
    choice = winograd.choose(asked, "cuda:1")
    assert choice.kernel == "torch"
    assert "cuda:1" in choice.reason
