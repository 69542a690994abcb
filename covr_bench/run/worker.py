"""The process of one run: `python -m covr_bench.run.worker`, the job as JSON on standard input.

Prints one JSON object a line: progress, `{"warning": text}`, or `{"error": text}` before it fails. SIGTERM asks it to
checkpoint and stop.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

FINISHED, FAILED, INTERRUPTED = 0, 1, 75


def main() -> int:
    channel = message_channel()
    job = json.load(sys.stdin)
    stopping = False

    def stop(signum: int, frame: Any) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the launcher decides
    _end_with_parent()
    keep_heap()

    def say(message: dict[str, Any]) -> None:
        nonlocal stopping
        try:
            print(json.dumps(message), file=channel, flush=True)
        except BrokenPipeError:  # the launcher is gone
            stopping = True

    try:
        return _run(job, lambda: stopping, say)
    except Exception as error:  # the process ends here, and says why
        say({"error": _reason(error)})
        return FAILED


def _run(job: dict[str, Any], stop: Callable[[], bool], say: Callable[[dict[str, Any]], None]) -> int:
    import torch

    from covr_bench.config import registry
    from covr_bench.config.request import to_yaml
    from covr_bench.config.run_config import RunConfig
    from covr_bench.kit.seeds import derive_seed, starts
    from covr_bench.run.checkpoint import Checkpoints
    from covr_bench.run.train import Interrupted, Run
    from results import provenance
    from results.layout import ROWS_FILE
    from results.store import RunWriter, run_folder

    config = RunConfig.from_dict(job["config"])
    torch.set_num_threads(config.threads)
    task = registry.suite(config.suite).task(config.task)
    seeds = {name: derive_seed(config.seed, name) for name in ("agent", "replay", "train_env", "eval_env")}
    env, eval_env = (task.make(seeds[name], **config.env) for name in ("train_env", "eval_env"))
    labels = dict(getattr(env.unwrapped, "labels", {}))
    if "vlm" in config.agent_config:
        from covr.vlm.open import label

        labels["vlm"] = label(config.agent_config["vlm"])
    if provenance.went_on_with_other_code(config.out, config.run_id, config.code):
        labels["code"] = "changed"
    spec = registry.agent(config.agent)
    checkpoints = Checkpoints(run_folder(config.out, config.run_id) / "checkpoint")
    with RunWriter(config.out, config.run_id, action_repeat=config.action_repeat, labels=labels) as writer:
        seeds |= {"run": config.seed}
        seeds["train_episode_0"] = derive_seed(config.seed, "train_episode")
        seeds |= {f"eval_episode_{i}": start for i, start in enumerate(starts(config.seed, config.eval_episodes))}
        provenance.begin(
            config.out,
            config.run_id,
            config=config.as_dict(),
            seeds=seeds,
            command=job["command"],
            options=config.options,
            wall_s=writer.wall_s,
            extra=job["facts"],
        )
        (writer.folder / "request.yaml").write_text(to_yaml(config.options))
        if not checkpoints.exists() and (writer.folder / ROWS_FILE).stat().st_size > 0:
            writer.resume(0)  # rows of a session that ended before its first checkpoint
        status = "failed"
        try:
            run = Run(
                config,
                env,
                eval_env,
                lambda context: registry.make_agent(config.agent, config.agent_config, context),
                writer,
                checkpoints,
                replay_frames=spec.replay_frames,
                instruction=task.instruction,
                stop=stop,
                report=say,
                warn=lambda text: say({"warning": text}),
            )
            if hasattr(run.agent, "describe"):
                provenance.describe(config.out, config.run_id, run.agent.describe())
            run.train()
            writer.end()
            status = "finished"
            return FINISHED
        except Interrupted:
            status = "interrupted"
            return INTERRUPTED
        except Exception as error:
            writer.error(_reason(error))
            raise
        finally:
            provenance.finish(config.out, config.run_id, status, wall_s=writer.wall_s)
            env.close()
            eval_env.close()


def _reason(error: Exception) -> str:
    """The message of an error meant for the user, the traceback of any other."""
    from covr_bench.kit.errors import UserError
    from covr_bench.run.contract import Diverged
    from results.store import StoreError
    from suites.base import SimulatorError

    known = isinstance(error, UserError | StoreError | Diverged | SimulatorError)
    return str(error) if known else "".join(traceback.format_exception(error))


def message_channel() -> TextIO:
    """Standard output for messages alone: what libraries print there goes to standard error from now on."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return channel


def keep_heap() -> None:
    """Let glibc keep freed memory: large tensors are then reused instead of mapped anew at every operation.

    Twice as fast on a CPU with costly page faults, results unchanged; resident memory stays at its peak. Off with
    COVR_BENCH_KEEP_HEAP=0.
    """
    if os.environ.get("COVR_BENCH_KEEP_HEAP", "1") == "0":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # glibc only
        mallopt(-4, 0)  # M_MMAP_MAX
        mallopt(-1, -1)  # M_TRIM_THRESHOLD


def _end_with_parent() -> None:
    """On Linux, be asked to stop when the launcher dies, even by SIGKILL."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


if __name__ == "__main__":
    code = main()
    os._exit(code)  # GL drivers have been seen to crash in their exit handlers, after all is written
