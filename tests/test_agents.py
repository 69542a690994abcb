"""Every agent that learns from replay goes on after a checkpoint as if it had never stopped."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from deep import a_few_of

from baselines.drqv2 import DrQV2
from covr_bench.config import registry
from covr_bench.kit.api import Context
from covr_bench.kit.replay import Replay
from covr_bench.run.checkpoint import Checkpoints, load_saved, state_bytes
from covr_bench.run.contract import check_agent
from covr_bench.run.trained import only_learning, trained_agent, what_acts

torch.set_num_threads(1)
A, EPISODE, STEPS, STOP = 2, 9, 22, 13
SMALL = {"random_agent_steps": 3, "seed_steps": 12, "update_every": 4, "initial_updates": 2, "target_period": 4}
TINY = {"batch_size": 4, "hidden_dim": 16, "feature_dim": 8, "filters": 8, "masker_filters": 4, "model_batch_size": 2}
SHORT = {"frames": 4, "block_size": 2, "steps": 3}
LEARNERS = [
    "sac",
    "rad",
    "deepmdp",
    "drqv2",
    "taco",
    "curl",
    "drq",
    "svea",
    "madi",
    "resact",
    "per",
    "ere",
    "spr",
    "mlr",
    "mrq",
    "playvirtual",
]


def agent(name: str) -> tuple[Any, int]:
    """With settings that let it learn at once, and the size of image it asks for."""
    spec = registry.agent(name)
    settings = {key: value for key, value in (SMALL | TINY | SHORT).items() if hasattr(spec.Config, key)}
    config = spec.Config(**settings)
    side = getattr(config, "image_size", 84)
    torch.manual_seed(0)
    return spec.make(config, Context((9, side, side), A, 4, 4 * STEPS, "cpu", 0)), side


def stack(episode: int, step: int, side: int) -> np.ndarray:
    frames = np.random.default_rng(episode).integers(0, 256, (EPISODE + 1, 3, side, side), dtype=np.uint8)
    return np.concatenate([frames[max(step - back, 0)] for back in (2, 1, 0)])


def train(ours: Any, replay: Replay, side: int, start: int, folder: Path | None) -> list[Any]:
    """Actions and losses of the steps from `start` on, an evaluation now and then; a checkpoint at STOP."""
    seen = []
    for t in range(start, STEPS):
        episode, step = divmod(t, EPISODE)
        obs = stack(episode, step, side)
        if step == 0:
            replay.start(obs)
        if folder and t == STOP:
            Checkpoints(folder).save(t, {"agent": ours.state_dict(), "torch": torch.get_rng_state()}, replay)
        action = ours.act(obs, 4 * t, explore=True)
        metrics = ours.update(replay, 4 * t)
        if t % 5 == 0:
            ours.act(stack(99, 0, side), 4 * t, explore=False)
        seen.append((action.tolist(), {name: float(value) for name, value in metrics.items()}))
        replay.add(action, float(step), False, stack(episode, step + 1, side))
    return seen


@pytest.mark.parametrize("name", a_few_of(LEARNERS, "sac", "drqv2", "curl", "mrq"))
def test_resumes_exactly(name: str, tmp_path: Path) -> None:
    (whole, side), (resumed, _) = agent(name), agent(name)
    replays = [Replay(16, (9, side, side), A, seed=seed) for seed in (1, 2)]  # the ring wraps before the checkpoint
    torch.manual_seed(3)
    expected = train(whole, replays[0], side, 0, tmp_path)
    state = Checkpoints(tmp_path).load(replays[1])
    assert state
    resumed.load_state_dict(state["agent"])
    torch.set_rng_state(state["torch"])
    again = train(resumed, replays[1], side, STOP, None)
    assert repr(again) == repr(expected[STOP:])  # as text: an entropy may be NaN
    assert any(metrics for _, metrics in again)


def test_an_agent_that_acts_in_its_own_way_is_published_whole() -> None:
    """One that derived from ours and chose by its critic was published with a critic made anew."""

    class ByCritic(DrQV2):
        def act(self, obs: Any, step: int, explore: bool) -> Any:
            return super().act(obs, step, explore)

    class Larger(DrQV2):
        pass

    config, context = (
        registry.agent("drqv2").Config(hidden_dim=16, feature_dim=8),
        Context((9, 84, 84), A, 4, 88, "cpu", 0),
    )
    assert only_learning(ByCritic(config, context)) == []
    assert only_learning(Larger(config, context)) == ["critic", "critic_target"]
    assert set(only_learning(agent("resact")[0])) > {"sac/critic", "transition"}


def spoilt(state: Any) -> Any:
    """With nothing but NaN for weights."""
    if isinstance(state, dict):
        return {key: spoilt(part) for key, part in state.items()}
    if isinstance(state, torch.Tensor) and state.is_floating_point():
        return torch.full_like(state, torch.nan)
    return state


@pytest.mark.parametrize("name", a_few_of(LEARNERS, "sac", "drqv2", "curl", "mrq"))
def test_a_published_policy_acts_the_same_without_what_only_learning_reads(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trained, side), (kept, _), (published, _) = agent(name), agent(name), agent(name)
    train(trained, Replay(16, (9, side, side), A, seed=1), side, 0, None)
    check_agent(trained)
    whole = trained.state_dict()
    Checkpoints(tmp_path).save_final(STEPS, what_acts({"agent": whole, "only_learning": only_learning(trained)}))
    saved = load_saved(tmp_path)
    assert saved
    assert state_bytes(saved.state["agent"]) < 0.3 * state_bytes(whole)

    kept.load_state_dict(whole)
    published.load_state_dict(spoilt(published.state_dict()) | {name: whole[name] for name in ("agent_steps",)})
    monkeypatch.setattr(registry, "make_agent", lambda *_: published)
    config: Any = SimpleNamespace(agent=name, agent_config={}, run_id="")
    assert trained_agent(config, saved, Context((9, side, side), A, 4, 4 * STEPS, "cpu", 0), None) is published
    actions = []
    for each in (kept, published):
        torch.manual_seed(5)
        seen = [stack(episode, step, side) for episode in (98, 99) for step in range(3)]
        actions.append([each.act(obs, 4 * STEPS, explore) for obs in seen for explore in (False, True)])
    assert np.array_equal(*actions)
