"""Tasks by Gymnasium ids: every one is known, keeps Gymnasium's contract, and is the task itself."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import suites
from covr_bench.config import registry

EXAMPLES = Path(__file__).parent.parent / "examples"
CATCH = "covr-bench/catch-catch-v1"


def test_every_task_of_every_suite_has_an_id() -> None:
    wanted = {
        f"covr-bench/{suite.name}-{task.name}-v{suite.version}"
        for suite in registry.suites().values()
        for task in suite.tasks
    }
    known = {name for name in gymnasium.registry if name.startswith("covr-bench/")}
    assert wanted <= known
    assert "covr-bench/dmc6-walker_walk-v1" in known


@pytest.mark.parametrize("name", [CATCH, "covr-bench/catch-catch_or_end-v1", "covr-bench/carracing-car_racing-v1"])
@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
def test_it_keeps_gymnasiums_contract(name: str) -> None:
    env = gymnasium.make(name, image_size=32)
    check_env(env)
    env.close()


def test_it_is_the_task_itself() -> None:
    env = gymnasium.make(CATCH, image_size=32, frame_stack=2)
    ours = registry.suite("catch").task("catch").make(0, image_size=32, frame_stack=2)
    action = np.array([0.5], np.float32)
    assert np.array_equal(env.reset(seed=5)[0], ours.reset(seed=5)[0])
    for _ in range(20):
        theirs, mine = env.step(action), ours.step(action)
        assert np.array_equal(theirs[0], mine[0])
        assert theirs[1:4] == mine[1:4]
    assert theirs[3], "an episode of catch is 20 agent steps"


def test_its_spec_can_be_written_down_and_made_again() -> None:
    """Datasets hold the JSON of the environment that they were recorded in."""
    env = gymnasium.make(CATCH, image_size=24)
    assert env.spec
    again = gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert again.observation_space == env.observation_space
    assert np.array_equal(again.reset(seed=3)[0], env.reset(seed=3)[0])


def test_vectors_of_it_can_be_made() -> None:
    envs = gymnasium.make_vec(CATCH, num_envs=2, image_size=32)
    obs, _ = envs.reset(seed=[1, 2])
    assert obs.shape == (2, 9, 32, 32)
    assert not np.array_equal(obs[0], obs[1])
    envs.close()


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"image_sise": 3}, "unexpected keyword argument 'image_sise'"), ({"render_mode": "ansi"}, "'rgb_array'")],
)
def test_what_a_task_cannot_do_is_said(settings: dict[str, object], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        gymnasium.make(CATCH, **settings)


def test_a_vectors_environments_are_no_copies() -> None:
    envs = gymnasium.make_vec(CATCH, num_envs=3, image_size=32)
    obs, _ = envs.reset()
    for _ in range(60):
        obs, *_ = envs.step(np.zeros((3, 1), np.float32))
    assert not (np.array_equal(obs[0], obs[1]) and np.array_equal(obs[1], obs[2]))
    envs.close()


def test_gymnasium_collects_frames_of_it() -> None:
    env = gymnasium.make(CATCH, render_mode="rgb_array_list", image_size=32)
    env.reset(seed=0)
    env.step(np.zeros(1, np.float32))
    frames: object = env.render()
    assert isinstance(frames, list) and len(frames) == 2
    env.close()


def test_a_suite_of_ones_own_is_registered_by_hand() -> None:
    from dataclasses import replace

    mine = replace(registry.suite("catch"), name="mine", version=3)
    assert suites.register(mine) == ["covr-bench/mine-catch-v3", "covr-bench/mine-catch_or_end-v3"]
    gymnasium.make("covr-bench/mine-catch_or_end-v3").close()


def test_an_edited_suite_of_ones_own_takes_the_place_of_the_earlier_one() -> None:
    """The second `register` was passed over, so notebooks went on with the first."""
    from dataclasses import replace

    from suites.catch import make

    catch = registry.suite("catch")
    for repeat in (2, 5):
        task = replace(catch.task("catch"), make=partial(make, repeat, False), action_repeat=repeat)
        suites.register(replace(catch, name="edited", tasks=(task,)))
        env = gymnasium.make("covr-bench/edited-catch-v1")
        env.reset(seed=0)
        assert env.step(np.zeros(1, np.float32))[4]["env_steps"] == repeat
        env.close()


def test_registering_one_of_ours_keeps_what_can_be_written_down() -> None:
    from suites.catch import SUITE

    before = gymnasium.spec(CATCH)
    assert CATCH in suites.register(SUITE)
    assert gymnasium.spec(CATCH) is before


@pytest.mark.parametrize(
    "earlier",
    [
        "import suites",
        "import suites.catch",
        "import suites.wrappers",
        "import covr_bench; from covr_bench.config import registry; registry.suites()",
        "import covr_bench\ntry: covr_bench.read('nowhere')\nexcept covr_bench.UserError: pass",
    ],
)
def test_the_order_of_imports_is_no_matter(earlier: str) -> None:
    """Ids were known only where Gymnasium came first, not after any use of `covr_bench`."""
    code = f"import gymnasium, suites\ngymnasium.register_envs(suites)\ngymnasium.make({CATCH!r}).reset()\n"
    code += "assert gymnasium.__loader__ is gymnasium.__spec__.loader, 'the loader is put back'"
    subprocess.run([sys.executable, "-c", f"{earlier}\n{code}"], check=True)


def test_importing_suites_alone_imports_no_gymnasium() -> None:
    code = "import suites, sys; assert 'gymnasium' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_id_can_name_what_to_import_first() -> None:
    """So that scripts run that only take an id: `--env-id suites:covr-bench/...`."""
    code = f"import gymnasium; gymnasium.make('suites:{CATCH}').reset()"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("script", "package"), [("sb3_on_a_task.py", "stable_baselines3"), ("torchrl_on_a_task.py", "torchrl")]
)
def test_scripts_of_other_libraries_run(script: str, package: str) -> None:
    pytest.importorskip(package)
    command = [sys.executable, str(EXAMPLES / script), "--agent-steps", "40"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "return" in done.stdout


CLEANRL = f"""
import gymnasium as gym
import numpy as np

make = lambda: gym.wrappers.RecordEpisodeStatistics(gym.make("suites:{CATCH}", image_size=16))
envs = gym.vector.SyncVectorEnv([make, make])
envs.reset(seed=1)
for _ in range(25):
    obs, _, _, truncations, infos = envs.step(np.zeros((2, 1), np.float32))
    for info in infos.get("final_info", ()):
        print("return", float(info["episode"]["r"]))
    for index in np.flatnonzero(truncations):
        last = infos["final_observation"][index]
        assert last.shape == obs[index].shape == (9 * 16 * 16,)
        assert not np.array_equal(last, obs[index])
"""


def test_a_script_in_cleanrls_words_runs(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(CLEANRL)
    command = [sys.executable, str(EXAMPLES / "cleanrl_on_a_task.py"), str(tmp_path / "script.py")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.count("return") == 2, done.stderr


def test_two_lines_are_enough() -> None:
    code = f"import gymnasium, suites; gymnasium.register_envs(suites); gymnasium.make({CATCH!r}).reset()"
    subprocess.run([sys.executable, "-c", code], check=True)
