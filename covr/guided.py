"""A base agent whose actor is pulled towards what a VLM proposes: when the VLM is asked, and the term of Eq. 4.

    every `query_every` steps    a_v = VLM(o_t), kept beside the transition
    every actor update           loss += lambda * |a_v - a_r|^2                      (Eq. 4)

The base agent acts; its policy needs no VLM once trained. What the weight lambda does over the run, and whether the VLM
learns as well, is each method's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import torch
from pydantic import ConfigDict, Field, NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass

from covr.frames import Frames
from covr.priors import HEALTH_OVER, Priors
from covr.vlm.base import DecodeMode, VisionLanguagePrior
from covr.vlm.open import SERVER, open_prior
from covr.vlm.prompts import task_prompt
from covr_bench.kit.api import Context, Metrics
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from covr_bench.kit.api import GuidedAgent, Services
    from covr_bench.kit.replay import Batch, Replay


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ShownConfig:
    """Which VLM, what it is shown, and how often, in environment steps."""

    vlm: str = "tiny"  # or a folder, a hub id; of agents that only ask: openai:URL, scripted
    vlm_device: str = ""  # the agent's own if empty
    vlm_image_size: PositiveInt = 84  # pixels; larger than the agent's frames: drawn for the VLM
    vlm_frames: Annotated[int, Field(ge=1, le=2)] = 1
    query_every: PositiveInt = 10


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class VLMConfig(ShownConfig):
    """And how its answers are read."""

    decode: DecodeMode | Literal["auto"] = "auto"  # forced; of a server, generate


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class GuidedConfig(VLMConfig):
    """The agent that acts and how it is guided."""

    base: str = "rad"  # the agent that acts: rad, sac, deepmdp, drqv2, or any other with an actor loss
    base_settings: dict[str, Any] = Field(default_factory=dict)
    query_batch: PositiveInt = 32  # questions asked at once
    queries: Literal["auto", "batched", "async"] = "auto"  # auto: async for a VLM with a device or server of its own
    between_queries: Literal["mask", "hold"] = "mask"
    guidance_weight: NonNegativeFloat = 1.0  # lambda; 2 for CARLA


class Guided:
    """What COVR and the methods with a frozen VLM share. vlm: None where a trained policy only acts."""

    def __init__(self, config: GuidedConfig, context: Context, vlm: VisionLanguagePrior | None) -> None:
        self.config, self.context, self.vlm = config, context, vlm
        self.base = _base(config, context)
        self.prompt = task_prompt(context.instruction, context.action_dim)
        self.services = cast("Services", context.services)  # used in training only
        self.weight = config.guidance_weight
        self.metrics: dict[str, torch.Tensor] = {}
        self.state: dict[str, Any] | None = None  # to be loaded when the replay's size is known
        self.priors: Priors | None = None

    def act(self, obs: npt.NDArray[np.uint8], step: int, explore: bool) -> npt.NDArray[np.float32]:
        return self.base.act(obs, step, explore)

    def ask(self, replay: Replay, clock: int, ticks: int) -> None:
        """Take note of the newest observation, and ask about it when `query_every` was passed in the last `ticks`."""
        priors = self.in_training(replay)
        asked = clock // self.config.query_every > (clock - ticks) // self.config.query_every
        self.frames.see(replay, asked)
        priors.see(replay, asked)

    def warn_if_unhealthy(self) -> None:
        assert self.priors
        if self.priors.unhealthy():
            self.services.warn(
                f"fewer than half of the VLM's latest {HEALTH_OVER} answers state an action (`valid_share` and "
                "`answers_*` in the rows); these are masked, and training goes on as its base agent does"
            )

    def learn(self, replay: Replay, step: int, guided: bool) -> Metrics:
        """An update of the base agent, with the term of Eq. 4 or without."""
        metrics = self.base.update(replay, step, self.guide if guided else None)
        return dict(metrics) | self.metrics if metrics else {}

    def guide(self, batch: Batch, action: torch.Tensor) -> torch.Tensor:
        """lambda * |a_v - a_r|^2 (Eq. 4), the mean over those samples of the batch that have an a_v."""
        assert self.priors
        prior, known = (tensor.to(action.device) for tensor in self.priors.of(batch.slot))
        distance = (action - prior).square().sum(dim=1)
        loss = self.weight * (known * distance).sum() / known.sum().clamp(min=1)
        self.metrics = {"guidance_loss": loss.detach(), "guided_share": known.mean()}
        return loss

    def describe(self) -> dict[str, Any]:
        """Provenance: the VLM, and how it is asked."""
        assert self.vlm
        asks = "async" if self._asks_in_background() else "batched"
        return {"vlm": dict(self.vlm.describe()), "queries": asks, "base": self.config.base}

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"base": self.base.state_dict(), "metrics": self.metrics}
        if self.priors:
            return state | {"priors": self.priors.state_dict(), "frames": self.frames.state_dict()}
        return state | {name: self.state[name] for name in ("priors", "frames")} if self.state else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.base.load_state_dict(state["base"])
        self.metrics = {name: value.to(self.context.device) for name, value in state["metrics"].items()}
        self.state = state if "priors" in state else None

    def in_training(self, replay: Replay) -> Priors:
        """The VLM's answers, which need to know the replay."""
        assert self.vlm, "only a run that trains can update"
        if self.priors is None:
            config = self.config
            self.frames = Frames(
                config.vlm_frames, config.vlm_image_size, self.context.obs_shape[-1], self.services.render
            )
            self.priors = Priors(
                self.vlm,
                self.prompt,
                lambda slots: self.frames.of(replay, slots),
                replay.capacity,
                batch=config.query_batch,
                hold=config.between_queries == "hold",
                background=self._asks_in_background(),
            )
            if self.state:
                self.priors.load_state_dict(self.state["priors"])
                self.frames.load_state_dict(self.state["frames"])
                self.state = None
        return self.priors

    def _asks_in_background(self) -> bool:
        config = self.config
        own_device = config.vlm_device not in ("", self.context.device)
        return config.queries == "async" or (config.queries == "auto" and (own_device or config.vlm.startswith(SERVER)))


class FrozenGuided(Guided):
    """Guided from the first step by a VLM that never learns, with the constant weight lambda."""

    def __init__(self, config: GuidedConfig, context: Context) -> None:
        super().__init__(config, context, frozen(config, context) if context.services else None)

    def update(self, replay: Replay, step: int) -> Metrics:
        self.ask(replay, step, self.context.action_repeat)
        assert self.priors
        self.frames.drop(min([replay.head, *self.priors.waiting]))
        self.warn_if_unhealthy()
        metrics = self.learn(replay, step, guided=self.weight > 0)
        if not metrics or not self.priors.recent:
            return metrics
        return dict(metrics) | {"valid_share": torch.tensor(self.priors.valid_share())}


def frozen(config: VLMConfig, context: Context) -> VisionLanguagePrior:
    """The VLM as it comes. Raises UserError where there is none of that name."""
    decode = None if config.decode == "auto" else config.decode
    return open_prior(config.vlm, decode=decode, device=config.vlm_device or context.device, seed=context.seed)


def _base(config: GuidedConfig, context: Context) -> GuidedAgent:
    assert context.make_agent, "a guided agent wraps another and is built by the registry"
    base = context.make_agent(config.base, config.base_settings, context)
    if not all(hasattr(base, name) for name in ("entropy", "q_value")):
        raise UserError(f"a VLM cannot guide {config.base!r}: it has no actor loss; try rad, sac or drqv2")
    return cast("GuidedAgent", base)
