"""What the loop itself costs: wall time of a run outside env.step, act, update and evaluation.

    MUJOCO_GL=egl OMP_NUM_THREADS=1 LP_NUM_THREADS=0 python -m pytest -s benchmarks/bench_loop.py

One run of dmc6 cartpole_swingup on the smoke budget, as a worker makes it, learning from its 500th env step.
`extra_info` has the shares of wall time as the run's own `throughput` rows give them; `other_share` is everything
else: replay, rows, seeds, clocks. `checkpoint_share` is there when the run is long enough for one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from experiments import configure

from covr_bench.config import registry
from covr_bench.kit.seeds import derive_seed
from covr_bench.run.checkpoint import Checkpoints
from covr_bench.run.train import Run
from covr_bench.run.worker import keep_heap
from results.store import RunWriter, read_run, run_folder

if TYPE_CHECKING:
    from pathlib import Path


def test_bookkeeping(benchmark: Any, tmp_path: Path) -> None:
    import torch

    keep_heap()
    torch.set_num_threads(1)
    suite, spec = registry.suite("dmc6"), registry.agent("drqv2")
    (config,) = configure(
        suite,
        "dmc6",
        {"drqv2": spec},
        suite.budgets["smoke"],
        tasks=["cartpole_swingup"],
        seeds=[0],
        overrides={"seed_steps": "500"},
        out=str(tmp_path),
    )
    task = suite.task(config.task)
    envs = [task.make(derive_seed(config.seed, name)) for name in ("train_env", "eval_env")]
    checkpoints = Checkpoints(run_folder(tmp_path, config.run_id) / "checkpoint")

    def train() -> None:
        with RunWriter(tmp_path, config.run_id, action_repeat=config.action_repeat) as writer:
            make = spec.Config(**config.agent_config)
            Run(config, *envs, lambda context: spec.make(make, context), writer, checkpoints).train()

    benchmark.pedantic(train, rounds=1)
    rows = read_run(tmp_path, config.run_id).query(f"kind == 'throughput' and env_steps == {config.env_steps}")
    measured = dict(zip(rows["metric"].astype(str), rows["value"], strict=True))
    measured["other_in_training"] = measured["other_share"] / (1 - measured["evaluate_share"])
    benchmark.extra_info.update(measured, mujoco_gl=os.environ.get("MUJOCO_GL", ""))
    for name, value in measured.items():
        print(f"{name}: {value:.4f}")
