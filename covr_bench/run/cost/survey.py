"""What is known of the environments and agents of some runs, and the trials that complete it."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from covr_bench.config import registry
from covr_bench.run.cores import cores
from covr_bench.run.cost import kinds
from covr_bench.run.cost.measured import AgentCost, EnvCost
from covr_bench.run.cost.memory import alone, costs_file, recall, remember, store_file
from covr_bench.run.cost.trials import Request, Trials

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from covr_bench.config.run_config import RunConfig
    from suites.base import Task

DATE = "measured"  # key of an entry


class Survey:
    """The costs of environments and agents by key, from what is remembered on."""

    def __init__(self, configs: Sequence[RunConfig], renderer: Mapping[str, Any]) -> None:
        self.suites = {ref: registry.suite(ref) for ref in {config.suite for config in configs}}
        self.configs, self.machine = configs, kinds.machine()
        self.env_keys = {
            config.run_id: kinds.env_key(config, self.task(config), self.machine | dict(renderer)) for config in configs
        }
        stores = sorted(out for out in {config.out for config in configs} if (Path(out) / "runs").is_dir())
        self.files = [costs_file(), *map(store_file, stores)]
        self.entries: dict[str, dict[str, Any]] = {}
        self.envs: dict[str, EnvCost] = {}
        self.agents: dict[str, AgentCost] = {}
        self.tried: dict[str, dict[str, Any]] = {}  # now, not earlier
        self._recall()
        self._agent_keys: dict[str, str] = {}
        unseen = EnvCost(0.0, 0, (0, 0, 0), "", 0, 0)
        self._agent_kinds = [(config, kinds.agent_key(config, unseen, {"shown as": config.env})) for config in configs]

    def task(self, config: RunConfig) -> Task:
        """A run's task."""
        return self.suites[config.suite].task(config.task)

    def env(self, config: RunConfig) -> EnvCost:
        """The cost of a run's environment. Raises KeyError before it is known."""
        return self.envs[self.env_keys[config.run_id]]

    def agent(self, config: RunConfig) -> AgentCost:
        """The cost of a run's agent. Raises KeyError before it is known."""
        cost = self.agents[self._agent_key(config)]
        return replace(cost, update_s=cost.update_s * kinds.learning_steps(config))

    def _recall(self) -> None:
        """All that any of the files knows."""
        for file in self.files:
            self.entries |= recall(file)
        self.envs |= _read(self.entries, EnvCost.from_dict)
        self.agents |= _read(self.entries, lambda entry: AgentCost(**entry))

    def complete(self, progress: Callable[[str], None], warn: Callable[[str], None]) -> None:
        """Try what is not known, and remember it. Raises UserError if a trial fails."""
        if not self._requests(set()):
            self._remember(lambda text: None)
            return
        node = kinds.digest("node", self.machine)
        with alone(self.files[-1], node, lambda: progress("waiting for another command, which measures costs")):
            self._recall()
            try:
                if requests := self._requests(set()):
                    self._try(requests, progress)
            finally:  # what went well before one fails need not be tried again
                self._remember(warn)

    def origin(self) -> str:
        """Where the figures of these runs come from, in words."""
        used = {*self.env_keys.values(), *map(self._agent_key, self.configs)}
        earlier = sorted(str(self.entries[key].get(DATE, "earlier")) for key in used - self.tried.keys())
        said = [f"{len(used & self.tried.keys())} measured now"] if used & self.tried.keys() else []
        if earlier:
            dates = earlier[0] if earlier[0] == earlier[-1] else f"{earlier[0]} to {earlier[-1]}"
            said.append(f"{len(earlier)} of {dates}")
        return f"{' and '.join(said)}, on this kind of node ({kinds.described(self.machine)}); in {self.files[-1]}"

    def _try(self, requests: list[Request], progress: Callable[[str], None]) -> None:
        """Make these trials and those that they make possible."""
        progress(self._said(requests))
        threads, asked = self.configs[0].threads, set[str]()
        with Trials(threads, together=threads == 1 and cores().count > 1) as trials:
            while requests or trials.waiting:
                for request in requests:
                    trials.ask(request)
                asked |= {request.key for request in requests}
                request, answer = trials.answer()
                self._learn(request, answer)
                requests = self._requests(asked)
                progress(self._said([*trials.waiting, *requests]))

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
        self.tried[request.key] = {**answer, DATE: time.strftime("%Y-%m-%d")}
        if request.env is None:
            self.envs[request.key] = EnvCost.from_dict(answer)
        else:
            self.agents[request.key] = AgentCost(**answer)

    def _remember(self, warn: Callable[[str], None]) -> None:
        """In every file what these runs need and it lacks."""
        used = {*self.env_keys.values(), *self._agent_keys.values()}
        known = {key: entry for key, entry in (self.entries | self.tried).items() if key in used}
        self.entries |= self.tried
        for file in self.files:
            lacking = {key: entry for key, entry in known.items() if recall(file).get(key) != entry}
            try:
                if lacking:
                    remember(file, lacking)
            except OSError as error:
                warn(
                    f"costs are measured anew each time: cannot write {file} ({error.strerror}); make its folder "
                    "writable, or set XDG_CACHE_HOME"
                )

    def _agent_key(self, config: RunConfig) -> str:
        if config.run_id not in self._agent_keys:
            self._agent_keys[config.run_id] = kinds.agent_key(config, self.env(config), self.machine)
        return self._agent_keys[config.run_id]

    def _said(self, waiting: Sequence[Request]) -> str:
        """How far the trials are, and which is next."""
        left = len(set(self.env_keys.values()) - self.envs.keys()) + self._agents_left()
        text = f"measuring costs on this machine, once: {len(self.tried)} of {len(self.tried) + left}"
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
            found[key] = read({name: value for name, value in entry.items() if name != DATE})
    return found
