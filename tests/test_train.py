"""The loop: what is evaluated when, that a stopped run goes on as if it had not stopped, that divergence ends it."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from conftest import SMALL_DRQV2
from experiments import configure
from hypothesis import given, settings
from hypothesis import strategies as st

from covr_bench.config import registry
from covr_bench.config.request import parse_pairs
from covr_bench.config.run_config import RunConfig
from covr_bench.kit.api import AgentSpec, Context
from covr_bench.kit.seeds import derive_seed
from covr_bench.run.checkpoint import Checkpoints, load_agent
from covr_bench.run.contract import Diverged
from covr_bench.run.meter import Meter
from covr_bench.run.train import Interrupted, Run
from results.store import RunWriter, read_run, run_folder
from suites.base import Budget

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:its agent made no update")  # many runs here are short, or of a dummy
SUITE = registry.suite("catch")


@dataclass(frozen=True)
class NoConfig:
    pass


class Still:
    """Does nothing; keeps the steps the loop told it."""

    def __init__(self, config: Any, context: Context) -> None:
        self.context = context
        self.steps: list[int] = []

    def act(self, obs: Any, step: int, explore: bool) -> Any:
        if explore:
            self.steps.append(step)
        return np.zeros(self.context.action_dim, np.float32)

    def update(self, replay: Any, step: int) -> dict[str, torch.Tensor]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def spec_of(make: Callable[[Any, Context], Any]) -> AgentSpec:
    return AgentSpec("tried", NoConfig, make, "control")


def configured(
    out: Path, spec: AgentSpec, env_steps: int, eval_every: int, task: str = "catch", seed: int = 0, episodes: int = 1
) -> RunConfig:
    budget = Budget("tried", env_steps, eval_every, episodes)
    overrides = parse_pairs(SMALL_DRQV2 if spec.name == "drqv2" else ())
    (config,) = configure(
        SUITE, "catch", {spec.name: spec}, budget, tasks=[task], seeds=[seed], overrides=overrides, out=str(out)
    )
    return config


def go(config: RunConfig, spec: AgentSpec, stop: Callable[[], bool] = lambda: False, **options: Any) -> Run:
    """A session of a run, as the worker makes it. Raises what the loop raises."""

    def make(context: Context) -> Any:
        return spec.make(spec.Config(**config.agent_config), replace(context, make_agent=registry.make_agent))

    task = SUITE.task(config.task)
    envs = [task.make(derive_seed(config.seed, name), **config.env) for name in ("train_env", "eval_env")]
    checkpoints = Checkpoints(run_folder(config.out, config.run_id) / "checkpoint")
    with RunWriter(config.out, config.run_id, action_repeat=config.action_repeat) as writer:
        run = Run(
            config,
            *envs,
            make,
            writer,
            checkpoints,
            instruction=task.instruction,
            player=task.player,
            stop=stop,
            replay_frames=spec.replay_frames,
            **options,
        )
        run.train()
    return run


def measured(config: RunConfig) -> pd.DataFrame:
    """Every row that time does not enter."""
    rows = read_run(config.out, config.run_id)
    rows = rows[rows["kind"].isin(["eval", "episode", "train", "signal"])].drop(columns=["wall_s", "time"])
    rows = rows.astype({"kind": str, "metric": str})  # categories depend on what else was read
    return rows.sort_values(["kind", "env_steps", "metric"], ignore_index=True)


def tensors(state: Any) -> list[Any]:
    """The leaves of a state, arrays as bytes, in order."""
    if isinstance(state, torch.Tensor):
        return [state.numpy().tobytes()]
    if isinstance(state, dict):
        return [leaf for key in sorted(state, key=str) for leaf in tensors(state[key])]
    if isinstance(state, list | tuple):
        return [leaf for item in state for leaf in tensors(item)]
    return [state]


def trained(config: RunConfig) -> list[Any]:
    return tensors(load_agent(run_folder(config.out, config.run_id) / "checkpoint"))


class Killed(BaseException):
    """In place of SIGKILL: nothing is saved."""


class StopAt:
    """A `stop` that becomes true at one call: a step, also one within an evaluation."""

    def __init__(self, call: int, kill: bool = False) -> None:
        self.left, self.kill = call, kill

    def __call__(self) -> bool:
        self.left -= 1
        if self.left == 0 and self.kill:
            raise Killed
        return self.left == 0


@pytest.fixture(scope="module")
def unstopped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunConfig]:
    configs = {}
    for name in ("drqv2", "random"):
        spec = registry.agent(name)
        configs[name] = configured(tmp_path_factory.mktemp(name), spec, env_steps=110, eval_every=60)
        go(configs[name], spec)
    return configs


# `stop` is called after each agent step: 20 of the first evaluation, 30 of training, 20 of evaluation, 25 of training.
@pytest.mark.parametrize("agent", ["drqv2", "random"])
@pytest.mark.parametrize("calls", [(27,), (60, 1), (42, 12, 35)], ids=str)
def test_a_stopped_run_goes_on_bit_for_bit(
    agent: str, calls: tuple[int, ...], unstopped: dict[str, RunConfig], tmp_path: Path
) -> None:
    spec = registry.agent(agent)
    config = replace(unstopped[agent], out=str(tmp_path))
    for call in calls:
        with pytest.raises(Interrupted):
            go(config, spec, StopAt(call))
    go(config, spec)
    assert measured(config).equals(measured(unstopped[agent]))
    assert trained(config) == trained(unstopped[agent])


class Remembering(Still):
    """Acts by a mean of what it saw, which it changes in place."""

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        self.mean = torch.zeros(1)

    def act(self, obs: Any, step: int, explore: bool) -> Any:
        self.mean.mul_(0.9).add_(0.1 * float(obs.mean()) / 255)
        return np.tanh(self.mean.numpy() * 40 - 1)

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean = state["mean"]


def test_what_an_agent_remembers_of_an_evaluation_cut_short_does_not_count(tmp_path: Path) -> None:
    """The checkpoint had what the evaluation had left of it by then."""
    spec = spec_of(Remembering)
    stopped, whole = (configured(tmp_path / name, spec, env_steps=110, eval_every=60) for name in ("a", "b"))
    for call in (7, 20 + 30 + 7):
        with pytest.raises(Interrupted):
            go(stopped, spec, StopAt(call))
    go(stopped, spec)
    go(whole, spec)
    assert measured(stopped).equals(measured(whole)) and trained(stopped) == trained(whole)


def test_a_killed_run_goes_on_from_its_last_checkpoint_bit_for_bit(
    unstopped: dict[str, RunConfig], tmp_path: Path
) -> None:
    spec = registry.agent("drqv2")
    config = replace(unstopped["drqv2"], out=str(tmp_path))
    with pytest.raises(Interrupted):
        go(config, spec, StopAt(48))
    with pytest.raises(Killed):
        go(config, spec, StopAt(40, kill=True))
    go(config, spec)
    assert measured(config).equals(measured(unstopped["drqv2"]))
    assert trained(config) == trained(unstopped["drqv2"])


def test_a_run_that_goes_on_tells_its_last_return_at_once(tmp_path: Path) -> None:
    spec = registry.agent("random")
    config = configured(tmp_path, spec, env_steps=110, eval_every=60)
    told: list[dict[str, Any]] = []
    with pytest.raises(Interrupted):
        go(config, spec, StopAt(20 + 25))  # the first episode has 20 steps
    with pytest.raises(Interrupted):
        go(config, spec, StopAt(2), report=told.append)
    (returned,) = read_run(tmp_path, config.run_id).query("kind == 'episode' and metric == 'return'")["value"]
    assert [each["last_return"] for each in told] == [returned]


def test_checkpoints_on_the_way_change_nothing(unstopped: dict[str, RunConfig], tmp_path: Path) -> None:
    spec = registry.agent("drqv2")
    config = replace(unstopped["drqv2"], out=str(tmp_path), checkpoint_every_s=0.0)  # at every step
    with pytest.raises(Killed):
        go(config, spec, StopAt(80, kill=True))
    go(config, spec)
    assert measured(config).equals(measured(unstopped["drqv2"]))
    assert trained(config) == trained(unstopped["drqv2"])
    left = [path.name for path in (run_folder(tmp_path, config.run_id) / "checkpoint").iterdir()]
    assert sorted(left) == ["000000000110-final", "replay"]
    assert not list((run_folder(tmp_path, config.run_id) / "checkpoint" / "replay").iterdir())


def test_a_finished_run_can_be_opened_again(unstopped: dict[str, RunConfig]) -> None:
    """A process killed between its last checkpoint and its last word."""
    config = unstopped["random"]
    before = measured(config)
    go(config, registry.agent("random"))
    assert measured(config).equals(before)


def test_a_simulator_that_does_not_repeat_itself_loses_the_running_episode_only(tmp_path: Path) -> None:
    spec = registry.agent("random")
    config = configured(tmp_path, spec, env_steps=120, eval_every=120)
    with pytest.raises(Interrupted):
        go(config, spec, StopAt(20 + 12))  # 12 agent steps into the first episode
    checkpoint = Checkpoints(run_folder(tmp_path, config.run_id) / "checkpoint")
    (chunk,) = (checkpoint.folder / "replay").iterdir()
    with np.load(chunk) as stored:
        arrays = dict(stored)
    arrays["frames"][-1] += 1
    np.savez(chunk, **arrays)
    run = go(config, spec)
    assert run.counters.env_steps == 120
    lengths = read_run(tmp_path, config.run_id).query("kind == 'episode' and metric == 'length'")
    assert lengths["value"].tolist() == [40.0, 40.0]  # after 24 steps of the abandoned one


@settings(max_examples=25, deadline=None)
@given(env_steps=st.integers(1, 90), eval_every=st.integers(1, 90), task=st.sampled_from(["catch", "catch_or_end"]))
def test_evaluations_are_at_the_nominal_multiples_first_at_0_and_once_at_the_end(
    env_steps: int, eval_every: int, task: str
) -> None:
    eval_every = max(eval_every, env_steps // 6)
    with tempfile.TemporaryDirectory() as out:
        agents: list[Still] = []

        def make(config: Any, context: Context) -> Still:
            agents.append(Still(config, context))
            return agents[-1]

        config = configured(Path(out), spec_of(make), env_steps, eval_every, task)
        run = go(config, spec_of(make))
        rows = read_run(out, config.run_id, compact=False)
        evaluated = rows.query("kind == 'eval' and metric == 'return'")
        assert evaluated["env_steps"].tolist() == [*range(0, env_steps, eval_every), env_steps]
        assert env_steps <= run.counters.env_steps < env_steps + config.action_repeat
        assert agents[0].steps[0] == 0
        assert agents[0].steps == sorted(set(agents[0].steps))
        assert len(agents[0].steps) == run.counters.agent_steps
        assert evaluated["episodes"].map(len).tolist() == [1] * len(evaluated)


def test_steps_are_those_of_the_environment(tmp_path: Path) -> None:
    """catch repeats each action twice: 40 control steps an episode are 20 of the agent."""
    spec = spec_of(Still)
    config = configured(tmp_path, spec, env_steps=90, eval_every=90)
    go(config, spec)
    episodes = read_run(tmp_path, config.run_id).query("kind == 'episode' and metric == 'length'")
    assert episodes["env_steps"].tolist() == [40, 80]
    assert episodes["agent_steps"].tolist() == [20, 40]
    assert episodes["value"].tolist() == [40.0, 40.0]


def test_the_seed_decides_every_row(tmp_path: Path) -> None:
    spec = registry.agent("random")
    rows = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        config = configured(tmp_path / name, spec, env_steps=80, eval_every=40, seed=seed)
        go(config, spec)
        rows.append(measured(config).drop(columns=["run_id", "seed"]))
    assert rows[0].equals(rows[1])
    assert not rows[0]["value"].equals(rows[2]["value"])


def test_training_and_evaluation_never_share_an_episode(tmp_path: Path) -> None:
    spec = spec_of(Still)
    config = configured(tmp_path, spec, env_steps=400, eval_every=400, episodes=2)
    go(config, spec)
    rows = read_run(tmp_path, config.run_id).query("metric == 'return'")
    evaluated = {value for episodes in rows.query("kind == 'eval'")["episodes"] for value in episodes}
    assert len(evaluated) == 2
    assert not evaluated & set(rows.query("kind == 'episode'")["value"])


class Diverging(Still):
    loss = float("nan")

    def update(self, replay: Any, step: int) -> dict[str, torch.Tensor]:
        return {"critic_loss": torch.tensor(self.loss if step >= 60 else 1.0)}


def test_losses_stand_at_the_step_that_their_evaluation_was_due_at(tmp_path: Path) -> None:
    """An odd one, where each action takes two."""
    spec = spec_of(Diverging)
    config = configured(tmp_path, spec, env_steps=55, eval_every=55)
    go(config, spec)
    rows = read_run(tmp_path, config.run_id)
    assert rows.query("kind == 'train'")["env_steps"].tolist() == [55]


class Exploding(Diverging):
    loss = -3e9


class Lost(Still):
    def act(self, obs: Any, step: int, explore: bool) -> Any:
        return super().act(obs, step, explore) + np.float32(np.nan if step >= 60 else 0.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Diverging, "critic_loss is nan"),
        (Exploding, "critic_loss is -3e[+]09"),
        (Lost, r"action is \[nan\] at 60 env steps"),
    ],
)
def test_divergence_ends_the_run_before_it_is_evaluated(make: Any, message: str, tmp_path: Path) -> None:
    spec = spec_of(make)
    config = configured(tmp_path, spec, env_steps=200, eval_every=50)
    with pytest.raises(Diverged, match=message):
        go(config, spec)
    rows = read_run(tmp_path, config.run_id)
    assert rows.query("kind == 'eval'")["env_steps"].max() == 50
    assert np.isfinite(rows["value"]).all()
    assert not Checkpoints(run_folder(tmp_path, config.run_id) / "checkpoint").exists()


def test_a_diverged_run_is_not_checkpointed_when_it_is_stopped(tmp_path: Path) -> None:
    spec = spec_of(Diverging)
    config = configured(tmp_path, spec, env_steps=200, eval_every=200)
    with pytest.raises(Diverged):
        go(config, spec, StopAt(20 + 35))


def test_throughput_rows_account_for_all_time(unstopped: dict[str, RunConfig]) -> None:
    config = unstopped["drqv2"]
    rows = read_run(config.out, config.run_id).query("kind == 'throughput' and env_steps == 110")
    shares = rows[rows["metric"].str.endswith("_share")].set_index("metric")["value"]
    assert set(shares.index) == {f"{name}_share" for name in ("act", "update", "env", "evaluate", "other")}
    assert shares.sum() == pytest.approx(1.0)


def test_the_speed_of_a_session_is_that_of_its_own_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that went on at 900,000 steps has made 100 in 10 seconds."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    meter = Meter(lambda progress: None)
    meter.start(900_000)
    clock[0] = 10.0
    assert meter.throughput(900_000) == {}
    assert meter.throughput(900_100)["env_steps_per_s"] == pytest.approx(10.0)


def test_a_run_without_an_update_says_so(tmp_path: Path) -> None:
    """Windows longer than every episode: its rows would stand as those of an agent that learns."""
    for nstep, expected in ((30, 1), (2, 0)):
        warned: list[str] = []
        config = configured(tmp_path / str(nstep), registry.agent("drqv2"), 120, 120)
        config = replace(config, agent_config=config.agent_config | {"nstep": nstep, "seed_steps": 40})
        go(config, registry.agent("drqv2"), warn=warned.append)
        assert len([text for text in warned if "made no update in" in text]) == expected
