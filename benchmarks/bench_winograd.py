"""The compiled convolution against torch's channels_last conv2d + relu, batch 256, one thread.

    OMP_NUM_THREADS=1 pytest benchmarks/bench_winograd.py

`setup` runs the torch side before every round of ours, so the two alternate; extra_info holds the ratio of the medians.
Times are CPU time of the process, which on one thread is wall time without the waiting for other programs.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from covr_bench.kit import winograd

BATCH, ROUNDS = 256, 9
M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1  # glibc, malloc.h
Conv = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

pytestmark = [
    pytest.mark.skipif(winograd.choose("auto", "cpu").kernel == "torch", reason="the kernel cannot be built here"),
    pytest.mark.benchmark(timer=time.process_time),
]


@pytest.fixture(scope="module", autouse=True)
def one_thread_and_a_warm_heap() -> Iterator[None]:
    """As every run does: without the two calls each large tensor is mapped anew and page faults hide the kernel."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _torch_conv(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return F.relu(F.conv2d(x, weight, bias), inplace=True)


def _inputs(size: int, layers: int, batch: int = BATCH) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
    """x, the layers' weights and biases, and the gradient of the last output."""
    generator = torch.Generator().manual_seed(0)
    nhwc = torch.channels_last
    x = torch.randn(batch, 32, size, size, generator=generator).relu().contiguous(memory_format=nhwc)
    parameters = []
    for _ in range(layers):
        weight = torch.randn(32, 32, 3, 3, generator=generator) * 0.08
        parameters += [weight.contiguous(memory_format=nhwc).requires_grad_(), torch.zeros(32, requires_grad=True)]
    out = size - 2 * layers
    grad = torch.randn(batch, 32, out, out, generator=generator).contiguous(memory_format=nhwc)
    return x, parameters, grad


def _forward(conv: Conv, x: torch.Tensor, parameters: list[torch.Tensor]) -> torch.Tensor:
    for weight, bias in zip(parameters[::2], parameters[1::2], strict=True):
        x = conv(x, weight, bias)
    return x


def _compare(benchmark: Any, run: Callable[[Conv], object]) -> None:
    torch_seconds: list[float] = []

    def setup() -> None:
        start = time.process_time()
        run(_torch_conv)
        torch_seconds.append(time.process_time() - start)

    benchmark.pedantic(lambda: run(winograd.conv3x3_relu), setup=setup, rounds=ROUNDS, warmup_rounds=2)
    theirs = statistics.median(torch_seconds[2:])
    benchmark.extra_info["torch_ms"] = round(1000 * theirs, 2)
    benchmark.extra_info["ratio"] = round(theirs / benchmark.stats.stats.median, 2)


@pytest.mark.parametrize("size", [41, 39, 37])
def test_forward(benchmark: Any, size: int) -> None:
    x, parameters, _ = _inputs(size, layers=1)

    def run(conv: Conv) -> None:
        with torch.no_grad():
            _forward(conv, x, parameters)

    _compare(benchmark, run)


@pytest.mark.parametrize(("size", "layers"), [(41, 1), (39, 1), (37, 1), (41, 3)])
def test_forward_and_backward(benchmark: Any, size: int, layers: int) -> None:
    x, parameters, grad = _inputs(size, layers)
    inputs = [x.requires_grad_(), *parameters]
    _compare(benchmark, lambda conv: torch.autograd.grad(_forward(conv, x, parameters), inputs, grad))


def test_one_observation(benchmark: Any) -> None:
    """Acting: three layers forward on a batch of one, where the weight transform is not amortised."""
    x, parameters, _ = _inputs(41, layers=3, batch=1)

    def run(conv: Conv) -> None:
        with torch.no_grad():
            _forward(conv, x, parameters)

    _compare(benchmark, run)
