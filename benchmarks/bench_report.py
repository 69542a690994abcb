"""The report of 50 runs of 100 evaluations: seconds to make it, its size, seconds until it is open and drawn, frames.

    python -m pytest benchmarks/bench_report.py -s

5 agents of 5 seeds on 2 tasks. Opening is measured in a fresh tab of a headless Chromium without a GPU, from the
request until the page is loaded and painted, and until the first curves are drawn; frames while the pointer moves over
the curves, every one of which redraws the values under it, and what showing and hiding all agents takes.
"""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from browser import browser

from covr_bench.cli.choice import Choice
from covr_bench.cli.report import ReportOptions, write_report

if TYPE_CHECKING:
    from pathlib import Path

AGENTS, TASKS, SEEDS, EVALUATIONS = 5, 2, 5, 100


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    lines = ["suite,agent,task,seed,env_steps,return"]
    for agent in range(AGENTS):
        for task in range(TASKS):
            for seed in range(SEEDS):
                rise = np.sort(rng.random(EVALUATIONS)) * (400 + 100 * agent) + rng.normal(0, 20, EVALUATIONS)
                lines += [f"s,agent{agent},t{task},{seed},{1000 * i},{value}" for i, value in enumerate(rise)]
    file = tmp_path_factory.mktemp("scores") / "scores.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_fifty_runs_of_a_hundred_evaluations(scores: Path, tmp_path: Path, benchmark: Any) -> None:
    file = tmp_path / "page.html"
    cpu = time.process_time()
    benchmark.pedantic(lambda: write_report(Choice(scores=scores), file, ReportOptions()), rounds=1)
    cpu = time.process_time() - cpu
    loaded, drawn = [], []
    with browser(tmp_path / "profile") as page:
        page.open(file)  # the first one starts the browser's own processes
        for _ in range(5):
            start = time.perf_counter()
            loaded.append(page.open(file))
            page.run("document.querySelector('.chart').scrollIntoView({block: 'center'})")
            page.wait("document.querySelector('.chart canvas') !== null")
            page.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
            drawn.append(time.perf_counter() - start)
        moves = page.run(_MOVES)
        toggles = page.run(_TOGGLES)
        assert page.errors == []
    facts = {"build_cpu_s": cpu, "bytes": file.stat().st_size, "loaded_s": loaded, "drawn_s": drawn}
    benchmark.extra_info |= facts | {"move_ms": moves, "toggle_ms": toggles}
    print(f"\nmade in {cpu:.1f} s of CPU, {facts['bytes'] / 1e6:.2f} MB")
    print(f"loaded {median(loaded):.2f} s, first curves drawn {median(drawn):.2f} s (medians of 5)")
    print(f"a move of the pointer {median(moves):.1f} ms, at most {max(moves):.1f}; hiding or showing {toggles:.1f} ms")


# Milliseconds of script and layout for each of 100 moves, and for one change of what is shown, drawing included.
_MOVES = """(() => {
  const over = document.querySelector('.chart .u-over'), box = over.getBoundingClientRect(), times = [];
  over.dispatchEvent(new MouseEvent('mouseenter', {clientX: box.x, clientY: box.y + 50}));
  for (let i = 0; i < 100; i++) {
    const start = performance.now();
    over.dispatchEvent(new MouseEvent('mousemove', {clientX: box.x + box.width * i / 100, clientY: box.y + 50}));
    document.body.getBoundingClientRect();
    times.push(performance.now() - start);
  }
  return times;
})()"""
_TOGGLES = """(async () => {
  const start = performance.now();
  for (let i = 0; i < 10; i++) {
    document.querySelector(`[data-toggle=${i % 2 ? 'all' : 'none'}]`).click();
    await new Promise(done => requestAnimationFrame(done));
  }
  return (performance.now() - start) / 10;
})()"""
