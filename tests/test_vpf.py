"""VPF: the probabilities of digits, PPO against the arithmetic written out, and that returns rise."""

from __future__ import annotations

import copy
import itertools
import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from test_covr import after, evaluations
from test_sac import assert_same_weights
from test_train import go, measured
from test_vlm_agents import configured
from vlm_models import noise, prior, prompt, random_folder, speaking_folder

from baselines.vpf import VPF, Config, Question, gae, make
from covr.vlm.base import FinetuneSettings
from covr.vlm.hf import HFPrior
from covr_bench.config import registry
from covr_bench.kit.api import Context
from covr_bench.kit.errors import UserError
from covr_bench.kit.replay import Replay
from covr_bench.run.train import Interrupted

if TYPE_CHECKING:
    from pathlib import Path

torch.set_num_threads(1)
SIDE = 56


def agent(action_dim: int = 2, total_env_steps: int = 1_000_000, **settings: Any) -> VPF:
    torch.manual_seed(0)
    context = Context((6, SIDE, SIDE), action_dim, 1, total_env_steps, "cpu", 0, "a task")
    chosen = {"vlm": str(random_folder()), "vlm_image_size": SIDE, "query_every": 1, "lora_rank": 4, "lora_alpha": 8.0}
    return VPF(Config(**(chosen | settings)), context)


def whole_sequence(vlm: HFPrior, images: Any, choices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each answer `(B,)` and the prompt's last hidden state, by transformers' own forward."""
    asked = prompt(choices.shape[1]) if vlm.asked is None else vlm.asked  # type: ignore[attr-defined]
    reader = vlm.reader(images, asked)
    slots = [slot for number in reader.template.numbers for slot in number]
    answers = torch.tensor([reader.template.ids] * len(images))
    for at, slot in enumerate(slots):
        answers[:, slot.position] = torch.tensor(slot.choices)[choices.flatten(1)[:, at]]
    ids = torch.cat([reader.layout.ids.expand(len(images), -1), answers], 1)
    pixel_values, grid = vlm.pixels(images)
    model = vlm.checkpoint.model
    out = model(
        input_ids=ids,
        pixel_values=pixel_values,
        image_grid_thw=grid,
        mm_token_type_ids=(ids == model.config.image_token_id).int(),
        output_hidden_states=True,
    )
    begin = len(reader.layout.ids) - 1
    total = torch.zeros(len(images))
    for b in range(len(images)):
        for at, slot in enumerate(slots):
            tokens = list(slot.choices)
            if at % 4 >= 2 and choices.flatten(1)[b, at - at % 4 + 1] == 1:
                tokens = tokens[:1]  # nothing but zeros follows a one
            logits = out.logits[b, begin + slot.position, tokens]
            total[b] = total[b] + logits[choices.flatten(1)[b, at]] - torch.logsumexp(logits, 0)
    return total, out.hidden_states[-1][:, begin]


def drawn(vlm: HFPrior, count: int = 4) -> tuple[Any, torch.Tensor, Any]:
    vlm.asked = None  # type: ignore[attr-defined]
    images = noise(count, SIDE)
    embeds = vlm.image_embeds(images)
    torch.manual_seed(0)
    return images, embeds, vlm.reader(images, prompt()).forced(embeds, draw=True)


def test_log_probs_are_those_of_the_whole_sequence() -> None:
    vlm = prior()
    images, embeds, answer = drawn(vlm)
    answer.choices[0, 0] = torch.tensor([0, 1, 0, 0])  # one whose last digits are certain
    with torch.no_grad():
        expected, state = whole_sequence(vlm, images, answer.choices)
        each, ours = vlm.reader(images, prompt()).log_probs(embeds, answer.choices)
    torch.testing.assert_close(each.sum((1, 2)), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours, state, rtol=1e-3, atol=1e-3)
    assert each[0, 0, 2:].tolist() == [0, 0]
    torch.testing.assert_close(answer.log_prob[1:], expected[1:], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(answer.state, state, rtol=1e-3, atol=1e-3)


def test_digits_are_drawn_by_their_probability() -> None:
    vlm = prior()
    images = noise(1, SIDE)
    reader, embeds = vlm.reader(images, prompt(1)), vlm.image_embeds(images).expand(600, -1, -1)
    torch.manual_seed(0)
    choices = reader.forced(embeds, draw=True).choices
    tenths = choices[choices[:, 0, 1] == 0][:, 0, 2]
    with torch.no_grad():
        probability = reader.log_probs(embeds[:20], torch.tensor([[[0, 0, i % 10, 0]] for i in range(20)]))[0].exp()
    plus, share = float(probability[0, 0, 0]), float((choices[:, 0, 0] == 0).float().mean())
    assert share == pytest.approx(plus, abs=4 * math.sqrt(plus * (1 - plus) / 600))
    assert len(tenths.unique()) > 5
    assert float(probability[:10, 0, 2].sum()) == pytest.approx(1, abs=1e-5)


def asked(value: float, reward: float = 0.0, discount: float = 0.9, end: float | None = None) -> Question:
    return Question(torch.zeros(1), torch.zeros(1), 0.0, value, reward, discount, end)


def test_gae_of_a_hand_computed_rollout() -> None:
    rollout = [
        asked(1.0, 2.0),
        asked(3.0, 1.0, end=5.0),
        asked(2.0, 4.0, 0.0),
        asked(1.0, 0.5, 0.81),
        asked(2.0),
    ]
    advantage, target = gae(rollout, 0.5)
    fourth = 0.5 + 0.81 * 2 - 1  # goes on with the newest question's value
    third = 4.0 - 2  # terminated: the value after it does not count
    second = 1 + 0.9 * 5 - 3  # truncated: worth its last observation, and nothing of the next episode
    first = 2 + 0.9 * 3 - 1 + 0.9 * 0.5 * second
    assert advantage.tolist() == pytest.approx([first, second, third, fourth])
    assert target.tolist() == pytest.approx([first + 1, second + 3, third + 2, fourth + 1])


def stack(number: int) -> Any:
    return np.random.default_rng(number).integers(0, 256, (6, SIDE, SIDE), dtype=np.uint8)


def test_rewards_are_credited_to_the_question_whose_action_was_held(monkeypatch: Any) -> None:
    ours = agent(discount=0.5, query_every=2)
    monkeypatch.setattr(ours, "learn", lambda step: {})
    replay = Replay(8, (6, SIDE, SIDE), 2, seed=0)
    frames = [stack(i)[:3] for i in range(12)]
    slot, steps = 0, 0
    for length, terminates in ((3, False), (2, True)):
        obs = np.concatenate([frames[slot]] * 2)
        replay.start(obs)
        for i in range(length):
            action = ours.act(obs, steps, explore=True)
            ours.update(replay, steps)
            slot, steps = slot + 1, steps + 1
            obs = np.concatenate([obs[3:], frames[slot]])
            replay.add(action, float(steps), terminates and i + 1 == length, obs)
        slot += 1
    obs = np.concatenate([frames[slot]] * 2)
    replay.start(obs)
    ours.act(obs, steps, explore=True)
    ours.update(replay, steps)
    rewards = [question.reward for question in ours.rollout]
    assert rewards == [1 + 0.5 * 2, 3, 4 + 0.5 * 5, 0]
    assert [question.discount for question in ours.rollout] == [0.25, 0.5, 0, 1]
    first, held, ended, _ = ours.rollout
    assert first.after is None
    last = np.concatenate([frames[2], frames[3]])[None, 3:].transpose(0, 2, 3, 1)
    assert held.after == pytest.approx(ours.question(last, draw=False).value)
    assert ended.after is None  # terminated: nothing follows, and its discount says so


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_step_that_the_simulator_lost_is_credited_with_nothing(lost: int, monkeypatch: Any) -> None:
    """lost: the step of the second episode at which the simulator fails; no transition is stored for it."""
    ours = agent(discount=0.5, query_every=100)
    monkeypatch.setattr(ours, "learn", lambda step: {})
    replay = Replay(16, (6, SIDE, SIDE), 2, seed=0)
    steps = 0
    for episode, rewards in enumerate(([1.0, 2.0], [4.0, 8.0, 16.0], [32.0])):
        obs = stack(episode)
        replay.start(obs)
        for i, reward in enumerate(rewards):
            action = ours.act(obs, steps, explore=True)
            ours.update(replay, steps)
            if episode == 1 and i == lost:
                break
            steps, obs = steps + 1, np.concatenate([obs[3:], stack(100 + steps)[:3]])
            replay.add(action, reward, False, obs)
    replay.start(stack(9))
    ours.act(stack(9), steps, explore=True)
    ours.update(replay, steps)
    assert [question.reward for question in ours.rollout] == [2.0, [0.0, 4.0, 8.0][lost], 32.0, 0]
    assert [question.discount for question in ours.rollout] == [0.25, 0.5**lost, 0.5, 1]
    assert all(question.after is not None for question in ours.rollout[:-1])


class ReferencePPO:
    """Schulman et al. 2017, equation 7 and a squared value error, on another copy of the model."""

    def __init__(self, ours: VPF) -> None:
        config = ours.config
        self.config = config
        self.vlm = HFPrior(config.vlm, settings=FinetuneSettings(rank=config.lora_rank, alpha=config.lora_alpha))
        self.vlm.asked = ours.prompt  # type: ignore[attr-defined]
        self.adapter = self.vlm.trainable()
        for mine, theirs in zip(self.adapter, ours.adapter, strict=True):
            mine.data.copy_(theirs.data)
        self.value = copy.deepcopy(ours.value)
        self.weights = [*self.adapter, *self.value.parameters()]
        self.opt = torch.optim.Adam(self.weights, lr=config.lr)

    def update(self, images: Any, choices: torch.Tensor, old: torch.Tensor, advantage: Any, target: Any) -> float:
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-5)
        for _ in range(self.config.epochs):
            order = torch.randperm(len(images))
            for start in range(0, len(images), self.config.minibatch):
                some = order[start : start + self.config.minibatch]
                log_prob, state = whole_sequence(self.vlm, images[some.numpy()], choices[some])
                loss = torch.zeros(())
                for i, at in enumerate(some):
                    ratio = torch.exp(log_prob[i] - old[at])
                    bounded = min(max(ratio.item(), 1 - self.config.clip), 1 + self.config.clip)
                    inside = bounded == ratio.item()  # products of both would differ by rounding alone
                    unclipped = inside or ratio.item() * float(advantage[at]) < bounded * float(advantage[at])
                    gain = ratio * advantage[at] if unclipped else torch.tensor(bounded) * advantage[at]
                    error = self.value(state[i])[0] - (1 - self.config.discount) * target[at]
                    loss = loss + (-gain + self.config.value_weight * error**2) / len(some)
                self.opt.zero_grad()
                loss.backward()
                norm = math.sqrt(sum(float((w.grad**2).sum()) for w in self.weights))
                for weight in self.weights:
                    weight.grad *= min(1.0, self.config.max_gradient_norm / (norm + 1e-6))
                self.opt.step()
        return loss.item()


def test_an_update_equals_ppo_written_out() -> None:
    ours = agent(rollout=6, minibatch=4, epochs=2, lr=3e-3, clip=0.05, max_gradient_norm=0.5)
    with torch.no_grad():
        for i, weight in enumerate(ours.adapter):  # a fresh adapter's first half has no gradient
            weight.normal_(0, 0.05, generator=torch.Generator().manual_seed(i))
    reference = ReferencePPO(ours)
    images = noise(7, SIDE)
    torch.manual_seed(1)
    for i, image in enumerate(images):
        ours.propose(image[None], ours.prompt)
        ours.asked[0].reward, ours.asked[0].discount = float(i % 3), 0.99
        ours.rollout += ours.asked
    choices = torch.stack([question.choices for question in ours.rollout[:-1]])
    old = torch.tensor([question.log_prob for question in ours.rollout[:-1]])
    torch.manual_seed(2)
    metrics = ours.learn(0)
    torch.manual_seed(2)
    loss = reference.update(images[:6], choices, old, *gae(ours.rollout, 0.95))
    ours_loss = float(metrics["policy_loss"] + 0.5 * metrics["value_loss"])
    assert ours_loss == pytest.approx(loss, rel=2e-3, abs=1e-4)
    assert_same_weights([(reference.value, ours.value.state_dict())], 3e-3)
    pairs = list(zip(reference.adapter, ours.adapter, strict=True))
    apart = torch.cat([(a - b).abs().flatten() for a, b in pairs])
    assert float((apart > 0.03 * 3e-3).float().mean()) < 1e-2
    fresh = agent()
    moved = torch.cat(
        [(a.detach() - b.detach()).abs().flatten() for a, b in zip(ours.adapter, fresh.adapter, strict=True)]
    )
    assert float((moved > 3e-4).float().mean()) > 0.5  # guards the line above


def test_the_learning_rate_falls_as_a_cosine_to_0() -> None:
    ours = agent(total_env_steps=100, rollout=2, epochs=1, lr=1e-2)
    rates = []
    for step in (0, 50, 100):
        for image in noise(3, SIDE):
            ours.propose(image[None], ours.prompt)
            ours.rollout += ours.asked
        ours.learn(step)
        rates.append(ours.opt.param_groups[0]["lr"])
        ours.rollout = []
    assert rates == pytest.approx([1e-2, 5e-3, 0])


@pytest.mark.deep
def test_the_policy_learns_which_digits_pay() -> None:
    """A bandit: each step is an episode, and its reward falls with the distance from 0.6."""
    ours = agent(1, rollout=48, minibatch=16, lr=3e-3, discount=0.0)
    replay = Replay(8, (6, SIDE, SIDE), 1, seed=0)
    rewards, frames = [], [stack(i) for i in range(2)]
    torch.manual_seed(0)
    for t in range(48 * 6):
        obs = frames[t % 2]
        replay.start(obs)
        action = ours.act(obs, t, explore=True)
        ours.update(replay, t)
        rewards.append(1 - abs(float(action[0]) - 0.6))
        replay.add(action, rewards[-1], True, obs)
    assert np.mean(rewards[-48:]) > np.mean(rewards[:48]) + 0.25
    assert ours.act(frames[0], 0, explore=False)[0] == pytest.approx(0.6, abs=0.45)


SMALL_RUN: dict[str, Any] = {
    "vlm_image_size": "56",
    "image_size": "56",
    "rollout": "6",
    "minibatch": "4",
    "epochs": "1",
}


def playing(out: Path, **overrides: Any) -> Any:
    chosen = SMALL_RUN | {"vlm": str(random_folder()), "lora_rank": "4", "query_every": "4", "env_steps": 90}
    return configured(out, "vpf", **(chosen | overrides))


@pytest.mark.deep
@pytest.mark.parametrize("task", ["catch", "catch_or_end"])
def test_goes_on_as_if_it_had_not_stopped(tmp_path: Path, task: str) -> None:
    whole, halves = (playing(tmp_path / part, task=task, eval_every=30, vlm_frames="2") for part in "ab")
    run = go(whole, registry.agent("vpf"))
    for stop_at in (25, 40):
        with pytest.raises(Interrupted):
            go(halves, registry.agent("vpf"), stop=after(stop_at))
    again = go(halves, registry.agent("vpf"))
    assert measured(whole).equals(measured(halves))
    assert all(torch.equal(a, b) for a, b in zip(run.agent.adapter, again.agent.adapter, strict=True))
    assert run.counters.updates >= 2


def test_an_evaluation_between_leaves_training_alone(tmp_path: Path) -> None:
    episodes = []
    for name, every in (("often", 20), ("once", 90)):
        config = playing(tmp_path / name, eval_every=every)
        go(config, registry.agent("vpf"))
        episodes.append(evaluations(config).query("kind == 'episode'")["value"].tolist())
    assert episodes[0] == episodes[1]


def test_evaluated_it_writes_its_likeliest_digits() -> None:
    vlm = str(speaking_folder())
    ours = agent(vlm=vlm)
    image = noise(1, SIDE)
    obs = np.concatenate([image[0].transpose(2, 0, 1)] * 2)
    expected = HFPrior(vlm).propose(image, ours.prompt).actions[0]
    random_state = torch.get_rng_state()
    assert ours.act(obs, 0, explore=False).tolist() == expected.tolist()
    assert torch.equal(random_state, torch.get_rng_state())


def test_a_trained_policy_is_the_adapter_alone() -> None:
    trained = agent(vlm=str(speaking_folder()))
    with torch.no_grad():
        for i, weight in enumerate(trained.adapter):
            weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(i))
    policy: Any = make(trained.config, trained.context)
    assert policy.act(stack(1), 0, explore=False).tolist() != trained.act(stack(1), 0, explore=False).tolist()
    policy.load_state_dict(trained.state_dict())
    assert policy.act(stack(2), 0, explore=False).tolist() == trained.act(stack(2), 0, explore=False).tolist()
    assert not hasattr(policy, "opt") and not hasattr(policy, "value")
    with pytest.raises(UserError, match=r"made without Context\.services"):
        policy.update(Replay(8, (6, SIDE, SIDE), 2, seed=0), 0)


@pytest.mark.parametrize("vlm", ["scripted", "openai:http://localhost:1/v1"])
def test_a_vlm_without_gradients_is_refused(vlm: str) -> None:
    with pytest.raises(UserError, match=r"vpf tunes the VLM by its gradients.*set vlm to tiny"):
        agent(vlm=vlm)


def test_questions_of_training_take_time_too(monkeypatch: Any) -> None:
    ours = agent(vlm=str(speaking_folder()))
    clock = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    ours.act(stack(1), 0, explore=True)
    assert ours.answers.seconds == 1
