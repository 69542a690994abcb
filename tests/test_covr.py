"""The COVR agent: when it asks, tunes and guides; that its base is untouched otherwise; that it resumes exactly."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from deep import a_few_of
from experiments import configure
from hypothesis import given
from hypothesis import strategies as st
from test_train import go, measured
from vlm_models import random_folder

from covr import loop as method
from covr.advice import Advice
from covr.config import COVRConfig
from covr.frames import Frames
from covr.priors import HEALTH_OVER, QUEUED, Priors
from covr.selection import choose, returns_to_go, transitions
from covr.vlm.base import Proposals
from covr.vlm.prompts import task_prompt
from covr.vlm.scripted import ScriptedPrior, silent
from covr_bench.config import registry
from covr_bench.kit.api import Context
from covr_bench.kit.errors import UserError
from covr_bench.kit.replay import Batch, Replay
from covr_bench.run.checkpoint import Saved, load_saved
from covr_bench.run.train import Interrupted
from covr_bench.run.trained import trained_agent, what_acts
from results.store import read_run, run_folder
from suites.base import Budget

if TYPE_CHECKING:
    from collections.abc import Callable

    from covr_bench.config.run_config import RunConfig

torch.set_num_threads(1)
SUITE = registry.suite("catch")
SPEC = registry.agent("covr")
LENGTH = 200  # five episodes
SMALL = {
    "base": "sac",
    "image_size": "32",
    "batch_size": "8",
    "hidden_dim": "16",
    "feature_dim": "8",
    "random_agent_steps": "10",
    "vlm": "scripted",
    "vlm_image_size": "28",
    "vlm_episodes": "1",
    "finetune_min_steps": "2",
    "psi0": "50",
    "guidance_after": "2",
    "query_every": "4",
    "query_batch": "4",
}


class Nothing:
    """What a run offers its agent, where nothing is asked of it."""

    folder = Path("no folder")

    def render(self, height: int, width: int) -> Any:
        raise AssertionError("the frames are as large as what the VLM is shown")

    def player(self) -> None: ...


def configured(out: Path, agent: str = "covr", env_steps: int = LENGTH, **overrides: str) -> RunConfig:
    spec = registry.agent(agent)
    settings = SMALL | overrides
    if "env.image_size" in overrides:  # of an agent that takes frames as they come
        missing = {"drqv2": "random_agent_steps", "mrq": "feature_dim"}[settings["base"]]
        settings = {key: value for key, value in settings.items() if key not in ("image_size", missing)}
    if agent != "covr":
        settings = {
            key: value for key, value in settings.items() if key in {"image_size", *spec.Config.__annotations__}
        }
        settings |= {key: SMALL[key] for key in ("batch_size", "hidden_dim", "feature_dim", "random_agent_steps")}
    (config,) = configure(
        SUITE,
        "catch",
        {agent: spec},
        Budget("tried", env_steps, 100, 1),
        tasks=["catch"],
        overrides=settings,
        out=str(out),
    )
    return config


def rounds(config: RunConfig, metric: str) -> list[float]:
    rows = read_run(config.out, config.run_id)
    rows = rows[(rows["kind"] == "vlm") & (rows["metric"] == metric)]
    return rows.sort_values("env_steps")["value"].tolist()


def evaluations(config: RunConfig) -> Any:
    rows = measured(config)
    rows = rows[rows["kind"].isin(["eval", "episode"])]
    return rows[["kind", "env_steps", "metric", "value"]].reset_index(drop=True)


def test_base_settings_are_those_of_the_base_by_itself(tmp_path: Path) -> None:
    covr = configured(tmp_path)
    sac = configured(tmp_path, "sac")
    assert covr.agent_config["base_settings"] == sac.agent_config
    assert covr.env == sac.env == {"image_size": 32}


def test_a_base_setting_can_be_given_for_the_base_inside_alone() -> None:
    (config,) = configure(
        SUITE,
        "catch",
        {"covr": SPEC},
        SUITE.budgets["smoke"],
        tasks=["catch"],
        overrides={"covr.lr": "0.5", "rad.lr": "0.1"},
    )
    assert config.agent_config["base_settings"]["lr"] == 0.5
    with pytest.raises(UserError, match=r"drqv2\.lr"):
        configure(SUITE, "catch", {"covr": SPEC}, SUITE.budgets["smoke"], overrides={"drqv2.lr": "1"})


def test_without_guidance_the_base_learns_as_if_alone(tmp_path: Path) -> None:
    covr, sac = configured(tmp_path, guidance_after="99"), configured(tmp_path, "sac")
    go(covr, SPEC)
    go(sac, registry.agent("sac"))
    assert evaluations(covr).equals(evaluations(sac))
    assert len(rounds(covr, "round")) == 3


def test_guidance_changes_what_is_learnt_only_after_the_cold_start(tmp_path: Path) -> None:
    free = configured(tmp_path, guidance_after="99")
    guided = configured(tmp_path, guidance_weight="100.0")
    go(free, SPEC)
    go(guided, SPEC)
    before, after = evaluations(free), evaluations(guided)
    second_round = rounds(guided, "round").index(2.0)
    at = (
        read_run(guided.out, guided.run_id).query("kind == 'vlm' and metric == 'round'")["env_steps"].iloc[second_round]
    )
    early = before["env_steps"] <= at
    assert before[early].equals(after[early])
    assert not before[~early].equals(after[~early])


def test_rounds_come_when_they_are_due_and_an_episode_has_ended(tmp_path: Path) -> None:
    config = configured(tmp_path)
    go(config, SPEC)
    rows = read_run(config.out, config.run_id).query("kind == 'vlm' and metric == 'round'")
    # psi: due at 50 and 150; at 50 the first episode has ended, at 150 the third.
    assert rows[["env_steps", "value"]].to_numpy().tolist() == [[0, 0], [50, 1], [150, 2]]
    collected = rounds(config, "collected")
    assert collected == [20.0, 40.0]  # agent steps: episode 1, episodes 2 and 3
    assert {str(label) for label in read_run(config.out, config.run_id)["labels"]} <= {"vlm=scripted", ""}


def test_the_running_episode_may_count_as_ended(tmp_path: Path) -> None:
    config = configured(tmp_path, episodes="cut", env_steps=60)
    go(config, SPEC)
    assert rounds(config, "collected") == [25.0]  # every agent step before 50


def test_one_question_in_query_every_steps(tmp_path: Path) -> None:
    config = configured(tmp_path, query_every="10", query_batch="1", vlm_episodes="0", psi0="190")
    go(config, SPEC)
    assert rounds(config, "queries") == [0.0, 20.0]  # recorded before the first; then those of 0, 10, ..., 190


SWITCHES: list[dict[str, str]] = [
    {"direction": "prose"},
    {"compare": "raw"},
    {"growth": "printed"},
    {"clock": "agent"},
    {"episodes": "cut"},
    {"score": "reward"},
    {"rule": "top"},
    {"weights": "uniform"},
    {"weights": "random"},
    {"guidance_weight": "2.0"},
    {"label_smoothing": "0.0", "vlm": "random"},
    {"vlm_image_size": "56", "vlm_frames": "2"},
    {"queries": "async"},
    {"decode": "expect", "vlm": "random"},
    {"decode": "generate", "vlm": "random", "query_every": "20", "vlm_episodes": "0", "vlm_silent": "allow"},
    {"base": "rad", "window": "28"},
]
STATEFUL: list[dict[str, str]] = [  # those with something of their own to be kept in a checkpoint
    {"between_queries": "hold"},
    {"old_priors": "relabel"},
    {"old_priors": "drop"},
    {"score": "q"},
    {"rule": "random"},
    {"vlm_frames": "2", "vlm": "random"},
    {"vlm_image_size": "56", "vlm": "random", "query_batch": "7"},
    {"base": "deepmdp", "initial_updates": "2"},
    {"base": "drqv2", "seed_steps": "20", "env.image_size": "32"},
    {"base": "mrq", "target_period": "20", "horizon": "2", "env.image_size": "32"},
    {"accept": "better", "vlm": "random", "score": "advantage", "labels": "policy"},
    {"teacher": "scripted"},
    {"guidance_to_encoder": "true", "guidance_schedule": "anneal", "score": "q_advantage"},
    {"guidance_trust": "variance", "decode": "expect", "vlm": "random"},
]


def name_of(switch: dict[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in switch.items())


def with_random_weights(switch: dict[str, str]) -> dict[str, str]:
    return switch | {"vlm": str(random_folder())} if switch.get("vlm") == "random" else switch


@pytest.mark.deep
@pytest.mark.parametrize("switch", SWITCHES, ids=name_of)
def test_every_switch_runs(tmp_path: Path, switch: dict[str, str]) -> None:
    config = configured(tmp_path, **with_random_weights(switch))
    go(config, SPEC)
    assert rounds(config, "round")[-1] >= (1 if switch in ({"growth": "printed"}, {"clock": "agent"}) else 2)
    assert rounds(config, "queries")[-1] > 0 or switch == {"clock": "agent"}


@pytest.mark.parametrize("switch", a_few_of(STATEFUL, STATEFUL[-4], STATEFUL[-2]), ids=name_of)
def test_a_run_with_a_vlm_goes_on_as_if_it_had_not_stopped(tmp_path: Path, switch: dict[str, str]) -> None:
    chosen = with_random_weights(switch)
    whole, halves = configured(tmp_path / "a", **chosen), configured(tmp_path / "b", **chosen)
    run = go(whole, SPEC)
    assert rounds(whole, "round")[-1] >= 2
    for stop_at in (58, 40):
        with pytest.raises(Interrupted):
            go(halves, SPEC, after(stop_at))
    again = go(halves, SPEC)
    assert measured(whole).equals(measured(halves))
    assert rounds(whole, "heldout_error") == pytest.approx(rounds(halves, "heldout_error"), nan_ok=True)
    np.testing.assert_array_equal(run.agent.advice.priors.actions, again.agent.advice.priors.actions)  # type: ignore[attr-defined]


@pytest.mark.deep
def test_a_run_killed_many_rounds_after_its_checkpoint_goes_on(tmp_path: Path) -> None:
    config = configured(tmp_path, psi0="10")
    checkpoint, copy = run_folder(config.out, config.run_id) / "checkpoint", tmp_path / "copy"
    with pytest.raises(Interrupted):
        go(config, SPEC, after(60))
    made = rounds(config, "round")[-1]
    assert made >= 1
    shutil.copytree(checkpoint, copy)
    go(config, SPEC)
    assert rounds(config, "round")[-1] >= made + 2
    whole = measured(config)
    shutil.rmtree(checkpoint)
    shutil.copytree(copy, checkpoint)
    go(config, SPEC)
    assert measured(config).equals(whole)


def after(calls: int) -> Callable[[], bool]:
    """A stop that comes when the loop has asked for one so many times."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > calls

    return stop


@pytest.mark.deep
def test_a_vlm_that_never_states_an_action_leaves_the_base_alone(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(method, "open_prior", lambda *args, **options: ScriptedPrior(silent))
    config = configured(
        tmp_path,
        query_every="1",
        env_steps=480,
        guidance_weight="100.0",
        psi0="450",
        guidance_after="0",
        vlm_silent="allow",
    )
    sac = configured(tmp_path, "sac", env_steps=480)
    warned: list[str] = []
    go(config, SPEC, warn=warned.append)
    go(sac, registry.agent("sac"))
    assert evaluations(config).equals(evaluations(sac))
    assert rounds(config, "valid_share")[-1] == 0.0
    assert rounds(config, "answers_no_action_word")[-1] > HEALTH_OVER
    assert len(warned) == 1
    assert "fewer than half" in warned[0]


def test_missing_weights_are_said_before_any_step(tmp_path: Path) -> None:
    config = configured(tmp_path, vlm=str(tmp_path))
    with pytest.raises(UserError, match=r"config.json.*--vlm tiny"):
        go(config, SPEC)
    assert not len(read_run(config.out, config.run_id))


def test_an_agent_without_an_actor_loss_cannot_be_the_base() -> None:
    context = Context((9, 32, 32), 2, 1, 100, "cpu", 0, "a task", make_agent=registry.make_agent)
    with pytest.raises(UserError, match="random"):
        method.make(COVRConfig(base="random"), context)


def test_a_trained_policy_acts_without_the_vlm(tmp_path: Path) -> None:
    config = configured(tmp_path, env_steps=120, vlm=str(random_folder()))
    trained = go(config, SPEC)
    obs, _ = trained.eval_env.reset(seed=3)
    expected = trained.agent.act(obs, 120, explore=False)
    np.save(tmp_path / "obs.npy", obs)
    program = f"""
import sys
import numpy as np
from covr_bench.config import registry
from covr_bench.kit.api import Context
from covr_bench.run.checkpoint import load_agent
from pathlib import Path
agent = registry.make_agent("covr", {config.agent_config!r}, Context((9, 32, 32), 1, 2, 120, "cpu", 0, "a task"))
agent.load_state_dict(load_agent(Path({str(run_folder(config.out, config.run_id))!r}) / "checkpoint"))
print(agent.act(np.load({str(tmp_path / "obs.npy")!r}), 120, explore=False).tolist())
loaded = [name for name in sys.modules if name.split(".")[0] in ("transformers", "peft") or name == "covr.vlm.hf"]
print(loaded)
"""
    lines = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    assert lines[0] == str(expected.tolist())
    assert lines[1] == "[]"

    saved = load_saved(run_folder(config.out, config.run_id) / "checkpoint")
    assert saved
    less = what_acts(saved.state)
    assert less["agent"].keys() == {
        "base",
        "metrics",
        "rounds",
        "decisions",
        "adapter",
        "scored",
        "collected_from",
        "tried_until",
        "clock",
    }
    assert "critic" not in less["agent"]["base"]["sac"]
    context = Context((9, 32, 32), 1, 2, 120, "cpu", 0, "a task")
    published = trained_agent(config, Saved(less, ""), context, None)
    assert np.array_equal(published.act(obs, 120, explore=False), expected)


def test_guidance_is_eq_4_over_the_samples_that_have_a_prior() -> None:
    agent = training(guidance_weight=3.0)
    known = agent.advice.priors
    known.reserve(8)
    known.answered[[1, 2, 3]], known.source[[1, 2, 3]] = [1, 2, 3], [1, 2, 3]
    known.valid[[1, 3]] = True
    known.actions[1], known.actions[3], known.actions[2] = (0.5, -0.5), (1.0, 0.0), (9.0, 9.0)
    action = torch.tensor([[0.0, 0.0], [0.2, 0.0], [0.3, 0.3], [0.4, 0.4]], requires_grad=True)
    batch = Batch(*(torch.zeros(1),) * 5, slot=torch.tensor([1, 3, 2, 5]))
    loss = agent.guide(batch, action)
    assert float(loss.detach()) == pytest.approx(3.0 * ((0.25 + 0.25) + 0.64) / 2)
    (gradient,) = torch.autograd.grad(loss, action)
    assert gradient[2:].abs().sum() == 0
    assert float(agent.metrics["guided_share"]) == 0.5


def training(vlm: Any = None, **settings: Any) -> method.COVR:
    """COVR on actions of two numbers, in a run that offers nothing."""
    context = Context((9, 32, 32), 2, 1, 100, "cpu", 0, "a task", make_agent=registry.make_agent)
    config = COVRConfig(base="sac", base_settings={"hidden_dim": 8, "feature_dim": 4}, vlm_image_size=28, **settings)
    services: Any = Nothing()
    return method.COVR(config, context, Advice(vlm or ScriptedPrior(), config, context, services))


def priors(*, hold: bool = False, batch: int = 1, vlm: Any = None, background: bool = False) -> Priors:
    images = lambda replay, slots: np.zeros((len(slots), 28, 28, 3), np.uint8)  # noqa: E731
    prompt, every = task_prompt("a task", 2), lambda slots: slots
    return Priors(vlm or ScriptedPrior(), prompt, images, every, batch=batch, hold=hold, background=background)


def episodes(lengths: list[int], capacity: int = 64) -> Replay:
    """A replay of episodes with these numbers of steps, rewards 1, 2, 3, ... throughout."""
    replay = Replay(capacity, (9, 4, 4), 2, seed=0)
    obs, reward = np.zeros((9, 4, 4), np.uint8), 0.0
    for length in lengths:
        replay.start(obs)
        for _ in range(length):
            reward += 1
            replay.add(np.zeros(2, np.float32), reward, False, obs)
    return replay


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.floats(0, 1))
def test_returns_to_go_are_sums_to_the_end_of_each_episode(lengths: list[int], gamma: float) -> None:
    replay = episodes(lengths, capacity=128)
    slots = transitions(replay, 0, replay.head)
    assert len(slots) == sum(lengths)
    expected, reward = [], 0
    for length in lengths:
        rewards = [reward + i + 1 for i in range(length)]
        reward += length
        expected += [sum(gamma**k * r for k, r in enumerate(rewards[t:])) for t in range(length)]
    np.testing.assert_allclose(
        returns_to_go(replay.reward[slots % replay.capacity], replay.first[slots % replay.capacity], gamma),
        expected,
        rtol=1e-9,
    )


def test_transitions_that_left_the_ring_are_not_in_d_f() -> None:
    replay = episodes([5] * 8, capacity=16)
    slots = transitions(replay, 0, replay.head)
    assert slots.min() >= replay.oldest()
    assert len(slots) > 5


@given(st.lists(st.floats(-1e6, 1e6), max_size=40), st.floats(-20, 20), st.sampled_from(["eddf", "top", "random"]))
def test_every_rule_keeps_some_of_what_there_is(scores: list[float], entropy: float, rule: Any) -> None:
    array = np.array(scores, np.float64)
    kept = choose(array, entropy, np.random.default_rng(0), rule=rule)
    assert kept.shape == array.shape
    if rule == "random":
        assert kept.sum() == choose(array, entropy, np.random.default_rng(0)).sum()
    if rule == "top" and len(array):
        assert kept.sum() >= math.floor(0.8 * len(array))
        assert array[kept].min() >= np.max(array[~kept], initial=-np.inf)


def test_an_answer_is_held_to_the_end_of_its_episode_only() -> None:
    replay = Replay(32, (9, 4, 4), 2, seed=0)
    obs = np.zeros((9, 4, 4), np.uint8)
    for hold, expected in ((False, [1, 0, 0, 0, 0, 0]), (True, [1, 1, 1, 0, 0, 0])):
        known = priors(hold=hold)
        first = replay.head
        asked = iter([True, False, False, False, False, False])
        for _ in range(2):
            replay.start(obs)
            for _ in range(3):
                known.see(replay, next(asked))
                replay.add(np.zeros(2, np.float32), 0.0, False, obs)
        slots = torch.tensor([first, first + 1, first + 2, first + 4, first + 5, first + 6])
        assert known.of(slots)[1].tolist() == expected


def test_an_answer_is_forgotten_with_its_slot() -> None:
    replay = Replay(8, (9, 4, 4), 2, seed=0)
    obs = np.zeros((9, 4, 4), np.uint8)
    known = priors()
    replay.start(obs)
    for step in range(12):
        known.see(replay, ask=step < 2)
        replay.add(np.zeros(2, np.float32), 0.0, False, obs)
    assert known.of(torch.tensor([8, 9]))[1].tolist() == [0, 0]  # live in the places of 0 and 1


def test_a_question_that_waits_has_not_the_answer_its_place_had_a_lap_before() -> None:
    replay = Replay(8, (9, 4, 4), 2, seed=0)
    obs = np.zeros((9, 4, 4), np.uint8)
    known = priors(batch=2)
    replay.start(obs)
    for step in range(10):
        known.see(replay, ask=step in (0, 1, 8))
        replay.add(np.zeros(2, np.float32), 0.0, False, obs)
    assert known.waiting == [8]
    assert known.of(torch.tensor([8]))[1].tolist() == [0]  # lives in the place of 0, whose answer came


def test_the_age_of_the_priors_counts_from_when_they_were_answered() -> None:
    replay = Replay(32, (9, 4, 4), 2, seed=0)
    obs = np.zeros((9, 4, 4), np.uint8)
    known = priors(batch=2)
    replay.start(obs)
    for step in range(9):
        known.see(replay, ask=step in (0, 3))  # both are answered when slot 3 is the newest
        replay.add(np.zeros(2, np.float32), 0.0, False, obs)
    assert known.use(replay) == {"prior_age": 5.0, "prior_rounds_behind": 0.0}


def test_relabelling_replaces_every_answer_a_batch_at_a_time() -> None:
    vlm = ScriptedPrior()
    known = priors(batch=2, vlm=vlm)
    replay = Replay(32, (9, 4, 4), 2, seed=0)
    obs = np.zeros((9, 4, 4), np.uint8)
    replay.start(obs)
    for _ in range(6):
        known.see(replay, ask=True)
        replay.add(np.zeros(2, np.float32), 0.0, False, obs)
    slots = torch.arange(6)
    assert known.of(slots)[0].unique().tolist() == [0.0]
    vlm.shift = [0.5, 0.5]
    known.ask_again(replay)
    changed = []
    for _ in range(4):
        known.see(replay, ask=False)
        replay.add(np.zeros(2, np.float32), 0.0, False, obs)
        changed.append(int((known.of(slots)[0][:, 0] == 0.5).sum()))
    assert changed == [2, 4, 6, 6]


class Slow(ScriptedPrior):
    """Answers once it is let; `begun` tells that it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.let, self.begun = threading.Event(), threading.Event()

    def propose(self, images: Any, prompt: Any) -> Any:
        self.begun.set()
        self.let.wait()
        time.sleep(0.002)
        return super().propose(images, prompt)


def asked_about(known: Priors, replay: Replay, slots: int) -> int:
    """Play on so far, each slot asked about; returns how many batches have been in the queue at once."""
    obs, most = np.zeros((9, 4, 4), np.uint8), 0
    if not replay.head:
        replay.start(obs)
    for _ in range(slots):
        known.see(replay, ask=True)
        most = max(most, len(known.running))
        replay.add(np.zeros(2, np.float32), 0.0, False, obs)
    return most


def test_an_agent_is_never_far_ahead_of_a_slow_vlm() -> None:
    """Questions with their images were queued without bound."""
    vlm, replay = Slow(), Replay(128, (9, 4, 4), 2, seed=0)
    known = priors(batch=2, vlm=vlm, background=True)
    vlm.let.set()
    assert 0 < asked_about(known, replay, 80) <= QUEUED
    known.settle()
    assert known.answered[:80].tolist() == list(range(80))


def test_a_run_that_stops_waits_for_one_batch_and_asks_the_others_when_it_goes_on(monkeypatch: Any) -> None:
    """It waited for every batch in the queue."""
    vlm, replay = Slow(), Replay(16, (9, 4, 4), 2, seed=0)
    known = priors(batch=2, vlm=vlm, background=True)
    asked_about(known, replay, 7)
    assert known.waiting == list(range(7))  # of which the pictures are kept
    assert vlm.begun.wait(60)
    settle = known.settle

    def let() -> None:
        vlm.let.set()
        settle()

    monkeypatch.setattr(known, "settle", let)
    state = known.state_dict()
    assert state["waiting"] == [2, 3, 4, 5, 6] and state["statuses"] == {"ok": 2}
    for pictured, answered in ((True, list(range(6))), (False, [0, 1, 4, 5])):
        again = priors(batch=2, background=True)
        again.load_state_dict(state)
        if not pictured:  # 2 and 3, that is
            again.pictured = lambda slots: slots[slots > 3]
        again.see(replay, ask=False)
        again.settle()
        assert sorted(again.answered[again.answered >= 0].tolist()) == answered
        assert again.waiting == [6]


def test_slots_that_the_ring_overwrote_are_not_asked_about_aside() -> None:
    replay = Replay(8, (9, 4, 4), 2, seed=0)
    known = priors(batch=2, background=True)
    known.reserve(8)
    known.unasked = [0, 1]
    obs = np.zeros((9, 4, 4), np.uint8)
    replay.start(obs)
    for _ in range(12):
        replay.add(np.zeros(2, np.float32), 0.0, False, obs)
    known.see(replay, ask=False)
    known.settle()
    assert not known.statuses and not known.waiting


def test_what_the_vlm_said_last_without_an_action_outlives_a_stop() -> None:
    known = priors(vlm=ScriptedPrior(silent))
    asked_about(known, Replay(8, (9, 4, 4), 2, seed=0), 1)
    again = priors()
    again.load_state_dict(known.state_dict())
    assert again.words == "I cannot tell from this picture."
    again.load_state_dict({name: value for name, value in known.state_dict().items() if name != "words"})
    assert again.words == ""


def test_two_frames_of_an_observation_of_one_are_refused_before_a_step() -> None:
    """The run failed in its midst, with a text that named no setting."""
    context = Context((3, 32, 32), 2, 1, 100, "cpu", 0, "a task", make_agent=registry.make_agent)

    def advised(**settings: Any) -> Advice:
        services: Any = Nothing()
        return Advice(ScriptedPrior(), COVRConfig(base="sac", vlm_frames=2, **settings), context, services)

    with pytest.raises(UserError, match=r"set env.frame_stack to at least 2, or vlm_frames=1"):
        advised(vlm_image_size=28)
    advised(vlm_image_size=64)  # is drawn for it


def test_a_vlm_that_cannot_be_tuned_guides_when_its_round_would_have_been() -> None:
    agent = training(type("Fixed", (ScriptedPrior,), {"tunable": False})(), psi0=10, guidance_after=2)
    assert [agent.guided(step) for step in (0, 29, 30, 100)] == [False, False, True, True]
    agent.config = replace(agent.config, guidance_after=0)
    assert agent.guided(0)


def test_a_vlm_that_fell_silent_is_told_of_after_a_stop_as_well() -> None:
    def known() -> Priors:
        vlm: Any = None
        found = Priors(vlm, task_prompt("a task", 1), lambda *_: np.zeros(0, np.uint8), lambda slots: slots,
                       batch=1, hold=False, background=False)  # fmt: skip
        found.reserve(2 * HEALTH_OVER)
        return found

    def answers(valid: bool, slots: range) -> tuple[Any, Proposals]:
        status: Any = "ok" if valid else "no_match"
        count = len(slots)
        actions = np.zeros((count, 1), np.float32)
        return np.array(slots), Proposals(actions, np.full(count, valid), ("",) * count, (status,) * count, 0.0)

    before = known()
    before._keep(*answers(True, range(HEALTH_OVER)))
    again = known()
    again.load_state_dict(before.state_dict())
    again._keep(*answers(False, range(HEALTH_OVER, 2 * HEALTH_OVER)))
    assert again.valid_share() == 0 and again.unhealthy()


def test_two_frames_stay_two_after_a_stop() -> None:
    """The first picture after it shows the frame of the step before, too."""
    drawn = iter(range(9))
    frames = [Frames(2, 20, 8, lambda height, width: np.full((height, width, 3), next(drawn), np.uint8)) for _ in "ab"]
    replay, obs = Replay(8, (6, 8, 8), 1, seed=0), np.zeros((6, 8, 8), np.uint8)
    replay.start(obs)
    frames[0].see(replay, asked=False)
    frames[1].load_state_dict(frames[0].state_dict())
    replay.add(np.zeros(1, np.float32), 0.0, False, obs)
    frames[1].see(replay, asked=True)
    assert frames[1].of(replay, np.array([1]))[0, :, 0, 0, 0].tolist() == [0, 1]


@pytest.mark.parametrize("score", ["q", "q_advantage"])
def test_rounds_rank_by_the_q_values_of_a_base_that_needs_the_step_before(tmp_path: Path, score: str) -> None:
    """A base of which one observation is too little failed at its first round."""
    config = configured(tmp_path, env_steps=120, base="resact", score=score, image_size="108")
    go(config, registry.agent("covr"))
    assert min(rounds(config, "samples")) > 0
