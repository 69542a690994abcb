"""A stage for COVR without an environment: its base, its VLM and its run are doubles that keep what they were given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from covr import loop as method
from covr import ranking
from covr.config import COVRConfig
from covr.vlm.grammar import format_action
from covr.vlm.scripted import ScriptedPrior, silent
from covr_bench.kit.api import Context, Demonstration
from covr_bench.kit.errors import UserError
from covr_bench.kit.replay import Batch, Replay

SIDE, ACTIONS, EPISODE = 8, 2, 5  # pixels, numbers of an action, agent steps
ENTROPY = -2.0  # keeps about a third


class Base:
    """Learns nothing. guided: whether each update was given guidance; losses: the guidance on its newest slots."""

    def __init__(self, name: str, settings: Any) -> None:
        self.made = name, dict(settings)
        self.guided: list[bool] = []
        self.losses: list[float] = []

    def act(self, obs: Any, step: int, explore: bool) -> Any:
        return np.zeros(ACTIONS, np.float32)

    def update(self, replay: Replay, step: int, guidance: Any = None) -> dict[str, torch.Tensor]:
        self.guided.append(guidance is not None)
        if guidance is not None:
            slots = torch.arange(replay.oldest(), replay.head)
            batch = Batch(*(torch.zeros(1),) * 5, slot=slots)
            self.losses.append(float(guidance(batch, torch.full((len(slots), ACTIONS), 0.9))))
        return {"loss": torch.tensor(0.0)}

    def guide_encoder(self, batch: Batch, guidance: Any) -> None:
        self.losses.append(-1.0)

    def entropy(self, step: int) -> float:
        return ENTROPY

    def q_value(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return torch.sin(37 * action[:, 0])

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def slot_shown(image: Any, prompt: Any) -> str:
    """Each slot's answer is its own: the number of the slot over 100."""
    return format_action(np.full(prompt.action_dim, image.reshape(-1)[0] / 100))


class VLM(ScriptedPrior):
    """Answers by the slot it is shown; keeps the shapes of the images it was asked about, and what it was tuned on."""

    def __init__(self) -> None:
        super().__init__(slot_shown)
        self.asked: list[tuple[int, ...]] = []
        self.samples: list[Any] = []

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"decode": "expect"}

    def propose(self, images: Any, prompt: Any) -> Any:
        self.asked.append(images.shape)
        answers = super().propose(images, prompt)
        return replace(answers, variance=np.full_like(answers.actions, 0.5))

    def finetune(self, samples: Any, prompt: Any) -> Any:
        self.samples.append(samples)
        asked, self.asked = self.asked, []
        report = super().finetune(samples, prompt)
        self.asked = asked  # not those of its own errors
        return report


class Services:
    """What a run offers. rows: of each record, the step and the values."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[tuple[int, dict[str, Any]]] = []
        self.played: list[int] = []

    def render(self, height: int, width: int) -> Any:
        return np.full((height, width, 3), len(self.rows), np.uint8)

    def play(self, policy: Any, episodes: int) -> dict[str, list[float]]:
        self.played.append(episodes)
        return {}

    def player(self) -> Any:
        return None

    def demonstrate(self, teacher: str, agent_steps: int, number: int, image: Any) -> Demonstration:
        """Slots from 60 on, all in one episode."""
        slots = np.arange(60, 60 + agent_steps)
        images = np.stack([image(observation(slot)) for slot in slots])
        actions, rewards = np.stack([action(slot) for slot in slots]), np.array([reward(slot) for slot in slots])
        return Demonstration(images, actions, rewards, np.zeros_like(slots), slots - 60)

    def record(self, step: int, values: Any) -> None:
        self.rows.append((step, {name: value for name, value in values.items() if "seconds" not in name}))

    def warn(self, text: str) -> None:
        pass


class Stage:
    """COVR with these settings, and all that its doubles were given.

    opened: of the VLM, name and options. error: of the run's end. The VLM named `silent` answers with no action.
    """

    def __init__(self, folder: Path, *, repeat: int = 1, **settings: Any) -> None:
        self.vlm, self.services, self.opened, self.error = VLM(), Services(folder), {}, ""
        chosen = {"vlm_image_size": 6, "psi0": 10, "guidance_after": 1, "query_every": 2, "query_batch": 3}
        self.context = Context(
            (9, SIDE, SIDE), ACTIONS, repeat, 1000, "cpu", 0, "a task",
            services=self.services, make_agent=lambda name, given, context: Base(name, given),  # type: ignore[arg-type, return-value]
        )  # fmt: skip

        def open_prior(name: str, **options: Any) -> VLM:
            self.opened = {"name": name} | options
            self.vlm.rule = silent if name == "silent" else slot_shown
            return self.vlm

        with mock.patch.object(method, "open_prior", open_prior):
            self.agent: Any = method.make(COVRConfig(**(chosen | settings)), self.context)
        self.base: Any = self.agent.base
        self.replay = Replay(512, (9, SIDE, SIDE), ACTIONS, seed=0)
        self.steps = 0
        self.chosen: list[tuple[Any, ...]] = []

    def play(self, steps: int) -> None:
        """So many agent steps; each slot's frame, action and reward tell which slot it is."""
        for _ in range(steps):
            if self.steps % EPISODE == 0:
                self.replay.start(observation(self.replay.head))
            slot = self.replay.head - 1
            with self._spying():
                self.agent.update(self.replay, self.steps * self.context.action_repeat)
            self.replay.add(action(slot), reward(slot), False, observation(slot + 1))
            self.steps += 1

    def rounds(self) -> list[int]:
        """The environment steps of the rounds."""
        return [step for step, row in self.services.rows if row["round"] > 0]

    @contextmanager
    def _spying(self) -> Iterator[None]:
        choose = ranking.choose

        def spy(scores: Any, entropy: float, rng: Any, **options: Any) -> Any:
            keep = choose(scores, entropy, rng, **options)
            self.chosen.append((scores.tolist(), entropy, options, keep.tolist()))
            return keep

        with mock.patch.object(ranking, "choose", spy):
            yield

    def finish(self) -> None:
        """The end of the run."""
        try:
            self.agent.finish(self.steps * self.context.action_repeat)
        except UserError as error:
            self.error = str(error)

    def seen(self) -> dict[str, Any]:
        """Everything that the settings can have changed."""
        samples = [(s.images.tolist(), s.actions.tolist(), s.weights.tolist()) for s in self.vlm.samples]
        priors = self.agent.advice.priors
        return {
            "opened": self.opened,
            "base": (self.base.made, self.base.guided, self.base.losses),
            "vlm": (self.vlm.asked, samples, priors.thread is None, priors.actions.tolist()),
            "run": (self.services.rows, self.services.played, self.chosen, self.error),
        }


def observation(slot: int) -> Any:
    return np.full((9, SIDE, SIDE), slot, np.uint8)


def action(slot: int) -> Any:
    return np.array([slot / 250, -slot / 250], np.float32)


def reward(slot: int) -> float:
    return float(np.sin(slot))
