"""What the probe sees of a run in progress: batches, gradients, weights, metrics, actions."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from covr_bench.kit.replay import Replay
from covr_bench.run.networks import networks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from covr_bench.kit.api import Agent, Metrics
    from covr_bench.probe.trace import Trace

DRAWN = {"at": "batch", "sequences": "sequences", "window": "window", "actions": "actions"}
"""Methods of a replay that hand out what is stored, and what that is called."""
STEP = 2.0**-16
"""Actions are rounded to multiples of it, which float32 holds exactly, so that rounding elsewhere cannot move them."""


class Watched:
    """An agent that acts and learns as it is, while a trace is kept. updates: how many there were."""

    def __init__(self, agent: Agent, trace: Trace) -> None:
        self.agent, self.trace = agent, trace
        self.updates = self.actions = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.agent, name)

    def act(self, obs: npt.NDArray[np.uint8], step: int, explore: bool) -> npt.NDArray[np.float32]:
        """The agent's action, rounded to multiples of `STEP`."""
        action = self.agent.act(obs, step, explore)
        kind = "in training" if explore else "in an evaluation"
        self.trace.add(f"action {self.actions} {kind}, step {step}", action)
        self.actions += 1
        return (np.round(np.asarray(action, np.float64) / STEP) * STEP).astype(np.float32)

    def update(self, replay: Replay, step: int) -> Metrics:
        """The agent's update; if it learned, with batches, metrics, gradients and weights of it in the trace."""
        named, seen, batches = parameters(self.agent), _Gradients(), list[tuple[str, Any]]()
        with _gradients(seen), _batches(batches):
            metrics = self.agent.update(replay, step)
        if not metrics:
            return metrics
        title = f"update {self.updates} at step {step}"
        self.updates += 1
        for name, values in batches:
            self.trace.add(f"{title}: {name}", values)
        for name, value in metrics.items():
            self.trace.add(f"{title}: {name}", value)
        for name, parameter in named.items():
            for i, gradient in enumerate(seen.of.get(id(parameter), ())):
                self.trace.add(f"{title}: gradient of {name}{f', step {i + 1}' if i else ''}", gradient)
        for name, parameter in named.items():
            self.trace.add(f"{title}: weights of {name} after it", parameter)
        return metrics


class _Gradients:
    """Gradients at the optimizers' steps, by parameter."""

    def __init__(self) -> None:
        self.of: dict[int, list[torch.Tensor]] = {}

    def see(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.of.setdefault(id(parameter), []).append(parameter.grad.detach().clone())


@contextmanager
def _gradients(seen: _Gradients) -> Iterator[None]:
    hook = register_optimizer_step_pre_hook(seen.see)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _batches(found: list[tuple[str, Any]]) -> Iterator[None]:
    """Note what is drawn from a replay within it."""
    number = Counter[str]()

    def noting(method: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def noted(*args: Any, **options: Any) -> Any:
            result = _precise(method(*args, **options))
            title = f"{kind} {number[kind]}"
            number[kind] += 1
            found.extend((f"{title}: {name}", value) for name, value in _fields(result).items() if name != "slot")
            return result

        return noted

    with ExitStack() as stack:
        for name, kind in DRAWN.items():
            stack.enter_context(mock.patch.object(Replay, name, noting(getattr(Replay, name), kind)))
        yield


def _fields(drawn: Any) -> dict[str, Any]:
    if hasattr(drawn, "_asdict"):
        return dict(drawn._asdict())
    return {str(i): each for i, each in enumerate(drawn)} if isinstance(drawn, tuple) else {"values": drawn}


def _precise(drawn: Any) -> Any:
    """What was drawn, with numbers of the type that new tensors have: the replay keeps float32."""
    if isinstance(drawn, tuple):
        moved = map(_precise, drawn)
        return type(drawn)(*moved) if hasattr(drawn, "_fields") else tuple(moved)
    floats = isinstance(drawn, torch.Tensor) and drawn.is_floating_point()
    return drawn.to(torch.get_default_dtype()) if floats else drawn


def parameters(agent: object) -> dict[str, torch.Tensor]:
    """Every parameter that can be reached from an agent's attributes, by its path, each once, in order of finding."""
    return {
        f"{path}.{name}".rstrip("."): parameter
        for path, network in networks(agent).items()
        for name, parameter in network.items()
    }
