"""MR.Q against its paper's arithmetic, written out one window, one layer and one draw at a time."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_sac import assert_same_state

from baselines.mrq import AGENT, MRQ, Config
from covr_bench.config import registry
from covr_bench.config.settings import resolve
from covr_bench.kit.api import Context, GuidedAgent
from covr_bench.kit.replay import Replay
from covr_bench.kit.two_hot import symexp_bins, two_hot

torch.set_num_threads(1)
A, B, SIDE, H = 2, 6, 36, 3
SMALL: dict[str, Any] = {"batch_size": B, "hidden_dim": 16, "action_features": 8, "horizon": H, "target_period": 2}
NETWORKS = ("encoder", "policy", "value", "target_encoder", "target_policy", "target_value")
Weights = dict[str, torch.Tensor]


def agent(**settings: Any) -> MRQ:
    torch.manual_seed(0)
    return MRQ(Config(**(SMALL | {"random_agent_steps": 0} | settings)), Context((9, SIDE, SIDE), A, 2, 1000, "cpu", 0))


def filled(*episodes: tuple[int, bool], capacity: int = 64) -> Replay:
    """Episodes of so many steps, terminated or not; of two and a running one if none are given."""
    rng, replay = np.random.default_rng(0), Replay(capacity, (9, SIDE, SIDE), A, seed=0)
    for length, terminated in episodes or ((6, True), (7, False), (4, False)):
        replay.start(rng.integers(0, 256, (9, SIDE, SIDE), dtype=np.uint8))
        for t in range(length):
            obs = rng.integers(0, 256, (9, SIDE, SIDE), dtype=np.uint8)
            reward, last = rng.uniform(-1, 3), terminated and t == length - 1
            replay.add(rng.uniform(-1, 1, A).astype(np.float32), reward, last, obs)
    return replay


class Reference:
    """The paper's three losses on plain weights; optimisers are torch's, stepped in its order."""

    def __init__(self, ours: MRQ) -> None:
        self.w = {name: {k: v.clone() for k, v in getattr(ours, name).state_dict().items()} for name in NETWORKS}
        for name in NETWORKS[:3]:
            for weight in self.w[name].values():
                weight.requires_grad_()
        rates = {"encoder": 1e-4, "policy": 3e-4, "value": 3e-4}
        self.opts = {n: torch.optim.AdamW(self.w[n].values(), lr=lr, weight_decay=1e-4) for n, lr in rates.items()}
        grid = [-10 + 20 * i / 64 for i in range(65)]
        self.bins = [float(np.sign(x) * (np.exp(abs(x)) - 1)) for x in grid]
        self.scale, self.old_scale, self.terminal_weight = 1.0, 1.0, 0.0

    def copy_targets(self) -> None:
        for name in NETWORKS[:3]:
            self.w[f"target_{name}"] = {k: v.detach().clone() for k, v in self.w[name].items()}

    def z(self, w: Weights, images: torch.Tensor) -> torch.Tensor:
        x = images
        for i, stride in enumerate((2, 2, 2, 1)):
            x = elu(torch.conv2d(x, w[f"convs.{2 * i}.weight"], w[f"convs.{2 * i}.bias"], stride))
        return elu(normed(linear(w, "state.0", x.reshape(len(x), -1))))

    def z_sa(self, w: Weights, z: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        x = torch.cat([z, elu(linear(w, "action.0", action))], 1)
        x = elu(normed(linear(w, "state_action.0", x)))
        return linear(w, "state_action.6", elu(normed(linear(w, "state_action.3", x))))

    def pre(self, w: Weights, z: torch.Tensor) -> torch.Tensor:
        x = normed(linear(w, "0", z)).clamp(min=0)
        return linear(w, "6", normed(linear(w, "3", x)).clamp(min=0))

    def q(self, w: Weights, x: torch.Tensor) -> torch.Tensor:
        heads = []
        for name in ("q1", "q2"):
            h = x
            for i in (0, 3, 6):
                h = elu(normed(linear(w, f"{name}.{i}", h)))
            heads.append(linear(w, f"{name}.9", h))
        return torch.cat(heads, 1)

    def encoder_loss(self, windows: list[dict[str, Any]]) -> torch.Tensor:
        """One window at a time, which ends where its episode was terminated."""
        total, w = torch.zeros(()), self.w["encoder"]
        for window in windows:
            z = self.z(w, window["images"][0][None])
            for t, (action, reward, done) in enumerate(window["steps"]):
                out = linear(w, "model", self.z_sa(w, z, action[None]))[0]
                with torch.no_grad():
                    target = self.z(self.w["target_encoder"], window["images"][t + 1][None])[0]
                z = out[None, 1 : 1 + len(target)]
                log_p = torch.log_softmax(out[1 + len(target) :], 0)
                upper = next((i for i, b in enumerate(self.bins) if b > reward), 64)
                share = (reward - self.bins[upper - 1]) / (self.bins[upper] - self.bins[upper - 1])
                entropy = -(1 - share) * log_p[upper - 1] - share * log_p[upper]
                total = total + ((z[0] - target) ** 2).mean() + 0.1 * entropy
                total = total + 0.1 * self.terminal_weight * (out[0] - float(done)) ** 2
                if done:
                    break
        return total / len(windows)

    def value_loss(self, transitions: list[Any], noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, and the larger error of both critics."""
        losses, errors = [], []
        for (image, action, reward, discount, after), draw in zip(transitions, noise, strict=True):
            with torch.no_grad():
                z = self.z(self.w["target_encoder"], after[None])
                best = torch.tanh(self.pre(self.w["target_policy"], z)) + (0.2 * draw).clamp(-0.3, 0.3)
                ahead = self.q(self.w["target_value"], self.z_sa(self.w["target_encoder"], z, best.clamp(-1, 1))).min()
                y = (reward + discount * self.old_scale * ahead) / self.scale
                features = self.z_sa(self.w["encoder"], self.z(self.w["encoder"], image[None]), action[None])
            off = (self.q(self.w["value"], features)[0] - y).abs()
            losses.append(torch.where(off < 1, off**2 / 2, off - 0.5).sum())
            errors.append(off.max().detach())
        return torch.stack(losses).mean(), torch.stack(errors)

    def policy_loss(self, images: torch.Tensor) -> torch.Tensor:
        z = self.z(self.w["encoder"], images).detach()
        pre = self.pre(self.w["policy"], z)
        q = self.q(self.w["value"], self.z_sa(self.w["encoder"], z, torch.tanh(pre)))
        return -(q[:, 0] / 2 + q[:, 1] / 2).mean() + 1e-5 * (pre**2).mean()

    def step(self, name: str, loss: torch.Tensor, longest: float = float("inf")) -> None:
        weights = list(self.w[name].values())
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight.grad = gradient
        norm = torch.stack([w.grad.square().sum() for w in weights]).sum().sqrt()
        for weight in weights:
            weight.grad *= min(1.0, longest / float(norm))
        self.opts[name].step()


def first_layer(part: torch.nn.Module) -> torch.Tensor:
    return next(part.parameters()).detach()


def linear(w: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def elu(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x > 0, x, torch.exp(x.clamp(max=0)) - 1)


def normed(x: torch.Tensor) -> torch.Tensor:
    centred = x - x.mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()


def moved(stacks: torch.Tensor) -> torch.Tensor:
    """Each stack shifted by up to four pixels, its edges repeated, drawn as the agent draws."""
    shift = torch.randint(0, 9, (len(stacks), 2))
    padded = torch.nn.functional.pad(stacks.float(), [4] * 4, mode="replicate") / 255 - 0.5
    rows = [(int(y), int(x)) for y, x in shift]
    return torch.stack([image[:, y : y + SIDE, x : x + SIDE] for image, (y, x) in zip(padded, rows, strict=True)])


class Memory:
    """What a replay holds, episode by episode, and LAP's priorities on it."""

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        self.priority: dict[int, float] = {}
        self.largest = 1.0

    def episode(self, slot: int) -> list[int]:
        first = self.replay.first[slot]
        return [s for s in range(self.replay.head) if self.replay.first[s] == first]

    def done(self, slot: int) -> bool:
        return slot + 1 in self.episode(slot) and self.replay.discount[slot] == 0

    def window(self, slot: int, length: int) -> list[int] | None:
        """The steps' slots; None if a truncation, or the present, is in their way."""
        steps: list[int] = []
        for s in range(slot, slot + length):
            if s + 1 not in self.episode(slot):
                return None
            steps.append(s)
            if self.done(s):
                break
        return steps

    def draw(self, n: int, length: int) -> list[list[int]]:
        starts = [s for s in range(self.replay.head) if self.window(s, length)]
        for s in range(self.replay.head - 1):
            self.priority.setdefault(s, self.largest)
        clone = np.random.default_rng()
        clone.bit_generator.state = self.replay.rng.bit_generator.state
        share = np.array([self.priority[s] ** 0.4 for s in starts])
        limits = share.cumsum() / share.sum()
        drawn = [self.window(starts[int(np.flatnonzero(limits > u)[0])], length) for u in clone.random(n)]
        self.replay.rng.random(n)  # as far as the agent's is
        return [steps for steps in drawn if steps]

    def rate(self, slots: list[int], errors: torch.Tensor) -> None:
        for slot, error in zip(slots, errors.tolist(), strict=True):
            self.priority[slot] = max(error, 1.0)
            self.largest = max(self.largest, error)

    def stacks(self, slots: list[int]) -> torch.Tensor:
        return self.replay.obs(np.array(slots))

    def rewards(self) -> list[float]:
        return [float(self.replay.reward[s]) for s in range(self.replay.head) if self.window(s, 1)]


def expected_burst(reference: Reference, memory: Memory) -> float:
    """Two updates of the encoder on windows of three steps."""
    replay = memory.replay
    drawn = memory.draw(2 * B, H)
    for steps in (drawn[:B], drawn[B:]):
        ends = [[*w, *[w[-1] + 1] * (H + 1 - len(w))] for w in steps]
        images = torch.stack([moved(memory.stacks([w[t] for w in ends])) for t in range(H + 1)])
        windows = [
            {
                "images": images[:, b],
                "steps": [(torch.from_numpy(replay.action[s]), float(replay.reward[s]), memory.done(s)) for s in w],
            }
            for b, w in enumerate(steps)
        ]
        loss = reference.encoder_loss(windows)
        reference.step("encoder", loss)
    return loss.item()


def expected_update(reference: Reference, memory: Memory) -> dict[str, float]:
    replay = memory.replay
    windows = memory.draw(B, 3)
    images = moved(memory.stacks([w[0] for w in windows]))
    after = moved(memory.stacks([w[-1] + 1 for w in windows]))
    transitions = []
    for b, w in enumerate(windows):
        reward = sum(0.99**k * float(replay.reward[s]) for k, s in enumerate(w))
        discount = 0.0 if memory.done(w[-1]) else 0.99**3
        transitions.append((images[b], torch.from_numpy(replay.action[w[0]]), reward, discount, after[b]))
    value, errors = reference.value_loss(transitions, torch.randn(B, A))
    reference.step("value", value, longest=20)
    memory.rate([w[0] for w in windows], errors)
    policy = reference.policy_loss(images)
    reference.step("policy", policy)
    return {"critic_loss": value.item(), "actor_loss": policy.item()}


@pytest.mark.parametrize("terminated", [True, False])
def test_updates_equal_the_papers_arithmetic(terminated: bool) -> None:
    """Two periods' first updates and one between, with steps stored in between; encoder, value, policy, priorities."""
    ours, episodes = agent(), ((6, terminated), (7, False), (4, False))
    replay, memory = filled(*episodes), Memory(filled(*episodes))
    reference = Reference(ours)
    assert terminated == any(memory.done(s) for s in range(replay.head))
    for i in range(3):
        torch.manual_seed(i)
        expected = {}
        if i % 2 == 0:
            reference.copy_targets()
            reference.old_scale, reference.scale = reference.scale, float(np.abs(memory.rewards()).mean())
            reference.terminal_weight = float(terminated)
            expected["encoder_loss"] = expected_burst(reference, memory)
        expected |= expected_update(reference, memory)
        torch.manual_seed(i)
        metrics = ours.update(replay, 0)
        assert metrics.keys() == {"encoder_loss", "critic_loss", "actor_loss", "q", "target_q"}
        for name, value in expected.items():
            assert float(metrics[name]) == pytest.approx(value, rel=1e-4, abs=1e-6), (i, name)
        rated = [memory.priority[s] ** 0.4 for s in sorted(memory.priority)]
        np.testing.assert_allclose(ours.priorities.powers[: len(rated)], rated, rtol=1e-4)
        for kept in (replay, memory.replay):
            kept.add(np.full(A, 0.1 * i, np.float32), 0.5, False, np.full((9, SIDE, SIDE), i, np.uint8))
    for name in NETWORKS:
        for key, weight in getattr(ours, name).state_dict().items():
            difference = (weight - reference.w[name][key]).abs()
            # Adam turns a gradient that is zero up to rounding into a step of either sign: at most 2 lr each.
            assert difference.max() < 2e-3, (name, key)
            assert (difference > 1e-5).float().mean() < 5e-3, (name, key)


def test_weights_really_moved() -> None:
    """Guards the test above: without an update its tolerances would not hold."""
    ours = agent()
    before = copy.deepcopy({name: getattr(ours, name).state_dict() for name in NETWORKS})
    ours.update(filled(), 0)
    for name in NETWORKS[:3]:
        moves = [(before[name][k] - w).abs() for k, w in getattr(ours, name).state_dict().items()]
        assert (torch.cat([m.flatten() for m in moves]) > 5e-5).float().mean() > 0.5, name


@given(st.lists(st.floats(-30_000, 30_000, width=32), min_size=1, max_size=20))
def test_a_number_is_the_mean_of_its_two_bins(values: list[float]) -> None:
    bins = symexp_bins(65, 10)
    assert bins[[0, 32, 64]].tolist() == pytest.approx([1 - np.exp(10), 0, np.exp(10) - 1])
    inside = torch.tensor([*values, float(bins[-1]), float(bins[0]), 1e9]).clamp(bins[0], bins[-1])
    weights = two_hot(torch.tensor([*values, float(bins[-1]), float(bins[0]), 1e9]), bins)
    assert weights.shape == (len(values) + 3, 65) and weights.min() >= 0
    torch.testing.assert_close(weights.sum(1), torch.ones(len(weights)))
    torch.testing.assert_close(weights @ bins, inside, rtol=1e-5, atol=1e-5)
    held = weights > 0
    assert held.sum(1).max() <= 2 and (held.float() * torch.arange(65)).amax(1).sub(held.int().argmax(1)).max() <= 1
    assert weights[-3:].argmax(1).tolist() == [64, 0, 64]


def test_the_gradient_of_the_value_functions_is_held() -> None:
    norms = []
    for longest in (1e-2, 1e6):
        ours = agent(max_gradient_norm=longest)
        ours.update(filled(), 0)
        norms.append(torch.cat([w.grad.flatten() for w in ours.value.parameters() if w.grad is not None]).norm().item())
    assert norms[0] == pytest.approx(1e-2, rel=1e-3) and norms[1] > 0.1


def test_nothing_is_learnt_from_what_follows_a_termination() -> None:
    losses = []
    for after in (0.0, 100.0):
        ours, replay = agent(), filled((4, True), (6, False))
        replay.action[4:], replay.reward[4:] = after, after
        ours.has_terminations = True
        torch.manual_seed(1)
        losses.append(float(ours.update_encoder(replay, replay.window(np.array([1, 2, 3]), H))))
    assert losses[0] == losses[1]


def test_windows_end_at_terminations_and_never_cross_truncations() -> None:
    replay = filled((5, True), (5, False), (2, False))  # slots 0-5, 6-11, 12-14
    assert replay.starts(3, until_terminal=True).tolist() == [0, 1, 2, 3, 4, 6, 7, 8]
    assert replay.starts(3).tolist() == [0, 1, 2, 6, 7, 8]
    assert replay.window(np.array([3, 6]), 3).slot.T.tolist() == [[3, 4, 5, 5], [6, 7, 8, 9]]
    assert replay.window(np.array([3]), 3).discount[:2, 0].tolist() == [1, 0]
    batch = replay.at(np.array([4]), 3, 0.9)
    assert batch.reward.item() == replay.reward[4] and batch.discount.item() == 0
    assert torch.equal(batch.next_obs, replay.obs(np.array([5])))


def test_a_termination_is_learnt_once_one_is_stored() -> None:
    for terminated in (True, False):
        ours = agent()
        ours.update_targets(filled((6, terminated), (6, False)))
        assert ours.has_terminations == terminated


def test_targets_are_copied_once_a_period() -> None:
    ours, replay, copied = agent(target_period=3), filled(), []
    before = first_layer(ours.target_value.q1).clone()
    for _ in range(7):
        ours.update(replay, 0)
        copied.append(not torch.equal(before, first_layer(ours.target_value.q1)))
        before = first_layer(ours.target_value.q1).clone()
    assert copied == [False, False, False, True, False, False, True]  # the first copy is of the same weights


def test_the_reward_scale_is_the_mean_size_of_a_reward() -> None:
    ours, replay = agent(), filled((6, False), (5, False))
    replay.reward[[6, 12]] = 1e6  # of the last observations: no steps
    ours.update_targets(replay)
    steps = [*range(6), *range(7, 12)]
    assert ours.reward_scale == pytest.approx(float(np.abs(replay.reward[steps]).mean()))
    assert ours.target_reward_scale == 1
    replay.reward[:] = 0
    ours.update_targets(replay)
    assert ours.reward_scale == 1


def test_state_round_trip_continues_bitwise() -> None:
    first, second, replays = agent(), agent(), [filled(), filled()]
    first.update(replays[0], 0)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    replays[1].rng.bit_generator.state = replays[0].rng.bit_generator.state
    for one, replay in zip((first, second), replays, strict=True):
        torch.manual_seed(5)
        for _ in range(3):
            replay.add(np.zeros(A, np.float32), 0.0, False, np.zeros((9, SIDE, SIDE), np.uint8))
            one.update(replay, 0)
    assert first.priorities.powers.max() > 0 and first.updates == 4
    assert_same_state(first.state_dict(), second.state_dict())


def test_metrics_come_back_on_the_agents_device() -> None:
    """A burst's losses are kept until the next one, and stacked with its own."""
    first, second = agent(), agent()
    first.update(filled(), 0)
    second.device = torch.device("meta")
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert {value.device.type for value in second.metrics.values()} == {"meta"}


def test_acting() -> None:
    ours, obs = agent(random_agent_steps=1), np.zeros((9, SIDE, SIDE), np.uint8)
    uniform = np.array([ours.act(obs, 0, explore=True) for _ in range(300)])
    assert uniform.std(0) == pytest.approx([3**-0.5] * A, rel=0.15)
    assert ours.update(filled(), 0) == {}
    mean = ours.act(obs, 0, explore=False)
    np.testing.assert_array_equal(mean, ours.act(obs, 0, explore=False))
    for part in ours.policy.parameters():
        part.data.zero_()
    noisy = np.array([ours.act(obs, 0, explore=True) for _ in range(300)])
    assert noisy.std(0) == pytest.approx([0.2] * A, rel=0.15)
    assert ours.entropy(0) == pytest.approx(A * 0.5 * np.log(2 * np.pi * np.e * 0.2**2))
    assert agent(exploration_noise=0).entropy(0) == -np.inf


def test_guidance_moves_the_policy_and_nothing_else() -> None:
    free, guided = agent(), agent()
    assert isinstance(guided, GuidedAgent)
    torch.manual_seed(1)
    free.update(filled(), 0)
    torch.manual_seed(1)
    guided.update(filled(), 0, lambda batch, action: 100 * (action - 0.9).square().mean())
    assert_same_state(free.encoder.state_dict(), guided.encoder.state_dict())
    assert_same_state(free.value.state_dict(), guided.value.state_dict())
    assert not torch.equal(first_layer(free.policy), first_layer(guided.policy))


def test_q_values_are_in_units_of_the_reward() -> None:
    ours, replay = agent(), filled()
    ours.reward_scale = 3.0
    obs, action = replay.obs(np.array([1, 2])), torch.zeros(2, A)
    reference = Reference(ours)
    z = reference.z(reference.w["encoder"], obs / 255 - 0.5)
    expected = 3 * reference.q(reference.w["value"], reference.z_sa(reference.w["encoder"], z, action)).amin(1)
    torch.testing.assert_close(ours.q_value(obs, action), expected.detach(), rtol=1e-4, atol=1e-5)


def test_published_settings() -> None:
    config = Config()
    assert (config.batch_size, config.random_agent_steps, config.target_period) == (256, 10_000, 250)
    assert (config.discount, config.nstep, config.horizon) == (0.99, 3, 5)
    assert (config.exploration_noise, config.target_noise, config.target_noise_clip) == (0.2, 0.2, 0.3)
    assert (config.priority_exponent, config.smallest_priority, config.shift_pad) == (0.4, 1.0, 4)
    assert (config.hidden_dim, config.action_features, config.reward_bins, config.reward_range) == (512, 256, 65, 10.0)
    assert (config.dynamics_weight, config.reward_weight, config.terminal_weight) == (1.0, 0.1, 0.1)
    assert (config.encoder_lr, config.value_lr, config.policy_lr, config.weight_decay) == (1e-4, 3e-4, 3e-4, 1e-4)
    assert (config.max_gradient_norm, config.pre_activation_weight, config.replay_capacity) == (20.0, 1e-5, 1_000_000)
    assert AGENT.task_defaults == {}


@pytest.mark.parametrize("budget", ["smoke", "short"])
@pytest.mark.parametrize("name", ["catch", "dmc6", "dmc6-ar2", "dmc-hard"])
def test_short_budgets_are_mostly_updates(name: str, budget: str) -> None:
    suite = registry.suite(name)
    chosen = suite.budgets[budget]
    for task in suite.tasks:
        config = Config(**resolve(AGENT, task, chosen, {}).agent)
        steps = chosen.env_steps // task.action_repeat
        assert config.random_agent_steps < steps / 2 and config.batch_size <= 64
        assert config.target_period < steps - config.random_agent_steps  # a second burst


def test_the_published_network_of_84_pixels() -> None:
    ours = MRQ(Config(), Context((9, 84, 84), 6, 2, 1000, "cpu", 0))
    shapes = {name: tuple(w.shape) for name, w in ours.encoder.named_parameters() if name.endswith("weight")}
    assert [shapes[f"convs.{i}.weight"] for i in (0, 2, 4, 6)] == [(32, 9, 3, 3), *[(32, 32, 3, 3)] * 3]
    assert shapes["state.0.weight"] == (512, 1568) and shapes["action.0.weight"] == (256, 6)
    assert shapes["state_action.0.weight"] == (512, 768) and shapes["model.weight"] == (1 + 512 + 65, 512)
    bound = (6 / (1568 + 512)) ** 0.5 * 2**0.5  # Glorot and Bengio's, with ReLU's gain
    assert float(first_layer(ours.encoder.state).abs().max()) == pytest.approx(bound, rel=1e-3)
