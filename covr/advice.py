"""The VLM at the side of an agent in training: when it is asked, what it is shown, and what it answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from covr.controls import VLM, Control
from covr.frames import Frames, check_stacked
from covr.priors import HEALTH_OVER, Priors
from covr.vlm.open import SERVER, check_asked, open_prior
from covr.vlm.prompts import task_prompt
from covr.vlm_policy import VLMPolicy, vlm_policy
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from covr.config import GuidedConfig, VLMConfig
    from covr.vlm.base import VisionLanguagePrior
    from covr_bench.kit.api import Context, Render, Services
    from covr_bench.kit.replay import Replay


class Advice:
    """What only training needs; a trained policy has none."""

    def __init__(self, vlm: VisionLanguagePrior, config: GuidedConfig, context: Context, services: Services) -> None:
        self.vlm, self.config, self.context, self.services = vlm, config, context, services
        self.silent = config.vlm_silent
        self.prompt = task_prompt(context.instruction, context.action_dim)
        self.clock = -1  # when `ask` was last called
        self.frames = Frames(config.vlm_frames, config.vlm_image_size, context.obs_shape[-1], services.render)
        self.player = services.player()
        if isinstance(vlm, Control) and vlm.needs_player and self.player is None:
            raise UserError(
                f"prior={config.prior} answers as the task's scripted player does, and this task has none; "
                "set prior to zero or uniform"
            )
        if config.guidance_trust == "variance" and (decode := vlm.describe().get("decode")) != "expect":
            who = config.vlm if config.prior == VLM else f"prior={config.prior}"
            raise UserError(
                f"guidance_trust=variance needs answers that tell their variance, and {who} answers by "
                f"decode={decode}: set decode=expect, which a server and a control do not offer"
            )
        if not isinstance(vlm, Control):
            check_stacked(context, config.vlm_frames, config.vlm_image_size)
        check_asked(vlm, self.prompt, config.vlm_frames, config.vlm_image_size)
        self.priors = Priors(
            vlm,
            self.prompt,
            *((self._told, lambda slots: slots) if isinstance(vlm, Control) else (self.frames.of, self.frames.known)),
            batch=config.query_batch,
            hold=config.between_queries == "hold",
            background=self._asks_in_background(),
        )

    def ask(self, replay: Replay, clock: int, ticks: int) -> None:
        """Take note of the newest observation, and ask about it when `query_every` was passed since the last call.

        ticks: of an action; fewer have passed where an episode ended within them.
        """
        before, self.clock = max(self.clock, clock - ticks), clock
        asked = clock // self.config.query_every > before // self.config.query_every
        self.frames.see(replay, asked and not isinstance(self.vlm, Control))
        self.priors.see(replay, asked, self.player() if self.player else None)

    def warn_if_unhealthy(self) -> None:
        if self.priors.unhealthy():
            self.services.warn(
                f"fewer than half of the VLM's latest {HEALTH_OVER} answers state an action (`valid_share` and "
                "`answers_*` in the rows); these are masked, and training goes on as its base agent does"
            )

    def _told(self, replay: Replay, slots: npt.NDArray[np.int64]) -> Any:
        """What a control answers by."""
        return slots, self.priors.good[slots % self.priors.capacity]

    def policy(self, render: Render) -> VLMPolicy:
        """The VLM by itself, for one episode."""
        return vlm_policy(self.vlm, self.prompt, self.config, self.context, render)

    def describe(self) -> dict[str, Any]:
        """Provenance: the VLM, and how it is asked."""
        asks = "async" if self._asks_in_background() else "batched"
        return {"vlm": dict(self.vlm.describe()), "queries": asks, "base": self.config.base}

    def state_dict(self) -> dict[str, Any]:
        return {"priors": self.priors.state_dict(), "frames": self.frames.state_dict(), "clock": self.clock}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.priors.load_state_dict(state["priors"])
        self.frames.load_state_dict(state["frames"])
        self.clock = state.get("clock", -1)  # none in states of earlier versions

    def _asks_in_background(self) -> bool:
        config = self.config
        own_device = config.vlm_device not in ("", self.context.device)
        return config.queries == "async" or (config.queries == "auto" and (own_device or config.vlm.startswith(SERVER)))


def open_frozen(config: VLMConfig, context: Context) -> VisionLanguagePrior:
    """The VLM as it comes, or the control in its place. Raises UserError where there is no VLM of that name."""
    if (prior := getattr(config, "prior", VLM)) != VLM:
        return Control(prior, context.seed)
    decode = None if config.decode == "auto" else config.decode
    return open_prior(
        config.vlm, decode=decode, device=config.vlm_device or context.device, seed=context.seed, dtype=config.vlm_dtype
    )
