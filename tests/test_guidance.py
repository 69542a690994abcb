"""What COVR asks of the agents it can wrap: an extra actor loss, and the policy's entropy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from deep import a_few_of
from test_ere import Recent
from test_resact import WithPast
from test_sac import SMALL, A, B, OneBatch, assert_same_state, batch, context
from test_spr import Sequences

from baselines import curl, deepmdp, drq, drqv2, ere, madi, mlr, per, playvirtual, rad, resact, sac, spr, svea, taco
from covr_bench.kit.api import GuidedAgent
from covr_bench.kit.replay import Batch

torch.set_num_threads(1)
DRQV2 = {"hidden_dim": 64, "lr": 1e-3, "seed_steps": 0, "update_every": 4, "stddev_start": 0.2}
MAKERS: dict[str, tuple[Any, dict[str, Any], int]] = {
    "sac": (sac, SMALL, 84),
    "rad-crop": (rad, SMALL | {"augmentation": "crop"}, 100),
    "rad-translate": (rad, SMALL, 108),
    "deepmdp": (deepmdp, SMALL | {"initial_updates": 1}, 84),
    "drqv2": (drqv2, DRQV2, 84),
    "taco": (taco, DRQV2, 21),
    "curl": (curl, SMALL, 100),
    "drq": (drq, SMALL, 84),
    "svea": (svea, SMALL | {"initial_updates": 1}, 84),
    "madi": (madi, SMALL | {"initial_updates": 1, "masker_filters": 4}, 47),
    "resact": (resact, SMALL, 108),
    "per": (per, SMALL | {"batch_size": B}, 84),
    "ere": (ere, SMALL, 84),
    "spr": (spr, SMALL | {"filters": 8, "steps": 2}, 100),
    "mlr": (mlr, SMALL | {"filters": 8, "frames": 2, "block_size": 1}, 100),
    "playvirtual": (playvirtual, SMALL | {"filters": 8, "steps": 2, "cycles": 2}, 100),
}


class Ranked(OneBatch):
    """As prioritised sampling sees a replay."""

    capacity, head = 2 * B, B + 1

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        self.rng = np.random.default_rng(0)

    def starts(self, nstep: int, *, until_terminal: bool) -> np.ndarray:
        return np.arange(B)

    def at(self, start: np.ndarray, nstep: int, discount: float) -> Batch:
        return self.batch


class Onward(OneBatch):
    """With what follows each transition."""

    def sample(self, n: int, nstep: int, discount: float, window: int) -> Batch:
        return self.batch

    def actions(self, slot: torch.Tensor, steps: int) -> torch.Tensor:
        return self.batch.action[:, None].repeat(1, steps, 1)


REPLAYS = {"taco": Onward, "resact": WithPast, "per": Ranked, "ere": Recent}
REPLAYS |= dict.fromkeys(("spr", "playvirtual", "mlr"), Sequences)


def agent(name: str) -> tuple[GuidedAgent, Batch]:
    """The agent and transitions of the size it renders."""
    module, settings, side = MAKERS[name]
    torch.manual_seed(0)
    return module.AGENT.make(module.Config(**settings), context(side)), batch(0, side)


def replay(name: str, transitions: Batch) -> Any:
    return REPLAYS.get(name, OneBatch)(transitions)


@pytest.mark.parametrize("name", MAKERS)
def test_guidance_of_zero_changes_nothing(name: str) -> None:
    states = []
    for guidance in (None, lambda given, action: 0.0 * action.sum()):
        ours, transitions = agent(name)
        torch.manual_seed(1)
        ours.update(replay(name, transitions), 0, guidance)
        states.append(ours.state_dict())
    assert_same_state(*states)


@pytest.mark.parametrize("name", a_few_of(MAKERS, "sac", "drqv2", "curl", "mrq"))
def test_guidance_pulls_the_action_and_nothing_else(name: str) -> None:
    advice = torch.full((B, A), 0.7)
    seen = []

    def guidance(given: Batch, action: torch.Tensor) -> torch.Tensor:
        assert given is transitions
        assert action.shape == (B, A)
        assert action.requires_grad
        seen.append(action.detach())
        return 1000 * (advice - action).square().sum(-1).mean()

    ours, transitions = agent(name)
    free, _ = agent(name)
    obs = transitions.obs[0].numpy()
    before = np.abs(ours.act(obs, 0, explore=False) - 0.7).max()
    for one, guided in ((ours, guidance), (free, None)):
        torch.manual_seed(1)
        one.update(replay(name, transitions), 0, guided)
    states = [one.state_dict().get("sac", one.state_dict()) for one in (ours, free)]
    assert_same_state(*([state[part] for part in ("encoder", "critic")] for state in states))
    for i in range(1, 25):
        ours.update(replay(name, transitions), 4 * i, guidance)
    # Only when the actor learns: in every update, in every second one, or in every second one from the second on.
    assert len(seen) == {"drqv2": 25, "taco": 25, "madi": 12}.get(name, 13)
    assert np.abs(ours.act(obs, 0, explore=False) - 0.7).max() < min(0.2, 0.4 * before)


@pytest.mark.parametrize("name", ["sac", "rad-crop", "deepmdp"])
def test_entropy_of_a_soft_policy_is_that_of_the_newest_actor_batch(name: str) -> None:
    ours, transitions = agent(name)
    assert math.isnan(ours.entropy(0))
    metrics = [ours.update(OneBatch(transitions), 0) for _ in range(2)]  # type: ignore[arg-type]
    assert ours.entropy(0) == float(metrics[0]["entropy"]) == float(metrics[1]["entropy"])
    alpha_loss, alpha = float(metrics[0]["alpha_loss"]), float(metrics[0]["alpha"])
    assert alpha_loss == pytest.approx(alpha * (ours.entropy(0) + A), rel=1e-5)


def test_entropy_of_drqv2_is_that_of_its_noise() -> None:
    module = drqv2
    ours = module.DrQV2(module.Config(hidden_dim=8, stddev_end=0.0, stddev_steps=100), context())
    for step, stddev in ((0, 1.0), (50, 0.5)):
        expected = torch.distributions.Normal(torch.zeros(A), stddev).entropy().sum()
        assert ours.entropy(step) == pytest.approx(expected.item())
    assert ours.entropy(100) == -math.inf
