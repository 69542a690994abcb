"""An agent that always does the same, a suite of one task, a budget of one episode, a VLM, a launcher and a tracker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from covr.vlm.base import VLMSpec, check_images, proposals_from_texts
from covr_bench import AgentSpec, Budget, Context, Suite, Task
from covr_bench.launch.base import LauncherSpec, State
from covr_bench.track.base import TrackerSpec
from suites import catch


@dataclass(frozen=True)
class Config:
    """action: what it does, -1 to 1."""

    action: float = 0.5


class Constant:
    def __init__(self, config: Config, context: Context) -> None:
        self.action = np.full(context.action_dim, config.action, np.float32)

    def act(self, obs: Any, step: int, explore: bool) -> Any:
        return self.action

    def update(self, replay: Any, step: int) -> dict[str, Any]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


AGENT = AgentSpec("example_constant", Config, Constant, kind="control")
BUDGET = Budget("example_tiny", env_steps=40, eval_every=40, eval_episodes=1)
SUITE = Suite(
    "example_catch", 1, (Task("slow_catch", catch.SUITE.tasks[0].make, 2),), {"smoke": BUDGET}, ("example_constant",)
)


@dataclass(frozen=True)
class Reason:
    """text: why it runs nothing."""

    text: str = "there is no such machine"


class Refuses:
    def __init__(self, settings: Reason) -> None:
        self.text = settings.text

    def run(self, jobs: Any, workers: int, session: Any, watch: Any) -> None:
        for job in jobs:
            job.state, job.error = State.FAILED, self.text


@dataclass(frozen=True)
class File:
    """name: of the file it writes."""

    name: str = "heard.txt"


class Hears:
    """Writes the name of each hook as it is called."""

    def __init__(self, settings: File) -> None:
        self.file = open(settings.name, "w")  # noqa: SIM115 (closed by `close`)

    def begin(self, run_id: str, config: Any, facts: Any) -> None:
        print("begin", run_id, file=self.file)

    def rows(self, run_id: str, rows: Any) -> None:
        print("rows", len(rows), file=self.file)

    def end(self, run_id: str, status: str) -> None:
        print("end", status, file=self.file)

    def close(self) -> None:
        self.file.close()


class Silent:
    """Never states an action."""

    tunable = False

    def propose(self, images: Any, prompt: Any) -> Any:
        texts = [""] * len(check_images(images))
        return proposals_from_texts(texts, ["no_action_word"] * len(texts), [None] * len(texts), prompt.action_dim, 0.0)

    def describe(self) -> dict[str, Any]:
        return {"name": "silent", "decode": "rule", "parameters": 0, "stand_in": True}


VLM = VLMSpec("example_silent", lambda options: Silent(), stand_in=True, doc="Says nothing.")
LAUNCHER = LauncherSpec("example_refuses", Reason, Refuses, "Runs nothing.")
TRACKER = TrackerSpec("example_hears", File, Hears, "Writes what it hears of.")
