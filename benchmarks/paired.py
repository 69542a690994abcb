"""Timing two ways of doing one thing, A B A B, each in its own process so that neither inherits the other's heap.

A contestant is a function `module:name` that prepares its inputs and returns a callable without arguments.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Contestant:
    """setup: `module:function` under benchmarks/. keep_heap: with the allocator setting our workers use."""

    setup: str
    keep_heap: bool
    threads: int = 1

    def start(self) -> subprocess.Popen[str]:
        here = Path(__file__).resolve().parent
        path = os.pathsep.join([str(here), str(here.parent / "tests"), os.environ.get("PYTHONPATH", "")])
        env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(self.threads)}
        command = [sys.executable, __file__, self.setup, str(int(self.keep_heap)), str(self.threads)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)


def ask(process: subprocess.Popen[str]) -> dict[str, float]:
    """One timed call: `wall` and `cpu` seconds."""
    tell(process)
    return hear(process)


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> dict[str, float]:
    assert process.stdout
    return json.loads(process.stdout.readline())  # type: ignore[no-any-return]


def compare(benchmark: Any, ours: Contestant, theirs: Contestant, rounds: int = 7, clock: str = "cpu") -> float:
    """Report ours through pytest-benchmark with `ratio`, theirs over ours, the median of pairs; returns it.

    clock: `cpu` counts the process's own seconds, which other load on the machine hardly moves; `wall` real ones.
    """
    a, b = ours.start(), theirs.start()
    try:
        ask(a), ask(b)  # warm up
        pairs = [(ask(a)[clock], ask(b)[clock]) for _ in range(rounds)]
        benchmark.extra_info |= {
            "ratio": statistics.median(y / x for x, y in pairs),
            "clock": clock,
            "ours_s": [x for x, _ in pairs],
            "theirs_s": [y for _, y in pairs],
        }
        benchmark.pedantic(lambda: ask(a), rounds=3)
    finally:
        for process in (a, b):
            process.kill()
            process.wait()
    print(f"\n{ours.setup}: {benchmark.extra_info['ratio']:.2f}x {theirs.setup}")
    return float(benchmark.extra_info["ratio"])


def _serve(setup: str, keep_heap: str, threads: str) -> None:
    if int(keep_heap):
        from covr_bench.run.worker import keep_heap as keep

        keep()
    import torch

    torch.set_num_threads(int(threads))
    module, name = setup.split(":")
    call = getattr(importlib.import_module(module), name)()
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}), flush=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
