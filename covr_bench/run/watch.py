"""A close look at one update: its batches, its gradients, the networks after it, and what augmentation did."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

from covr_bench.run.networks import Network, networks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch.utils.hooks import RemovableHandle

    from covr_bench.kit.api import Agent
    from covr_bench.kit.replay import Batch, Replay

SAMPLES = 16  # of a batch whose augmented images are held against the plain ones
INPUTS = 12  # network inputs of an update that are kept for it
TARGET_WORDS = ("target_", "_target", "target")


class Watch:
    """While it is entered, an update is watched; on leaving, `tell` hears of it if the agent has learned.

    Args:
        agent: That learns. replay: That it learns from.
        step: Environment step of the update.
        tell: Called with the step and the signals by name.
    """

    def __init__(
        self, agent: Agent, replay: Replay, step: int, tell: Callable[[int, Mapping[str, float]], None]
    ) -> None:
        self._agent, self._replay, self._step, self._tell = agent, replay, step, tell
        self._hooks: list[RemovableHandle] = []
        self._gradients: dict[int, torch.Tensor] = {}  # sums of squares, by parameter
        self._optimizer_steps = 0
        self._batches: list[Batch] = []
        self._inputs: list[torch.Tensor] = []

    def __enter__(self) -> None:
        self._replay.on_batch = self._batches.append
        self._hooks = [
            register_optimizer_step_pre_hook(self._before_step),
            register_module_forward_pre_hook(self._before_forward),
        ]

    def __exit__(self, kind: object, *_: object) -> None:
        self._replay.on_batch = None
        for hook in self._hooks:
            hook.remove()
        if kind is None and self._optimizer_steps:
            self._tell(self._step, self._of_networks() | self._of_batches() | self._of_entropy())

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self._optimizer_steps += 1
        parameters = [each for group in optimizer.param_groups for each in group["params"] if each.grad is not None]
        if not parameters:
            return
        norms = torch._foreach_norm([each.grad for each in parameters])
        for each, norm in zip(parameters, norms, strict=True):
            before = self._gradients.get(id(each), 0.0)
            self._gradients[id(each)] = norm.double().square() + before

    def _before_forward(self, module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        images = args[0] if len(args) == 1 else None
        if not isinstance(images, torch.Tensor) or images.dim() != 4 or not images.is_floating_point():
            return
        if len(self._inputs) < INPUTS and not any(images is each for each in self._inputs):
            self._inputs.append(images)

    def _of_networks(self) -> dict[str, float]:
        found = networks(self._agent)
        signals: dict[str, float] = {"optimizer steps": float(self._optimizer_steps)}
        for path, network in found.items():
            stepped = [self._gradients[id(each)] for each in network.values() if id(each) in self._gradients]
            if stepped:
                signals[f"gradient of {path}"] = math.sqrt(float(torch.stack(stepped).sum()))
                signals[f"weights of {path}"] = _norm(list(network.values()))
            online = next((found[name] for name in _online_names(path) if name in found), None)
            if online is not None and (distance := _distance(network, online)) is not None:
                signals[f"distance of {path}"] = distance
        return signals

    def _of_batches(self) -> dict[str, float]:
        signals: dict[str, float] = {}
        if self._batches:
            reward, discount = (torch.cat([getattr(each, name) for each in self._batches]) for name in _NUMBERS)
            age = self._replay.head - torch.cat([each.slot for each in self._batches]).double()
            signals["batch reward"], signals["batch reward spread"] = float(reward.mean()), float(reward.std())
            signals["batch discount"] = float(discount.mean())
            signals["batch age"] = float(age.mean()) / max(1, len(self._replay))
        distances = [each for batch in self._batches for each in self._augmentation(batch)]
        if distances:
            signals["augmentation"] = sum(distances) / len(distances)
        return signals

    def _augmentation(self, batch: Batch) -> list[float]:
        """How far the networks' images are from the batch's own, for each of its two sets that a network has seen."""
        if batch.obs.dim() != 4:
            return []
        distances = []
        for plain in (batch.obs, batch.next_obs):
            seen = [each for each in self._inputs if each.shape[:2] == plain.shape[:2]]
            if seen:
                distances.append(min(_unlikeness(each, plain) for each in seen))
        return distances

    def _of_entropy(self) -> dict[str, float]:
        entropy = getattr(self._agent, "entropy", None)
        if not callable(entropy):
            return {}
        nats = float(entropy(self._step))
        return {"entropy": nats} if math.isfinite(nats) else {}


_NUMBERS = ("reward", "discount")


def _online_names(path: str) -> list[str]:
    """What the network is called whose copy a target network is."""
    return [path.replace(word, "", 1).strip(".") for word in TARGET_WORDS if word in path]


def _norm(tensors: list[torch.Tensor]) -> float:
    norms = torch._foreach_norm([each.detach() for each in tensors])
    return float(torch.stack(norms).double().square().sum().sqrt())


def _distance(target: Network, online: Network) -> float | None:
    """Relative to the online network's norm; None for networks of other shapes."""
    pairs = [(each.detach(), online[name].detach()) for name, each in target.items() if name in online]
    if not pairs or any(a.shape != b.shape for a, b in pairs):
        return None
    gaps, norm = [a - b for a, b in pairs], _norm([b for _, b in pairs])
    return _norm(gaps) / norm if norm else None


def _unlikeness(seen: torch.Tensor, plain: torch.Tensor) -> float:
    """One minus the correlation of images with the plain ones, as a mean over some samples; 0 if they are the same."""
    height, width = (min(a, b) for a, b in zip(seen.shape[2:], plain.shape[2:], strict=True))
    a, b = (_middle(each.detach()[:SAMPLES], height, width).float().flatten(1) for each in (seen, plain))
    a, b = (each - each.mean(dim=1, keepdim=True) for each in (a, b))
    scale = a.norm(dim=1) * b.norm(dim=1)
    return 1 - float(((a * b).sum(dim=1) / scale.clamp(min=1e-12)).mean())


def _middle(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    return images[:, -3:, top : top + height, left : left + width]
