"""Controls in the VLM's place, the players they answer by, and the switches of COVR that go beyond its paper."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from experiments import configure
from hypothesis import given
from hypothesis import strategies as st
from test_covr import SUITE, after, configured, rounds
from test_train import go, measured
from vlm_models import random_folder

from covr import loop
from covr.controls import Control, checked
from covr.schedule import next_step
from covr.selection import less_typical
from covr.vlm.measures import agreement
from covr.vlm.scripted import ScriptedPrior
from covr_bench.config import registry
from covr_bench.config.experiment import design
from covr_bench.config.request import Request
from covr_bench.kit.api import Context
from covr_bench.kit.ddpg import DDPGAgent
from covr_bench.kit.errors import UserError
from covr_bench.kit.sac.agent import SoftActorCriticAgent
from covr_bench.run.player import ScriptedPlayer
from covr_bench.run.services import RunServices
from covr_bench.run.train import Interrupted
from results.store import read_run, run_folder

if TYPE_CHECKING:
    from pathlib import Path

torch.set_num_threads(1)
DPL, COVR = registry.agent("dpl"), registry.agent("covr")


def guided(out: Path, agent: str = "dpl", **settings: str) -> Any:
    return configured(out, agent, **({"vlm": "scripted", "query_every": "4", "query_batch": "4"} | settings))


# players


def returns(suite: str, task: str, seeds: int = 2, **options: Any) -> list[float]:
    """Of the task's scripted player, told the state as it is told in a run that shows pictures."""
    found = registry.suite(suite).task(task)
    env = found.make(0, **options, observation="state")
    player = ScriptedPlayer(found.player, env, found.repeat(options))
    earned = []
    for seed in range(seeds):
        obs, _ = env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            np.testing.assert_array_equal(obs, env.unwrapped.state())
            obs, reward, terminated, truncated, _ = env.step(player.act())
            total, over = total + float(reward), terminated or truncated
        earned.append(total)
    env.close()
    return earned


@pytest.mark.parametrize("task", ["catch", "catch_or_end"])
def test_the_catcher_catches_every_ball(task: str) -> None:
    assert min(returns("catch", task, seeds=20)) > 50  # of 60: the field is crossed in 17 steps, a ball falls in 20


@pytest.mark.parametrize("repeat", [2, 4, 8])
def test_the_pole_is_swung_up_by_rule(repeat: int) -> None:
    assert min(returns("dmc", "cartpole_swingup", action_repeat=repeat)) > 700


def test_a_player_refuses_a_task_that_is_not_its_own() -> None:
    for name in ("catcher", "swing_up", "driver"):
        with pytest.raises(UserError, match=r"(plays|drives) only"):
            registry.make_agent(name, {}, Context((7,), 2, 1, 100, "cpu", 0))


def test_every_player_is_an_agent_and_its_task_tells_the_state() -> None:
    players = {task.key: task.player for suite in registry.suites().values() for task in suite.tasks if task.player}
    assert {"catch/catch", "catch/catch_or_end", "carla/hw", "carla/gp", "carla/a", "dmc/cartpole_swingup"} <= set(
        players
    )
    for name in set(players.values()):
        assert registry.agent(name).sees == "state"


# controls


@pytest.mark.parametrize(
    "prior", ["vlm", "oracle", "oracle:0", "oracle:0.5", "oracle:1", "noise:0", "noise:2.5", "zero", "uniform"]
)
def test_what_a_prior_can_be(prior: str) -> None:
    assert checked(prior) == prior


@pytest.mark.parametrize(
    "prior", ["", "orakel", "oracle:", "oracle:1.5", "oracle:-1", "noise", "noise:x", "noise:nan", "zero:1", "vlm:1"]
)
def test_what_a_prior_cannot_be(prior: str) -> None:
    with pytest.raises(ValueError, match="prior is"):
        checked(prior)


GOOD = np.linspace(-1, 1, 400, dtype=np.float32).reshape(200, 2)


def answers(prior: str, slots: Any = None, good: Any = GOOD) -> Any:
    slots = np.arange(len(good)) if slots is None else slots
    return Control(prior, seed=3).propose((slots, good), None)


@pytest.mark.parametrize("agent", ["covr", "dpl", "apl"])
def test_the_knowing_prior_is_the_vlm_that_was_taught_and_is_marked_so(agent: str) -> None:
    request = Request("catch", (agent,), ("catch",), budget="short", settings={"prior": "knowing"})
    (config,) = design(request.resolved()).runs(device="cpu", threads=1, conv_kernel="torch")
    assert (config.agent_config["vlm"], config.agent_config["prior"]) == ("tiny-knowing", "vlm")
    assert registry.agent(agent).labels(config.agent_config) == {"vlm": "tiny-knowing"}
    with pytest.raises(UserError, match="prior=knowing is vlm=tiny-knowing"):
        design(replace(request, settings={"prior": "knowing", "vlm": "me/mine"}).resolved())


def test_controls_answer_as_their_names_say() -> None:
    np.testing.assert_array_equal(answers("oracle").actions, GOOD)
    np.testing.assert_array_equal(answers("noise:0").actions, GOOD)
    assert not answers("zero").actions.any()
    uniform = answers("uniform").actions
    assert abs(uniform).max() <= 1 and abs(uniform.mean()) < 0.1 and uniform.std() == pytest.approx(3**-0.5, abs=0.05)
    assert abs(agreement(uniform, GOOD)) < 0.15
    half = (answers("oracle:0.5").actions == GOOD).all(axis=1)
    assert 0.4 < half.mean() < 0.6
    assert (answers("oracle:0").actions != GOOD).any(axis=1).all()
    off = answers("noise:0.3").actions - GOOD
    assert off[abs(GOOD) < 0.4].std() == pytest.approx(0.3, abs=0.05)
    assert abs(answers("noise:9").actions).max() == 1


@given(st.sampled_from(["uniform", "oracle:0.5", "noise:0.5"]), st.permutations(range(12)), st.integers(1, 11))
def test_an_answer_does_not_depend_on_when_it_is_asked_for(prior: str, order: list[int], cut: int) -> None:
    whole = answers(prior, np.arange(12), GOOD[:12]).actions
    parts = [answers(prior, np.array(part), GOOD[part]).actions for part in (order[:cut], order[cut:])]
    np.testing.assert_array_equal(np.concatenate(parts), whole[order])


def test_where_nothing_is_known_to_be_good_the_oracle_has_no_answer() -> None:
    answer = answers("oracle", good=np.array([[np.nan, 0.0], [0.5, 0.5]], np.float32))
    assert answer.valid.tolist() == [False, True] and answer.statuses == ("no_answer", "ok")
    assert answer.actions.tolist() == [[0, 0], [0.5, 0.5]]


def test_a_control_is_not_opened_asked_or_tuned_as_a_vlm(tmp_path: Path) -> None:
    """There is no VLM of this name; guidance begins when it would begin with one."""
    config = configured(tmp_path, prior="oracle", guidance_after="1", psi0="80", vlm=str(tmp_path / "gone"))
    go(config, COVR)
    rows = read_run(config.out, config.run_id)
    assert COVR.labels(config.agent_config) == {"vlm": "control:oracle"}
    assert rounds(config, "round") == [0.0] and not (run_folder(config.out, config.run_id) / "adapters").exists()
    shares = rows.query("kind == 'train' and metric == 'guided_share'")
    assert shares["env_steps"].min() > 80 and (shares["value"] > 0).all()


def test_the_oracle_is_the_player_in_each_slot(tmp_path: Path) -> None:
    config = guided(tmp_path, prior="oracle", query_every="2", query_batch="1")
    run: Any = go(config, DPL)
    priors = run.agent.advice.priors
    known = np.isfinite(priors.good[:, 0])
    assert known.sum() > 90 and len(np.unique(priors.good[known])) > 10
    np.testing.assert_array_equal(priors.actions[known & priors.valid], priors.good[known & priors.valid])


@pytest.mark.parametrize("prior", ["oracle:0.5", "noise:0.5"])
def test_a_run_with_a_control_goes_on_as_if_it_had_not_stopped(tmp_path: Path, prior: str) -> None:
    whole, halves = guided(tmp_path / "a", prior=prior), guided(tmp_path / "b", prior=prior)
    go(whole, DPL)
    with pytest.raises(Interrupted):
        go(halves, DPL, after(58))
    go(halves, DPL)
    assert measured(whole).equals(measured(halves))


def test_a_task_without_a_player_has_no_oracle(tmp_path: Path) -> None:
    config = guided(tmp_path, prior="oracle")

    services: Any = object.__new__(RunServices)
    services._named_player = ""
    context = Context((9, 32, 32), 1, 2, 100, "cpu", 0, "a task", services)
    with pytest.raises(UserError, match=r"this task has none; set prior to zero or uniform"):
        registry.make_agent("dpl", config.agent_config, context)


# what a round measures


def test_a_round_tells_how_far_priors_policy_and_samples_are_from_what_is_good(tmp_path: Path) -> None:
    config = configured(tmp_path, env_steps=380, query_every="2", query_batch="1", psi0="120")
    go(config, COVR)
    for name in ("prior_error", "policy_error", "kept_agreement", "kept_agreement_good"):
        found = rounds(config, name)
        assert len(found) == 2 and np.isfinite(found).all(), name
    assert rounds(config, "prior_rounds_behind")[0] == 0
    assert 0 < rounds(config, "prior_age")[0] < 60
    assert all(-1 <= value <= 1 for value in rounds(config, "kept_agreement"))


def test_agreement_is_a_correlation() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=(50, 2)).astype(np.float32)
    assert agreement(one, 3 * one + np.float32([5, -1])) == pytest.approx(1)
    assert agreement(one, -one) == pytest.approx(-1)
    assert math.isnan(agreement(one, np.ones_like(one))) and math.isnan(agreement(one[:0], one[:0]))
    unknown = np.where(np.arange(50)[:, None] < 10, np.nan, one).astype(np.float32)
    assert agreement(one, unknown) == pytest.approx(1)


# presets

BASES = ("rad", "sac", "drq", "drqv2", "taco", "mrq", "curl")
PRESETS = [
    (suite, budget)
    for suite in registry.suites().values()
    for budget in suite.budgets.values()
    if not budget.name.startswith(("paper", "scripts"))  # published lengths with the paper's schedule
]


@pytest.mark.parametrize(("suite", "budget"), PRESETS, ids=lambda each: each.name)
@pytest.mark.parametrize("base", BASES)
def test_a_presets_first_round_follows_the_first_update_and_guidance_follows_that(
    suite: Any, budget: Any, base: str
) -> None:
    """An agent that has not begun to learn has nothing to teach; one that is never guided shows nothing."""
    tasks = [suite.task(name) for name in suite.default_tasks] or suite.tasks
    names = [task.name for task in tasks[:: max(len(tasks) // 6, 1)]]
    given = {"base": base} | ({"image_size": "48"} if base == "mrq" and budget.name == "gate" else {})
    configs = configure(suite, suite.name, {"covr": COVR}, budget, tasks=names, overrides=given)
    for config in configs:
        chosen = config.agent_config
        learns = chosen["base_settings"]
        first = max(learns.get("seed_steps", 0), config.action_repeat * learns.get("random_agent_steps", 0))
        assert chosen["psi0"] > first, config.task
        last = next_step(chosen["guidance_after"] - 1, chosen["psi0"], chosen["growth"])
        assert last < config.env_steps, config.task
    assert {config.task for config in configs} == set(names)


# switches beyond the paper


@given(st.lists(st.tuples(st.floats(-100, 100), st.integers(0, 5)), min_size=1, max_size=30))
def test_an_advantage_is_what_the_age_of_an_episode_does_not_explain(found: list[tuple[float, int]]) -> None:
    scores, ages = np.array([score for score, _ in found]), np.array([age for _, age in found])
    left = less_typical(scores, ages)
    for age in set(ages):
        expected = scores[ages == age] - scores[ages == age].mean()
        np.testing.assert_allclose(left[ages == age], expected, atol=1e-9)


class Reports:
    """Tunes, and says that the error fell from 0.8 to what is wanted."""

    def __init__(self, vlm: Any, after: float) -> None:
        self.tuned, self.after = vlm.finetune, after

    def __call__(self, samples: Any, prompt: Any) -> Any:
        return replace(self.tuned(samples, prompt), heldout_error_weighted=self.after, error_before_weighted=0.8)


@pytest.mark.parametrize(
    ("vlm", "accept", "after"), [("scripted", "better", 0.9), ("random", "better", 0.9), ("random", "never", 0.5)]
)
def test_a_round_that_helps_nothing_is_undone_and_recorded(
    tmp_path: Path, monkeypatch: Any, vlm: str, accept: str, after: float
) -> None:
    name = str(random_folder()) if vlm == "random" else vlm
    config = configured(tmp_path, accept=accept, vlm=name, vlm_episodes="0")
    open_prior = loop.open_prior

    def opened(*given: Any, **options: Any) -> Any:
        prior: Any = open_prior(*given, **options)
        monkeypatch.setattr(prior, "finetune", Reports(prior, after), raising=False)
        return prior

    monkeypatch.setattr(loop, "open_prior", opened)
    run: Any = go(config, COVR)
    assert rounds(config, "round") == [0, 1, 2] and rounds(config, "accepted") == [0, 0]
    agent = run.agent
    assert agent.adapter == 0 and agent.vlm.describe()["rounds"] == 0
    assert agent.guided(200)  # the cold start counts rounds that were made
    images, prompt = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 3), np.uint8), agent.advice.prompt
    fresh = open_prior(name, seed=agent.context.seed)
    np.testing.assert_array_equal(agent.vlm.propose(images, prompt).actions, fresh.propose(images, prompt).actions)


@pytest.mark.deep
def test_a_teacher_can_be_another_run(tmp_path: Path, cli: Any) -> None:
    run = ("run", "--suite", "catch", "--task", "catch", "--budget", "smoke", "--env-steps", "40", "--out", tmp_path)
    for agent in ("random", "catcher"):
        assert cli(*run, "--agent", agent, "--yes").code == 0
    folders = {agent: next((tmp_path / "runs").glob(f"*/catch/{agent}/0")) for agent in ("random", "catcher")}
    config = configured(tmp_path, teacher=str(folders["random"]))
    go(config, COVR)
    assert rounds(config, "collected") == [20.0, 40.0]  # whole episodes, as many steps as its own would have been
    for folder, why in ((tmp_path / "gone", "no run in that folder"), (folders["catcher"], "plays only tasks")):
        with pytest.raises(UserError, match=why):
            go(configured(tmp_path / why, teacher=str(folder)), COVR)


def test_a_scripted_teacher_shows_what_is_good(tmp_path: Path) -> None:
    seen: list[Any] = []
    config = configured(tmp_path, teacher="scripted", rule="top", top_share="1.0", weights="uniform")
    original = ScriptedPrior.finetune

    def finetune(self: Any, samples: Any, prompt: Any) -> Any:
        seen.append(samples)
        return original(self, samples, prompt)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptedPrior, "finetune", finetune)
        go(config, COVR)
    task = SUITE.task("catch")
    env = task.make(0, **config.env)
    assert [len(samples) for samples in seen] == [20, 40]
    assert all(samples.images.shape[1:] == (28, 28, 3) for samples in seen)
    assert {float(value) for samples in seen for value in samples.actions.ravel()} & {-1.0, 1.0}
    env.close()


@pytest.mark.parametrize("settings", [{"score": "q"}, {"score": "q_advantage"}, {"labels": "policy"}])
def test_a_teachers_frames_are_not_the_agents(tmp_path: Path, settings: dict[str, str]) -> None:
    with pytest.raises(UserError, match="need the agent's own frames: teacher=self"):
        configured(tmp_path, teacher="scripted", **settings)


@pytest.mark.parametrize("base", ["sac", "drqv2"])
def test_guidance_to_the_encoder_moves_the_encoder_alone(tmp_path: Path, base: str) -> None:
    """A step for each batch that the actor was guided on; SAC's actor is updated every second time."""
    settings = {"base": base, "guidance_after": "1", "guidance_weight": "5.0", "guidance_to_encoder": "true"}
    settings |= {"seed_steps": "20", "env.image_size": "32"} if base == "drqv2" else {}
    kind = DDPGAgent if base == "drqv2" else SoftActorCriticAgent
    steps: list[tuple[list[int], set[str]]] = []
    original: Any = kind.guide_encoder

    def guide_encoder(inner: Any, batch: Any, guidance: Any) -> None:
        holder = inner if base == "drqv2" else inner.sac
        before = {name: value.clone() for name, value in _weights(holder).items()}
        original(inner, batch, guidance)
        after = _weights(holder)
        moved = {name.partition(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
        steps.append((batch.slot.tolist(), moved))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "guide_encoder", guide_encoder)
        go(configured(tmp_path, **settings), COVR)
    assert len(steps) > 20
    assert all(moved == {"encoder"} for _, moved in steps)
    slots = [each for each, _ in steps]
    assert all(one != other for one, other in pairwise(slots))


def _weights(holder: Any) -> dict[str, torch.Tensor]:
    return {
        f"{part}.{name}": value
        for part in ("encoder", "actor", "critic")
        for name, value in getattr(holder, part).state_dict().items()
    }


def test_guidance_cannot_reach_an_encoder_that_is_not_the_actors(tmp_path: Path) -> None:
    settings = {"base": "mrq", "target_period": "20", "horizon": "2", "env.image_size": "32"}
    with pytest.raises(UserError, match="cannot reach the encoder of base='mrq'"):
        go(configured(tmp_path, guidance_to_encoder="true", **settings), COVR)


def test_an_annealed_weight_falls_to_nothing(tmp_path: Path) -> None:
    run: Any = go(configured(tmp_path, guidance_schedule="anneal", guidance_weight="2.0"), COVR)
    assert run.agent.weight == pytest.approx(2.0 * (1 - 198 / 200))


def test_trust_needs_answers_that_tell_their_variance(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="set decode=expect"):
        go(guided(tmp_path, guidance_trust="variance"), DPL)


@pytest.mark.parametrize("prior", ["uniform", "noise:0.5", "oracle:0.5"])
def test_runs_of_two_seeds_draw_other_answers(prior: str) -> None:
    good = np.zeros((40, 2), np.float32)
    one, other = (Control(prior, seed).propose((np.arange(40), good), None).actions for seed in (0, 1))
    assert not np.array_equal(one, other)
