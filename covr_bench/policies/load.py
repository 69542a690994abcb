"""Trained policies out of the store: which run is meant, its newest weights, and a task for it to act on.

No VLM is loaded for an agent that was only guided by one.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covr_bench.config import registry
from covr_bench.config.request import FILES, parse_pairs
from covr_bench.config.run_config import RunConfig
from covr_bench.config.settings import of_env
from covr_bench.kit.api import Context
from covr_bench.kit.code import is_path
from covr_bench.kit.errors import UserError, unknown
from covr_bench.kit.seeds import derive_seed
from covr_bench.policies.hub import fetch, on_hub
from covr_bench.run.machine import rendering
from results import provenance
from results.layout import PROVENANCE_FILE, RUNS, recorded, run_folder
from results.shape import completed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from covr_bench.kit.api import Agent
    from covr_bench.policies.aside import Aside
    from covr_bench.run.checkpoint import Saved
    from suites.base import Suite, Task, TaskEnv

AGENT_FILE = "agent.py"  # of a published policy whose agent is its author's
SEEN = ("image_size", "frame_stack")  # options of every task that decide what a policy sees


def find_run(out: Path, text: str) -> Path:
    """The folder of a trained run: `text` is its id, its folder, a part of the id that no other has, or `hf:USER/NAME`.

    Runs that `covr-bench eval` made have no weights and are passed over. Raises UserError, or StoreError where the
    run's record is damaged.
    """
    if name := on_hub(text):
        return fetch(name)
    folder = Path(os.path.expanduser(text))
    if not (folder / PROVENANCE_FILE).is_file():
        name = text.removeprefix(f"{out}/").removeprefix("runs/").strip("/")
        found = {run: record for run, record in provenance.statuses(out).items() if "evaluated" not in record["config"]}
        matching = [name] if name in found else _parts(name, found)
        if not matching:
            _complain_of_records(out, name)
            raise unknown(f"trained run in {out}", text, found)
        if len(matching) > 1:
            raise UserError(f"{text!r} is part of {len(matching)} runs; say more: {', '.join(matching)}")
        folder = run_folder(out, matching[0])
    if "evaluated" in provenance.read(folder / PROVENANCE_FILE)["config"]:
        raise UserError(f"{folder} holds an evaluation and no weights; give the run that was evaluated")
    return folder


def _parts(name: str, runs: Iterable[str]) -> list[str]:
    """Runs that it is a part of: of whole names between slashes where there are some. A seed is always whole."""
    whole = [run for run in runs if f"/{name}/" in f"/{run}/"]
    return whole or [run for run in runs if name in run and not name.rpartition("/")[2].isdigit()]


def _complain_of_records(out: Path, name: str) -> None:
    """Raises StoreError if runs of that name are there and the record of the first cannot be read."""
    runs = recorded(out)
    for run in [run for run in runs if run == name] or [run for run in runs if name in run]:
        provenance.read(run_folder(out, run) / PROVENANCE_FILE)


@dataclass(frozen=True)
class Target:
    """A task for a trained policy. ref: its suite as the user gave it. env: options given to its `make`.

    changes: those of the options that the user set apart from the run's own. dropped: options of the run that the task
    does not have.
    """

    ref: str
    suite: Suite
    task: Task
    env: Mapping[str, Any]
    changes: Mapping[str, Any]
    dropped: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.suite.name}/{self.task.name}"

    @property
    def action_repeat(self) -> int:
        """Control steps per agent step, with these options."""
        return self.task.repeat(self.env)


@dataclass(frozen=True)
class Acting:
    """A trained policy before a task it fits. config: of its run. saved: where the weights come from.

    aside: within it the agent acts.
    """

    agent: Agent
    env: TaskEnv
    target: Target
    config: RunConfig
    saved: Saved
    record: Mapping[str, Any]  # the run's provenance
    aside: Aside

    @property
    def env_steps(self) -> int:
        """How long the policy was trained."""
        return int(self.saved.state["env_steps"])


@contextmanager
def acting(
    folder: Path, task: str = "", overrides: Sequence[str] = (), *, device: str = "cpu", trust_code: bool = False
) -> Iterator[Acting]:
    """As `loaded`, with the policy's own random states and number of threads in force within the block."""
    with loaded(folder, task, overrides, device=device, trust_code=trust_code) as policy, policy.aside.inside():
        yield policy


@contextmanager
def loaded(
    folder: Path, task: str = "", overrides: Sequence[str] = (), *, device: str = "cpu", trust_code: bool = False
) -> Iterator[Acting]:
    """The newest policy of the run in `folder`, and an environment of `task` that is closed at the end.

    The caller's random states and number of threads stay as they are: whoever lets the policy act does it inside its
    `aside`.
    task: `SUITE/TASK`, a task of the run's suite, or empty for the run's own. overrides: `env.KEY=VALUE`. trust_code:
    run the agent's own code that a published policy brings along.
    Raises UserError where the run, its weights or its files are gone, and where the policy does not fit the task.
    """
    from covr_bench.policies.aside import Aside
    from covr_bench.run.check import made
    from covr_bench.run.checkpoint import load_saved
    from covr_bench.run.trained import trained_agent

    record = completed(provenance.read(folder / PROVENANCE_FILE))
    config = RunConfig.from_dict(record["config"])
    saved = load_saved(folder / "checkpoint")
    if saved is None:
        raise UserError(
            f"run {config.run_id} has no checkpoint left in {folder / 'checkpoint'}, so its policy is lost; "
            f"it was trained by: {record['sessions'][-1]['command']}"
        )
    for ref in (config.suite, *(str(config.agent_config.get(what, "")) for what in FILES)):
        _check_trusted(ref, folder, trust_code)
    aside = Aside(device)
    with ExitStack() as stack:
        with aside.inside():
            source = registry.task(config.task, config.suite)
            target = _target(config, source, task, overrides)
            _choose_gl(source[2], target.task)
            config = _with_agent(config, folder, trust_code)
            trained = None if target.task is source[2] and not target.changes else _trained_spaces(config, source[2])
            env = made(target.suite.name, target.task, target.env, derive_seed(config.seed, "eval_env"))
            stack.callback(env.close)
            seen = _spaces(env)
            _check_spaces(config, trained or seen, target, seen)
            context = Context(
                obs_shape=seen.obs,
                action_dim=seen.action[0],
                action_repeat=target.action_repeat,
                total_env_steps=config.env_steps,
                device=device,
                seed=derive_seed(config.seed, "agent"),
                instruction=target.task.instruction or source[2].instruction,
            )
            aside.start(context.seed, config.threads)
            agent = trained_agent(config, saved, context, record["sessions"][-1]["git_sha"])
        yield Acting(agent, env, target, config, saved, record, aside)


def _target(config: RunConfig, source: tuple[str, Suite, Task], text: str, overrides: Sequence[str]) -> Target:
    """The task with the options of the run that it has too, and what the user sets apart from them."""
    ref, suite, task = registry.task(text, config.suite) if text else source
    wanted = parse_pairs(overrides)
    if others := [key for key in wanted if not key.startswith("env.")]:
        raise UserError(f"--set {others[0]}: a trained policy keeps its settings; only env.KEY can be set here")
    known, own = task.options, source[2].options
    theirs = {name: own[name] for name in SEEN if name in own} | dict(config.env)
    env = {name: value for name, value in theirs.items() if name in known}
    before = known | env
    changes = {name: value for name, value in of_env(task, wanted).items() if value != before[name]}
    return Target(ref, suite, task, env | changes, changes, tuple(name for name in theirs if name not in known))


def _choose_gl(source: Task, target: Task) -> None:
    """Of the task a policy was trained on only the spaces are looked at: nothing is drawn."""
    if target.needs_gl:
        rendering()
    elif source.needs_gl:
        os.environ.setdefault("MUJOCO_GL", "disabled")


@dataclass(frozen=True)
class Spaces:
    obs: tuple[int, ...]
    action: tuple[int, ...]

    def __str__(self) -> str:
        return f"observations {self.obs} and actions {self.action}"


def _spaces(env: TaskEnv) -> Spaces:
    return Spaces(env.observation_space.shape or (), env.action_space.shape or ())


def _trained_spaces(config: RunConfig, task: Task) -> Spaces:
    env = task.make(derive_seed(config.seed, "eval_env"), **config.env)
    try:
        return _spaces(env)
    finally:
        env.close()


def _check_spaces(config: RunConfig, trained: Spaces, target: Target, offered: Spaces) -> None:
    if trained != offered:
        raise UserError(
            f"run {config.run_id} cannot act on {target.name}: its policy was trained on {config.task} with {trained}, "
            f"and {target.name} has {offered}. Choose a task of the same shapes"
        )


def _with_agent(config: RunConfig, folder: Path, trust_code: bool) -> RunConfig:
    """The configuration with its agent's file where it is now. Raises UserError if it is gone, or not trusted."""
    published = folder / AGENT_FILE
    if not config.agent.endswith(".py"):
        return config
    if published.is_file():
        if not trust_code:
            raise UserError(
                f"this policy brings the code of its agent along, {published}: read it, then give --trust-code, or "
                "trust_code=True in Python"
            )
        return replace(config, agent=str(published))
    _check_trusted(config.agent, folder, trust_code)
    if not Path(config.agent).is_file():
        raise UserError(f"run {config.run_id} was trained with the agent in {config.agent}, and that file is gone")
    return config


def _check_trusted(ref: str, folder: Path, trust_code: bool) -> None:
    """Raises UserError for a file that may have come with a run: one in its store's `runs`, or any of a published run.

    A run that was trained here names files of this machine's user; a record that was fetched can name anything.
    """
    if not is_path(ref) or trust_code:
        return
    file, folder = Path(ref).expanduser().resolve(), folder.resolve()
    runs = next((parent for parent in folder.parents if parent.name == RUNS), None)
    if file.is_file() and (runs is None or file.is_relative_to(runs)):
        raise UserError(
            f"{folder} names code that may have come with it, {file}: read it, then give --trust-code, or "
            "trust_code=True in Python"
        )
