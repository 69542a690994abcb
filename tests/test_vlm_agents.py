"""The agents with a frozen VLM: `vbe` lets it act, `dpl` and `apl` are guided by it."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from experiments import configure
from test_covr import Nothing, after, evaluations
from test_train import go, measured
from test_vlm_server import PROMPT
from vlm_families import folder
from vlm_models import random_folder

from covr import advice, priors
from covr.vlm.base import Proposals
from covr.vlm.scripted import ScriptedPrior, silent
from covr.vlm_policy import VLMPolicy, vlm_policy
from covr_bench.config import registry
from covr_bench.kit.api import Context
from covr_bench.kit.errors import UserError
from covr_bench.kit.replay import Batch
from covr_bench.run.train import Interrupted
from results.store import read_run
from suites.base import Budget

if TYPE_CHECKING:
    from pathlib import Path

    from covr_bench.config.run_config import RunConfig

torch.set_num_threads(1)
SUITE = registry.suite("catch")
LENGTH = 160  # four episodes of 40 env steps, 20 agent steps
SMALL = {"image_size": "32", "batch_size": "8", "hidden_dim": "16", "feature_dim": "8", "random_agent_steps": "10"}
VLM = {"vlm": "scripted", "vlm_image_size": "28", "query_every": "4", "query_batch": "4", "base": "sac"}
OBS_SHAPE = (9, 32, 32)


def configured(
    out: Path, agent: str, *, task: str = "catch", eval_every: int = 100, env_steps: int = LENGTH, **overrides: str
) -> RunConfig:
    spec = registry.agent(agent)
    specs = [spec, registry.agent("sac")] if spec.wraps else [spec]
    names = {field.name for item in specs for field in fields(item.Config)}
    settings = {key: value for key, value in (SMALL | VLM).items() if key in names} | overrides
    budget = Budget("tried", env_steps, eval_every, 1)
    (config,) = configure(SUITE, "catch", {agent: spec}, budget, tasks=[task], overrides=settings, out=str(out))
    return config


def played(config: RunConfig, **options: Any) -> Any:
    return go(config, registry.agent(config.agent), **options)


def metric(config: RunConfig, name: str) -> dict[int, float]:
    """Values of the training rows, by environment step."""
    rows = read_run(config.out, config.run_id).query("kind == 'train' and metric == @name")
    return dict(zip(rows["env_steps"].tolist(), rows["value"].tolist(), strict=True))


class Counting(ScriptedPrior):
    asked = 0

    def propose(self, images: Any, prompt: Any) -> Any:
        self.asked += len(images)
        return super().propose(images, prompt)


def context(**changes: Any) -> Context:
    options: dict[str, Any] = {"obs_shape": OBS_SHAPE, "action_dim": 2, "action_repeat": 2, "total_env_steps": 100}
    options |= {"device": "cpu", "seed": 0, "instruction": "a task", "make_agent": registry.make_agent} | changes
    return Context(**options)


def made(name: str, given: Context, **settings: Any) -> Any:
    return registry.make_agent(name, {"vlm": "scripted", "vlm_image_size": 28} | settings, given)


# vbe


@pytest.mark.parametrize("task", ["catch", "catch_or_end"])
def test_vbe_asks_at_the_start_of_every_episode_and_then_every_query_every_steps(
    tmp_path: Path, monkeypatch: Any, task: str
) -> None:
    vlm = Counting()
    monkeypatch.setattr(advice, "open_prior", lambda *args, **options: vlm)
    config = configured(tmp_path, "vbe", task=task, query_every="15")
    played(config)
    rows = read_run(config.out, config.run_id)
    lengths = rows[rows["kind"].isin(["eval", "episode"]) & (rows["metric"] == "length")]["value"]
    started = config.env_steps - rows[(rows["kind"] == "episode") & (rows["metric"] == "length")]["value"].sum()
    # Asked at 0, 15 (or 16) and 30 of an episode, however the episodes before and the evaluations between went.
    assert vlm.asked == sum(-(-int(length) // 15) for length in [*lengths, started])


def test_vbe_plays_as_the_vlm_that_covr_scores(tmp_path: Path) -> None:
    config = configured(tmp_path, "vbe", vlm=str(random_folder()), vlm_frames="2", query_every="10")
    run = played(config)
    alone = run.agent.context.services.play(
        lambda render: vlm_policy(run.agent.vlm, run.agent.prompt, run.agent.query, run.agent.context, render),
        episodes=1,
    )
    rows = evaluations(config).query("kind == 'eval' and metric == 'return'")
    assert rows["value"].tolist() == alone["return"] * 3  # at 0, 100 and 160: it learns nothing


def test_the_vlm_plays_more_episodes_than_an_evaluation_has_if_asked(tmp_path: Path) -> None:
    run = played(configured(tmp_path, "vbe", query_every="15"))
    assert run.config.eval_episodes == 1
    few, many = (
        run.agent.context.services.play(
            lambda render: vlm_policy(run.agent.vlm, run.agent.prompt, run.agent.query, run.agent.context, render),
            episodes,
        )
        for episodes in (1, 3)
    )
    assert len(many["return"]) == 3
    assert many["return"][:1] == few["return"]


def test_an_evaluation_between_leaves_vbe_s_training_episode_alone(tmp_path: Path) -> None:
    often = configured(tmp_path / "a", "vbe", eval_every=10, query_every="14")
    once = configured(tmp_path / "b", "vbe", eval_every=LENGTH, query_every="14")
    episodes = []
    for config in (often, once):
        played(config)
        episodes.append(evaluations(config).query("kind == 'episode'")["value"].tolist())
    assert episodes[0] == episodes[1]


def test_vbe_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole, halves = (configured(tmp_path / name, "vbe", query_every="14") for name in "ab")
    played(whole)
    for stop_at in (5, 58, 40):
        with pytest.raises(Interrupted):
            played(halves, stop=after(stop_at))
    played(halves)
    assert measured(whole).equals(measured(halves))


def test_vbe_acts_without_a_run_and_learns_nothing() -> None:
    agent = made("vbe", context())
    obs = np.zeros(OBS_SHAPE, np.uint8)
    obs[:, :, -4:] = 255
    assert agent.act(obs, 0, explore=False).tolist() == pytest.approx([0.87, 0.87], abs=0.05)
    assert agent.update(None, 0) == {}
    assert agent.describe()["vlm"]["name"] == "scripted"


def test_vbe_sees_what_the_environment_draws(tmp_path: Path) -> None:
    config = configured(tmp_path, "vbe", image_size="64", vlm_image_size="64")
    assert config.env["image_size"] == 64
    spec = registry.agent("vbe")
    (follows,) = configure(
        SUITE, "catch", {"vbe": spec}, Budget("b", 10, 10, 1), tasks=["catch"], overrides={"vlm_image_size": "112"}
    )
    assert follows.env["image_size"] == follows.agent_config["image_size"] == 112
    with pytest.raises(UserError, match=r"32 pixels, and vlm_image_size is 84: set vbe.image_size=84"):
        made("vbe", context(), vlm_image_size=84)
    with pytest.raises(UserError, match=r"env.frame_stack"):
        made("vbe", context(obs_shape=(3, 32, 32)))


# dpl, apl


@pytest.mark.deep
def test_dpl_is_covr_that_guides_at_once_and_never_tunes(tmp_path: Path) -> None:
    dpl = configured(tmp_path, "dpl", guidance_weight="3.0")
    covr = configured(
        tmp_path, "covr", guidance_weight="3.0", guidance_after="0", psi0="100000", vlm_episodes="0", lora_rank="8"
    )
    played(dpl)
    played(covr)
    assert evaluations(dpl).equals(evaluations(covr))
    assert metric(dpl, "guidance_loss") == metric(covr, "guidance_loss")
    assert metric(dpl, "guidance_loss")


@pytest.mark.deep
@pytest.mark.parametrize("name", ["dpl", "apl"])
def test_at_weight_0_the_base_learns_as_if_alone(tmp_path: Path, name: str) -> None:
    free, strong = (configured(tmp_path, name, guidance_weight=weight) for weight in ("0", "100"))
    sac = configured(tmp_path, "sac")
    assert free.agent_config["base_settings"] == sac.agent_config
    for config in (free, strong, sac):
        played(config)
    assert evaluations(free).equals(evaluations(sac))
    assert not evaluations(strong).equals(evaluations(sac))


def test_apl_s_weight_falls_in_a_line_to_0_at_the_end_of_the_run(tmp_path: Path) -> None:
    config = configured(tmp_path, "apl", guidance_weight="2.0")
    played(config)
    weights = metric(config, "guidance_weight")  # of the update in the agent step before each evaluation
    assert weights == {100: pytest.approx(2 * (1 - 98 / 160)), 160: pytest.approx(2 * (1 - 158 / 160))}


@pytest.mark.parametrize(("name", "share"), [("dpl", 1.0), ("apl", 0.75)])
def test_guidance_is_eq_4_with_the_weight_of_the_step(name: str, share: float, monkeypatch: Any) -> None:
    given = context(services=Nothing())
    agent = made(name, given, base="sac", base_settings={"hidden_dim": 8, "feature_dim": 4}, guidance_weight=3.0)
    losses = []
    action = torch.tensor([[0.0, 0.0], [0.2, 0.0], [0.3, 0.3]])
    batch = Batch(*(torch.zeros(1),) * 5, slot=torch.tensor([1, 3, 2]))

    def update(replay: Any, step: int, guidance: Any) -> dict[str, Any]:
        losses.append(float(guidance(batch, action)))
        return {}

    monkeypatch.setattr(agent.base, "update", update)
    monkeypatch.setattr(agent.advice, "ask", lambda *args: None)
    known = agent.advice.priors
    known.reserve(8)
    known.answered[[1, 3]], known.source[[1, 3]], known.valid[[1, 3]] = [1, 3], [1, 3], True
    known.actions[1], known.actions[3] = (0.5, -0.5), (1.0, 0.0)
    agent.update(type("Replay", (), {"head": 4})(), 25)
    assert losses == [pytest.approx(share * 3.0 * ((0.25 + 0.25) + 0.64) / 2)]


@pytest.mark.parametrize(
    ("name", "switch"),
    [
        ("dpl", {"between_queries": "hold"}),
        ("apl", {"vlm": "random", "vlm_image_size": "56", "vlm_frames": "2", "query_every": "10"}),
    ],
)
def test_a_guided_agent_goes_on_as_if_it_had_not_stopped(tmp_path: Path, name: str, switch: dict[str, str]) -> None:
    chosen = switch | ({"vlm": str(random_folder())} if switch.get("vlm") == "random" else {})
    whole, halves = (configured(tmp_path / part, name, **chosen) for part in "ab")
    run = played(whole)
    for stop_at in (33, 30):
        with pytest.raises(Interrupted):
            played(halves, stop=after(stop_at))
    again = played(halves)
    assert measured(whole).equals(measured(halves))
    np.testing.assert_array_equal(run.agent.advice.priors.actions, again.agent.advice.priors.actions)
    assert len(run.agent.advice.frames.pictures) < 4  # those of questions not asked yet


def test_answers_that_state_no_action_leave_the_base_alone_and_are_reported(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(advice, "open_prior", lambda *args, **options: ScriptedPrior(silent))
    monkeypatch.setattr(priors, "HEALTH_OVER", 20)
    settings = {"query_every": "1", "guidance_weight": "100", "vlm_silent": "allow"}
    config = configured(tmp_path, "dpl", env_steps=80, eval_every=40, **settings)
    sac = configured(tmp_path, "sac", env_steps=80, eval_every=40)
    warned: list[str] = []
    played(config, warn=warned.append)
    played(sac)
    assert evaluations(config).equals(evaluations(sac))
    assert metric(config, "valid_share") == {40: 0.0, 80: 0.0}
    assert len(warned) == 1
    assert "valid_share" in warned[0]


@pytest.mark.parametrize("name", ["dpl", "apl"])
def test_a_trained_policy_acts_without_the_vlm(tmp_path: Path, name: str) -> None:
    config = configured(tmp_path, name, env_steps=80)
    trained = played(config)
    missing = config.agent_config | {"vlm": str(tmp_path / "gone")}
    agent = registry.make_agent(name, missing, context(action_dim=1))
    agent.load_state_dict(trained.agent.state_dict())
    obs, _ = trained.eval_env.reset(seed=3)
    assert agent.act(obs, 80, explore=False) == trained.agent.act(obs, 80, explore=False)


def test_an_agent_without_an_actor_loss_is_refused() -> None:
    with pytest.raises(UserError, match=r"cannot guide 'random'.*try rad, sac or drqv2"):
        made("dpl", context(), base="random")


def test_trust_in_variances_is_refused_before_a_step_of_a_vlm_that_tells_none() -> None:
    server = "openai:http://127.0.0.1:1/v1#m"
    forced = {"vlm": str(random_folder()), "decode": "forced"}
    for settings in ({"vlm": server}, forced, {"vlm": "scripted"}, {"prior": "zero"}):
        with pytest.raises(UserError, match="guidance_trust=variance needs answers that tell their variance"):
            made("dpl", context(services=Nothing()), guidance_trust="variance", **settings)


@pytest.mark.parametrize("name", ["dpl", "vbe", "vpf"])
def test_frames_that_a_model_cannot_be_shown_are_refused_before_a_step(name: str) -> None:
    one_image_at_a_time = str(folder("florence2"))
    with pytest.raises(UserError, match="cannot be shown two images"):
        made(name, context(services=Nothing()), vlm=one_image_at_a_time, vlm_frames="2")


def test_an_answer_that_states_no_action_leaves_the_one_before_standing() -> None:
    class Doubts:
        asked = 0

        def propose(self, images: Any, prompt: Any) -> Proposals:
            valid, self.asked = self.asked == 1, self.asked + 1
            status: Any = "ok" if valid else "no_match"
            return Proposals(np.full((1, 2), 0.5 * valid, np.float32), np.array([valid]), ("",), (status,), 0.0)

    view: Any = SimpleNamespace(see=lambda obs, asked: None, image=lambda: None)
    policy = VLMPolicy(Doubts(), PROMPT, view, every=2, action_repeat=1)
    acted = [policy.act(np.zeros(0, np.uint8), step, False).tolist() for step in range(6)]
    assert acted == [[0, 0]] * 2 + [[0.5, 0.5]] * 4
