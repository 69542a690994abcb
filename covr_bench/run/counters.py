"""How far a run has come: the numbers that a checkpoint holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Counters:
    """Steps and events of a run so far.

    Attributes:
        env_steps: Environment steps, action repeat counted.
        agent_steps: Decisions.
        updates: Calls of the agent's `update` that learned.
        episode: Number of the running training episode.
        next_eval: Environment step that the next evaluation is due at.
    """

    env_steps: int = 0
    agent_steps: int = 0
    updates: int = 0
    episode: int = 0
    next_eval: int = 0

    def stepped(self, env_steps: int) -> Counters:
        """After one decision that took so many environment steps."""
        return replace(self, env_steps=self.env_steps + env_steps, agent_steps=self.agent_steps + 1)

    def updated(self) -> Counters:
        """After one update."""
        return replace(self, updates=self.updates + 1)

    def next_episode(self) -> Counters:
        """At the start of another training episode."""
        return replace(self, episode=self.episode + 1)

    def evaluated(self, every: int, total: int, action_repeat: int) -> Counters:
        """After the evaluation that was due; the last one is at the end of the run, and none is due after it."""
        due = min(self.next_eval + every, total) if self.next_eval < total else total + action_repeat
        return replace(self, next_eval=due)

    def as_dict(self) -> dict[str, int]:
        """By name, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Counters:
        """The inverse of `as_dict`; other keys are passed over."""
        return cls(**{item.name: state[item.name] for item in fields(cls)})
