from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from reference_sac import Encoder, ReferenceSAC

from baselines.sac import AGENT, SAC, Config
from covr_bench.kit.api import Context
from covr_bench.kit.nets import delta_orthogonal_init
from covr_bench.kit.replay import Batch, Replay
from covr_bench.kit.sac.learner import SoftActorCritic
from covr_bench.kit.sac.networks import SquashedGaussianActor

torch.set_num_threads(1)
A, B = 2, 4
SMALL: dict[str, Any] = {"hidden_dim": 64, "random_agent_steps": 0}


class OneBatch:
    """A replay that always returns the same transitions."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def can_sample(self, nstep: int = 1) -> bool:
        return True

    def sample(self, n: int, nstep: int, discount: float) -> Batch:
        return self.batch


def context(side: int = 84) -> Context:
    return Context((9, side, side), A, 4, 100_000, "cpu", 0)


def agent(**settings: Any) -> SAC:
    torch.manual_seed(0)
    return SAC(Config(**(SMALL | settings)), context())


def batch(seed: int, side: int = 84) -> Batch:
    rng = np.random.default_rng(seed)
    obs, next_obs = rng.integers(0, 256, (2, B, 9, side, side), dtype=np.uint8)
    action = rng.uniform(-1, 1, (B, A)).astype(np.float32)
    reward = rng.uniform(0, 3, (B, 1)).astype(np.float32)
    discount = np.where(rng.random((B, 1)) < 0.2, 0, 0.99).astype(np.float32)
    return Batch(*(torch.from_numpy(x) for x in (obs, action, reward, discount, next_obs)), torch.arange(B))


def floats(transitions: Batch) -> list[torch.Tensor]:
    obs, action, reward, discount, next_obs = transitions[:5]
    return [obs / 255.0, action, reward, discount, next_obs / 255.0]


def head_weights(head: Any, encoder: Encoder) -> dict[str, torch.Tensor]:
    """Our linear layer reads features as (row, column, filter), the official one as (filter, row, column)."""
    weight, side = head[0].weight.detach(), encoder.out_side
    weight = weight.reshape(-1, side, side, encoder.filters).permute(0, 3, 1, 2).reshape(len(weight), -1)
    return {"fc.weight": weight, "fc.bias": head[0].bias, "ln.weight": head[1].weight, "ln.bias": head[1].bias}


def conv_weights(encoder: Encoder, ours: Any) -> list[tuple[torch.nn.Module, dict[str, Any]]]:
    mine = {"convs": ours} if hasattr(ours, "convs") else {"convs": ours.current, "prev_convs": ours.previous}
    return [(getattr(encoder, name), part.convs.state_dict()) for name, part in mine.items()]


def official_weights(ours: SoftActorCritic, reference: ReferenceSAC) -> list[tuple[torch.nn.Module, dict[str, Any]]]:
    """Modules of the reference with our weights for them."""
    return [
        *conv_weights(reference.critic.encoder, ours.encoder),
        *conv_weights(reference.target.encoder, ours.target_encoder),
        (reference.actor.trunk, ours.actor.policy.state_dict()),
        *((getattr(reference.critic, q), getattr(ours.critic, q).state_dict()) for q in ("q1", "q2")),
        *((getattr(reference.target, q), getattr(ours.target_critic, q).state_dict()) for q in ("q1", "q2")),
        (reference.actor.encoder, head_weights(ours.actor.head, reference.actor.encoder)),
        (reference.critic.encoder, head_weights(ours.critic.head, reference.critic.encoder)),
        (reference.target.encoder, head_weights(ours.target_critic.head, reference.target.encoder)),
    ]


def copy_into(reference: ReferenceSAC, ours: SoftActorCritic) -> None:
    for module, weights in official_weights(ours, reference):
        module.load_state_dict({name: weight.clone() for name, weight in weights.items()}, strict=len(weights) != 4)


def assert_same_weights(pairs: list[tuple[torch.nn.Module, dict[str, Any]]], lr: float) -> None:
    for module, weights in pairs:
        theirs = module.state_dict()
        for name, mine in weights.items():
            difference = (theirs[name] - mine).abs()
            # Adam turns a gradient that is zero up to rounding into a step of either sign: at most 2 lr each.
            assert difference.max() < 7 * lr, name
            assert (difference > 0.03 * lr).float().mean() < 4e-3, name


def see_every_pixel(*modules: torch.nn.Module, weight: float = 0.3) -> None:
    """Give convolutions all nine taps: as SAC initialises them, they see a quarter of the pixels and no border."""
    torch.manual_seed(0)
    for module in modules:
        for part in module.modules():
            if isinstance(part, torch.nn.Conv2d):
                part.weight.data += weight * torch.nn.init.orthogonal_(torch.empty_like(part.weight))


def noises(targets: int) -> list[torch.Tensor]:
    """The random numbers of one update, in the order the agent draws them: of each target, of the actor."""
    return [torch.randn(B, A) for _ in range(targets + 1)]


def assert_updates_equal(
    ours: Any,
    reference: ReferenceSAC,
    batches: list[Batch],
    seen: Any,
    lr: float,
    targets: int = 1,
    replay: type[OneBatch] = OneBatch,
    taps: float = 0.3,
) -> None:
    """Losses and weights of updates.

    seen: a batch's images as the networks get them, drawing what the agent draws. taps: see `see_every_pixel`.
    """
    see_every_pixel(ours.sac.encoder, ours.sac.target_encoder, weight=taps)
    copy_into(reference, ours.sac)
    for i, one in enumerate(batches):
        torch.manual_seed(i)
        transitions = seen(one)
        losses = reference.update(transitions, noises(targets), even=i % 2 == 0)
        torch.manual_seed(i)
        metrics = ours.update(replay(one), 0)
        for name, loss in losses.items():
            assert float(metrics[name]) == pytest.approx(loss, rel=3e-4, abs=1e-6), (i, name)
        if i == 0:
            assert_same_weights(official_weights(ours.sac, reference), lr)
    assert_same_weights(official_weights(ours.sac, reference), lr)
    assert ours.sac.log_alpha.item() == pytest.approx(reference.log_alpha.item(), abs=1e-6)


@pytest.mark.parametrize("hidden_dim", [64, 1024])
def test_updates_equal_the_papers_arithmetic(hidden_dim: int) -> None:
    ours, reference = agent(hidden_dim=hidden_dim), ReferenceSAC(action_dim=A, hidden_dim=hidden_dim)
    assert_updates_equal(ours, reference, [batch(i) for i in range(3)], floats, 1e-3)


def test_weights_really_moved() -> None:
    """Guards the test above: without the update its tolerances would not hold."""
    ours = agent()
    before = copy.deepcopy(ours.sac.parts())
    ours.update(OneBatch(batch(0)), 0)  # type: ignore[arg-type]
    for name in ("encoder", "actor", "critic"):
        old, new = before[name].state_dict(), ours.sac.parts()[name].state_dict()
        moved = torch.cat([(old[key] - new[key]).abs().flatten() for key in old])
        assert (moved > 5e-4).float().mean() > 0.3, name


def test_actor_loss_trains_its_own_head_and_leaves_convolutions_and_critic_alone() -> None:
    ours = agent()
    before = copy.deepcopy(ours.sac.parts())
    one = batch(0)
    ours.sac.update_actor_and_alpha(one, floats(one)[0], None)
    after = ours.sac.parts()
    for name in ("encoder", "critic", "target_encoder", "target_critic"):
        for key, value in before[name].state_dict().items():
            assert torch.equal(value, after[name].state_dict()[key]), (name, key)
    old, new = before["actor"].state_dict(), after["actor"].state_dict()
    assert all(not torch.equal(old[key], new[key]) for key in old)
    assert {key.split(".")[0] for key in old} == {"head", "policy"}


def test_targets_move_at_their_own_rates() -> None:
    ours = agent().sac
    online, target = (ours.encoder, ours.critic), (ours.target_encoder, ours.target_critic)
    for module in online:
        for weight in module.parameters():
            weight.data.add_(1.0)
    before = copy.deepcopy(target)
    ours.update_targets()
    for old, new in zip(before, target, strict=True):
        for (name, was), now in zip(old.named_parameters(), new.parameters(), strict=True):
            rate = 0.01 if name.startswith("q") else 0.05
            torch.testing.assert_close(now - was, torch.full_like(was, rate), atol=1e-6, rtol=1e-3)


def test_actor_temperature_and_targets_move_every_second_step() -> None:
    ours = agent(random_agent_steps=4)
    replay: Any = OneBatch(batch(0))
    moved, learned = [], []
    for step in range(8):
        parts = ("actor", "target_critic", "target_encoder")
        before = [next(iter(ours.sac.parts()[name].parameters())).clone() for name in parts] + [
            ours.sac.log_alpha.item()
        ]
        learned.append(bool(ours.update(replay, 4 * step)))
        after = [next(iter(ours.sac.parts()[name].parameters())) for name in parts]
        moved.append([not torch.equal(a, b) for a, b in zip(before, after, strict=False)])
        assert (before[-1] != ours.sac.log_alpha.item()) == moved[-1][0]
    assert learned == [False] * 4 + [True] * 4
    assert moved == [[False] * 3] * 4 + [[True] * 3, [False] * 3] * 2


def test_acting() -> None:
    ours = agent(random_agent_steps=1)
    see_every_pixel(ours.sac.encoder)
    obs = batch(0).obs[0].numpy()
    random_state = torch.get_rng_state()
    first, second = (ours.act(obs, 0, explore=False) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert torch.equal(random_state, torch.get_rng_state())
    mean, _ = ours.sac.actor(ours.sac.encoder(torch.from_numpy(obs)[None] / 255.0))
    np.testing.assert_allclose(first, torch.tanh(mean[0]).detach(), atol=1e-6)
    assert first.dtype == np.float32
    assert first.shape == (A,)
    early = np.array([ours.act(obs, 0, explore=True) for _ in range(200)])
    assert early.std(0) == pytest.approx([3**-0.5] * A, rel=0.15)  # uniform on [-1, 1]
    ours.update(OneBatch(batch(0)), 0)  # type: ignore[arg-type]
    ours.sac.actor.policy[-1].bias.data[A:] = -10.0  # the smallest standard deviation
    late = np.array([ours.act(obs, 4, explore=True) for _ in range(5)])
    np.testing.assert_allclose(late, np.repeat(ours.act(obs, 4, explore=False)[None], 5, 0), atol=1e-3)


def test_log_density_is_that_of_the_action() -> None:
    """Against a histogram of the squashed actions themselves."""
    torch.manual_seed(0)
    actor = SquashedGaussianActor(5, 1, 50, 32)
    features = torch.randn(1, 5).expand(200_000, 5)
    with torch.no_grad():
        actor.policy[-1].bias[1] = 0.5  # an ordinary spread
        action, log_pi = actor.sample(features)
    inside = (action - 0.3).abs() < 0.05
    assert inside.float().mean().item() / 0.1 == pytest.approx(log_pi[inside].exp().mean().item(), rel=0.05)


def test_log_std_stays_in_its_range() -> None:
    actor = SquashedGaussianActor(5, 1, 50, 32)
    for extreme, bound in ((-100.0, -10.0), (100.0, 2.0)):
        actor.policy[-1].bias.data[1] = extreme
        assert actor(torch.zeros(1, 5))[1].item() == pytest.approx(bound)


def test_convolutions_start_as_orthogonal_matrices() -> None:
    conv = torch.nn.Conv2d(32, 32, 3)
    delta_orthogonal_init(conv)
    centre = conv.weight.detach()[:, :, 1, 1]
    torch.testing.assert_close(centre @ centre.T, 2 * torch.eye(32), atol=1e-5, rtol=0)
    conv.weight.data[:, :, 1, 1] = 0
    assert not conv.weight.any() and not conv.bias.any()


def assert_same_state(first: Any, second: Any) -> None:
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same_state(first[key], second[key])
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, list | tuple):
        for one, other in zip(first, second, strict=True):
            assert_same_state(one, other)
    else:
        assert first == second


def assert_continues_bitwise(make: Any, batches: list[Batch], replay: type[OneBatch] = OneBatch) -> None:
    first, second = make(), make()
    first.update(replay(batches[0]), 0)
    torch.manual_seed(9)
    second.update(replay(batches[1]), 0)  # whatever it held is gone after loading
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert second.entropy(0) == first.entropy(0)
    for one in (first, second):
        torch.manual_seed(5)
        for i in (1, 2):
            one.update(replay(batches[i]), 4 * i)
    assert_same_state(first.state_dict(), second.state_dict())


def test_state_round_trip_continues_bitwise() -> None:
    assert_continues_bitwise(agent, [batch(i) for i in range(3)])


def test_convolutions_are_still_tied_after_loading() -> None:
    ours = agent()
    ours.load_state_dict(copy.deepcopy(ours.state_dict()))
    obs = batch(0).obs[0].numpy()
    before = ours.act(obs, 0, explore=False)
    policy = copy.deepcopy(ours.sac.actor.state_dict())
    one = batch(0)
    ours.sac.update_critic(one, floats(one)[0], torch.zeros(B, 1))
    assert_same_state(policy, ours.sac.actor.state_dict())
    assert not np.array_equal(before, ours.act(obs, 0, explore=False))  # the critic's step moved what the actor sees


@pytest.mark.deep
def test_critic_learns_the_value_of_a_terminal_reward() -> None:
    ours = agent()
    constant = batch(0)._replace(reward=torch.ones(B, 1), discount=torch.zeros(B, 1))
    for _ in range(60):
        metrics = ours.update(OneBatch(constant), 0)  # type: ignore[arg-type]
    assert float(metrics["q"]) == pytest.approx(1.0, abs=0.1)


def test_samples_one_step_transitions() -> None:
    asked = []

    class Asked(OneBatch):
        def sample(self, n: int, nstep: int, discount: float) -> Batch:
            asked.append((n, nstep, discount))
            return self.batch

    agent().update(Asked(batch(0)), 0)  # type: ignore[arg-type]
    assert asked == [(128, 1, 0.99)]


def test_update_without_enough_data_does_nothing() -> None:
    replay = Replay(16, (9, 84, 84), A, seed=0)
    replay.start(np.zeros((9, 84, 84), np.uint8))
    assert agent().update(replay, 100_000) == {}


def test_published_settings() -> None:
    config = Config()
    assert (config.batch_size, config.lr, config.critic_tau, config.encoder_tau) == (128, 1e-3, 0.01, 0.05)
    assert (config.alpha_lr, config.alpha_beta, config.init_temperature) == (1e-4, 0.5, 0.1)
    assert (config.actor_every, config.target_every, config.random_agent_steps) == (2, 2, 1000)
    assert {task: dict(settings) for task, settings in AGENT.task_defaults.items()} == {"dmc/cheetah_run": {"lr": 2e-4}}
    optimiser = agent().sac.alpha_opt.param_groups[0]
    assert (optimiser["lr"], optimiser["betas"]) == (1e-4, (0.5, 0.999))
