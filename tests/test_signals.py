"""Signals: what an update emits and what a close look at it sees, averaged over intervals, the same after a resume."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from covr_bench.config import registry
from covr_bench.kit.api import Agent, Context
from covr_bench.kit.replay import Replay
from covr_bench.run.networks import networks
from covr_bench.run.signals import INTERVALS, Signals
from covr_bench.run.watch import Watch

SIZE = 36
SMALL = {"batch_size": 32, "hidden_dim": 16, "feature_dim": 8}
DRQV2 = {**SMALL, "seed_steps": 0, "update_every": 2, "shift_pad": 2}
SAC = {**SMALL, "random_agent_steps": 0, "actor_every": 1}


def made(name: str, settings: Mapping[str, Any]) -> Agent:
    torch.manual_seed(0)
    agent: Agent = registry.make_agent(name, dict(settings), Context((9, SIZE, SIZE), 1, 2, 1_000, "cpu", 0))
    return agent


def filled(steps: int = 60, ends: bool = True) -> Replay:
    rng = np.random.default_rng(0)
    replay = Replay(200, (9, SIZE, SIZE), 1, seed=0)

    def image() -> Any:
        return rng.integers(0, 255, (9, SIZE, SIZE), np.uint8)

    replay.start(image())
    for step in range(1, steps + 1):
        replay.add(np.full(1, 0.5, np.float32), 2.0, ends and step % 10 == 0, image())
        if step % 10 == 0:
            replay.start(image())
    return replay


def seen(agent: Agent, replay: Replay, step: int = 100) -> dict[str, float]:
    """What a look at an update sees."""
    found: list[dict[str, float]] = []
    with Watch(agent, replay, step, lambda at, signals: found.append(dict(signals))):
        agent.update(replay, step)
    (signals,) = found
    return signals


def test_networks_are_found_by_the_agents_attributes() -> None:
    class Inner:
        def __init__(self) -> None:
            self.critic, self.target_critic = nn.Linear(2, 1), nn.Linear(2, 1)
            self.tied = self.critic
            self.log_alpha = nn.Parameter(torch.zeros(()))
            self.many = [nn.Linear(1, 1)]

    class Outer:
        def __init__(self) -> None:
            self.base = Inner()

    found = networks(Outer())
    assert list(found) == ["base.critic", "base.target_critic", "base.log_alpha", "base.many.0"]
    assert list(found["base.critic"]) == ["weight", "bias"] and list(found["base.log_alpha"]) == [""]


def test_an_agent_that_is_a_module_has_its_parts() -> None:
    agent = nn.Sequential()
    agent.encoder, agent.scale = nn.Linear(2, 2), nn.Parameter(torch.ones(1))
    assert set(networks(agent)) == {"encoder", "scale"}


def test_a_look_sees_each_network() -> None:
    signals = seen(made("drqv2", DRQV2), filled())
    for name in ("encoder", "actor", "critic"):
        assert signals[f"gradient of {name}"] > 0 and signals[f"weights of {name}"] > 0
    assert "gradient of critic_target" not in signals and 0 < signals["distance of critic_target"] < 0.1
    assert signals["optimizer steps"] == 2 and np.isfinite(signals["entropy"])


def test_targets_of_other_names_are_found() -> None:
    signals = seen(made("sac", SAC), filled())
    assert {name for name in signals if name.startswith("distance")} == {
        "distance of sac.target_encoder", "distance of sac.target_critic",
    }  # fmt: skip


def test_gradients_are_norms() -> None:
    class Learner:
        def __init__(self) -> None:
            self.net = nn.Linear(2, 1, bias=False)
            self.opt = torch.optim.SGD(self.net.parameters(), lr=0.0)

        def update(self, replay: Replay, step: int) -> dict[str, torch.Tensor]:
            loss = (self.net.weight * torch.tensor([3.0, 4.0])).sum()
            self.opt.zero_grad()
            loss.backward()
            self.opt.step()
            return {"loss": loss.detach()}

    learner: Any = Learner()
    signals = seen(learner, filled())
    assert signals["gradient of net"] == pytest.approx(5.0)
    assert signals["weights of net"] == pytest.approx(float(learner.net.weight.detach().norm()))


def test_a_look_sees_the_batch() -> None:
    signals = seen(made("drqv2", DRQV2 | {"nstep": 1, "discount": 0.5}), filled(ends=False))
    assert signals["batch reward"] == 2.0 and signals["batch reward spread"] == 0.0
    assert signals["batch discount"] == 0.5 and 0.2 < signals["batch age"] < 0.8
    assert seen(made("drqv2", DRQV2 | {"nstep": 1, "discount": 0.5}), filled())["batch discount"] < 0.5


def test_a_look_sees_augmentation(monkeypatch: pytest.MonkeyPatch) -> None:
    on = seen(made("drqv2", DRQV2), filled())["augmentation"]
    off = seen(made("drqv2", DRQV2 | {"shift_pad": 0}), filled())["augmentation"]
    assert off == pytest.approx(0.0, abs=1e-5) and on > 0.1
    assert seen(made("sac", SAC), filled())["augmentation"] == pytest.approx(0.0, abs=1e-5)


def test_a_look_changes_nothing_and_leaves_nothing_behind() -> None:
    agents = [made("drqv2", DRQV2) for _ in range(2)]
    replays = [filled() for _ in range(2)]
    torch.manual_seed(1)
    plain = agents[0].update(replays[0], 100)
    torch.manual_seed(1)
    found: list[Any] = []
    with Watch(agents[1], replays[1], 100, lambda step, signals: found.append(signals)):
        watched = agents[1].update(replays[1], 100)
    assert {name: float(value) for name, value in plain.items()} == {
        name: float(value) for name, value in watched.items()
    }
    assert replays[1].on_batch is None
    agents[1].update(replays[1], 102)
    assert len(found) == 1


def test_an_update_that_did_not_learn_is_not_looked_at() -> None:
    told: list[Any] = []
    agent = made("drqv2", DRQV2 | {"seed_steps": 1_000})
    with Watch(agent, filled(), 100, lambda *each: told.append(each)):
        agent.update(filled(), 100)
    assert not told


def fed(signals: Signals, steps: range, state: Callable[[], None] = lambda: None) -> list[dict[str, float]]:
    """What intervals had, of updates and actions that follow from the step."""
    found = []
    for step in steps:
        signals.acted(np.array([np.sin(step)], np.float32))
        signals.learned({"loss": torch.tensor(float(step))} | ({"rare": torch.tensor(1.0)} if step % 3 == 0 else {}))
        if measured := signals.interval(step + 1):
            found.append(measured)
    return found


def new() -> Signals:
    agent: Any = object()
    return Signals(agent, filled(10), 200)


def test_intervals_are_twenty_with_mean_and_deviation() -> None:
    found = fed(new(), range(200))
    assert len(found) == INTERVALS and [each["updates"] for each in found] == [10.0] * INTERVALS
    assert found[0]["loss"] == 4.5 and found[0]["loss.sd"] == pytest.approx(np.std(np.arange(10)))
    assert found[3]["loss"] == 34.5 and found[0]["rare"] == 1.0
    action = np.sin(np.arange(10))
    assert found[0]["action size"] == pytest.approx(np.abs(action).mean(), abs=1e-6)
    assert found[0]["action change"] == pytest.approx(np.abs(np.diff(action)).mean(), abs=1e-6)


@pytest.mark.parametrize("at", [3, 10, 57, 123])
def test_a_resumed_run_has_the_signals_of_one_that_never_stopped(at: int) -> None:
    whole, before = fed(new(), range(200)), new()
    first = fed(before, range(at))
    after = new()
    after.load_state(before.state())
    assert [*first, *fed(after, range(at, 200))] == whole


def test_looks_are_ten_an_interval() -> None:
    agent: Any = object()
    signals = Signals(agent, filled(10), 2_000)
    looks = []
    for step in range(2_000):
        if isinstance(signals.update(step), Watch):
            signals._look(step, {})
            looks.append(step)
    assert looks == list(range(0, 2_000, 10))


def test_a_resumed_run_looks_when_the_next_look_is_due() -> None:
    agent: Any = object()
    before, after = (Signals(agent, filled(10), 2_000) for _ in range(2))
    before._look(20, {})
    after.load_state(before.state())
    assert [isinstance(after.update(step), Watch) for step in (21, 29, 30)] == [False, False, True]


def test_evaluations_have_signals_of_their_own() -> None:
    class Fixed:
        def act(self, obs: Any, step: int, explore: bool) -> Any:
            return np.array([1.0], np.float32)

    fixed: Any = Fixed()
    signals = Signals(fixed, filled(10), 20)
    policy = signals.evaluated(fixed)
    for step in range(5):
        policy.act(np.zeros(1, np.uint8), step, explore=False)
    found = signals.interval(1)
    assert found["evaluation action saturated"] == 1.0 and found["evaluation action change"] == 0.0
    assert "action" not in found


def test_the_age_of_a_batch_is_a_share_of_what_is_held_after_the_ring_has_wrapped() -> None:
    replay, black = Replay(40, (9, SIZE, SIZE), 1, seed=0), np.zeros((9, SIZE, SIZE), np.uint8)
    replay.start(black)
    for _ in range(200):
        replay.add(np.zeros(1, np.float32), 2.0, False, black)
    assert 0.2 < seen(made("drqv2", DRQV2), replay)["batch age"] < 0.8


def test_an_actions_components_are_saturated_at_both_ends_and_change_from_step_to_step() -> None:
    signals = new()
    for action in ([1.0, -1.0], [0.0, -1.0]):
        signals.acted(np.array(action, np.float32))
    found = signals.interval(10)
    assert (found["action"], found["action size"]) == (-0.25, 0.75)
    assert (found["action saturated"], found["action change"]) == (0.75, 0.5)
