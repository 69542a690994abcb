"""Settings that the agents with a VLM share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass

from covr.vlm.base import DecodeMode
from covr_bench.kit.extensions import absolute


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class QueryConfig:
    """Which VLM, what it is shown, and how often, in environment steps."""

    vlm: Annotated[str, AfterValidator(absolute)] = "tiny"  # a name, a .py file, a folder, a hub id, openai:URL
    vlm_device: str = ""  # the agent's own if empty
    vlm_image_size: PositiveInt = 84  # pixels; larger than the agent's frames: drawn for the VLM
    vlm_frames: Annotated[int, Field(ge=1, le=2)] = 1
    query_every: PositiveInt = 10


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class VLMConfig(QueryConfig):
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
