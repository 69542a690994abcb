from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from reference_drqv2 import ReferenceDrQV2, bilinear_shift, exact_shift

from baselines.drqv2 import AGENT, Config, DrQV2
from covr_bench.kit import ddpg, winograd
from covr_bench.kit.api import Context
from covr_bench.kit.ddpg import noisy
from covr_bench.kit.replay import Batch, Replay

CONTEXT = Context((9, 84, 84), 2, 2, 100_000, "cpu", 0)
B = 12


class OneBatch:
    """A replay that always returns the same transitions."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def can_sample(self, nstep: int) -> bool:
        return True

    def sample(self, n: int, nstep: int, discount: float) -> Batch:
        return self.batch


def agent(**settings: Any) -> DrQV2:
    torch.manual_seed(0)
    return DrQV2(Config(**({"seed_steps": 0, "update_every": 2} | settings)), CONTEXT)


def batch(seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    # Smooth pictures: bilinear sampling of white noise would show its rounding more than real frames do.
    obs = [rng.integers(0, 256, (B, 9, 12, 12)).repeat(7, 2).repeat(7, 3).astype(np.uint8) for _ in range(2)]
    action = rng.uniform(-1, 1, (B, 2)).astype(np.float32)
    reward = rng.uniform(0, 3, (B, 1)).astype(np.float32)
    discount = np.where(rng.random((B, 1)) < 0.2, 0, 0.97).astype(np.float32)
    return Batch(*(torch.from_numpy(x) for x in (obs[0], action, reward, discount, obs[1])), torch.arange(B))


def batch_of_two() -> Batch:
    """Where only the clock counts."""
    zeros = torch.zeros(2, 1)
    return Batch(zeros, zeros, zeros, zeros, zeros, torch.arange(2))


def draws(seed: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The random numbers of one update, in the order the agent draws them."""
    torch.manual_seed(seed)
    next_shift = torch.randint(0, 9, (B, 2)).flip(1)  # the agent's are (y, x)
    next_noise = torch.randn(B, 2)
    shift = torch.randint(0, 9, (B, 2)).flip(1)
    return [shift, next_shift], [next_noise, torch.randn(B, 2)]


def official_weights(ours: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Our trunk reads features as (row, column, filter), the official one as (filter, row, column)."""
    weights = dict(ours)
    trunk = weights["trunk.0.weight"]
    weights["trunk.0.weight"] = trunk.reshape(-1, 35, 35, 32).permute(0, 3, 1, 2).reshape(len(trunk), -1)
    return weights


def copy_into(reference: ReferenceDrQV2, ours: DrQV2) -> None:
    convs = {name.split(".", 1)[1]: w for name, w in ours.encoder.state_dict().items()}
    reference.encoder.load_state_dict({f"{2 * int(k[0])}{k[1:]}": w.clone() for k, w in convs.items()})
    reference.actor.load_state_dict(official_weights(ours.actor.state_dict()))
    reference.critic.load_state_dict(official_weights(ours.critic.state_dict()))
    reference.target.load_state_dict(official_weights(ours.critic_target.state_dict()))


def test_updates_equal_the_official_arithmetic() -> None:
    ours, reference = agent(), ReferenceDrQV2(action_dim=2)
    copy_into(reference, ours)
    for i in range(3):
        step = 40_000 * (i + 1)
        shifts, noises = draws(i)
        stddev = 1.0 + (0.1 - 1.0) * step / 200_000
        losses = reference.update(batch(i), shifts, noises, stddev, shift=exact_shift)
        torch.manual_seed(i)
        metrics = ours.update(OneBatch(batch(i)), step)  # type: ignore[arg-type]
        assert float(metrics["critic_loss"]) == pytest.approx(losses[0], rel=2e-5)
        assert float(metrics["actor_loss"]) == pytest.approx(losses[1], rel=2e-5, abs=1e-6)
    pairs = [
        (reference.actor.state_dict(), official_weights(ours.actor.state_dict())),
        (reference.critic.state_dict(), official_weights(ours.critic.state_dict())),
        (reference.target.state_dict(), official_weights(ours.critic_target.state_dict())),
    ]
    pairs.append((dict(enumerate(reference.encoder.parameters())), dict(enumerate(ours.encoder.parameters()))))
    for theirs, mine in pairs:
        for name in theirs:
            difference = (theirs[name] - mine[name]).abs()
            # Adam turns a gradient that is zero up to rounding into a step of either sign: at most 2 lr each.
            assert difference.max() < 7e-4
            assert (difference > 3e-6).float().mean() < 2e-3, name


def test_weights_really_moved() -> None:
    """Guards the test above: without the update its tolerances would not hold."""
    ours = agent()
    before = {name: w.clone() for name, w in ours.critic.state_dict().items()}
    ours.update(OneBatch(batch(0)), 0)  # type: ignore[arg-type]
    moved = (before["q1.0.weight"] - ours.critic.state_dict()["q1.0.weight"]).abs()
    assert (moved > 5e-5).float().mean() > 0.5


def test_a_batch_in_parts_is_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = agent(), agent()
    metrics = []
    for ours, part in ((whole, B), (parts, 5)):
        monkeypatch.setattr("covr_bench.kit.nets.PART", part)
        torch.manual_seed(1)
        metrics.append(ours.update(OneBatch(batch(0)), 40_000))  # type: ignore[arg-type]
    assert metrics[0].keys() == metrics[1].keys()
    for name, value in metrics[0].items():
        assert float(metrics[1][name]) == pytest.approx(float(value), rel=1e-5), name
    for name in ("encoder", "critic"):
        gradients = [[w.grad for w in getattr(ours, name).parameters()] for ours in (whole, parts)]
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


def test_bilinear_shift_is_the_integer_shift() -> None:
    images = batch(3).obs.float()
    shift = torch.randint(0, 9, (B, 2))
    torch.testing.assert_close(bilinear_shift(images, shift), exact_shift(images, shift), atol=0.02, rtol=0)


def test_acting() -> None:
    ours = agent(seed_steps=1000)
    obs = batch(0).obs[0].numpy()
    random_state = torch.get_rng_state()
    first, second = (ours.act(obs, 50_000, explore=False) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert torch.equal(random_state, torch.get_rng_state())
    assert first.dtype == np.float32
    assert first.shape == (2,)
    early = np.array([ours.act(obs, 999, explore=True) for _ in range(200)])
    assert np.abs(early.mean(0)).max() < 0.2
    assert early.std(0) == pytest.approx([3**-0.5] * 2, rel=0.15)  # uniform on [-1, 1]
    late = np.array([ours.act(obs, 10_000_000, explore=True) for _ in range(200)])
    assert late.std(0) == pytest.approx([0.1, 0.1], rel=0.25)


def test_acting_noise_is_not_clipped_but_held_in_range() -> None:
    torch.manual_seed(0)
    mean = torch.zeros(10_000, 1)
    assert noisy(mean, 1.0).abs().max() > 0.9
    assert noisy(mean, 1.0).abs().max() < 1
    assert noisy(mean, 1.0, clip=0.3).abs().max() <= 0.3 + 1e-6


def test_gradient_passes_the_action_bound() -> None:
    mean = torch.full((1, 1), 0.99, requires_grad=True)
    torch.manual_seed(0)
    (noisy(mean, 10.0) * 3).sum().backward()
    assert mean.grad is not None
    assert mean.grad.item() == 3


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("cartpole_swingup", (3, 256, 200_000)),
        ("reacher_easy", (3, 256, 1_000_000)),
        ("cheetah_run", (3, 256, 1_000_000)),
        ("walker_walk", (1, 512, 200_000)),
        ("finger_spin", (3, 256, 200_000)),
        ("ball_in_cup_catch", (3, 256, 200_000)),
        ("walker_run", (1, 512, 1_000_000)),
    ],
)
def test_official_settings_per_task(task: str, expected: tuple[int, int, int]) -> None:
    config = Config(**AGENT.task_defaults.get(f"dmc/{task}", {}))
    assert (config.nstep, config.batch_size, config.stddev_steps) == expected


@pytest.mark.parametrize(("action_repeat", "updates"), [(1, 25), (2, 25), (4, 25), (8, 25)])
def test_updates_are_counted_in_env_steps(action_repeat: int, updates: int) -> None:
    """Officially one update every 2 agent steps at action repeat 2: one every 4 env steps, whatever the repeat."""
    ours = DrQV2(Config(seed_steps=100), replace(CONTEXT, action_repeat=action_repeat))
    learned: list[int] = []
    step = 0
    ours.learn = lambda *_: learned.append(step) or {"q": torch.zeros(())}  # type: ignore[method-assign,assignment,func-returns-value]
    for step in range(0, 200, action_repeat):
        assert bool(ours.update(OneBatch(batch(0)), step)) == bool(learned and learned[-1] == step)  # type: ignore[arg-type]
    assert learned[0] >= 100
    assert abs(len(learned) - updates) <= 1


class OfficialLoop:
    """What the official train.py and drqv2.py do at each agent step of a run, written out with their numbers."""

    def __init__(self, action_repeat: int) -> None:
        self.action_repeat, self.agent_step = action_repeat, 0
        self.updates = 0

    def step(self) -> tuple[bool, float]:
        """Whether the action is uniform, and the noise; counts an update where there is one."""
        step, self.agent_step = self.agent_step, self.agent_step + 1
        if step >= 4_000 // self.action_repeat and step % 2 == 0:
            self.updates += 1
        return step < 2_000, 1.0 + (0.1 - 1.0) * min(step / 100_000, 1.0)


@pytest.mark.parametrize("action_repeat", [1, 2, 4, 8])
def test_the_agents_clock_is_the_official_loop(action_repeat: int) -> None:
    official = OfficialLoop(action_repeat)
    small = replace(CONTEXT, obs_shape=(9, 16, 16), action_repeat=action_repeat)
    ours, learned = DrQV2(Config(hidden_dim=8, clock="agent"), small), []
    ours.learn = lambda _, stddev, __: learned.append(stddev) or {}  # type: ignore[method-assign,assignment,func-returns-value]
    for step in range(0, 100_000, action_repeat):
        time, before = ours.time(step), len(learned)
        uniform, stddev = official.step()
        assert (time < ours.config.seed_steps) == uniform
        ours.update(OneBatch(batch_of_two()), step)  # type: ignore[arg-type]
        assert len(learned) == official.updates
        if len(learned) > before:
            assert learned[-1] == pytest.approx(stddev, rel=1e-12)
    assert {1: 48_000, 2: 24_000, 4: 12_000, 8: 6_000}[action_repeat] == len(learned)


def test_both_clocks_are_one_at_the_official_repeat() -> None:
    """Number for number, acting and learning."""
    results = []
    for clock in ("env", "agent"):
        torch.manual_seed(0)
        ours = DrQV2(Config(seed_steps=20, hidden_dim=16, clock=clock), CONTEXT)  # type: ignore[arg-type]
        actions = []
        for step in range(0, 40, 2):
            actions.append(ours.act(batch(0).obs[0].numpy(), step, explore=True))
            ours.update(OneBatch(batch(step)), step)  # type: ignore[arg-type]
        results.append((actions, ours.state_dict()["actor"]))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    for name, weights in results[0][1].items():
        assert torch.equal(weights, results[1][1][name])


def test_the_agents_clock_goes_on_after_a_checkpoint() -> None:
    first, _ = counting(clock="agent", seed_steps=0)
    for step in range(0, 30, 3):
        first.update(OneBatch(batch_of_two()), step)  # type: ignore[arg-type]
    second, _ = counting(clock="agent", seed_steps=0)
    second.load_state_dict(first.state_dict())
    assert second.time(30) == first.time(30) == 20
    assert second.entropy(30) == first.entropy(30)


def counting(**settings: Any) -> tuple[DrQV2, list[int]]:
    """A small agent at action repeat 3 that only notes when it learns."""
    small = replace(CONTEXT, obs_shape=(9, 16, 16), action_repeat=3)
    ours, learned = DrQV2(Config(hidden_dim=8, **settings), small), []
    ours.learn = lambda *_: learned.append(ours.previous_time) or {}  # type: ignore[method-assign,assignment,func-returns-value]
    return ours, learned


def steps_of(episodes: int, length: int = 40) -> list[int]:
    """Environment steps before each action of three, where an episode ends within the last one's repeats."""
    return [length * episode + at for episode in range(episodes) for at in range(0, length, 3)]


@pytest.mark.parametrize(("length", "every"), [(40, 1), (40, 2), (41, 4), (43, 4)])
def test_episodes_that_end_within_a_repeat_give_no_more_updates(length: int, every: int) -> None:
    ours, learned = counting(seed_steps=100, update_every=every)
    steps = steps_of(50, length)
    for step in steps:
        ours.update(OneBatch(batch(0)), step)  # type: ignore[arg-type]
    first = next(at for at, step in enumerate(steps) if step >= 100)
    assert len(learned) == steps[-1] // every - steps[first - 1] // every


def test_updates_are_counted_on_after_a_checkpoint() -> None:
    steps = steps_of(episodes=3, length=41)
    whole, learned = counting(seed_steps=0)
    for step in steps:
        whole.update(OneBatch(batch(0)), step)  # type: ignore[arg-type]
    for stop in range(1, len(steps), 3):
        (first, before), (second, after) = counting(seed_steps=0), counting(seed_steps=0)
        for step in steps[:stop]:
            first.update(OneBatch(batch(0)), step)  # type: ignore[arg-type]
        second.load_state_dict(first.state_dict())
        for step in steps[stop:]:
            second.update(OneBatch(batch(0)), step)  # type: ignore[arg-type]
        assert before + after == learned


def test_a_checkpoint_without_the_previous_step_goes_on_an_action_later() -> None:
    ours, learned = counting(seed_steps=0)
    old = ours.state_dict()
    del old["previous_time"], old["agent_steps"]
    ours.update(OneBatch(batch(0)), 0)  # type: ignore[arg-type]
    ours.load_state_dict(old)
    for step in (400, 403, 406):
        ours.update(OneBatch(batch(0)), step)  # type: ignore[arg-type]
    assert learned == [0, 400, 406]  # 397 to 400 and 403 to 406 pass a multiple of 4


def test_state_round_trip_continues_bitwise() -> None:
    first = agent()
    first.update(OneBatch(batch(0)), 0)  # type: ignore[arg-type]
    second = agent()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    results = []
    for one in (first, second):
        torch.manual_seed(5)
        one.update(OneBatch(batch(1)), 100)  # type: ignore[arg-type]
        results.append(one.state_dict())
    for name in ("encoder", "actor", "critic", "critic_target"):
        for key, value in results[0][name].items():
            assert torch.equal(value, results[1][name][key])


@pytest.mark.deep
def test_learns_to_value_a_constant_reward() -> None:
    """The critic's value of a one-step problem (terminal, reward 1) reaches 1."""
    ours = agent(lr=1e-3)
    constant = batch(0)._replace(reward=torch.ones(B, 1), discount=torch.zeros(B, 1))
    for i in range(40):
        metrics = ours.update(OneBatch(constant), 10_000_000 + 2 * i)  # type: ignore[arg-type]
    assert float(metrics["q"]) == pytest.approx(1.0, abs=0.1)


def test_update_without_enough_data_does_nothing() -> None:
    replay = Replay(16, (9, 84, 84), 2, seed=0)
    replay.start(np.zeros((9, 84, 84), np.uint8))
    assert agent().update(replay, 100_000) == {}


def test_the_compiled_kernel_learns_the_same() -> None:
    if winograd.choose("auto").kernel == "torch":
        pytest.skip("no C++ compiler, or a CPU without AVX2")
    losses = []
    for kernel in ("torch", "winograd"):
        torch.manual_seed(1)
        ours = DrQV2(Config(seed_steps=0, update_every=2), replace(CONTEXT, conv_kernel=kernel))
        torch.manual_seed(2)
        losses.append(float(ours.update(OneBatch(batch(0)), 0)["critic_loss"]))  # type: ignore[arg-type]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_agents_clock_is_that_of_the_noise_in_acting_and_of_the_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    """At repeat 3 the 20th decision is at step 60, and at 40 of the clock."""
    given: list[float] = []
    monkeypatch.setattr(ddpg, "noisy", lambda mean, stddev, clip=None: given.append(stddev) or mean)
    ours, _ = counting(clock="agent", seed_steps=0, stddev_steps=100)
    for step in range(0, 60, 3):
        ours.update(OneBatch(batch_of_two()), step)  # type: ignore[arg-type]
    ours.act(np.zeros((9, 16, 16), np.uint8), 60, explore=True)
    assert given == [pytest.approx(0.64)]
    assert ours.entropy(60) == pytest.approx(2 * (math.log(0.64) + 0.5 * math.log(2 * math.pi * math.e)))
