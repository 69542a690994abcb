from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from reference_sac import ReferenceDeepMDP
from test_sac import (
    SMALL,
    A,
    OneBatch,
    assert_continues_bitwise,
    assert_same_weights,
    assert_updates_equal,
    batch,
    context,
    floats,
    see_every_pixel,
)

from baselines.deepmdp import AGENT, Config, DeepMDP

torch.set_num_threads(1)


def agent(**settings: Any) -> DeepMDP:
    torch.manual_seed(0)
    return DeepMDP(Config(**(SMALL | {"initial_updates": 1} | settings)), context())


def test_updates_equal_the_papers_arithmetic() -> None:
    ours, reference = agent(), ReferenceDeepMDP(action_dim=A, hidden_dim=64)
    pairs = [(reference.transition, ours.model.transition), (reference.reward, ours.model.reward)]
    for theirs, mine in pairs:
        theirs.load_state_dict(copy.deepcopy(mine.state_dict()))
    assert_updates_equal(ours, reference, [batch(i) for i in range(3)], floats, 1e-3)
    assert_same_weights([(theirs, mine.state_dict()) for theirs, mine in pairs], 1e-3)


def test_optimisers() -> None:
    ours = agent()
    (heads,), (encoder,) = ours.model.model_opt.param_groups, ours.model.encoder_opt.param_groups
    assert (heads["lr"], heads["weight_decay"], encoder["lr"], encoder["weight_decay"]) == (1e-3, 1e-7, 1e-3, 0)
    expected = [*ours.sac.encoder.parameters(), *ours.sac.critic.head.parameters()]
    assert [id(weight) for weight in encoder["params"]] == [id(weight) for weight in expected]


def test_weight_decay_reaches_adam() -> None:
    """With it, a weight whose gradient is zero still shrinks by the learning rate."""
    from covr_bench.kit.nets import adam

    weight = torch.nn.Parameter(torch.ones(3))
    optimiser = adam([weight], 1e-3, weight_decay=0.1)
    weight.grad = torch.zeros(3)
    optimiser.step()
    torch.testing.assert_close(weight.detach(), torch.full((3,), 0.999))


def test_model_loss_trains_encoder_and_heads_only() -> None:
    ours = agent()
    before = copy.deepcopy({**ours.sac.parts(), "transition": ours.model.transition, "reward": ours.model.reward})
    one = batch(0)
    ours.model.update(one, floats(one)[0], floats(one)[4])
    after = {**ours.sac.parts(), "transition": ours.model.transition, "reward": ours.model.reward}
    moved = {
        f"{name}.{key}".split(".")[0] + (f".{key.split('.')[0]}" if name == "critic" else "")
        for name in ("encoder", "actor", "critic", "target_encoder", "target_critic", "transition", "reward")
        for key, value in before[name].state_dict().items()
        if not torch.equal(value, after[name].state_dict()[key])
    }
    assert moved == {"encoder", "critic.head", "transition", "reward"}


@pytest.mark.parametrize(("random_steps", "first"), [(0, 1), (1, 1), (2, 2)])
def test_first_update_is_a_burst(random_steps: int, first: int) -> None:
    ours = agent(random_agent_steps=random_steps, initial_updates=3)
    sampled = []

    class Counting(OneBatch):
        def sample(self, n: int, nstep: int, discount: float) -> Any:
            sampled.append(ours.agent_steps - 1)
            return self.batch

        def can_sample(self, nstep: int = 1) -> bool:
            return ours.agent_steps > 1

    replay: Any = Counting(batch(0))
    learned = [bool(ours.update(replay, 4 * i)) for i in range(5)]
    assert learned == [i >= first for i in range(5)]
    assert sampled == [first, first, *range(first, 5)]
    assert (Config().initial_updates, Config().random_agent_steps) == (None, 1000)
    assert agent(random_agent_steps=500, initial_updates=None).initial_updates == 500


def test_model_learns_reward_and_dynamics() -> None:
    ours = agent()
    one = batch(0)
    images, next_images = floats(one)[0], floats(one)[4]
    losses = []
    for _ in range(15):
        ours.model.update(one, images, next_images)
        losses.append((float(ours.sac.metrics["transition_loss"]), float(ours.sac.metrics["reward_loss"])))
    assert losses[-1][0] < 0.5 * losses[0][0]
    assert losses[-1][1] < 0.5 * losses[0][1]


def test_acting_is_the_mean_without_exploration() -> None:
    ours = agent()
    see_every_pixel(ours.sac.encoder)
    obs = batch(0).obs[0].numpy()
    mean, _ = ours.sac.actor(ours.sac.encoder(torch.from_numpy(obs)[None] / 255.0))
    random_state = torch.get_rng_state()
    np.testing.assert_allclose(ours.act(obs, 0, explore=False), torch.tanh(mean[0]).detach(), atol=1e-6)
    assert torch.equal(random_state, torch.get_rng_state())


def test_state_round_trip_continues_bitwise() -> None:
    assert_continues_bitwise(agent, [batch(i) for i in range(3)])


@pytest.mark.parametrize("task", ["cartpole_swingup", "cheetah_run", "walker_walk"])
def test_published_settings_have_no_exceptions(task: str) -> None:
    config = Config(**AGENT.task_defaults.get(f"dmc/{task}", {}))
    assert (config.batch_size, config.lr, config.encoder_lr, config.model_lr) == (128, 1e-3, 1e-3, 1e-3)
    assert config.image_size == 84
