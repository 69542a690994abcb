from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from reference_sac import ReferencePrediction
from test_sac import SMALL, A, assert_continues_bitwise, batch, context
from test_spr import Sequences, assert_predictions_equal, augmented, sequences

from baselines.mlr import AGENT, MLR, Config
from covr_bench.kit.errors import UserError

torch.set_num_threads(1)
FRAMES, COUNT = 4, 2
SETTINGS: dict[str, Any] = {"frames": FRAMES, "block_size": 2, "filters": 8, "model_batch_size": COUNT}


def agent(**settings: Any) -> MLR:
    torch.manual_seed(0)
    return MLR(Config(**(SMALL | SETTINGS | settings)), context(100))


def attention(block: Any, x: torch.Tensor) -> torch.Tensor:
    """One head, one sequence and one row at a time."""
    result = torch.empty_like(x)
    for b, sequence in enumerate(x):
        q, k, v = (sequence @ w.T for w in block.qkv.weight.chunk(3))
        for i in range(len(sequence)):
            weights = torch.exp(k @ q[i] / math.sqrt(x.shape[-1]))
            result[b, i] = (weights / weights.sum()) @ v
    return result


def reconstruct(model: Any, latents: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """latents `(T, n, 50)`, action `(T, n, A)`: places of sines and cosines, states before actions."""
    places = torch.tensor(
        [[(math.sin, math.cos)[i % 2](t / 10_000 ** ((i - i % 2) / 50)) for i in range(50)] for t in range(FRAMES)]
    )
    tokens = []
    for t in range(FRAMES):
        tokens += [latents[t] + places[t], action[t] @ model.action.weight.T + model.action.bias + places[t]]
    x = torch.stack(tokens, dim=1)
    for block in model.blocks:
        x = x + block.projection(attention(block, block.norm1(x)))
        hidden = block.mlp[0](block.norm2(x))
        x = x + block.mlp[2](hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2))))
    return x[:, ::2].transpose(0, 1)


def test_prediction_equals_the_papers_arithmetic() -> None:
    """At the published rate without its warm-up, in which three steps move next to nothing."""
    ours = agent()
    ours.share_of_rate = lambda updates: 1.0  # type: ignore[method-assign]
    ours.schedule = torch.optim.lr_scheduler.LambdaLR(ours.prediction.model_opt, ours.share_of_rate)
    reference = ReferencePrediction(84, copy.deepcopy(ours.prediction.model), reconstruct, filters=8)

    def seen(obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        masks = torch.rand(2, 100).argsort(1).argsort(1).reshape(2, 10, 10) >= 50
        masked = obs.clone()
        for t in range(FRAMES):
            for y, x in (~masks[t // 2]).nonzero().tolist():
                masked[t, :, :, 10 * y : 10 * y + 10, 10 * x : 10 * x + 10] = 0
        whole = (FRAMES, COUNT)
        return augmented(masked.flatten(0, 1)).unflatten(0, whole), augmented(obs.flatten(0, 1)).unflatten(0, whole)

    assert_predictions_equal(ours, reference, seen, FRAMES, weight=1.0)


def test_masks_are_cubes_of_half_the_patches() -> None:
    kept = agent().kept(torch.zeros(FRAMES, COUNT, 9, 100, 100, dtype=torch.uint8))
    assert kept.shape == (FRAMES, 1, 1, 100, 100)
    patches = kept.reshape(FRAMES, 10, 10, 10, 10).transpose(2, 3).flatten(3)
    assert (patches.amin(-1) == patches.amax(-1)).all()
    assert (patches[..., 0].flatten(1).sum(1) == 50).all()
    assert torch.equal(kept[0], kept[1]) and torch.equal(kept[2], kept[3]) and not torch.equal(kept[1], kept[2])


def test_rate_warms_up_and_then_falls() -> None:
    ours = agent(warm_up=2, lr=1e-3)
    rates = []
    for _ in range(9):
        rates.append(ours.prediction.model_opt.param_groups[0]["lr"] / 5e-4)
        ours.update_model(*sequences(FRAMES))
    assert rates[:3] == pytest.approx([5e-4, 0.50025, 1.0])
    assert rates[8] == pytest.approx(0.5)


def test_new_layers_start_small_and_the_critics_head_as_it_was() -> None:
    ours = agent()
    prediction = ours.prediction
    for part in (prediction.model, prediction.projector, prediction.predictor, prediction.target_projector):
        for layer in part.modules():
            if isinstance(layer, torch.nn.Linear):
                assert layer.weight.abs().max() <= 0.02
    head = ours.sac.critic.head[0].weight.detach()
    torch.testing.assert_close(head @ head.T, torch.eye(50), atol=1e-4, rtol=0)
    assert torch.equal(head, prediction.target_head[0].weight)


def test_state_round_trip_continues_bitwise() -> None:
    class OfFrames(Sequences):
        def sequences(self, n: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
            assert (n, length) == (COUNT, FRAMES)
            return sequences(length)

    assert_continues_bitwise(agent, [batch(i, 100) for i in range(3)], replay=OfFrames)


@pytest.mark.parametrize("settings", [{"block_size": 3}, {"patch_size": 7}])
def test_masks_that_do_not_fit_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(UserError, match="masks do not fill"):
        agent(**settings)


def test_published_settings() -> None:
    config = Config()
    assert (config.frames, config.mask_ratio, config.patch_size, config.block_size, config.blocks) == (
        16,
        0.5,
        10,
        8,
        2,
    )
    assert (config.batch_size, config.model_batch_size, config.filters, config.warm_up) == (512, 128, 64, 6000)
    assert Config(**AGENT.task_defaults["dmc/cartpole_swingup"]).block_size == 4
    assert Config(**AGENT.task_defaults["dmc/reacher_easy"]).block_size == 4
    assert Config(**AGENT.task_defaults["dmc/walker_walk"]).momentum_tau == 0.1
    assert agent().prediction.model.action.in_features == A
