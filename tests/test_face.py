"""The Python face: the same as the commands, from a notebook."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import covr_bench
from baselines.random import AGENT
from covr_bench import Request, UserError
from covr_bench.config.request import from_yaml, request

SMALL = {"tasks": "catch", "agents": ["random"], "budget": "smoke", "env_steps": 80}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> covr_bench.Outcome:
    out = tmp_path_factory.mktemp("face") / "results"
    return covr_bench.run("catch", **SMALL, seeds="0-1", settings={"env.image_size": 48}, out=out)


def test_a_run_returns_its_plan_and_its_rows(outcome: covr_bench.Outcome) -> None:
    assert not outcome.failed
    assert outcome.plan.describe() == "2 to do"
    returns = outcome.results.returns()
    assert list(returns["seed"]) == [0, 1]
    assert set(returns["status"]) == {"finished"}
    assert np.isfinite(returns["score"]).all()


def test_the_same_call_does_nothing_more(outcome: covr_bench.Outcome) -> None:
    again = covr_bench.run("catch", **SMALL, seeds=[0, 1], settings={"env.image_size": 48}, out=outcome.results.out)
    assert again.plan.describe() == "2 done"
    assert len(again.results.frame) == len(outcome.results.frame)


def test_provenance_holds_the_options_as_data(outcome: covr_bench.Outcome) -> None:
    folder = outcome.results.out / "runs" / outcome.plan.run_ids[1]
    session = json.loads((folder / "provenance.json").read_text())["sessions"][0]
    options = request(session["options"])
    assert (options.agents, options.tasks, options.seeds) == (("random",), ("catch",), (1,))
    assert options.settings == {"env.image_size": "48"}
    assert shlex.split(session["command"])[:4] == ["covr-bench", "run", "--suite", "catch"]
    assert request(from_yaml(folder / "request.yaml")) == options


def test_a_run_can_be_given_back_by_its_yaml(outcome: covr_bench.Outcome) -> None:
    folder = outcome.results.out / "runs" / outcome.plan.run_ids[0]
    (run,) = covr_bench.plan(request(from_yaml(folder / "request.yaml"))).runs
    assert (run.config.run_id, run.state.value) == (outcome.plan.run_ids[0], "done")


def test_a_runs_yaml_asks_for_the_run_where_it_lies(outcome: covr_bench.Outcome, tmp_path: Path) -> None:
    """In a store that was copied the run counted as not begun."""
    shutil.copytree(outcome.results.out, tmp_path / "moved")
    file = tmp_path / "moved" / "runs" / outcome.plan.run_ids[0] / "request.yaml"
    (run,) = covr_bench.plan(request(from_yaml(file))).runs
    assert (run.config.out, run.state.value) == (str(tmp_path / "moved"), "done")
    (tmp_path / "request.yaml").write_text("suite: catch\nout: x\n")
    assert from_yaml(tmp_path / "request.yaml")["out"] == "x"


def test_stored_rows_are_read_with_what_is_wanted(outcome: covr_bench.Outcome) -> None:
    out = outcome.results.out
    assert len(covr_bench.read(out).frame) == len(outcome.results.frame)
    assert covr_bench.read(str(out), runs=outcome.plan.run_ids[:1]).frame["seed"].unique().tolist() == [0]
    with pytest.raises(UserError, match="absent"):
        covr_bench.read(out, agents=["absent"])
    with pytest.raises(UserError, match="no results in"):
        covr_bench.read(out / "nowhere")


def test_a_stored_policy_acts_and_plays(outcome: covr_bench.Outcome) -> None:
    with covr_bench.load_policy(outcome.plan.run_ids[0], outcome.results.out) as policy:
        obs, _ = policy.env.reset(seed=3)
        assert policy.act(obs).shape == (1,)
        played = policy.play(2, seed=5)
        assert [len(values) for values in played.values()] == [2] * len(played)
        assert (policy.env_steps, policy.config.seed) == (80, 0)


@pytest.mark.parametrize(
    ("change", "described"),
    [
        (
            lambda obs: obs.transpose(1, 2, 0),
            r"a uint8 array of shape \(48, 48, 9\); this policy takes uint8 \(9, 48, 48\)",
        ),
        (lambda obs: obs / 255, r"a float64 array of shape \(9, 48, 48\)"),
        (lambda obs: obs.astype(np.int64), r"a int64 array"),
        (lambda obs: obs[None], r"shape \(1, 9, 48, 48\); .*: one observation, its frames channel first"),
        (lambda obs: obs[:3], r"shape \(3, 48, 48\)"),
        (lambda obs: obs.tolist(), r"is a list"),
        (lambda obs: None, r"is None"),
    ],
)
def test_a_policy_says_what_it_takes(outcome: covr_bench.Outcome, change: Any, described: str) -> None:
    with covr_bench.load_policy(outcome.plan.run_ids[0], outcome.results.out) as policy:
        obs, _ = policy.env.reset(seed=0)
        with pytest.raises(UserError, match=described):
            policy.act(change(obs))
        with pytest.raises(UserError, match="0 episodes are none"):
            policy.play(episodes=0)
        assert policy.act(obs[:, ::-1, ::-1]).shape == (1,)


def test_a_run_that_fails_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "from covr_bench import AgentSpec\nfrom baselines.random import Config, Random\n"
        "class Bad(Random):\n    def update(self, replay, step): raise ValueError('of mine')\n"
        "AGENT = AgentSpec('bad', Config, Bad, 'control')\n"
    )
    agents = ["random", str(tmp_path / "bad.py")]
    result = covr_bench.run("catch", **SMALL | {"agents": agents}, out=tmp_path / "out")
    ((run_id, error),) = result.failed.items()
    assert "/bad/" in run_id
    assert "ValueError: of mine" in error
    assert set(result.results.returns()["agent"]) >= {"random"}


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(UserError, match=r"unknown option in the call 'sedes'. Did you mean 'seeds'"):
        covr_bench.run("catch", sedes=[0])
    with pytest.raises(UserError, match=r"unknown suite 'cach'. Did you mean 'catch'"):
        covr_bench.plan("cach")


def test_paths_and_arrays_are_taken_as_python_has_them(tmp_path: Path) -> None:
    mine = Path(__file__).parent.parent / "examples" / "my_agent.py"
    plan = covr_bench.plan("catch", agents=[mine], budget="smoke", seeds=np.arange(2), out=tmp_path)
    assert [each.config.seed for each in plan.runs] == [0, 0, 1, 1]
    assert (
        covr_bench.plan("catch", agents=mine, budget="smoke", seeds=np.int64(1), out=tmp_path).runs[0].config.seed == 1
    )
    with pytest.raises(UserError, match=r"no file '.*absent.py'"):
        covr_bench.plan(tmp_path / "absent.py")


@pytest.mark.parametrize(
    ("suite", "options", "complaint"),
    [
        (covr_bench.Suite("mine", 1, (), {}, ()), {}, r"suite is a Suite made in Python"),
        (
            "catch",
            {"budget": covr_bench.Budget("mine", 20, 20, 1)},
            r"budget is a Budget made in Python.* that file's path",
        ),
        ("catch", {"agents": [AGENT]}, r"agents is a AgentSpec made in Python"),
        (None, {}, r"the call names no suite"),
        (3, {}, r"bad value in the call: suite = 3: Input should be a valid string"),
    ],
)
def test_what_no_worker_could_find_again_is_refused(suite: Any, options: Any, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        covr_bench.plan(suite, **options)


def test_one_name_is_one_name(outcome: covr_bench.Outcome) -> None:
    out = outcome.results.out
    assert len(covr_bench.read(out, tasks="catch", agents="random").returns()) == 2
    run_id = outcome.plan.run_ids[0]
    assert set(covr_bench.read(out, runs=run_id).frame["run_id"]) == {run_id}
    with covr_bench.load_policy(out / "runs" / run_id) as policy:
        assert policy.play(episodes=1)


def test_a_whole_request_can_be_given(tmp_path: Path) -> None:
    asked = Request("catch", agents=("random",), budget="smoke", out=str(tmp_path))
    assert len(covr_bench.plan(asked).runs) == 2
    assert len(covr_bench.plan(asked, seeds="0-2").runs) == 6


def test_the_room_run_is_also_the_function() -> None:
    import covr_bench.run.plan as planning

    assert inspect.getmodule(planning.plan).__name__ == "covr_bench.run.plan"  # type: ignore[union-attr]
    assert callable(covr_bench.run)
    assert list(inspect.signature(covr_bench.run).parameters) == ["suite", "watch", "options"]


def agent_file(folder: Path, body: str) -> str:
    """A file of an agent in `folder` that begins with `body`; {head} and the rest are those of the example."""
    path = folder / "mine.py"
    path.write_text(body)
    return str(path)


ENUM = """
import enum
from dataclasses import dataclass, field
import numpy as np
from covr_bench import AgentSpec

class Side(enum.Enum):
    LEFT = "left"
    RIGHT = "right"

@dataclass(frozen=True)
class Net:
    width: int = 8

@dataclass(frozen=True)
class Config:
    side: Side = Side.RIGHT
    net: Net = field(default_factory=Net)

class Mine:
    def __init__(self, config, context):
        assert config.net.width == 8
        self.gain = 1.0 if config.side is Side.RIGHT else -1.0
    def act(self, obs, step, explore):
        return np.full(1, self.gain, np.float32)
    def update(self, replay, step):
        return {}
    def state_dict(self):
        return {}
    def load_state_dict(self, state):
        pass

AGENT = AgentSpec(name="mine", Config=Config, make=Mine, kind="control", replay_frames=0)
"""


def test_a_standard_dataclass_gets_values_of_its_types(tmp_path: Path) -> None:
    """They came as in JSON: the text of an enum's member, a dict for a part, and the agent took the other side."""
    options = SMALL | {"agents": [agent_file(tmp_path, ENUM)], "seeds": 0, "out": tmp_path / "out"}
    assert not covr_bench.run("catch", **options).failed
    with covr_bench.load_policy("mine", tmp_path / "out") as policy:
        assert policy.act(policy.env.reset(seed=0)[0]) == pytest.approx([1.0])


LR = "lr: float = 0.5\n    def __post_init__(self): object.__setattr__(self, 'lr', self.lr / 2)"
DERIVES = ENUM.replace("side: Side = Side.RIGHT", f"side: Side = Side.RIGHT\n    {LR}")


def test_a_config_that_is_another_each_time_it_is_made_is_refused(tmp_path: Path) -> None:
    """Its agent was made with another value than the one recorded."""
    with pytest.raises(UserError, match=r"bad setting of mine: its Config changes lr each time it is made"):
        covr_bench.plan("catch", agents=[agent_file(tmp_path, DERIVES)], budget="smoke", out=tmp_path)


def test_a_file_that_asks_for_itself_is_told_to_guard_what_it_runs(tmp_path: Path) -> None:
    body = f"{ENUM}\nimport covr_bench\ncovr_bench.plan('catch', agents=[__file__], budget='smoke', out='x')\n"
    with pytest.raises(UserError, match=r"asks for itself while it is imported: put what it runs under") as error:
        covr_bench.plan("catch", agents=[agent_file(tmp_path, body)], budget="smoke", out=tmp_path)
    assert len(str(error.value)) < 1000


def test_a_setting_that_is_nan_is_the_same_setting_again(tmp_path: Path) -> None:
    body = ENUM.replace("side: Side = Side.RIGHT", "side: Side = Side.RIGHT\n    target: float = float('nan')")
    options = SMALL | {"agents": [agent_file(tmp_path, body)], "seeds": 0, "out": tmp_path / "out"}
    assert not covr_bench.run("catch", **options).failed
    assert not covr_bench.plan("catch", **options).todo


def test_the_function_goes_to_another_process() -> None:
    assert pickle.loads(pickle.dumps(covr_bench.run)) is covr_bench.run
    assert copy.deepcopy(covr_bench.run) is covr_bench.run


def test_numbers_of_a_policy_are_whole(outcome: covr_bench.Outcome) -> None:
    """A seed 1.0, as pandas makes it of 1, gave other starts."""
    with covr_bench.load_policy(outcome.plan.run_ids[0], outcome.results.out, device=torch.device("cpu")) as policy:
        for wrong in ({"seed": 1.0}, {"seed": True}, {"episodes": 1.5}):
            with pytest.raises(UserError, match="give a whole number"):
                policy.play(**wrong)  # type: ignore[arg-type]
        assert len(policy.play(2, seed=np.int64(1))["return"]) == 2  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"does not take the settings .*image_size"):
        covr_bench.load_policy(outcome.plan.run_ids[0], outcome.results.out, settings={"env.image_size": 0})


@pytest.mark.parametrize(
    "body",
    ["raise SystemExit", "import sys\nsys.exit(0)", "import argparse\nargparse.ArgumentParser().parse_args(['x'])"],
)
def test_a_file_that_exits_where_it_is_imported_is_an_error(tmp_path: Path, body: str) -> None:
    """It ended the caller's program, as if all was well."""
    with pytest.raises(UserError, match=r"mine.py cannot be imported: it calls sys.exit\(\d\). Put what it does"):
        covr_bench.plan("catch", agents=[agent_file(tmp_path, body)], budget="smoke", out=tmp_path)


def test_an_agent_that_exits_has_failed_and_the_others_go_on(tmp_path: Path) -> None:
    """Status 0 counted as a finished run, with nothing stored."""
    body = ENUM.replace("return np.full(1, self.gain, np.float32)", "raise SystemExit(0)")
    options = SMALL | {"agents": ["random", agent_file(tmp_path, body)], "seeds": 0, "out": tmp_path / "out"}
    outcome = covr_bench.run("catch", **options)
    ((run, why),) = outcome.failed.items()
    assert run.endswith("/mine/0") and "sys.exit was called" in why
    returns = outcome.results.returns()
    assert dict(zip(returns["agent"], returns["status"], strict=True)) == {"mine": "failed", "random": "finished"}


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Any) -> None:
    """Results went to a folder of the name `~`."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    covr_bench.run("catch", **SMALL, seeds=0, out="~/mine")
    assert (tmp_path / "home" / "mine" / "runs").is_dir() and not (tmp_path / "~").exists()
    assert len(covr_bench.read("~/mine").returns()) == 1
    with covr_bench.load_policy("~/mine/runs/catch@smoke-80/catch/random/0", settings=["env.image_size=84"]) as policy:
        assert policy.env_steps == 80
    assert "random" in cli("table", "--out=~/mine").out


def test_what_is_not_there_is_said(outcome: covr_bench.Outcome) -> None:
    out, (first, *_) = outcome.results.out, outcome.plan.run_ids
    assert set(covr_bench.read(out, runs=first).frame["run_id"]) == {first}
    assert covr_bench.read(out, runs=[]).frame.empty  # of `runs=list(outcome.failed)`; it was all
    with pytest.raises(UserError, match="unknown run in"):
        covr_bench.read(out, runs=[first, "catch@smoke/catch/radnom/0"])
    with pytest.raises(UserError, match="unknown score 'bogus'"):
        outcome.results.returns(score="bogus")
    with pytest.raises(UserError, match="unknown device 'gpu'"):
        covr_bench.load_policy(first, out, device="gpu")
    with (
        covr_bench.load_policy(first, out, device="auto") as policy,
        pytest.raises(UserError, match="a seed is 0 or more"),
    ):
        policy.play(1, seed=-1)
    with pytest.raises(UserError, match="this policy is closed"):
        policy.play()


def test_runs_that_fail_before_their_first_row_are_in_the_outcome(tmp_path: Path) -> None:
    """The call ended in "unknown run", and told of none."""
    outcome = covr_bench.run(
        "catch", agents=["random"], tasks=["catch"], budget="smoke", env_steps=80, seeds=[0], out=tmp_path,
        settings={"env.image_size": 0},
    )  # fmt: skip
    ((run, reason),) = outcome.failed.items()
    assert "image_size" in run and "image_size is 0; it must be a whole number" in reason
    assert outcome.results.frame.empty


@pytest.mark.parametrize("seeds", [[0, 0], "0,0", (1, 2, 1)])
def test_a_seed_stands_once(seeds: Any) -> None:
    with pytest.raises(UserError, match="twice"):
        covr_bench.plan("catch", budget="smoke", seeds=seeds)
