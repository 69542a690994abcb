"""Make a trace: build an agent as a run does, let it play and learn on the stage, and write down what arises."""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from covr_bench.config import registry
from covr_bench.config.experiment import design
from covr_bench.config.request import Request
from covr_bench.kit.errors import UserError
from covr_bench.probe import stage
from covr_bench.probe.differences import RECORDED
from covr_bench.probe.draws import prepared_draws
from covr_bench.probe.trace import UPDATES, Trace
from covr_bench.probe.watch import Watched
from covr_bench.run.checkpoint import Checkpoints
from covr_bench.run.train import Run
from results.layout import ROWS_FILE
from results.states import RowKind
from results.store import RunWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from covr_bench.config.run_config import RunConfig
    from covr_bench.kit.api import AgentSpec
    from covr_bench.probe.draws import Shape

PATIENCE = 4_000  # agent steps without the last of them
LATER = (0.1, 0.5, 1.0, 4.0)  # shares of the run at which the trained agent's actions are asked for once more


def probe(agent: str, settings: Mapping[str, str] | None = None, swapped: tuple[str, Shape] | None = None) -> Trace:
    """The trace of an agent.

    It computes in float64 with prepared draws; one that cannot, as those with a VLM's weights, in float32.

    Args:
        agent: Name, or path of a `.py` file that defines AGENT.
        settings: As `--set` takes them.
        swapped: A kind and shape of random numbers of which the two of each pair change places: the trace of the same
            agent with these draws in the other order.

    Returns:
        Its facts are `agent`, `settings` (those it has by default on the published budget), `dtype` and `draws`.

    Raises:
        UserError: An unknown agent or setting, or an agent that does not learn within `PATIENCE` steps.
    """
    request = Request(stage.__file__, (agent,), settings=dict(settings or {})).resolved()
    (config,) = design(request).runs(device="cpu", threads=1, conv_kernel="torch")
    try:
        return _traced(config, torch.float64, swapped)
    except (RuntimeError, TypeError) as error:
        trace = _traced(config, torch.float32, swapped)
        trace.facts["float64"] = f"not possible: {str(error).splitlines()[0]}"
        return trace


def _traced(config: RunConfig, dtype: torch.dtype, swapped: tuple[str, Shape] | None) -> Trace:
    spec = registry.agent(config.agent)
    trace = Trace({"agent": spec.name, "dtype": str(dtype).removeprefix("torch."), "defaults": _defaults(spec)})
    with tempfile.TemporaryDirectory() as folder, _precision(dtype), prepared_draws(swapped) as draws:
        _play(config, trace, Path(folder))
    trace.facts["draws"] = [[kind, list(shape), count] for (kind, shape), count in draws.counts.items()]
    return trace


def _defaults(spec: AgentSpec) -> dict[str, Any]:
    """Every setting as published, the exceptions by task included."""
    from pydantic import TypeAdapter

    defaults: dict[str, Any] = TypeAdapter(spec.Config).dump_python(spec.Config(), mode="json")
    exceptions = {f"{task}: {key}": value for task, each in spec.task_defaults.items() for key, value in each.items()}
    return defaults | exceptions


@contextmanager
def _precision(dtype: torch.dtype) -> Iterator[None]:
    """One thread, and that type for every new tensor of numbers."""
    before, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(dtype)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        torch.set_num_threads(threads)


def _play(config: RunConfig, trace: Trace, folder: Path) -> None:
    (task,) = stage.SUITE.tasks
    spec = registry.agent(config.agent)
    env, eval_env = (task.make(0, **config.env) for _ in range(2))
    watched: list[Watched] = []

    def make(context: Any) -> Watched:
        watched.append(Watched(registry.make_agent(config.agent, config.agent_config, context), trace))
        return watched[-1]

    with RunWriter(folder, config.run_id, action_repeat=config.action_repeat) as writer:
        checkpoints = Checkpoints(folder / "checkpoint")
        run = Run(
            config,
            env,
            eval_env,
            make,
            writer,
            checkpoints,
            replay_frames=spec.replay_frames,
            instruction=task.instruction,
            warn=lambda text: None,
        )
        run.resume()
        _until_learnt(run, watched[-1], learns=spec.replay_frames != 0)
        run.evaluate()
        _ask_later(run, watched[-1], config.env_steps)
        _store(run, trace)
        _rounds(run, trace)


def _until_learnt(run: Run, agent: Watched, learns: bool) -> None:
    for _ in range(PATIENCE if learns else 3 * max(stage.LENGTHS)):
        run.step()
        if agent.updates >= UPDATES:
            return
    if learns:
        raise UserError(
            f"{type(agent.agent).__name__} made {agent.updates} updates in {PATIENCE:,} agent steps, {UPDATES} are "
            "wanted: shorten its warm-up with --set, or say replay_frames=0 in its AgentSpec if it does not learn from "
            "replay"
        )


def _ask_later(run: Run, agent: Watched, env_steps: int) -> None:
    """What the schedules say of acting, at other times of a run."""
    for share in LATER:
        agent.act(run.episodes.obs, int(share * env_steps), explore=True)


def _rounds(run: Run, trace: Trace) -> None:
    """What an agent with a VLM in the loop has recorded of its rounds."""
    rows = map(json.loads, (run.writer.folder / ROWS_FILE).read_text(encoding="utf-8").splitlines())
    recorded = [row for row in rows if row["kind"] == RowKind.VLM and not row["metric"].endswith("seconds")]
    for number, row in enumerate(recorded):
        trace.add(f"{RECORDED}{number} at step {row['env_steps']}: {row['metric']}", float(row["value"]))


def _store(run: Run, trace: Trace) -> None:
    """What the loop has put into the replay."""
    replay = run.replay
    for name in ("reward", "discount", "action", "first"):
        trace.add(f"in the replay: {name}", getattr(replay, name)[: replay.head])
