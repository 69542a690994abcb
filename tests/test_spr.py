from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from reference_sac import ReferencePrediction, ReferenceSAC, crop
from test_sac import (
    SMALL,
    A,
    B,
    OneBatch,
    assert_continues_bitwise,
    assert_same_weights,
    assert_updates_equal,
    batch,
    context,
    head_weights,
    see_every_pixel,
)

from baselines.spr import AGENT, SPR, Config
from covr_bench.kit.replay import Batch

torch.set_num_threads(1)
K = 3


class Sequences(OneBatch):
    """The same transitions, and the same sequences, every time; none if they are not asked for."""

    def __init__(self, batch: Batch, sequences: bool = True) -> None:
        super().__init__(batch)
        self.sequences_stored = sequences

    def can_sample(self, nstep: int = 1) -> bool:
        return nstep == 1 or self.sequences_stored

    def sequences(self, n: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        return sequences(length)


def sequences(length: int, seed: int = 0, count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    obs = rng.integers(0, 256, (length, count, 9, 100, 100), dtype=np.uint8)
    return torch.from_numpy(obs), torch.from_numpy(rng.uniform(-1, 1, (length, count, A)).astype(np.float32))


def agent(**settings: Any) -> SPR:
    torch.manual_seed(0)
    return SPR(Config(**(SMALL | {"steps": K, "filters": 8} | settings)), context(100))


def augmented(obs: torch.Tensor) -> torch.Tensor:
    """Drawing what the agent draws: y then x of each image, then its brightness."""
    corners = torch.stack([torch.randint(0, 17, (len(obs),)) for _ in range(2)], 1).numpy()
    brightness = 1 + 0.05 * torch.randn(len(obs), 1, 1, 1).clamp(-2, 2)
    return torch.from_numpy(crop(obs.numpy(), corners, 84)) / 255.0 * brightness


def prediction_weights(ours: Any, reference: ReferencePrediction) -> list[Any]:
    """Modules of the reference with our weights for them."""
    return [
        (reference.encoder.convs, ours.sac.encoder.convs.state_dict()),
        (reference.encoder, head_weights(ours.sac.critic.head, reference.encoder)),
        (reference.target_encoder.convs, ours.prediction.target_encoder.convs.state_dict()),
        (reference.target_encoder, head_weights(ours.prediction.target_head, reference.target_encoder)),
        *(
            (getattr(reference, name), getattr(ours.prediction, name).state_dict())
            for name in ("model", "projector", "predictor", "target_projector")
        ),
    ]


def assert_predictions_equal(ours: Any, reference: ReferencePrediction, seen: Any, length: int, weight: float) -> None:
    """Losses and weights of three steps; seen: pixels of a sequence's frames and its targets', as the agent draws."""
    see_every_pixel(ours.sac.encoder, ours.prediction.target_encoder)
    for module, weights in prediction_weights(ours, reference):
        module.load_state_dict({name: one.clone() for name, one in weights.items()}, strict=False)
    for i in range(3):
        obs, action = sequences(length, seed=i)
        torch.manual_seed(i)
        loss = reference.update(*seen(obs), action, weight)
        torch.manual_seed(i)
        ours.update_model(obs, action)
        assert float(ours.sac.metrics["prediction_loss"]) == pytest.approx(loss, rel=3e-4), i
    assert_same_weights(prediction_weights(ours, reference), 5e-4)


def rollout(model: torch.nn.Module, latents: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """K latents predicted one from the other, after the first observation's own."""
    steps = [latents[0]]
    for taken in action[:K]:
        steps.append(model(torch.cat([steps[-1], taken], 1)))
    return torch.stack(steps[1:])


def test_prediction_equals_the_papers_arithmetic() -> None:
    ours = agent()
    reference = ReferencePrediction(84, copy.deepcopy(ours.prediction.model), rollout, filters=8)

    def seen(obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return augmented(obs[0])[None], augmented(obs[1:].flatten(0, 1)).unflatten(0, (K, 2))

    assert_predictions_equal(ours, reference, seen, K + 1, weight=K)


def seen_crops(one: Batch) -> list[torch.Tensor]:
    corners = [torch.stack([torch.randint(0, 16, (B,)) for _ in range(2)], 1).numpy() for _ in range(2)]
    obs, next_obs = (
        torch.from_numpy(crop(images.numpy(), c, 84)) / 255.0
        for images, c in zip((one.obs, one.next_obs), corners, strict=True)
    )
    return [obs, one.action, one.reward, one.discount, next_obs]


def test_without_a_sequence_it_is_sac_on_crops() -> None:
    ours, reference = agent(), ReferenceSAC(84, action_dim=A, hidden_dim=64, filters=8)
    batches = [batch(i, 100) for i in range(3)]
    assert_updates_equal(ours, reference, batches, seen_crops, 1e-3, replay=lambda one: Sequences(one, False))


def test_order_of_an_update() -> None:
    ours, calls = agent(), []
    for name in ("step_critic", "update_actor_and_alpha", "update_targets"):
        method = getattr(ours.sac, name)
        setattr(ours.sac, name, lambda *a, _n=name, _m=method, **k: (calls.append(_n), _m(*a, **k))[1])
    step = ours.prediction.step
    ours.prediction.step = lambda *a, **k: (calls.append("prediction"), step(*a, **k))[1]  # type: ignore[method-assign]
    for _ in range(2):
        ours.update(Sequences(batch(0, 100)), 0)  # type: ignore[arg-type]
    assert calls == [
        "step_critic",
        "prediction",
        "update_actor_and_alpha",
        "update_targets",
        "step_critic",
        "prediction",
    ]


def test_targets_follow_slowly_every_second_step_and_get_no_gradient() -> None:
    ours = agent()
    pairs = [
        (ours.prediction.target_encoder, ours.sac.encoder),
        (ours.prediction.target_projector, ours.prediction.projector),
    ]
    for step in range(2):
        before = [copy.deepcopy(slow) for slow, _ in pairs]
        ours.update(Sequences(batch(0, 100)), 0)  # type: ignore[arg-type]
        for old, (slow, fast) in zip(before, pairs, strict=True):
            for was, now, aim in zip(old.parameters(), slow.parameters(), fast.parameters(), strict=True):
                expected = was + 0.05 * (aim - was) if step == 0 else was
                torch.testing.assert_close(now, expected, atol=1e-7, rtol=1e-5)
                assert now.grad is None


def test_gradients_are_clipped_as_one() -> None:
    ours = agent(max_gradient_norm=1e-3)
    ours.update_model(*sequences(K + 1))
    total = torch.stack([p.grad.norm() for p in ours.prediction.trained if p.grad is not None]).norm()
    assert float(total) == pytest.approx(1e-3, rel=1e-2)


def test_state_round_trip_continues_bitwise() -> None:
    assert_continues_bitwise(agent, [batch(i, 100) for i in range(3)], replay=Sequences)


def test_published_settings() -> None:
    config = Config()
    assert (config.batch_size, config.model_batch_size, config.filters, config.steps) == (512, 128, 64, 6)
    assert (config.projection_dim, config.model_dim, config.jitter, config.max_gradient_norm) == (100, 512, 0.05, 10)
    assert agent(lr=2e-4).prediction.model_opt.param_groups[0]["lr"] == 1e-4
    assert {task: dict(s) for task, s in AGENT.task_defaults.items()} == {
        "dmc/cheetah_run": {"lr": 2e-4},
        "dmc/walker_walk": {"momentum_tau": 0.1},
    }
