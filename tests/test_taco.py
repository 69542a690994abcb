from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from reference_drqv2 import exact_shift, linear_layers
from test_sac import assert_same_state
from torch import nn

from baselines.taco import AGENT, TACO, Config, latent_action_dim
from covr_bench.kit.api import Context
from covr_bench.kit.replay import Batch, Replay

torch.set_num_threads(1)
A, B, K, SIDE, OUT = 2, 6, 3, 21, 4  # OUT: pixels that four convolutions leave of a side
CONTEXT = Context((9, SIDE, SIDE), A, 2, 100_000, "cpu", 0)
LOSSES = ("critic_loss", "actor_loss", "temporal_loss", "contrastive_loss", "reward_loss")


class Onward:
    """A replay that always returns the same transitions, and what follows them."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        obs, next_obs, later = rng.integers(0, 256, (3, B, 9, SIDE, SIDE), dtype=np.uint8)
        taken = rng.uniform(-1, 1, (B, K, A)).astype(np.float32)
        reward = rng.uniform(0, 3, (B, 1)).astype(np.float32)
        discount = np.where(rng.random((B, 1)) < 0.2, 0, 0.97).astype(np.float32)
        columns = (obs, taken[:, 0], reward, discount, next_obs)
        self.batch = Batch(*(torch.from_numpy(x) for x in columns), torch.arange(B))
        self.taken, self.later = torch.from_numpy(taken), torch.from_numpy(later)
        self.asked: list[Any] = []

    def can_sample(self, nstep: int) -> bool:
        self.asked.append(nstep)
        return True

    def sample(self, n: int, nstep: int, discount: float, window: int) -> Batch:
        self.asked.append((n, nstep, discount, window))
        return self.batch

    def actions(self, slot: torch.Tensor, steps: int) -> torch.Tensor:
        assert torch.equal(slot, self.batch.slot)
        return self.taken[:, :steps]

    def after(self, slot: torch.Tensor, steps: int) -> torch.Tensor:
        assert torch.equal(slot, self.batch.slot)
        self.asked.append(("after", steps))
        return self.later


def agent(**settings: Any) -> TACO:
    torch.manual_seed(0)
    return TACO(Config(**({"hidden_dim": 32, "seed_steps": 0, "update_every": 2} | settings)), CONTEXT)


def update(ours: TACO, seed: int, step: int = 0) -> dict[str, float]:
    metrics = ours.update(Onward(seed), step)  # type: ignore[arg-type]
    return {name: float(value) for name, value in metrics.items()}


def trunk() -> nn.Sequential:
    return nn.Sequential(nn.Linear(32 * OUT**2, 50), nn.LayerNorm(50), nn.Tanh())


class ReferenceTACO:
    """The whole agent as the official code has it: an Adam per part, two that own the encoder and the embedding."""

    def __init__(self, hidden: int = 32, lr: float = 1e-4) -> None:
        latent = 3  # of two actions
        self.encoder = nn.Sequential()
        for channels, stride in ((9, 2), (32, 1), (32, 1), (32, 1)):
            self.encoder.extend([nn.Conv2d(channels, 32, 3, stride), nn.ReLU()])
        self.encoder.append(nn.Flatten())
        self.single = nn.Sequential(nn.Linear(A, 64), nn.Tanh(), nn.Linear(64, latent))
        self.joint = nn.Sequential(nn.Linear(K * latent, K * latent), nn.LayerNorm(K * latent), nn.Tanh())
        self.actor_trunk, self.policy = trunk(), linear_layers(50, hidden, hidden, A)
        sizes = (50 + latent, hidden, hidden, 1)
        self.critic = nn.ModuleDict({"trunk": trunk(), "q1": linear_layers(*sizes), "q2": linear_layers(*sizes)})
        self.target = copy.deepcopy(self.critic)
        self.project = trunk()
        self.g, self.r = linear_layers(50 + K * latent, hidden, 50), linear_layers(50 + K * latent, hidden, 1)
        self.bilinear = nn.Parameter(torch.empty(50, 50))

        def opt(*parts: nn.Module, extra: tuple[nn.Parameter, ...] = ()) -> torch.optim.Adam:
            return torch.optim.Adam([*(weight for part in parts for weight in part.parameters()), *extra], lr=lr)

        self.encoder_opt, self.critic_opt = opt(self.encoder, self.single, self.joint), opt(self.critic)
        self.actor_opt = opt(self.actor_trunk, self.policy)
        auxiliary = (self.encoder, self.single, self.joint, self.project, self.g, self.r)
        self.auxiliary_opt = opt(*auxiliary, extra=(self.bilinear,))

    def encode(self, obs: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        return self.encoder(exact_shift(obs.float(), shift) / 255.0 - 0.5)

    def action(self, h: torch.Tensor, noise: torch.Tensor, stddev: float) -> torch.Tensor:
        mean = torch.tanh(self.policy(self.actor_trunk(h)))
        raw = mean + torch.clamp(noise * stddev, -0.3, 0.3)
        return raw - raw.detach() + raw.detach().clamp(-1 + 1e-6, 1 - 1e-6)

    def q(self, critic: nn.ModuleDict, h: torch.Tensor, action: torch.Tensor) -> list[torch.Tensor]:
        joined = torch.cat([critic["trunk"](h), self.single(action)], dim=1)
        return [critic["q1"](joined), critic["q2"](joined)]

    def found(self, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Of the softmax over a row, minus the logarithm of the own key's share."""
        similarity = query @ (self.bilinear @ keys.T)
        similarity = similarity - similarity.max(dim=1, keepdim=True).values
        return -torch.log(similarity.diagonal().exp() / similarity.exp().sum(dim=1)).mean()

    def update(self, batch: Batch, taken, later, shifts, noises, stddev: float) -> list[float]:
        """shifts: five `(B, 2)` in 0..8 as (x, y): of s, of s', then of s, s and the later state for the auxiliary."""
        obs, action, reward, discount, next_obs = batch[:5]
        h = self.encode(obs, shifts[0])
        with torch.no_grad():
            next_h = self.encode(next_obs, shifts[1])
            next_q = torch.minimum(*self.q(self.target, next_h, self.action(next_h, noises[0], stddev)))
            y = reward + discount * next_q
        critic_loss = sum(((q - y) ** 2).mean() for q in self.q(self.critic, h, action))
        self.step(critic_loss, self.encoder_opt, self.critic_opt)
        h = h.detach()
        actor_loss = -torch.minimum(*self.q(self.critic, h, self.action(h, noises[1], stddev))).mean()
        self.step(actor_loss, self.actor_opt)
        with torch.no_grad():
            for new, old in zip(self.critic.parameters(), self.target.parameters(), strict=True):
                old.copy_(0.01 * new + 0.99 * old)
        z = self.project(self.encode(obs, shifts[2]))
        positive = self.project(self.encode(obs, shifts[3])).detach()
        z_later = self.project(self.encode(later, shifts[4])).detach()
        u = self.joint(torch.cat([self.single(taken[:, k]) for k in range(K)], dim=1))
        known = torch.cat([z, u], dim=1)
        temporal, contrast = self.found(self.g(known), z_later), self.found(z, positive)
        reward_loss = ((self.r(known) - reward) ** 2).mean()
        self.step(temporal + contrast + reward_loss, self.auxiliary_opt)
        return [loss.item() for loss in (critic_loss, actor_loss, temporal, contrast, reward_loss)]

    def step(self, loss: torch.Tensor, *opts: torch.optim.Adam) -> None:
        for opt in opts:
            opt.zero_grad()
        loss.backward()
        for opt in opts:
            opt.step()

    def pairs(self, ours: TACO) -> list[tuple[nn.Module, nn.Module]]:
        """Modules here with those of the agent, in the same order of weights."""
        prediction = ours.prediction
        return [
            (self.encoder, ours.encoder), (self.single, ours.action_encoder.single),
            (self.joint, ours.action_encoder.joint), (self.actor_trunk, ours.actor.trunk),
            (self.policy, ours.actor.policy), (self.critic, ours.critic), (self.target, ours.critic_target),
            (self.project, prediction.project), (self.g, prediction.later), (self.r, prediction.reward),
        ]  # fmt: skip

    def weights(self, ours: TACO) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Each weight here with the agent's for it, whose trunks read (row, column, filter)."""
        found = [(self.bilinear.data, ours.prediction.weight.data)]
        for theirs, mine in self.pairs(ours):
            for a, b in zip(theirs.parameters(), mine.parameters(), strict=True):
                wide = b.dim() == 2 and b.shape[1] == 32 * OUT**2
                value = b.data.reshape(-1, OUT, OUT, 32).permute(0, 3, 1, 2).reshape(len(b), -1) if wide else b.data
                found.append((a.data, value))
        return found


def draws(seed: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The random numbers of one update, in the order the agent draws them; its shifts are (y, x)."""

    def shift() -> torch.Tensor:
        return torch.randint(0, 9, (B, 2)).flip(1)

    torch.manual_seed(seed)
    next_shift, next_noise, first = shift(), torch.randn(B, A), shift()
    noise = torch.randn(B, A)
    return [first, next_shift, shift(), shift(), shift()], [next_noise, noise]


@pytest.mark.parametrize("nstep", [1, 3])
def test_updates_equal_the_official_arithmetic(nstep: int) -> None:
    ours, reference = agent(nstep=nstep), ReferenceTACO()
    for theirs, mine in reference.weights(ours):
        theirs.copy_(mine)
    before = [mine.clone() for _, mine in reference.weights(ours)]
    for i in range(3):
        replay, step = Onward(i), 40_000 * (i + 1)
        shifts, noises = draws(i)
        later = replay.batch.next_obs if nstep == K else replay.later
        expected = reference.update(replay.batch, replay.taken, later, shifts, noises, 1 - 0.9 * step / 200_000)
        torch.manual_seed(i)
        metrics = ours.update(replay, step)  # type: ignore[arg-type]
        # Rounding differs between processors, and Adam's first steps enlarge it: 3.4e-5 was seen in the third update.
        assert [float(metrics[name]) for name in LOSSES] == pytest.approx(expected, rel=1e-4, abs=1e-6), i
    for (theirs, mine), old in zip(reference.weights(ours), before, strict=True):
        difference = (theirs - mine).abs()
        # Adam turns a gradient that is zero up to rounding into a step of either sign: at most 2 lr each.
        assert difference.max() < 7e-4
        assert (difference > 3e-6).float().mean() < 2e-3
        assert not torch.equal(old, mine)


def test_what_each_loss_moves() -> None:
    parts = ("encoder", "actor", "critic", "critic_target", "action_encoder", "prediction")

    def moved(act: Any) -> set[str]:
        ours = agent(nstep=1)
        before = {name: copy.deepcopy(getattr(ours, name).state_dict()) for name in parts}
        torch.manual_seed(1)
        act(ours, Onward(0))
        return {
            f"{name}.{key.split('.')[0]}" if name in ("action_encoder", "prediction") else name
            for name in parts
            for key, value in getattr(ours, name).state_dict().items()
            if not torch.equal(before[name][key], value)
        }

    images = torch.rand(B, 9, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    features = torch.rand(B, 32 * OUT**2)
    assert moved(lambda ours, replay: ours.update_critic(images, replay.batch.action, replay.batch.reward)) == {
        "encoder", "critic", "action_encoder.single",
    }  # fmt: skip
    assert moved(lambda ours, replay: ours.update_actor(features, 0.1, replay.batch, None)) == {"actor"}
    assert moved(lambda ours, replay: ours.update_prediction(replay.batch, replay.taken, replay.later)) == {
        "encoder", "action_encoder.single", "action_encoder.joint",
        "prediction.project", "prediction.later", "prediction.reward", "prediction.weight",
    }  # fmt: skip


def test_the_target_takes_the_online_embedding() -> None:
    values = []
    for change in (0.0, 1.0):
        ours = agent()
        ours.action_encoder.single[-1].bias.data += change
        torch.manual_seed(1)
        values.append(ours.target_q(Onward(0).batch, 0.1))
    assert not torch.allclose(*values)
    assert [tuple(q[0].weight.shape) for q in (ours.critic_target.q1, ours.critic_target.q2)] == [(32, 53)] * 2


def test_q_value_is_of_the_embedded_action() -> None:
    ours, one = agent(), Onward(0).batch
    features = ours.encoder((one.obs / 255.0 - 0.5).contiguous(memory_format=torch.channels_last))
    expected = torch.min(*ours.critic(features, ours.action_encoder.single(one.action)))[:, 0]
    torch.testing.assert_close(ours.q_value(one.obs, one.action), expected.detach())


def test_states_that_are_looked_for_have_no_gradient() -> None:
    """The loss's gradient reaches the convolutions by one view of s only."""
    ours, passes = agent(nstep=1), []
    ours.encoder.register_forward_hook(lambda module, given, features: passes.append(features.requires_grad))
    update(ours, 0)
    assert passes == [False, True, True, False, False]  # s'; s; s; another s; the later state


@pytest.mark.parametrize(("nstep", "steps", "window"), [(3, 3, 3), (1, 3, 3), (3, 1, 3)])
def test_windows_hold_both_the_return_and_the_actions(nstep: int, steps: int, window: int) -> None:
    ours, replay = agent(nstep=nstep, steps=steps, batch_size=B), Onward(0)
    ours.update(replay, 0)  # type: ignore[arg-type]
    later = [] if nstep == steps else [("after", steps)]
    assert replay.asked == [window, (B, nstep, 0.99, window), *later]


def test_learns_from_a_replay() -> None:
    replay = Replay(40, CONTEXT.obs_shape, A, seed=0)
    rng = np.random.default_rng(0)
    for length in (2, 9, 3):
        stack = rng.integers(0, 256, CONTEXT.obs_shape, dtype=np.uint8)
        replay.start(stack)
        for _ in range(length):
            replay.add(
                rng.uniform(-1, 1, A).astype(np.float32), 1.0, False, rng.integers(0, 256, (9, SIDE, SIDE), np.uint8)
            )
    ours = agent(nstep=1, batch_size=4)
    metrics = ours.update(replay, 0)
    assert set(LOSSES) <= metrics.keys()


def test_the_rewards_and_the_later_states_are_learned() -> None:
    ours = agent(lr=1e-3, shift_pad=0)
    first, *_, last = [update(ours, 0, 2 * i) for i in range(40)]
    assert first["temporal_loss"] > 0.5 * np.log(B)
    assert last["temporal_loss"] < 0.5 * first["temporal_loss"]
    assert last["reward_loss"] < 0.5 * first["reward_loss"]


def test_state_round_trip_continues_bitwise() -> None:
    first, second = agent(), agent()
    update(first, 0)
    update(second, 3)  # whatever it held is gone after loading
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for one in (first, second):
        torch.manual_seed(5)
        update(one, 1, 100)
        update(one, 2, 102)
    assert_same_state(first.state_dict(), second.state_dict())


@pytest.mark.parametrize(("clock", "updates"), [("env", 40), ("agent", 10)])
def test_both_clocks(clock: str, updates: int) -> None:
    """At a repeat of 8: an update for 4 environment steps, or one for 2 agent steps."""
    torch.manual_seed(0)
    ours = TACO(Config(hidden_dim=8, seed_steps=0, clock=clock), replace(CONTEXT, action_repeat=8))  # type: ignore[arg-type]
    learned: list[float] = []
    ours.learn = lambda replay, stddev, guidance: learned.append(stddev) or {}  # type: ignore[method-assign,assignment,func-returns-value]
    for i in range(20):
        ours.update(Onward(0), 8 * i)  # type: ignore[arg-type]
    assert len(learned) == updates


def test_published_settings() -> None:
    config = Config()
    assert (config.batch_size, config.steps, config.nstep, config.lr, config.update_every) == (1024, 3, 3, 1e-4, 4)
    assert (config.feature_dim, config.hidden_dim, config.stddev_clip, config.seed_steps) == (50, 1024, 0.3, 4000)
    assert [latent_action_dim(n) for n in (1, 2, 6)] == [2, 3, 8]
    found = {}
    for task in ("cartpole_swingup", "walker_walk", "walker_run", "cheetah_run", "quadruped_run"):
        config = Config(**AGENT.task_defaults.get(f"dmc/{task}", {}))
        found[task] = (config.nstep, config.batch_size, config.stddev_steps, config.replay_capacity)
    assert found == {
        "cartpole_swingup": (3, 1024, 200_000, 1_000_000),
        "walker_walk": (1, 1024, 200_000, 1_000_000),
        "walker_run": (1, 1024, 1_000_000, 1_000_000),
        "cheetah_run": (3, 1024, 1_000_000, 1_000_000),
        "quadruped_run": (3, 1024, 1_000_000, 100_000),
    }
    weight = agent().prediction.weight
    assert weight.min() >= 0 and weight.max() < 1 and weight.mean().item() == pytest.approx(0.5, abs=0.05)
