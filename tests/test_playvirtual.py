from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from reference_sac import ReferencePrediction, ReferenceSAC
from test_sac import (
    SMALL,
    A,
    assert_continues_bitwise,
    assert_same_weights,
    assert_updates_equal,
    batch,
    context,
    see_every_pixel,
)
from test_spr import Sequences, augmented, prediction_weights, seen_crops, sequences

from baselines.playvirtual import AGENT, Config, PlayVirtual, ramp
from covr_bench.kit.nets import adam

torch.set_num_threads(1)
K, M, C, COUNT = 3, 2, 2, 2
SETTINGS: dict[str, Any] = {"steps": K, "cycles": M, "cycle_steps": C, "filters": 8}


def agent(**settings: Any) -> PlayVirtual:
    torch.manual_seed(0)
    return PlayVirtual(Config(**(SMALL | SETTINGS | settings)), context(100))


class ReferencePlayVirtual(ReferencePrediction):
    """Each cycle by itself, its actions read backwards; two Adams that step on one gradient, clipped twice."""

    def __init__(self, model: torch.nn.ModuleDict, bound: float = 10.0) -> None:
        super().__init__(84, model, None, filters=8)
        self.bound = bound
        self.encoder_opt = torch.optim.Adam(self.encoder.parameters(), lr=5e-4)

    def update(self, seen: Any, targets: Any, action: Any, weight: float = 1.0) -> float:
        """targets: of the later frames `(K, n, ...)`, of the cycles `(M, n, ...)`. action: real, imagined."""
        first = self.encoder(seen)
        forward, z = 0.0, first
        for pixels, taken in zip(targets[0], action[0], strict=True):
            z = self.model["dm"](torch.cat([z, taken], 1))
            forward = forward + self.distance(z, pixels)
        cycle = 0.0
        for pixels, imagined in zip(targets[1], action[1], strict=True):
            z = first
            for taken in imagined:
                z = self.model["dm"](torch.cat([z, taken], 1))
            for taken in reversed(imagined):
                z = self.model["bdm"](torch.cat([z, taken], 1))
            cycle = cycle + self.distance(z, pixels) / M
        loss = forward + weight * cycle
        self.encoder_opt.zero_grad()
        self.opt.zero_grad()
        loss.backward()
        for parameters in (list(self.encoder.parameters()), self.parameters):
            total = float(torch.sqrt(sum((p.grad**2).sum() for p in parameters)))
            for p in parameters:
                p.grad *= min(1.0, self.bound / (total + 1e-6))
        self.encoder_opt.step()
        self.opt.step()
        return loss.item()

    def distance(self, latents: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """2 - 2 cos; no vector of these weights is as short as 1e-3."""
        with torch.no_grad():
            aimed = self.target_projector(self.target_encoder(pixels))
        predicted = self.predictor(self.projector(latents))
        return 2 - 2 * torch.cosine_similarity(predicted, aimed, dim=1).mean()


def drawn(obs: torch.Tensor) -> tuple[Any, Any, Any]:
    """Pixels and imagined actions `(M, C, n, A)`, drawn as the agent draws them."""
    first = augmented(obs[0])
    later = augmented(obs[1:].flatten(0, 1)).unflatten(0, (K, COUNT))
    imagined = (2 * torch.rand(C, M * COUNT, A) - 1).unflatten(1, (M, COUNT)).transpose(0, 1)
    return first, (later, torch.stack([augmented(obs[0]) for _ in range(M)])), imagined


@pytest.mark.parametrize("bound", [10.0, 0.05])
def test_prediction_equals_the_papers_arithmetic(bound: float) -> None:
    """The smaller bound cuts the encoder's gradient, and then the whole one."""
    ours = agent(max_gradient_norm=bound)
    ours.cycle_weight = 0.3
    reference = ReferencePlayVirtual(copy.deepcopy(ours.prediction.model), bound)
    see_every_pixel(ours.sac.encoder, ours.prediction.target_encoder)
    for module, weights in prediction_weights(ours, reference):
        module.load_state_dict({name: one.clone() for name, one in weights.items()}, strict=False)
    for i in range(3):
        obs, action = sequences(K + 1, seed=i)
        torch.manual_seed(i)
        first, targets, imagined = drawn(obs)
        loss = reference.update(first, targets, (action[:-1], imagined), 0.3)
        torch.manual_seed(i)
        ours.update_model(obs, action)
        assert float(ours.sac.metrics["prediction_loss"]) == pytest.approx(loss, rel=3e-4), i
    assert_same_weights(prediction_weights(ours, reference), 1e-3)


def test_without_a_sequence_it_is_sac_on_crops() -> None:
    ours, reference = agent(), ReferenceSAC(84, action_dim=A, hidden_dim=64, filters=8)
    batches = [batch(i, 100) for i in range(3)]
    assert_updates_equal(ours, reference, batches, seen_crops, 1e-3, replay=lambda one: Sequences(one, False))


def test_one_adam_of_twice_the_rate_goes_where_two_go() -> None:
    torch.manual_seed(0)
    one, two = (torch.nn.Parameter(torch.ones(5)) for _ in range(2))
    single, pair = adam([one], 1e-3), [adam([two], 5e-4) for _ in range(2)]
    for _ in range(5):
        one.grad = two.grad = torch.randn(5)
        for opt in (single, *pair):
            opt.step()
    torch.testing.assert_close(one, two, rtol=1e-6, atol=0)


def test_cycle_s_weight_grows_in_environment_steps() -> None:
    assert ramp(0, 50_000) == pytest.approx(math.exp(-5 * (1 - 1 / 50_000) ** 2))
    assert ramp(24_999, 50_000) == pytest.approx(math.exp(-1.25))
    assert ramp(49_999, 50_000) == ramp(80_000, 50_000) == 1.0
    ours, weights = agent(random_agent_steps=2), []
    for step in range(4):
        ours.update(Sequences(batch(0, 100)), 4 * step)  # type: ignore[arg-type]
        weights.append(ours.cycle_weight)
    assert weights[2:] == [ramp(8, 50_000), ramp(12, 50_000)]  # an agent step is four of the environment
    metrics = {name: float(value) for name, value in ours.sac.metrics.items()}
    total = K * metrics["forward_loss"] + weights[-1] * metrics["cycle_loss"]
    assert metrics["prediction_loss"] == pytest.approx(total, rel=1e-5)


def test_only_the_cycle_trains_the_backward_model() -> None:
    obs, action = sequences(K + 1)
    for weight, moves in ((0.0, False), (1.0, True)):
        ours = agent()
        ours.cycle_weight = weight
        before = copy.deepcopy(ours.prediction.model.state_dict())
        ours.update_model(obs, action)
        after = ours.prediction.model.state_dict()
        assert all(torch.equal(before[name], after[name]) != moves for name in before if name.startswith("bdm"))
        assert not any(torch.equal(before[name], after[name]) for name in before if name.startswith("dm"))


def test_imagined_actions_are_uniform() -> None:
    action = agent().imagined_actions(5000)
    assert action.shape == (C, 5000, A)
    assert action.abs().max() <= 1
    assert action.mean().abs() < 0.02
    assert float(action.std()) == pytest.approx(3**-0.5, rel=0.02)


def test_every_cycle_has_a_target_of_its_own() -> None:
    ours, seen = agent(), []
    targets = ours.prediction.targets
    ours.prediction.targets = lambda obs: (seen.append(targets(obs)), seen[-1])[1]  # type: ignore[method-assign]
    see_every_pixel(ours.prediction.target_encoder)
    ours.update_model(*sequences(K + 1))
    later, *cycles = seen
    assert later.shape == (K * COUNT, 50)  # the first observation's is not made: nothing is compared with it
    assert len(cycles) == M
    assert not torch.allclose(cycles[0], cycles[1])


def test_order_of_an_update() -> None:
    ours, calls = agent(), []
    for name in ("step_critic", "update_actor_and_alpha", "update_targets"):
        method = getattr(ours.sac, name)
        setattr(ours.sac, name, lambda *a, _n=name, _m=method, **k: (calls.append(_n), _m(*a, **k))[1])
    step = ours.prediction.step
    ours.prediction.step = lambda *a: (calls.append("prediction"), step(*a))[1]  # type: ignore[method-assign]
    for _ in range(2):
        ours.update(Sequences(batch(0, 100)), 0)  # type: ignore[arg-type]
    critic_and_prediction = ["step_critic", "prediction"]
    assert calls == [*critic_and_prediction, "update_actor_and_alpha", "update_targets", *critic_and_prediction]


def test_state_round_trip_continues_bitwise() -> None:
    assert_continues_bitwise(agent, [batch(i, 100) for i in range(3)], replay=Sequences)


def test_published_settings() -> None:
    config = Config()
    assert (config.batch_size, config.model_batch_size, config.filters, config.image_size) == (512, 128, 64, 100)
    assert (config.steps, config.cycle_steps, config.cycles, config.ramp_env_steps) == (6, 6, 10, 50_000)
    assert (config.projection_dim, config.model_dim, config.jitter, config.max_gradient_norm) == (100, 512, 0.05, 10)
    assert (config.lr, config.momentum_tau, config.critic_tau, config.encoder_tau) == (1e-3, 0.05, 0.01, 0.05)
    assert (config.hidden_dim, config.feature_dim, config.alpha_lr, config.alpha_beta) == (1024, 50, 1e-4, 0.5)
    assert [group["lr"] for group in agent(lr=2e-4).prediction.model_opt.param_groups] == [2e-4, 1e-4]
    assert {task: dict(s) for task, s in AGENT.task_defaults.items()} == {"dmc/cheetah_run": {"lr": 2e-4}}
