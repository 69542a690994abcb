"""What an agent hands to the loop is checked at once, and named in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from covr_bench.config import registry
from covr_bench.config.run_config import RunConfig, replay_slots
from covr_bench.kit import extensions
from covr_bench.kit.errors import UserError
from covr_bench.run.contract import Diverged, check_agent, checked_action, checked_metrics

GOOD = np.array([0.5, -1.0], np.float32)


@pytest.mark.parametrize(
    ("action", "complaint"),
    [
        ([0.5, -1.0], r"is a list, .*: return a numpy array"),
        (0.5, r"is a float, 0.5"),
        (torch.zeros(2), r"is a Tensor"),
        (None, r"is a NoneType"),
        (np.zeros(3, np.float32), r"of shape \(3,\); .*shape \(2,\).*: return shape \(2,\)"),
        (np.zeros((1, 2), np.float32), r"of shape \(1, 2\)"),
        (np.float32(0.5), r"is a float32"),
        (np.zeros(2), r"of dtype float64; .*astype\(np.float32\)"),
        (np.zeros(2, np.int64), r"of dtype int64"),
        (np.array([5.0, 0.0], np.float32), r"\[5.0, 0.0\], out of range; .*clip"),
        (np.array([0.0, -1.0001], np.float32), r"out of range"),
    ],
)
def test_a_wrong_action_is_named(action: Any, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        checked_action(action, 2, 0)


def test_a_good_action_passes_as_it_is() -> None:
    assert checked_action(GOOD, 2, 0) is GOOD


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_action_that_is_no_number_is_divergence(value: float) -> None:
    with pytest.raises(Diverged, match=r"at 40 env steps: its networks have diverged"):
        checked_action(np.array([value, 0], np.float32), 2, 40)


@pytest.mark.parametrize(
    ("metrics", "complaint"),
    [
        (None, "returned None"),
        (0.5, "returned a float"),
        ([("loss", 1.0)], "returned a list"),
        ({"loss": torch.zeros(3)}, "'loss' is tensor"),
        ({1: torch.zeros(())}, "metric 1"),
        ({"loss": torch.zeros(()), "actor_loss": None}, "metric 'actor_loss' is None"),
        ({"phase": "warm"}, "metric 'phase' is 'warm'"),
        ({"q": np.zeros(2)}, "metric 'q' is array"),
    ],
)
def test_wrong_metrics_are_named(metrics: Any, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        checked_metrics(metrics)


def test_good_metrics_pass() -> None:
    metrics = {"loss": torch.zeros(()), "q": 1.0}
    assert checked_metrics(metrics) == metrics


class Whole:
    act = update = load_state_dict = print
    state: Any = {}  # noqa: RUF012

    def state_dict(self) -> Any:
        return self.state


def test_an_agent_without_a_method_is_named() -> None:
    class Half(Whole):
        update = None  # type: ignore[assignment]

    with pytest.raises(UserError, match=r"agent Half has no method update"):
        check_agent(Half())


def test_a_state_that_cannot_be_kept_is_named_before_the_first_step() -> None:
    class Odd(Whole):
        state = {"memory": {"seen": [np.zeros(2)]}}  # noqa: RUF012

    with pytest.raises(UserError, match=r"/memory/seen/0 is a ndarray"):
        check_agent(Odd())


@pytest.mark.parametrize("paths", ["critic", ["critics"], ["networks/critic/bias"], [5], 5])
def test_parts_that_only_learning_reads_are_parts_of_the_state(paths: Any) -> None:
    class Learns(Whole):
        state = {"critic": {}, "networks": {"critic": {"weight": 0.0}}}  # noqa: RUF012
        only_learning: Any = ("critic", "networks/critic")

    check_agent(Learns())
    Learns.only_learning = paths
    with pytest.raises(UserError, match=r"only_learning of agent Learns is .*a list of paths in its state_dict"):
        check_agent(Learns())


def test_a_metric_of_numpy_is_kept_as_a_number() -> None:
    """It passed, and the first checkpoint could not hold it."""
    kept = checked_metrics({"a": np.float32(0.5), "b": np.array(2), "c": 1.5})
    assert kept == {"a": 0.5, "b": 2, "c": 1.5}
    assert [type(value) for value in kept.values()] == [float, int, float]


FILE = """
import numpy as np
from dataclasses import dataclass, field
from covr_bench import AgentSpec
from baselines.random import Random
{config}
AGENT = {agent}
"""
CONFIG = "@dataclass(frozen=True)\nclass Config:\n    lr: float = 0.1\n"
MADE = 'AgentSpec("mine", Config, Random, "control")'


@pytest.mark.parametrize(
    ("config", "agent", "complaint"),
    [
        (CONFIG, "Random", r"AGENT of .* is the class Random; it should be AGENT = AgentSpec\(...\)"),
        (CONFIG, "{}", r"is a dict"),
        ("class Config: lr = 0.1", MADE, r"its Config is <class '.*Config'>, which is no dataclass"),
        (CONFIG, MADE.replace("Config", "Config()"), r"AgentSpec\(...\) of .*: Config = Config\(lr=0.1\): .* a type"),
        (CONFIG.replace(" = 0.1", ""), MADE, r"no default for lr"),
        (CONFIG.replace("0.1", "'fast'"), MADE, r"its default lr = 'fast' is not of its type: .*valid number"),
        (CONFIG.replace("float", "np.ndarray"), MADE, r"its Config has a field that cannot be a setting: .*numpy"),
        (f"{CONFIG}    def __post_init__(self): 1 / 0", MADE, r"cannot be made of its defaults: ZeroDivisionError"),
        (CONFIG.replace("float = 0.1", "int = 0.5"), MADE, r"its default lr = 0.5 is not of its type"),
        (CONFIG, MADE.replace("Random", "None"), r"make = None: Input should be callable"),
        (CONFIG, MADE.replace("mine", "my-agent"), r"agent 'my-agent' cannot be part of a run id"),
        (CONFIG, MADE.replace('"mine"', "3"), r"name = 3: Input should be a valid string"),
        (
            CONFIG,
            MADE.replace(")", ", wraps='base')"),
            r"it wraps the agent that its setting 'base' names, and its Config",
        ),
        (CONFIG, MADE.replace(")", ", wraps='lr')"), r"it wraps the agent that its setting 'lr' names"),
        (CONFIG, MADE.replace(")", ", labels=lambda s: None)"), r"its labels are None; they should be texts by name"),
        (CONFIG, MADE.replace(")", ", labels=lambda s: {'a': 1})"), r"its labels are \{'a': 1\}"),
        (CONFIG, MADE.replace(")", ", labels=lambda s: {'a': 'b,c'})"), r"without ',' and '='"),
        (CONFIG, MADE.replace(")", ", labels=lambda s: s['x'])"), r"its labels fail on .*: KeyError: 'x'"),
        (CONFIG, MADE.replace(")", ", replay_frames=-1)"), r"replay_frames = -1: .* greater than or equal to 0"),
    ],
)
def test_a_wrong_spec_is_named(config: str, agent: str, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(FILE.format(config=config, agent=agent))
    with pytest.raises(UserError, match=complaint) as error:
        registry.agent(str(file))
    assert str(file) in str(error.value)


@pytest.mark.parametrize("name", registry.agent_names())
def test_our_own_agents_are_as_a_users_must_be(name: str) -> None:
    assert extensions.sound(registry.AGENTS, registry.agent(name), name) == registry.agent(name)


def test_a_wrong_action_ends_the_run_with_that_sentence(start: Callable[..., Any], tmp_path: Path) -> None:
    agent = FILE.format(config=CONFIG, agent=MADE.replace("Random", "Mine"))
    mine = "class Mine(Random):\n    def act(self, obs, step, explore): return [0.0]\n"
    (tmp_path / "mine.py").write_text(agent.replace("AGENT =", f"{mine}AGENT ="))
    options = ["--suite", "catch", "--task", "catch", "--budget", "smoke", "--env-steps", "40", "--out", "results"]
    process = start("run", *options, "--agent", "mine.py", cwd=tmp_path)
    out, err = process.communicate(timeout=300)
    assert "Traceback" not in out + err
    assert "the agent's action is" in out + err


def run_of(**settings: Any) -> RunConfig:
    return RunConfig("s@b/t/a/0", "s", 1, "t", "a", 0, 4_000, 50, 2, 2, settings)


def test_a_learner_has_a_replay_of_its_whole_run_unless_it_says_what_it_needs() -> None:
    assert replay_slots(run_of(), None) >= 2_000
    assert replay_slots(run_of(replay_capacity=100), None) == 100
    assert replay_slots(run_of(replay_capacity=10**6), None) < 3_000
    assert replay_slots(run_of(base_settings={"replay_capacity": 64}), None) == 64
    assert replay_slots(run_of(), 500) == 500
    assert replay_slots(run_of(), 0) == 8


def test_a_replay_of_a_whole_run_holds_it_in_episodes_of_eight_decisions() -> None:
    """Each episode takes a slot more than it has decisions."""
    assert replay_slots(run_of(), None) > 2_000 + 2_000 // 8
