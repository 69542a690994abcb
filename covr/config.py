"""Settings that the agents with a VLM share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs

from covr import eddf, schedule
from covr.controls import KNOWING, VLM, checked
from covr.experience import SELF, absolute_teacher
from covr.selection import Rule, Score
from covr.vlm.address import check_address
from covr.vlm.base import DecodeMode, Dtype
from covr.vlm.open import SERVER
from covr_bench.kit.api import Fraction
from covr_bench.kit.extensions import absolute

TAUGHT = "tiny-knowing"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class QueryConfig:
    """Which VLM, what it is shown, and how often, in environment steps."""

    vlm: Annotated[str, AfterValidator(absolute)] = "tiny"  # a name, a .py file, a folder, a hub id, openai:URL
    vlm_device: str = ""  # the agent's own if empty
    vlm_dtype: Dtype = "auto"  # of a model in this process: bfloat16 on a GPU, float32 on a CPU; int8, int4: quantised
    vlm_image_size: PositiveInt = 84  # pixels; larger than the agent's frames: drawn for the VLM
    vlm_frames: Annotated[int, Field(ge=1, le=2)] = 1
    query_every: PositiveInt = 10
    vlm_silent: Literal["fail", "allow"] = "fail"  # what becomes of a run whose VLM never answered with an action

    def __post_init__(self) -> None:
        if not self.vlm.startswith(SERVER):
            return
        check_address(self.vlm.removeprefix(SERVER).partition("#")[0])  # before it is stored anywhere
        if self.vlm_frames == 2:
            raise ValueError("a VLM server is shown one frame: set vlm_frames=1")
        if not getattr(self, "tuner", "") and (self.vlm_dtype != "auto" or self.vlm_device):
            raise ValueError("a VLM server has weights and a device of its own: leave vlm_dtype and vlm_device out")


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
    guidance_trust: Literal["equal", "variance"] = "equal"  # variance: lambda / sigma^2, of an answer read by `expect`
    prior: Annotated[str, AfterValidator(checked)] = VLM  # who answers: the VLM, or a control of covr/controls.py

    @model_validator(mode="before")
    @classmethod
    def _taught(cls, given: ArgsKwargs | dict[str, Any]) -> ArgsKwargs | dict[str, Any]:
        """`prior=knowing` is short for the VLM that was taught some tasks."""
        settings = dict(given.kwargs or {}) if isinstance(given, ArgsKwargs) else given
        if settings.get("prior") != KNOWING:
            return given
        if settings.get("vlm", TAUGHT) not in (TAUGHT, "tiny"):
            raise ValueError(f"prior={KNOWING} is vlm={TAUGHT}; leave vlm={settings['vlm']} out, or prior")
        return settings | {"prior": VLM, "vlm": TAUGHT}


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class COVRConfig(GuidedConfig):
    """Settings of the paper for DMControl; steps are environment steps. Where the paper is silent: docs/covr.md."""

    tuner: str = ""  # for openai:URL, a local copy of its model: tuned here, its adapters loaded by the server
    old_priors: Literal["keep", "relabel", "drop"] = "keep"  # what a round that is kept does to the answers before it

    guidance_after: NonNegativeInt = 4  # rounds of fine-tuning, the cold start; 2 for CARLA
    guidance_schedule: Literal["constant", "anneal"] = "constant"  # anneal: lambda falls to 0 at the end of the run
    guidance_to_encoder: bool = False  # whether the gradient of Eq. 4 reaches the encoder, too

    psi0: PositiveInt = 5_000
    growth: schedule.Growth = "linear"
    clock: Literal["env", "agent"] = "env"  # the steps that psi and query_every count
    episodes: Literal["finished", "cut"] = "finished"  # cut: the running episode enters D_f, as if it ended now
    teacher: Annotated[str, AfterValidator(absolute_teacher)] = SELF  # whose D_f: self, scripted, a run's folder
    score: Score = "return"
    return_discount: Fraction = 0.99  # gamma of g_t, per agent step
    rule: Rule = "eddf"
    top_share: Fraction = 0.8  # of the rule `top`
    direction: eddf.Direction = "eq5"
    compare: eddf.Compare = "z"
    weights: Literal["ralw", "uniform", "random"] = "ralw"
    labels: Literal["taken", "policy"] = "taken"  # the action that was taken, or what the policy would do by now
    accept: Literal["always", "better", "never"] = "always"  # better: a round that lowers no held-out error is undone

    lora_rank: PositiveInt = 128
    lora_alpha: PositiveFloat = 16.0  # 256 for CARLA
    finetune_lr: PositiveFloat = 1e-3
    finetune_epochs: PositiveInt = 2
    finetune_min_steps: PositiveInt = 100  # epochs are added up to it: early rounds of long repeats have few samples
    finetune_batch_size: PositiveInt = 32
    micro_batch: PositiveInt = 32  # samples of a batch computed at once
    label_smoothing: Fraction = 0.1

    vlm_episodes: NonNegativeInt = 3  # played by the VLM alone before the first round and after each

    def __post_init__(self) -> None:
        super().__post_init__()
        needs_replay = self.labels == "policy" or self.score in ("q", "q_advantage")
        if self.teacher != SELF and needs_replay:
            raise ValueError("score=q, score=q_advantage and labels=policy need the agent's own frames: teacher=self")
