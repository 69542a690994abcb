"""What the loop hands on: to the replay, to the agent, to the rows and to the checkpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from experiments import configure

from covr_bench.config import registry
from covr_bench.kit.api import AgentSpec, Context
from covr_bench.kit.seeds import derive_seed, starts
from covr_bench.run.checkpoint import Checkpoints
from covr_bench.run.services import RunServices
from covr_bench.run.train import Run
from results.store import RunWriter, read_run, run_folder
from suites.base import Budget
from suites.catch import make as make_catch

SUITE = registry.suite("catch")


@dataclass(frozen=True)
class Config:
    pass


class Recorder:
    """Acts by the clock; keeps all that the loop tells it."""

    def __init__(self, config: Config, context: Context) -> None:
        self.context = context
        self.told: list[tuple[str, int, bool]] = []
        self.observations: list[Any] = []

    def act(self, obs: Any, step: int, explore: bool) -> Any:
        self.told.append(("act", step, explore))
        if explore:
            self.observations.append(obs.copy())
        return np.full(self.context.action_dim, np.sin(len(self.told)), np.float32)

    def update(self, replay: Any, step: int) -> dict[str, torch.Tensor]:
        self.told.append(("update", step, True))
        return {"loss": torch.tensor(float(step))}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


SPEC = AgentSpec("recorder", Config, Recorder, "control")


def finished(out: Path, task: str, env_steps: int = 240, **budget: Any) -> Run:
    """A whole run of the recorder."""
    lengths = {"eval_every": env_steps, "eval_episodes": 1} | budget
    agents = {"recorder": SPEC}
    (config,) = configure(SUITE, "catch", agents, Budget("tried", env_steps, **lengths), tasks=[task], out=str(out))
    made = SUITE.task(task)
    envs = [made.make(derive_seed(config.seed, name), **config.env) for name in ("train_env", "eval_env")]
    checkpoints = Checkpoints(run_folder(out, config.run_id) / "checkpoint")
    with RunWriter(out, config.run_id, action_repeat=config.action_repeat) as writer:
        run = Run(config, *envs, lambda context: Recorder(Config(), context), writer, checkpoints)  # type: ignore[arg-type]
        run.train()
    return run


def test_a_time_limit_is_no_end_of_the_value_and_a_true_end_is(tmp_path: Path) -> None:
    """Every stored one-step discount is gamma after a truncation; 0 where the episode terminated."""
    replay = finished(tmp_path / "a", "catch").replay
    batch = replay.at(replay.starts(), 1, 0.9)
    assert batch.discount.flatten().numpy() == pytest.approx(0.9)
    replay = finished(tmp_path / "b", "catch_or_end").replay
    starts_ = replay.starts()
    discount = replay.at(starts_, 1, 0.9).discount.flatten().numpy()
    last = np.array([replay.first[(slot + 2) % replay.capacity] == slot + 2 for slot in starts_[:-1]])
    missed = discount[:-1] == 0
    assert missed.any()
    assert not missed[~last].any()


def test_the_replay_holds_what_was_seen_done_and_earned(tmp_path: Path) -> None:
    run = finished(tmp_path, "catch")
    replay, agent = run.replay, run.agent
    slots = replay.starts()
    batch = replay.at(slots, 1, 1.0)
    seen = np.stack(agent.observations)  # type: ignore[attr-defined]
    assert np.array_equal(batch.obs.numpy(), seen[: len(slots)])
    acts = [i for i, (what, _, explore) in enumerate(agent.told) if what == "act" and explore]  # type: ignore[attr-defined]
    wanted = np.array([[np.sin(i + 1)] for i in acts], np.float32)
    assert np.array_equal(batch.action.numpy(), wanted[: len(slots)])
    env = SUITE.task("catch").make(0)
    env.reset(seed=derive_seed(run.config.seed, "train_episode", 0))
    rewards = [env.step(action)[1] for action in batch.action.numpy()[:20]]
    assert batch.reward.flatten().numpy()[:20] == pytest.approx(rewards)


def test_the_agent_acts_then_learns_at_every_step_and_evaluation_does_not_explore(tmp_path: Path) -> None:
    run = finished(tmp_path, "catch", 80, eval_every=40)
    told = run.agent.told  # type: ignore[attr-defined]
    training = [(what, step) for what, step, explore in told if explore]
    assert training == [(what, step) for step in range(0, 80, 2) for what in ("act", "update")]
    evaluated = [step for what, step, explore in told if not explore]
    assert sorted(set(evaluated)) == [0, 40, 80]
    assert evaluated.count(40) == 20
    assert run.counters.updates == 40


def test_rows_say_when_and_how_long(tmp_path: Path) -> None:
    run = finished(tmp_path, "catch", 80, eval_every=40, eval_episodes=2)
    rows = read_run(tmp_path, run.config.run_id)
    of = {kind: rows[rows["kind"] == kind] for kind in ("eval", "episode", "train", "end")}
    assert of["eval"].query("metric == 'return'")["env_steps"].tolist() == [0, 40, 80]
    assert of["episode"].query("metric == 'length'")["value"].tolist() == [40.0, 40.0]
    assert of["episode"].query("metric == 'return'")["env_steps"].tolist() == [40, 80]
    assert of["train"]["value"].tolist() == [38.0, 78.0]
    assert of["train"]["env_steps"].tolist() == [40, 80]
    assert set(of["episode"]["agent_steps"]) == {20, 40}


def test_training_episodes_and_evaluations_begin_where_the_seed_says(tmp_path: Path) -> None:
    run = finished(tmp_path, "catch", 80, eval_episodes=2)
    first = [slot for slot in range(len(run.replay)) if run.replay.first[slot] == slot]
    frames = []
    for number in range(2):
        env = SUITE.task("catch").make(0)
        obs, _ = env.reset(seed=derive_seed(run.config.seed, "train_episode", number))
        frames.append(obs[-3:])
        assert np.array_equal(run.replay.frames[first[number]], obs[-3:])
    assert not np.array_equal(*frames)
    assert run.eval_seeds == starts(run.config.seed, 2)


def test_the_final_checkpoint_is_of_the_whole_run(tmp_path: Path) -> None:
    run = finished(tmp_path, "catch", 80)
    (folder,) = (run_folder(tmp_path, run.config.run_id) / "checkpoint").glob("*-final")
    state = json.loads((folder / "state.json").read_text())["state"]["of"]
    assert folder.name == f"{80:012d}-final"
    assert (state["env_steps"], state["agent_steps"], state["updates"], state["episode"]) == (80, 40, 40, 2)


def test_a_checkpoint_is_made_as_often_as_the_run_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    monkeypatch.setattr(Checkpoints, "save", lambda self, env_steps, state, replay: made.append(env_steps))
    (config,) = configure(
        SUITE, "catch", {"recorder": SPEC}, Budget("tried", 40, 40, 1), tasks=["catch"], out=str(tmp_path)
    )
    for every, count in ((1e9, 0), (0.0, 20)):
        made.clear()
        changed = replace(config, checkpoint_every_s=every, out=str(tmp_path / str(count)))
        envs = [SUITE.task("catch").make(seed) for seed in (0, 1)]
        checkpoints = Checkpoints(run_folder(changed.out, config.run_id) / "checkpoint")
        with RunWriter(changed.out, config.run_id, action_repeat=2) as writer:
            Run(changed, *envs, lambda context: Recorder(Config(), context), writer, checkpoints).train()  # type: ignore[arg-type]
        assert len(made) == count


def services(seed: int, eval_env: Any) -> RunServices:
    none: Any = None
    counters: Any = SimpleNamespace(env_steps=0)
    lost: Any = SimpleNamespace(add=None)
    return RunServices(seed, none, eval_env, none, lambda: counters, lambda: None, lost, print, "catcher", 2)


def test_every_round_is_shown_other_episodes_of_its_teacher() -> None:
    def shown(number: int) -> Any:
        ours = services(0, make_catch(2, False, 0, image_size=8))
        return ours.demonstrate("scripted", 20, number, lambda obs: obs[-3:].transpose(1, 2, 0)).images

    assert np.array_equal(shown(1), shown(1)) and not np.array_equal(shown(1), shown(2))


def test_the_vlm_plays_from_the_starts_of_the_runs_evaluations() -> None:
    env = make_catch(2, False, 0, image_size=8)
    reset, begun = env.reset, []

    def watched(*, seed: int | None = None, options: Any = None) -> Any:
        begun.append(seed)
        return reset(seed=seed, options=options)

    env.reset = watched  # type: ignore[method-assign]
    ours = services(7, env)
    still = type("Still", (), {"act": lambda self, obs, step, explore: np.zeros(1, np.float32)})
    assert len(ours.play(lambda render: still(), 2)["return"]) == 2
    assert begun == starts(7, 2)


def test_a_demonstration_counts_episodes_and_the_steps_in_each() -> None:
    ours = services(0, make_catch(2, False, 0, image_size=8))
    shown = ours.demonstrate("scripted", 30, 0, lambda obs: obs[-3:].transpose(1, 2, 0))
    assert shown.episode.tolist() == [0] * 20 + [1] * 20
    assert shown.age.tolist() == [*range(20)] * 2
