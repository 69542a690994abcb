"""Every task of dm_control's suite: its name, its frames and their terrain, lqr's limits, and the action repeat."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from baselines.drqv2 import AGENT as DRQV2
from covr_bench.cli.choice import Choice, expected_tasks
from covr_bench.config.run_config import replay_slots
from covr_bench.kit.errors import UserError
from results.store import RunWriter, read
from suites import catch, dmc, gl
from suites.base import Budget, Task
from suites.contract.check import examine
from suites.dmc_tasks import DREAMERV3_VISION, INSTRUCTIONS, LQR_FORCE
from tests.experiments import configure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from covr_bench.config.run_config import RunConfig

SUITES = {suite.name: suite for suite in dmc.SUITES}
ALL, VISION = SUITES["dmc"], SUITES["dmc-vision"]
REPRESENTATIVE = (  # of each domain that other tests do not draw: what its camera, terrain or floor has of its own
    *("acrobot_swingup", "cartpole_three_poles", "dog_fetch", "fish_swim", "humanoid_walk", "humanoid_CMU_walk"),
    *("lqr_lqr_6_2", "manipulator_insert_peg", "point_mass_hard", "quadruped_escape", "quadruped_fetch"),
    *("stacker_stack_4", "swimmer_swimmer6"),
)
LONG = Budget("long", 10_000, 5_000, 1)


# What there is


def test_the_names_are_all_of_dm_controls() -> None:
    gl.ensure_backend()
    from dm_control import suite

    assert tuple(INSTRUCTIONS) == suite.ALL_TASKS
    assert [task.name for task in ALL.tasks] == [f"{domain}_{name}" for domain, name in suite.ALL_TASKS]
    assert {task.key for task in ALL.tasks} >= {task.key for suite in dmc.SUITES for task in suite.tasks}


def test_naming_them_imports_no_simulator() -> None:
    code = "import sys, suites.dmc; print(len(suites.dmc.SUITES[-1].tasks), {'dm_control', 'mujoco'} & {*sys.modules})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == f"{len(INSTRUCTIONS)} set()\n"


def test_the_visions_tasks_are_dreamerv3s_twenty() -> None:
    assert len(set(DREAMERV3_VISION)) == len(VISION.tasks) == 20
    assert {task.action_repeat for task in VISION.tasks} == {2}
    assert (VISION.budgets["paper"].env_steps, VISION.budgets["paper"].eval_every) == (1_000_000, 10_000)


def test_without_a_task_one_is_run_and_not_all() -> None:
    runs = configure(ALL, "dmc", {"drqv2": DRQV2}, ALL.budgets["paper"], seeds=[0])
    assert [run.task for run in runs] == ["walker_walk"]


def test_instructions_differ_where_tasks_do() -> None:
    same = [task.name for task in ALL.tasks if [t.instruction for t in ALL.tasks].count(task.instruction) > 1]
    assert {name.split("_")[0] for name in same} == {"humanoid"}  # two bodies, and two observations, of one task


# Each of them


@pytest.mark.deep
@pytest.mark.parametrize("task", ALL.tasks, ids=lambda task: task.name)
def test_every_task_is_built_stepped_and_drawn(task: Task) -> None:
    env: Any = task.make(0, image_size=32, frame_stack=1, render="fast")
    try:
        first, _ = env.reset(seed=3)
        assert first.shape == (3, 32, 32)
        assert first.std() > 4  # something is seen
        low, high = (env.unwrapped._middle + side * env.unwrapped._scale for side in (-1, 1))
        spec = env.unwrapped._env.action_spec()
        if is_lqr := task.name.startswith("lqr"):
            assert (low[0], high[0]) == (-LQR_FORCE, LQR_FORCE)
        else:
            assert np.allclose(low, spec.minimum) and np.allclose(high, spec.maximum)
        rng = np.random.default_rng(0)
        for _ in range(2):
            _, reward, terminated, truncated, info = env.step(rng.uniform(-1, 1, spec.shape).astype(np.float32))
            assert (terminated, truncated, info["env_steps"]) == (False, False, 2)
            assert is_lqr or (0 <= reward <= 2 and task.score_range == (0.0, 1000.0))
        assert np.array_equal(env.reset(seed=3)[0], first)
    finally:
        env.close()


@pytest.mark.deep
@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_exact_frames_are_dm_controls_also_after_a_second_reset(name: str) -> None:
    env: Any = ALL.task(name).make(0, image_size=48, frame_stack=1)
    camera_id = 2 if name.startswith(("quadruped", "dog")) else 0
    rng = np.random.default_rng(0)
    try:
        for seed in range(2):
            obs, _ = env.reset(seed=seed)
            assert np.array_equal(obs.transpose(1, 2, 0), env.unwrapped.physics.render(48, 48, camera_id=camera_id))
            obs, *_ = env.step(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32))
            assert np.array_equal(obs.transpose(1, 2, 0), env.unwrapped.physics.render(48, 48, camera_id=camera_id))
    finally:
        env.close()


@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_fast_frames_are_nearly_the_same(name: str) -> None:
    largest = 1.5 if name == "quadruped_escape" else 1.0  # its terrain is all edges, which fast frames do not smooth
    exact, fast = (ALL.task(name).make(0, frame_stack=1, render=render) for render in ("exact", "fast"))
    try:
        for seed in range(2):
            left, right = (env.reset(seed=seed)[0].astype(int) for env in (exact, fast))
            assert np.abs(left - right).mean() < largest
    finally:
        exact.close()
        fast.close()


@pytest.mark.deep
@pytest.mark.parametrize("name", ["quadruped_walk", "lqr_lqr_2_1"])
def test_the_contract_is_kept(name: str) -> None:
    options = {"image_size": 32, "render": "fast"}
    assert [finding for finding in examine(ALL.task(name), options) if finding.problems] == []


# lqr


@pytest.mark.parametrize("name", ["lqr_2_1", "lqr_6_2"])
def test_lqr_is_one_system_that_ends_at_rest_or_at_the_limit(name: str) -> None:
    ends = []
    first, second = (dmc.DMControl("lqr", name, seed) for seed in (0, 5))
    assert np.array_equal(first.physics.model.jnt_stiffness, second.physics.model.jnt_stiffness)
    first.reset(seed=1)
    for _ in range(1000):
        ends.append(first.step(np.zeros(first.action_space.shape, np.float32))[2:4])
    assert ends == [(False, False)] * 999 + [(False, True)]
    second.reset(seed=1)
    with second.physics.reset_context():
        second.physics.data.qpos[:] = 0
    assert second.step(np.zeros(second.action_space.shape, np.float32))[2:4] == (True, False)


@pytest.mark.parametrize("name", ["lqr_2_1", "lqr_6_2"])
def test_lqrs_scores_are_those_of_no_force_and_of_the_optimal_one(name: str) -> None:
    from dm_control.suite import lqr_solver

    env = dmc.DMControl("lqr", name, 0)
    env.reset()
    gain = lqr_solver.solve(env._env)[1]
    for optimal, expected in zip((False, True), ALL.task(f"lqr_{name}").score_range, strict=True):
        returns = []
        for seed in range(4):  # of the twenty that the range is the mean of
            state, total = env.reset(seed=seed)[0], 0.0
            for _ in range(1000):
                force = gain @ state if optimal else 0 * gain @ state
                assert np.abs(force).max() <= LQR_FORCE
                state, reward, *_ = env.step((force / LQR_FORCE).astype(np.float32))
                total += reward
            returns.append(total)
        assert np.mean(returns) == pytest.approx(expected, abs=30)


# The action repeat


def runs_with(name: str, task: str, **settings: str) -> list[RunConfig]:
    return configure(
        SUITES[name], name, {"drqv2": DRQV2}, LONG, tasks=[task], seeds=[0],
        overrides={key.replace("__", "."): value for key, value in settings.items()},
    )  # fmt: skip


def test_the_action_repeat_is_a_setting_of_the_environment() -> None:
    (plain,), (four,) = runs_with("dmc", "quadruped_walk"), runs_with("dmc", "quadruped_walk", env__action_repeat="4")
    assert (plain.action_repeat, plain.env, four.action_repeat, four.env) == (2, {}, 4, {"action_repeat": 4})
    assert plain.run_id == "dmc@long/quadruped_walk/drqv2/0"
    assert four.run_id == "dmc@long/quadruped_walk/drqv2-env.action_repeat=4/0"
    assert replay_slots(four, None) < replay_slots(plain, None) / 1.9
    assert [run.action_repeat for run in runs_with("dmc6", "cartpole_swingup")] == [8]
    assert [run.action_repeat for run in runs_with("dmc6", "cartpole_swingup", env__action_repeat="2")] == [2]
    env: Any = ALL.task("walker_walk").make(0, image_size=16, action_repeat=4)
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[4]["env_steps"] == 4
    env.close()


def test_a_budget_may_set_it_and_the_user_overrides_it() -> None:
    budget = replace(LONG, overrides={"env.action_repeat": 5})
    for overrides, repeat in (({}, 5), ({"env.action_repeat": "3"}, 3)):
        (run,) = configure(ALL, "dmc", {"drqv2": DRQV2}, budget, tasks=["fish_swim"], seeds=[0], overrides=overrides)
        assert run.action_repeat == repeat


@pytest.mark.parametrize(
    ("value", "text"),
    [("0", "action_repeat is 0; it must be 1 to 1000"), ("1001", "is 1001; it must be 1 to 1000")]
    + [(value, "env.action_repeat = .*valid integer") for value in ("two", "2.5", "")],
)
def test_a_bad_action_repeat_is_refused_in_one_sentence(value: str, text: str) -> None:
    with pytest.raises(UserError, match=f"bad setting of task quadruped_walk: .*{text}"):
        runs_with("dmc", "quadruped_walk", env__action_repeat=value)


def repeating(seed: int, *, image_size: int = 20, frame_stack: int = 2, action_repeat: int = 2) -> Any:
    return catch.make(2, False, seed, image_size=image_size, frame_stack=frame_stack)  # whatever is asked


def test_a_task_says_its_action_repeat_once() -> None:
    assert Task("game", repeating).action_repeat == 2
    assert Task("game", partial(repeating, action_repeat=7), 7).repeat({}) == 7
    for make, repeat in ((repeating, 3), (catch.SUITE.tasks[0].make, 0)):
        with pytest.raises(ValueError, match="task game has action_repeat"):
            Task("game", make, repeat)


def test_an_environment_that_does_not_repeat_as_asked_is_found() -> None:
    task = Task("game", repeating, max_episode_steps=catch.EPISODE_STEPS, family="tried")
    problems = {finding.promise: finding.problems for finding in examine(task) if finding.problems}
    (text,) = problems.pop("options")
    assert not problems
    assert "action_repeat=3" in text and 'info["env_steps"] is 2' in text


# Listed, and in tables


def test_a_suites_own_tasks_budgets_and_variants_are_listed(cli: Callable[..., Any]) -> None:
    tasks = cli("list", "tasks", "--suite", "dmc").out.replace("\n", "")
    assert "quadruped_escape" in tasks and "dmc (2)" in tasks
    assert "hw" not in tasks.split() and "dmc6" not in tasks
    assert "1,000,000" in cli("list", "budgets", "--suite", "dmc-vision").out
    assert "100,000" not in cli("list", "budgets", "--suite", "dmc-vision").out.replace("1,000,000", "")
    assert "M11" in cli("list", "variants", "--suite", "ablation").out
    everything = cli("list", "--suite", "catch").out
    assert "catch_or_end" in everything and "drqv2" in everything and "VLMs;" not in everything
    refused = cli("list", "agents", "--suite", "dmc")
    assert refused.code == 2
    assert "agents are of no suite" in refused.err
    assert "unknown suite" in cli("list", "tasks", "--suite", "dmcc").err


def test_a_table_misses_the_default_tasks_only_once_one_of_them_was_run(tmp_path: Path) -> None:
    def run(run_id: str) -> dict[str, list[str]]:
        with RunWriter(tmp_path, run_id, action_repeat=2) as writer:
            writer.write("eval", 0, 0, {"return": 1.0})
        return expected_tasks(Choice(tmp_path), read(tmp_path))

    assert run("dmc@paper/fish_swim/drqv2/0") == {}
    assert run("dmc@paper/walker_walk/drqv2/0") == {"dmc": ["walker_walk"]}
    assert run("carla@paper/hw/drqv2/0")["carla"] == ["hw", "gp"]
    assert run("dmc-hard@paper/walker_run/drqv2/0")["dmc-hard"] == ["hopper_hop", "walker_run", "pendulum_swingup"]
    assert expected_tasks(Choice(tmp_path, tasks=("fish_swim",)), read(tmp_path)) == {}


def test_drqv2_has_its_official_settings_for_what_it_published() -> None:
    defaults = {key: DRQV2.task_defaults.get(f"dmc/{key}", {}) for key in (task.name for task in VISION.tasks)}
    assert sorted(key for key, value in defaults.items() if value.get("stddev_steps") == 1_000_000) == [
        "acrobot_swingup", "cartpole_swingup_sparse", "cheetah_run", "finger_turn_easy", "finger_turn_hard",
        "hopper_hop", "quadruped_run", "quadruped_walk", "reacher_easy", "reacher_hard", "walker_run",
    ]  # fmt: skip
    assert sorted(key for key, value in defaults.items() if value.get("nstep") == 1) == [
        "walker_run", "walker_stand", "walker_walk",
    ]  # fmt: skip
    humanoid = {"stddev_steps": 4_000_000, "lr": 8e-5, "feature_dim": 100}
    assert all(DRQV2.task_defaults[f"dmc/humanoid_{name}"] == humanoid for name in ("stand", "walk", "run"))
