"""What is known of the environments and agents of some runs, and the trials that complete it."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, TypeVar

from covr_bench.config import registry
from covr_bench.run.cores import cores
from covr_bench.run.cost import kinds
from covr_bench.run.cost.measured import AgentCost, EnvCost
from covr_bench.run.cost.memory import costs_file, recall, remember
from covr_bench.run.cost.trials import Request, Trials

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from covr_bench.config.run_config import RunConfig


class Survey:
    """The costs of environments and agents by key, from what is remembered on."""

    def __init__(self, configs: Sequence[RunConfig], renderer: Mapping[str, Any]) -> None:
        suites = {ref: registry.suite(ref) for ref in {config.suite for config in configs}}
        self.configs, self.machine = configs, kinds.machine()
        self.env_keys = {
            config.run_id: kinds.env_key(config, suites[config.suite].task(config.task), self.machine | dict(renderer))
            for config in configs
        }
        remembered = recall(costs_file())
        self.envs = _read(remembered, EnvCost.from_dict)
        self.agents = _read(remembered, lambda entry: AgentCost(**entry))
        self._agent_keys: dict[str, str] = {}
        unseen = EnvCost(0.0, 0, (0, 0, 0), "", 0)
        self._agent_kinds = [(config, kinds.agent_key(config, unseen, {"shown as": config.env})) for config in configs]

    def env(self, config: RunConfig) -> EnvCost:
        """The cost of a run's environment. Raises KeyError before it is known."""
        return self.envs[self.env_keys[config.run_id]]

    def agent(self, config: RunConfig) -> AgentCost:
        """The cost of a run's agent. Raises KeyError before it is known."""
        cost = self.agents[self._agent_key(config)]
        return replace(cost, update_s=cost.update_s * kinds.learning_steps(config))

    def complete(self, progress: Callable[[str], None], warn: Callable[[str], None]) -> None:
        """Try what is not known, and remember it. Raises UserError if a trial fails."""
        if not (requests := self._requests(set())):
            return
        tried: dict[str, dict[str, Any]] = {}
        try:
            self._try(requests, tried, progress)
        finally:  # what went well before one fails need not be tried again
            _remember(tried, warn)

    def _try(self, requests: list[Request], tried: dict[str, dict[str, Any]], progress: Callable[[str], None]) -> None:
        """Make these trials and those that they make possible; answers are added to `tried`."""
        progress(self._said(tried, requests))
        threads, asked = self.configs[0].threads, set[str]()
        with Trials(threads, together=threads == 1 and cores().count > 1) as trials:
            while requests or trials.waiting:
                for request in requests:
                    trials.ask(request)
                asked |= {request.key for request in requests}
                request, answer = trials.answer()
                self._learn(request, answer)
                tried[request.key] = answer
                requests = self._requests(asked)
                progress(self._said(tried, [*trials.waiting, *requests]))

    def _requests(self, asked: set[str]) -> list[Request]:
        """Trials that can be made now: an agent's needs to know what its environment shows."""
        found: dict[str, Request] = {}
        for config in self.configs:
            if (key := self.env_keys[config.run_id]) not in self.envs:
                found.setdefault(key, Request(key, config))
            elif (key := self._agent_key(config)) not in self.agents:
                found.setdefault(key, Request(key, config, asdict(self.env(config))))
        return [request for key, request in found.items() if key not in asked]

    def _learn(self, request: Request, answer: dict[str, Any]) -> None:
        if request.env is None:
            self.envs[request.key] = EnvCost.from_dict(answer)
        else:
            self.agents[request.key] = AgentCost(**answer)

    def _agent_key(self, config: RunConfig) -> str:
        if config.run_id not in self._agent_keys:
            self._agent_keys[config.run_id] = kinds.agent_key(config, self.env(config), self.machine)
        return self._agent_keys[config.run_id]

    def _said(self, tried: Mapping[str, Any], waiting: Sequence[Request]) -> str:
        """How far the trials are, and which is next."""
        left = len(set(self.env_keys.values()) - self.envs.keys()) + self._agents_left()
        text = f"measuring costs on this machine, once: {len(tried)} of {len(tried) + left}"
        return f"{text}, {waiting[0]}" if waiting else text

    def _agents_left(self) -> int:
        """Kinds of agents to be tried, as far as that can be told before their environments are known."""
        known = {kind for config, kind in self._agent_kinds if self._is_known(config)}
        return len({kind for _, kind in self._agent_kinds} - known)

    def _is_known(self, config: RunConfig) -> bool:
        return self.env_keys[config.run_id] in self.envs and self._agent_key(config) in self.agents


T = TypeVar("T")


def _read(entries: Mapping[str, dict[str, Any]], read: Callable[[dict[str, Any]], T]) -> dict[str, T]:
    """Those entries that can be read so."""
    found = {}
    for key, entry in entries.items():
        with contextlib.suppress(TypeError, KeyError):
            found[key] = read(entry)
    return found


def _remember(tried: Mapping[str, dict[str, Any]], warn: Callable[[str], None]) -> None:
    file = costs_file()
    try:
        remember(file, tried)
    except OSError as error:
        warn(
            f"costs are measured anew each time: cannot write {file} ({error.strerror}); make its folder writable, or "
            "set XDG_CACHE_HOME"
        )
