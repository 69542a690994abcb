"""What a request means: a suite, a budget, and each agent on each task with its settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from covr_bench.config import registry
from covr_bench.config.run_config import RunConfig
from covr_bench.config.settings import base_of, check_names, concerning, resolve, variant_name
from covr_bench.kit.code import code_as_imported, code_hash, is_path
from covr_bench.kit.errors import UserError, unknown
from results.layout import RunId
from suites.base import Variant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from covr_bench.config.request import Request
    from covr_bench.config.settings import Settings
    from covr_bench.kit.api import AgentSpec
    from suites.base import Budget, Suite, Task

UNNAMED = "-"  # what lists and `--variant` call the agent as published


@dataclass(frozen=True)
class Contender:
    """An agent as the suite runs it. ref: what the user gave."""

    ref: str
    spec: AgentSpec
    variant: Variant


@dataclass(frozen=True)
class Cell:
    """One agent on one task, for every seed alike. code: hashes of what is run, see `RunConfig.code`."""

    contender: Contender
    task: Task
    settings: Settings
    code: Mapping[str, str]

    @property
    def base(self) -> AgentSpec | None:
        """The base that the agent wraps here."""
        wraps = self.contender.spec.wraps
        return registry.agent(self.settings.agent[wraps]) if wraps else None


@dataclass(frozen=True)
class Experiment:
    """Everything a request names, found and checked; no run is looked up or started yet.

    Attributes:
        request: As it was asked, files by their whole paths.
        suite_code: The hash of the suite's source where that is a file, else empty: ours have a version.
        settings: What the user set, `--vlm` among them.
        cells: Of each task in turn, the line-up.
    """

    request: Request
    suite: Suite
    suite_code: str
    budget: Budget
    settings: Mapping[str, str]
    cells: tuple[Cell, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the runs: the request's, else the budget's."""
        return self.request.seeds or self.budget.seeds

    def runs(self, *, device: str, threads: int, conv_kernel: str) -> list[RunConfig]:
        """Every run, seeds outermost so that each task has one seed before any has two. Raises UserError."""
        shared: dict[str, Any] = {"device": device, "threads": threads, "conv_kernel": conv_kernel}
        return [self._run(cell, seed, shared) for seed in self.seeds for cell in self.cells]

    def _run(self, cell: Cell, seed: int, shared: Mapping[str, Any]) -> RunConfig:
        contender, task, budget, request = cell.contender, cell.task, self.budget, self.request
        chosen = concerning(contender.spec, cell.base, self.settings)
        alone = replace(
            request,
            agents=(contender.ref,),
            tasks=(task.name,),
            variants=(contender.variant.name or UNNAMED,) if self._varies(contender) else (),
            seeds=(seed,),
            settings={key: value for key, value in request.settings.items() if key in chosen},
            vlm=request.vlm if contender.spec.needs_vlm else "",
            allow_silent_vlm=request.allow_silent_vlm and contender.spec.needs_vlm,
            restart=False,  # of this command: the same request goes on with the run
            accept_changed_code=False,
        )
        return RunConfig(
            run_id=self._run_id(cell, seed),
            suite=request.suite,
            suite_version=self.suite.version,
            task=task.name,
            agent=contender.ref,
            seed=seed,
            env_steps=budget.env_steps,
            eval_every=budget.eval_every,
            eval_episodes=budget.eval_episodes,
            action_repeat=task.repeat(cell.settings.env),
            variant=contender.variant.name,
            overrides=chosen,
            agent_config=dict(cell.settings.agent),
            env=dict(cell.settings.env),
            code={**cell.code, "suite": self.suite_code},
            checkpoint_every_s=request.checkpoint_every,
            options=alone.as_dict(),
            out=request.out,
            **shared,
        )

    def _varies(self, contender: Contender) -> bool:
        """Whether the suite runs the agent in several ways."""
        return any(variant.agent == contender.spec.name for variant in self.suite.variants)

    def _run_id(self, cell: Cell, seed: int) -> str:
        spec, variant = cell.contender.spec, cell.contender.variant
        called = ",".join(filter(None, (variant.name, variant_name(spec, cell.base, self.settings))))
        try:
            return str(RunId(self.suite.name, self.budget.name, cell.task.name, spec.name, called, seed))
        except ValueError as error:
            raise UserError(str(error)) from error


def design(request: Request) -> Experiment:
    """What a request means. Each agent is imported once.

    Raises:
        UserError: An unknown suite, agent, task, variant, budget or setting, a bad value, or two of one name.
    """
    suite = registry.suite(request.suite)
    budget = registry.budget(suite, request.budget)
    refs = request.agents or suite.agents
    if not refs:
        raise UserError(f"suite {suite.name} has no agents that run when none is asked for; give --agent")
    agents = {ref: registry.agent(ref) for ref in refs}
    return compose(request, suite, budget, agents)


def compose(request: Request, suite: Suite, budget: Budget, agents: Mapping[str, AgentSpec]) -> Experiment:
    """What a request means, with all that it names found.

    Args:
        request: The rest of what was asked.
        suite, budget: As found; `request.env_steps` shortens or lengthens the budget.
        agents: By what the user gave.

    Raises:
        UserError: An unknown task, variant or setting, a bad value, or two agents of one name.
    """
    budget = _of_length(budget, request.env_steps)
    tasks = _tasks(suite, request.tasks)
    settings = request.settings | _vlm(request, agents)
    _check_agent_names(agents)
    line_up = list(_line_up(suite, agents, request.variants))
    run = [(each.spec, base_of(each.spec, budget.overrides, each.variant.settings, settings)) for each in line_up]
    check_names("setting", settings, run, tasks)
    for layer in (budget.overrides, budget.stand_in):
        check_names(f"setting of budget {budget.name}", layer, run, suite.tasks, others=True)
    for contender, with_base in zip(line_up, run, strict=True):
        variant = contender.variant
        check_names(f"setting of variant {variant.name}", variant.settings, [with_base], tasks)
    return Experiment(
        request=request,
        suite=suite,
        suite_code=code_of_suite(request.suite),
        budget=budget,
        settings=settings,
        cells=tuple(cell for task in tasks for cell in _cells(task, line_up, budget, settings)),
    )


def _cells(task: Task, line_up: list[Contender], budget: Budget, settings: Mapping[str, str]) -> Iterator[Cell]:
    """Each contender on a task; a variant that changes nothing there is the same run as an earlier one."""
    seen: list[tuple[str, Settings]] = []
    for contender in line_up:
        resolved = resolve(contender.spec, task, budget, contender.variant.settings, settings)
        if (contender.ref, resolved) not in seen:
            seen.append((contender.ref, resolved))
            yield Cell(contender, task, resolved, code_of_agent(contender.ref, contender.spec, resolved.agent))


def code_of_agent(ref: str, spec: AgentSpec, settings: Mapping[str, Any]) -> dict[str, str]:
    """Hashes of an agent's source, of its base's, and of its VLM and its tuner where these are files or folders.

    Args:
        ref, spec: The agent, as the user gave it, and as found.
        settings: Its own.
    """
    code = {"agent": code_as_imported(ref, registry.module_of(ref))}
    if spec.wraps:
        base = settings[spec.wraps]
        code["base"] = code_as_imported(base, registry.module_of(base))
    for model in ("vlm", "tuner"):
        if found := _code_of_vlm(str(settings.get(model, ""))):
            code[model] = found
    return code


def _code_of_vlm(ref: str) -> str:
    if not ref or is_path(ref):
        return code_hash(ref, "")
    from covr.vlm.weights import checkpoint_hash

    return checkpoint_hash(ref)


def code_of_suite(ref: str) -> str:
    """The hash of a suite's source where it is a user's file, else empty."""
    return code_hash(ref, "") if is_path(ref) else ""


def _of_length(budget: Budget, env_steps: int | None) -> Budget:
    if env_steps is None:
        return budget
    every = min(budget.eval_every, env_steps)
    return replace(budget, name=f"{budget.name}-{env_steps}", env_steps=env_steps, eval_every=every)


def _tasks(suite: Suite, names: tuple[str, ...]) -> list[Task]:
    valid = [task.name for task in suite.tasks]
    for name in names:
        if name not in valid:
            raise unknown(f"task of suite {suite.name}", name, valid)
    wanted = names or suite.default_tasks or valid
    return [task for task in suite.tasks if task.name in wanted]


def _vlm(request: Request, agents: Mapping[str, AgentSpec]) -> dict[str, str]:
    """The options about a VLM as settings. Raises UserError if none of the agents asks a VLM."""
    given = {"vlm": request.vlm} if request.vlm else {}
    given |= {"vlm_silent": "allow"} if request.allow_silent_vlm else {}
    if both := [key for key in given if request.settings.get(key, given[key]) != given[key]]:
        option = "--vlm" if both[0] == "vlm" else "--allow-silent-vlm"
        raise UserError(f"{option} and --set {both[0]}={request.settings[both[0]]} contradict each other: give one")
    if given and not any(spec.needs_vlm for spec in agents.values()):
        option = f"--vlm {request.vlm}" if request.vlm else "--allow-silent-vlm"
        raise UserError(f"{option}: none of the agents {', '.join(agents)} asks a VLM; add --agent covr")
    return given


def _check_agent_names(agents: Mapping[str, AgentSpec]) -> None:
    refs: dict[str, str] = {}
    for ref, spec in agents.items():
        if spec.name in refs:
            raise UserError(f"{refs[spec.name]} and {ref} are both called {spec.name!r}; give one another name")
        refs[spec.name] = ref
    known = [*registry.agent_names(), *refs]
    for spec in agents.values():
        if spec.follows and spec.follows not in known:
            raise unknown(f"agent that {spec.name} follows", spec.follows, known)


def _line_up(suite: Suite, agents: Mapping[str, AgentSpec], names: tuple[str, ...]) -> Iterator[Contender]:
    """Every agent as the suite runs it. Raises UserError for an unknown variant."""
    theirs = {
        (variant.name or UNNAMED)
        for variant in suite.variants
        if variant.agent in [spec.name for spec in agents.values()]
    }
    for name in names:
        if name not in theirs:
            raise unknown(f"variant of {', '.join(agents)} in suite {suite.name}", name, theirs)
    for ref, spec in agents.items():
        mine = [variant for variant in suite.variants if variant.agent == spec.name] or [Variant(spec.name, "")]
        yield from (
            Contender(ref, spec, variant) for variant in mine if not names or (variant.name or UNNAMED) in names
        )
