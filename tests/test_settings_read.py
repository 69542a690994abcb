"""Every setting of every agent is read by somebody: by the agent as it is built, acts and learns, or by the planning.

Each agent makes a few steps in a run of nothing but noise, and what it reads of its Config is written down.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from vlm_models import random_folder

from covr_bench.config import registry
from covr_bench.config.run_config import RunConfig, replay_slots
from covr_bench.config.settings import resolve
from covr_bench.kit.api import Context
from covr_bench.kit.nets import PixelEncoder
from covr_bench.kit.replay import Replay
from suites.base import Budget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

torch.set_num_threads(1)
SIDE, ACTIONS, REPEAT, STEPS, EPISODE = 36, 2, 2, 36, 12
PLANNED = {"image_size", "observation", "replay_capacity"}  # read before there is an agent
SMALL: dict[str, Any] = {
    "image_size": SIDE, "batch_size": 4, "hidden_dim": 8, "feature_dim": 8, "layers": 4, "filters": 4, "window": 28,
    "random_agent_steps": 4, "seed_steps": 8, "initial_updates": 1, "model_batch_size": 2, "model_dim": 8,
    "projection_dim": 8, "steps": 2, "frames": 4, "block_size": 2, "patch_size": 9, "smallest_window": 4,
    "vlm": "scripted", "vlm_image_size": 28, "query_every": 4, "query_batch": 2, "psi0": 10, "guidance_after": 1,
    "vlm_episodes": 1, "finetune_min_steps": 1, "base": "sac", "rollout": 4, "epochs": 1, "minibatch": 2,
    "lora_rank": 2, "target_period": 4, "score": "return",
}  # fmt: skip
TOLD = {"driver": (3 * 25 * 7, 2), "catcher": (3, 1), "swing_up": (4, 1)}  # numbers of a state and of an action
OF_MODELS = ("dgc", "vpf")  # they need a VLM's weights
SPECS = {name: registry.agent(name) for name in registry.agent_names()}


class Services:
    """A run's, with nothing behind them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def render(self, height: int, width: int) -> Any:
        return np.zeros((height, width, 3), np.uint8)

    def play(self, policy: Callable[[Any], Any], episodes: int) -> dict[str, list[float]]:
        made = policy(self.render)
        for step in range(3 * episodes):
            made.act(np.zeros((9, SIDE, SIDE), np.uint8), step, explore=False)
        return {"return": [0.0] * episodes, "length": [3.0] * episodes}

    def player(self) -> None: ...

    def record(self, step: int, values: Mapping[str, Any]) -> None: ...

    def warn(self, text: str) -> None: ...


def made(name: str, given: Context) -> Any:
    return SPECS[name].make(SPECS[name].Config(**settings(name)), given)


def settings(name: str) -> dict[str, Any]:
    """The small settings that this agent has, and its base's."""
    chosen = {key: value for key, value in SMALL.items() if key in known(name)}
    if name in OF_MODELS:
        chosen["vlm"] = str(random_folder())
    if "base_settings" in known(name):
        chosen["base_settings"] = settings(chosen["base"])
    return chosen


def known(name: str) -> set[str]:
    return {field.name for field in fields(SPECS[name].Config)}


def observations(name: str) -> Iterator[tuple[Any, int]]:
    """Stacks of noise with the step of their episode; the driver's are tables."""
    rng = np.random.default_rng(0)
    for _ in range(STEPS // EPISODE):
        if name in TOLD:
            yield from ((rng.random(TOLD[name][0]), step) for step in range(EPISODE + 1))
            continue
        film = rng.integers(0, 256, (EPISODE + 1, 3, SIDE, SIDE), dtype=np.uint8)
        yield from (
            (np.concatenate([film[max(step - back, 0)] for back in (2, 1, 0)]), step) for step in range(EPISODE + 1)
        )


def actions(name: str) -> int:
    """Numbers of an action in the agent's task."""
    return TOLD[name][1] if name in TOLD else ACTIONS


def context(name: str, folder: Path, **options: Any) -> Context:
    shape = (TOLD[name][0],) if name in TOLD else (9, SIDE, SIDE)
    options = {"instruction": "a task", "services": Services(folder), "make_agent": registry.make_agent} | options
    return Context(shape, actions(name), REPEAT, REPEAT * STEPS, "cpu", 0, **options)


def run(name: str, folder: Path) -> None:
    """Build the agent and let it act and learn, as a run does."""
    given = context(name, folder)
    agent = made(name, given)
    kind = np.float64 if name in TOLD else np.uint8
    replay = Replay(STEPS + 8, given.obs_shape, actions(name), seed=0, dtype=kind)
    env_steps, action = 0, np.zeros(actions(name), np.float32)
    for obs, step in observations(name):
        if step:
            replay.add(action, 0.1 * (env_steps % 7), False, obs)
        else:
            replay.start(obs)
        if step < EPISODE:
            action = agent.act(obs, env_steps, explore=True)
            agent.update(replay, env_steps)
            env_steps += REPEAT
        agent.act(obs, env_steps, explore=False)


@pytest.fixture
def read(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the agent's settings that are read from now on."""
    names, found = known(request.node.callspec.params["name"]), set()

    def spy(config: Any, name: str) -> Any:
        if name in names:
            found.add(name)
        return object.__getattribute__(config, name)

    kind = SPECS[request.node.callspec.params["name"]].Config
    monkeypatch.setattr(kind, "__getattribute__", spy, raising=False)
    return found


@pytest.mark.parametrize("name", SPECS)
def test_every_setting_is_read(name: str, read: set[str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    run(name, tmp_path)
    unread = known(name) - read - PLANNED
    assert not unread


@pytest.mark.parametrize("name", [name for name in SPECS if known(name) & {"image_size"}])
def test_the_environment_is_drawn_at_the_agents_size(name: str) -> None:
    task = registry.suite("catch").task("catch")
    resolved = resolve(SPECS[name], task, Budget("tried", 100, 100, 1), {"image_size": "40", "base": "sac"})
    assert resolved.env["image_size"] == 40


def test_the_driver_is_shown_what_it_asks_for() -> None:
    task = registry.suite("carla").task("hw")
    assert resolve(SPECS["driver"], task, Budget("tried", 100, 100, 1), {}).env["observation"] == "state"


@pytest.mark.parametrize("name", [name for name in SPECS if known(name) & {"replay_capacity"}])
def test_the_replay_is_as_large_as_the_agent_asks(name: str) -> None:
    wanted = SPECS[name].Config(replay_capacity=321).replay_capacity
    config = RunConfig("", "catch", 1, "catch", name, 0, 10_000, 100, 1, 2, {"replay_capacity": wanted})
    assert replay_slots(config, SPECS[name].replay_frames) == 321


@pytest.mark.parametrize("name", [name for name in SPECS if known(name) & {"batch_size", "base"} and name != "mrq"])
def test_the_convolution_kernel_of_the_context_is_the_agents(name: str, tmp_path: Path) -> None:
    """Also of the base of an agent that wraps one: the context is handed on. mrq has no layer that kernel serves."""
    agent = made(name, context(name, tmp_path, conv_kernel="winograd"))
    encoders = [part for part in _modules(agent) if isinstance(part, PixelEncoder)]
    assert encoders and {encoder.kernel for encoder in encoders} == {"winograd"}


def _modules(value: Any, seen: set[int] | None = None) -> Iterator[torch.nn.Module]:
    """All networks that an agent holds, however deep."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, torch.nn.Module):
        yield from value.modules()
    elif type(value).__module__.startswith(("baselines", "covr.", "covr_bench.kit")):
        for part in vars(value).values() if hasattr(value, "__dict__") else ():
            yield from _modules(part, seen)
