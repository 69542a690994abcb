"""DGC: its update against the arithmetic written out, what the teacher is shown, and that a policy acts without it."""

from __future__ import annotations

import copy
import itertools
import math
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from reference_sac import ReferenceDeepMDP
from test_covr import Nothing, after
from test_sac import SMALL, A, assert_same_weights, assert_updates_equal, batch, floats
from test_train import go, measured
from test_vlm_agents import configured
from torch import nn
from vlm_models import bars, random_folder

from baselines.dgc import DGC, Config
from covr_bench.config import registry
from covr_bench.kit.api import Context
from covr_bench.kit.errors import UserError
from covr_bench.kit.replay import Replay
from covr_bench.run.train import Interrupted

torch.set_num_threads(1)
SEEN = 3  # of a batch's four samples


def agent(**settings: Any) -> DGC:
    torch.manual_seed(0)
    services: Any = Nothing()
    context = Context((9, 84, 84), A, 4, 100_000, "cpu", 0)
    return DGC(Config(**({"vlm": str(random_folder())} | SMALL | settings)), context, services)


class ReferenceDGC(ReferenceDeepMDP):
    """With the map loss; every pixel of the encoder's map is averaged into its patch one patch at a time."""

    def __init__(self, projection: nn.Linear, teacher: torch.Tensor) -> None:
        super().__init__(action_dim=A, hidden_dim=64)
        self.projection, self.teacher = copy.deepcopy(projection), teacher
        convs = self.critic.encoder.convs
        self.distil_opt = torch.optim.Adam([*convs.parameters(), *self.projection.parameters()], lr=1e-3)

    def update_model(self, obs, action, reward, discount, next_obs) -> dict[str, float]:
        losses = super().update_model(obs, action, reward, discount, next_obs)
        encoder, loss = self.critic.encoder, torch.zeros(())
        side, blocks = encoder.out_side, self.teacher.shape[1]
        edges = [(math.floor(i * side / 6), math.ceil((i + 1) * side / 6)) for i in range(6)]
        for image, features in zip(obs[:SEEN], self.teacher.float(), strict=True):
            seen = encoder.convolved(image[None], encoder.convs).view(32, side, side)
            patch = [[seen[:, top:bottom, left:right].mean((1, 2)) for left, right in edges] for top, bottom in edges]
            for r in range(blocks):
                for c in range(blocks):
                    four = patch[2 * r][2 * c : 2 * c + 2] + patch[2 * r + 1][2 * c : 2 * c + 2]
                    wanted = features[r, c]
                    wanted = (wanted - wanted.mean()) / (wanted.var(unbiased=False) + 1e-5).sqrt()
                    loss = loss + ((self.projection(torch.stack(four, 1).flatten()) - wanted) ** 2).mean()
        loss = loss / (SEEN * blocks * blocks)
        self.distil_opt.zero_grad()
        loss.backward()
        self.distil_opt.step()
        return losses | {"distillation_loss": loss.item()}


def test_updates_equal_the_arithmetic_written_out() -> None:
    ours = agent()
    assert ours.teacher.shape == (3, 3, 128)  # 84 pixels: 6x6 patches, 3x3 blocks of four
    teacher = torch.from_numpy(np.random.default_rng(0).normal(size=(SEEN, 3, 3, 128))).half()
    ours.teacher.features = dict(enumerate(teacher))
    ours.teacher.see = lambda *args, **options: None  # type: ignore[method-assign]
    reference = ReferenceDGC(ours.projection, teacher)
    for name in ("transition", "reward"):
        getattr(reference, name).load_state_dict(copy.deepcopy(getattr(ours.model, name).state_dict()))
    assert_updates_equal(ours, reference, [batch(i) for i in range(2)], floats, 1e-3, taps=0.0)
    assert_same_weights([(reference.projection, ours.projection.state_dict())], 1e-3)
    assert float(ours.sac.metrics["distilled_share"]) == SEEN / 4


def test_distillation_trains_convolutions_and_projection_alone() -> None:
    ours = agent()
    ours.teacher.features = {0: torch.randn(3, 3, 128).half()}
    before = copy.deepcopy(ours.sac.parts())
    projection = ours.projection.weight.detach().clone()
    images = floats(batch(0))[0]
    ours.distil(torch.tensor([7, 8, 9, 10]), images)
    assert torch.equal(before["encoder"].convs[0].weight, ours.sac.encoder.convs[0].weight)
    ours.distil(torch.tensor([0, 8, 9, 10]), images)
    for name in ("actor", "critic", "target_encoder", "target_critic"):
        for key, value in before[name].state_dict().items():
            assert torch.equal(value, ours.sac.parts()[name].state_dict()[key]), (name, key)
    assert not torch.equal(projection, ours.projection.weight)
    assert not torch.equal(before["encoder"].convs[0].weight, ours.sac.encoder.convs[0].weight)


@pytest.mark.deep
def test_encoder_learns_what_the_vlm_sees() -> None:
    """Well below the error of answering each place's mean, which needs no image."""
    ours = agent(vlm="tiny")
    images, _ = bars(12, 84)
    features = ours.teacher.vlm.image_map(images).half()
    ours.teacher.features = dict(enumerate(features))
    wanted = torch.nn.functional.layer_norm(features.float(), (features.shape[-1],))
    without_image = float((wanted - wanted.mean(0)).square().mean())
    stacks = torch.from_numpy(images).permute(0, 3, 1, 2).repeat(1, 3, 1, 1) / 255.0
    for _ in range(100):
        ours.distil(torch.arange(12), stacks.contiguous(memory_format=torch.channels_last))
    assert float(ours.sac.metrics["distillation_loss"]) < 0.6 * without_image


def test_feature_map_lies_as_the_image_does() -> None:
    """Of an image that is bright at one corner only, the features there differ most from those of a dark one."""
    ours = agent(vlm="tiny")
    images = np.zeros((2, 84, 140, 3), np.uint8)
    images[1, 56:, 112:] = 255
    dark, bright = ours.teacher.vlm.image_map(images)
    assert dark.shape == (3, 5, 128)
    moved = (dark - bright).square().sum(-1)
    assert int(moved.argmax()) == 14


def test_features_too_large_to_be_kept_are_counted_and_left_out(monkeypatch: Any) -> None:
    ours = agent(vlm="tiny")
    sizes = iter([1e5, 1.0])
    monkeypatch.setattr(ours.teacher.vlm, "image_map", lambda images: torch.full((len(images), 2, 2, 4), next(sizes)))
    replay = Replay(64, (9, 84, 84), 1, seed=0)
    replay.start(np.zeros((9, 84, 84), np.uint8))
    batch = ours.teacher.batch
    for _ in range(2 * batch):
        ours.teacher.see(replay, True)
        replay.add(np.zeros(1, np.float32), 0.0, False, np.zeros((9, 84, 84), np.uint8))
    assert ours.teacher.answers.statuses == {"nonfinite_model": batch, "ok": batch}
    assert list(ours.teacher.features) == list(range(batch, 2 * batch))


def test_the_teacher_is_shown_each_frame_once_and_keeps_no_frame(tmp_path: Path, monkeypatch: Any) -> None:
    from covr.vlm.hf import HFPrior

    shown: list[Any] = []
    image_map = HFPrior.image_map
    monkeypatch.setattr(HFPrior, "image_map", lambda self, images: [shown.append(images), image_map(self, images)][1])
    config = configured(
        tmp_path, "dgc", vlm=str(random_folder()), vlm_image_size="56", query_batch="3", query_every="10", env_steps=80
    )
    run = go(config, registry.agent("dgc"))
    batches = shown[1:]  # the first is asked for its shape
    assert [len(images) for images in batches] == [3, 3]  # steps 0, 10, .. 70; two are waiting
    # Two env steps each; an episode of 20 steps takes 21 slots.
    assert list(run.agent.teacher.features) == [0, 5, 10, 15, 21, 26]
    assert not run.agent.teacher.frames.pictures.keys() - {31, 36}
    share = float(run.losses["distilled_share"])
    assert 0 < share < 1


@pytest.mark.parametrize("switch", [{}, {"vlm_image_size": "56", "vlm_frames": "2"}])
def test_goes_on_as_if_it_had_not_stopped(tmp_path: Path, switch: dict[str, str]) -> None:
    chosen = {"vlm": str(random_folder()), "query_batch": "3", "env_steps": 100, "eval_every": 50} | switch
    whole, halves = (configured(tmp_path / part, "dgc", **chosen) for part in "ab")
    run = go(whole, registry.agent("dgc"))
    for stop_at in (33, 11):
        with pytest.raises(Interrupted):
            go(halves, registry.agent("dgc"), stop=after(stop_at))
    again = go(halves, registry.agent("dgc"))
    assert measured(whole).equals(measured(halves))
    features = [torch.stack(list(each.agent.teacher.features.values())) for each in (run, again)]
    assert torch.equal(*features)
    torch.testing.assert_close(
        run.agent.state_dict()["projection"], again.agent.state_dict()["projection"], rtol=0, atol=0
    )


@pytest.mark.deep
def test_a_trained_policy_acts_without_loading_a_vlm(tmp_path: Path) -> None:
    trained = agent()
    obs = batch(0).obs[0].numpy()
    expected = trained.act(obs, 0, explore=False).tolist()
    torch.save(trained.state_dict(), tmp_path / "state.pt")
    np.save(tmp_path / "obs.npy", obs)
    code = f"""
import sys, numpy as np, torch
from covr_bench.config import registry
from covr_bench.kit.api import Context
torch.set_num_threads(1)
policy = registry.make_agent("dgc", {{"vlm": "gone", "hidden_dim": 64, "random_agent_steps": 0}},
                             Context((9, 84, 84), {A}, 4, 100, "cpu", 0))
policy.load_state_dict(torch.load(r"{tmp_path / "state.pt"}", weights_only=False))
print(policy.act(np.load(r"{tmp_path / "obs.npy"}"), 0, explore=False).tolist())
assert "transformers" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(expected)


@pytest.mark.parametrize("vlm", ["scripted", "openai:http://localhost:1/v1"])
def test_a_vlm_without_features_is_refused(vlm: str) -> None:
    with pytest.raises(UserError, match=r"dgc needs the VLM's features.*set vlm to tiny"):
        agent(vlm=vlm)


def test_two_frames_of_an_observation_of_one_are_refused_before_a_step() -> None:
    services: Any = Nothing()
    context = Context((3, 84, 84), A, 4, 100_000, "cpu", 0)
    settings: Any = SMALL | {"vlm": str(random_folder()), "vlm_frames": 2}
    with pytest.raises(UserError, match=r"set env.frame_stack to at least 2, or vlm_frames=1"):
        DGC(Config(**settings), context, services)


def test_an_episode_that_ends_within_an_actions_repeats_shows_no_frame_more() -> None:
    """At repeat 3 an episode of 22 steps ends one step after the 21st: 20 was passed once, not twice."""
    seen: list[bool] = []
    ours = object.__new__(DGC)
    ours.config = Config(query_every=10, random_agent_steps=1_000)
    ours.action_repeat, ours.previous_step, ours.agent_steps = 3, -1, 0
    teacher: Any = SimpleNamespace(
        see=lambda replay, asked: seen.append(asked), answers=SimpleNamespace(store=lambda step: None)
    )
    ours.teacher = teacher
    steps = [*range(0, 22, 3), *range(22, 44, 3)]
    for step in steps:
        ours.update(Replay(8, (3, 2, 2), 1, seed=0), step)
    assert [step for step, now in zip(steps, seen, strict=True) if now] == [0, 12, 21, 31, 40]


def test_the_time_the_vlm_took_and_its_latest_answers_are_counted(monkeypatch: Any) -> None:
    ours = agent(vlm="tiny")
    clock = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    replay = Replay(64, (9, 84, 84), 1, seed=0)
    replay.start(np.zeros((9, 84, 84), np.uint8))
    for _ in range(2 * ours.teacher.batch):
        ours.teacher.see(replay, True)
        replay.add(np.zeros(1, np.float32), 0.0, False, np.zeros((9, 84, 84), np.uint8))
    answers = ours.teacher.answers
    assert (answers.seconds, list(answers.recent)) == (2, [True] * 2 * ours.teacher.batch)
