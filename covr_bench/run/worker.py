"""The process of one run: its order as JSON on standard input, `{"config": ..., "session": ...}`.

Prints one JSON object a line: progress, `{"warning": text}`, or `{"error": text}` before it ends early. SIGTERM,
SIGUSR1 and SIGUSR2 ask it to checkpoint and stop, and so does `covr-bench cancel`.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from covr_bench.run.session import FAILED, FINISHED, INTERRUPTED, Session

if TYPE_CHECKING:
    from covr_bench.config.run_config import RunConfig
    from results.store import RunWriter
    from suites.base import Task, TaskEnv

Say = Callable[[dict[str, Any]], None]
Stop = Callable[[], bool]


def main() -> int:
    stopping = Stopping()
    channel = message_channel()
    order = json.load(sys.stdin)
    from covr_bench.config.run_config import RunConfig

    return execute(RunConfig.from_dict(order["config"]), Session(**order["session"]), channel, stopping)


class Stopping:
    """Whether this process is asked to stop, from when it is made on."""

    def __init__(self) -> None:
        self.asked = False
        for signum in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):  # sites send each before time is up
            signal.signal(signum, self._hear)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the launcher decides

    def __call__(self) -> bool:
        return self.asked

    def _hear(self, signum: int, frame: Any) -> None:
        self.asked = True


def execute(config: RunConfig, session: Session, channel: TextIO, stopping: Stopping) -> int:
    """Execute a run in this process; what it says goes to the channel."""
    keep_heap()

    def say(message: dict[str, Any]) -> None:
        try:
            print(json.dumps(message), file=channel, flush=True)
        except BrokenPipeError:  # the launcher is gone
            stopping.asked = True

    return work(config, session, stopping, say)


def work(config: RunConfig, session: Session, stop: Stop, say: Say) -> int:
    """Execute a run in this process, or go on with it from its checkpoint.

    Args:
        config: The run.
        session: Goes into its provenance.
        stop: Asked at every step; when it says so, the run is checkpointed and ends.
        say: Hears progress about once a second, warnings, and why the run ended early.

    Returns:
        `FINISHED`, `INTERRUPTED` or `FAILED`.
    """
    from results.lease import LeaseLost, RunHeld

    try:
        return _run(config, session, stop, say)
    except (Exception, SystemExit) as error:  # the run ends here, and says why
        say({"error": _reason(error)})
        return INTERRUPTED if isinstance(error, LeaseLost | RunHeld) else FAILED  # elsewhere it goes on


def _run(config: RunConfig, session: Session, stop: Stop, say: Say) -> int:
    import torch

    from covr_bench.config import registry
    from covr_bench.kit.seeds import derive_seed
    from results import provenance
    from results.cancel import CANCELLED
    from results.store import RunWriter

    torch.set_num_threads(config.threads)
    task = registry.suite(config.suite).task(config.task)
    _check_code(config)
    if stop():
        return INTERRUPTED
    env, eval_env = (task.make(derive_seed(config.seed, name), **config.env) for name in ("train_env", "eval_env"))
    try:
        labels = _labels(config, env)
        with RunWriter(config.out, config.run_id, action_repeat=config.action_repeat, labels=labels) as writer:
            if provenance.is_finished(config.out, config.run_id):  # by another command, since this one planned it
                return FINISHED
            if writer.lease.cancelled:
                say({"error": CANCELLED})
                return INTERRUPTED
            return _session(config, session, task, (env, eval_env), writer, stop, say)
    finally:
        env.close()
        eval_env.close()


def _check_code(config: RunConfig) -> None:
    """Raises UserError where a file was edited since the run was planned: the record would name other code."""
    from covr_bench.config import registry
    from covr_bench.config.experiment import code_of_agent, code_of_suite
    from covr_bench.kit.errors import UserError
    from results.code_identity import is_changed

    code = code_of_agent(config.agent, registry.agent(config.agent), config.agent_config)
    if is_changed(config.code, code | {"suite": code_of_suite(config.suite)}):
        raise UserError("code of its agent or suite was edited after it was planned; give the command again")


def _labels(config: RunConfig, env: TaskEnv) -> dict[str, str]:
    """What marks the run's rows."""
    from covr_bench.config import registry
    from results import provenance

    labels = dict(getattr(env.unwrapped, "labels", {})) | dict(registry.agent(config.agent).labels(config.agent_config))
    if provenance.went_on_with_other_code(config.out, config.run_id, config.code):
        labels["code"] = "changed"
    return labels


def _session(
    config: RunConfig,
    session: Session,
    task: Task,
    envs: tuple[TaskEnv, TaskEnv],
    writer: RunWriter,
    stop: Stop,
    say: Say,
) -> int:
    """One session of the run, in its provenance and its rows."""
    from covr_bench.config import registry
    from covr_bench.run.checkpoint import Checkpoints
    from covr_bench.run.train import Interrupted, Run
    from results import provenance
    from results.layout import ROWS_FILE

    checkpoints, lease = Checkpoints(writer.folder / "checkpoint", writer), writer.lease
    _begin(config, session, writer)
    if not checkpoints.exists() and (writer.folder / ROWS_FILE).stat().st_size > 0:
        writer.resume(0, 0)  # rows of a session that ended before its first checkpoint

    def report(progress: dict[str, Any]) -> None:
        lease.tell(progress)
        say(progress)

    status = "interrupted"
    try:
        run = Run(
            config,
            *envs,
            lambda context: registry.make_agent(config.agent, config.agent_config, context),
            writer,
            checkpoints,
            replay_frames=registry.agent(config.agent).replay_frames,
            instruction=task.instruction,
            player=task.player,
            stop=lambda: stop() or lease.cancelled or lease.lost,
            report=report,
            warn=lambda text: say({"warning": text}),
        )
        if hasattr(run.agent, "describe"):
            facts = run.agent.describe()
            lease.patiently(lambda: provenance.describe(writer.out, config.run_id, facts, lease=lease))
        run.train()
        writer.end()
        status = "finished"
        return FINISHED
    except Interrupted:
        why = " as `covr-bench cancel` asked" if lease.cancelled else ""
        say({"error": f"checkpointed at {run.counters.env_steps:,} of {config.env_steps:,} env steps{why}"})
        return INTERRUPTED
    except (Exception, SystemExit) as error:
        status = "failed"
        writer.error(_reason(error))
        raise
    finally:
        wall_s = writer.wall_s
        lease.patiently(lambda: provenance.finish(writer.out, config.run_id, status, wall_s=wall_s, lease=lease))


def _begin(config: RunConfig, session: Session, writer: RunWriter) -> None:
    """Open the session in the run's provenance. Raises StoreError."""
    from covr_bench.config.request import to_yaml
    from results import provenance
    from results.layout import REQUEST_FILE
    from results.store import StoreError

    lease, text = writer.lease, to_yaml(config.options)
    lease.patiently(
        lambda: provenance.begin(
            writer.out,
            config.run_id,
            config=config.as_dict(),
            seeds=_seeds(config),
            command=session.command,
            options=config.options,
            wall_s=writer.wall_s,
            extra=session.facts,
            lease=lease,
        )
    )
    try:
        lease.patiently(lambda: (writer.folder / REQUEST_FILE).write_text(text))
    except OSError as error:
        raise StoreError(f"cannot write {error.filename}: {error.strerror}. Mend that file, or remove it.") from error


def _seeds(config: RunConfig) -> dict[str, int]:
    """The run's seed and all that derive from it."""
    from covr_bench.kit.seeds import derive_seed, starts

    seeds = {name: derive_seed(config.seed, name) for name in ("agent", "replay", "train_env", "eval_env")}
    seeds |= {"run": config.seed, "train_episode_0": derive_seed(config.seed, "train_episode")}
    return seeds | {f"eval_episode_{i}": start for i, start in enumerate(starts(config.seed, config.eval_episodes))}


def _reason(error: Exception | SystemExit) -> str:
    """The message of an error meant for the user, the traceback of any other."""
    from covr_bench.kit.errors import UserError
    from covr_bench.run.contract import Diverged
    from results.store import StoreError
    from suites.base import SimulatorError

    known = isinstance(error, UserError | StoreError | Diverged | SimulatorError)
    if known:
        return str(error)
    text = "".join(traceback.format_exception(error))
    return f"{text}sys.exit was called; let that code raise an error" if isinstance(error, SystemExit) else text


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


if __name__ == "__main__":
    code = main()
    os._exit(code)  # GL drivers have been seen to crash in their exit handlers, after all is written
