"""What the store already has of the runs that an experiment asks for, and what is left to do."""

from __future__ import annotations

import os
import time
from dataclasses import MISSING, dataclass, fields, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covr_bench.config.run_config import RunConfig, differences
from covr_bench.kit.code import is_path
from covr_bench.kit.errors import UserError
from covr_bench.run.writers import Writers
from results import provenance
from results.cancel import is_cancelled, uncancel
from results.code_identity import code_of
from results.layout import PROVENANCE_FILE, StoreError, run_folder
from results.lock import writer_pid
from results.lost import lost_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from covr_bench.kit.api import AgentSpec


_ANEW = "Or give --restart to begin the run anew; its folder is kept in replaced/."


class State(str, Enum):
    """What the store has of a run."""

    TO_DO = "to do"
    TO_CONTINUE = "to continue"  # it has a checkpoint
    FAILED_BEFORE = "failed before"
    UNREADABLE = "left out"  # its record is damaged, or of a newer version, or its rows are gone
    DONE = "done"

    @property
    def is_left(self) -> bool:
        """Whether there is something to run."""
        return self not in (State.UNREADABLE, State.DONE)


@dataclass(frozen=True)
class Planned:
    """A run of the plan.

    Attributes:
        changed_code: Whether the store has it from other code than the present one.
        replaced: Where its stored folder goes when it begins anew; None if it does not.
        problem: Why it is left out, and what mends it.
        is_written: Whether a process writes it now, where that had to be known.
    """

    config: RunConfig
    state: State
    changed_code: bool = False
    replaced: Path | None = None
    problem: str = ""
    is_written: bool = False


@dataclass(frozen=True)
class Plan:
    """All runs of a command, in the order of its options."""

    runs: tuple[Planned, ...]

    @property
    def todo(self) -> list[RunConfig]:
        """What is left to run."""
        return [each.config for each in self.runs if each.state.is_left]

    @property
    def left_out(self) -> dict[str, str]:
        """By id of a run that cannot be told done from not done, why, and what mends it."""
        return {each.config.run_id: each.problem for each in self.runs if each.state is State.UNREADABLE}

    @property
    def run_ids(self) -> list[str]:
        """Ids of all runs, those that are done too."""
        return [each.config.run_id for each in self.runs]

    def describe(self) -> str:
        """How many runs are in which state, such as `2 done, 4 to do`."""
        states = [each.state.value for each in self.runs]
        return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))

    def remarks(self) -> list[str]:
        """What a reader of the plan must know, a sentence each."""
        done = [each.config.run_id for each in self.runs if each.state is State.DONE and each.changed_code]
        going_on = [each.config.run_id for each in self.runs if each.state.is_left and each.changed_code]
        moved = [each.config.run_id for each in self.runs if each.replaced]
        left_out = [f"{run_id} is left out: {problem}" for run_id, problem in self.left_out.items()]
        written = [each.config.run_id for each in self.runs if each.is_written]
        return left_out + [
            f"{text}: {', '.join(run_ids)}"
            for run_ids, text in (
                (done, "made with other code than now, and done (--restart runs them again)"),
                (going_on, "going on with changed code, which the rows will say"),
                (moved, "begins anew, the stored folder is kept in replaced/"),
                (written, "is being written now, and left to its process"),
            )
            if run_ids
        ]

    def prepare(self) -> None:
        """Make the folder of results, move runs that begin anew aside, and take away the marks of `covr-bench cancel`.

        Raises:
            UserError: A folder cannot be written to.
            StoreError: A mark cannot be removed.
        """
        for out in {each.config.out for each in self.runs}:
            _make_folder(Path(out))
        for each in self.runs:
            if each.state.is_left and not each.is_written:  # its writer is still to see that mark
                uncancel(each.config.out, each.config.run_id)
            if each.replaced:
                _move(each.config, each.replaced)


def plan(
    configs: Sequence[RunConfig],
    *,
    restart: bool = False,
    accept_changed_code: bool = False,
    keep_kernel: bool = False,
) -> Plan:
    """The runs with what the store already has of each.

    Args:
        configs: The runs.
        restart: Begin anew what is unfinished, or was made with other code.
        accept_changed_code: Go on with runs whose code has changed.
        keep_kernel: Go on with torch's convolution where a run began with it, though this machine has a faster one.

    Returns:
        All of them. One whose record cannot be read is left out of what is to do, unless it is to begin anew.

    Raises:
        UserError: A stored run of the same name has other settings, or an unfinished one other code: rows of both
            would be mixed.
    """
    planned = [_planned(config, restart, accept_changed_code) for config in configs]
    planned = _without_written(planned, accept_changed_code)
    return Plan(tuple(_as_it_began(each, keep_kernel) for each in planned))


def _without_written(planned: Sequence[Planned], accept_changed_code: bool) -> list[Planned]:
    """With runs that a process writes now left as they are: neither begun anew nor relieved of a `cancel`.

    Only where one of both is asked for are writers looked for: those of other machines take a minute to be told dead.
    """
    asked = [each for each in planned if each.replaced or is_cancelled(each.config.out, each.config.run_id)]
    by_out: dict[str, list[str]] = {}
    for each in asked:
        by_out.setdefault(each.config.out, []).append(each.config.run_id)
    writers = {out: Writers(Path(out), runs) for out, runs in by_out.items()}
    found = []
    for each in planned:
        if each in asked and writers[each.config.out].write(each.config.run_id):
            kept = _planned(each.config, False, accept_changed_code) if each.replaced else each
            found.append(replace(kept, replaced=None, is_written=True))
        else:
            found.append(each)
    return found


def _as_it_began(planned: Planned, keep_kernel: bool) -> Planned:
    """A run that goes on, with the threads and the kernel it began with: others are the same only up to rounding."""
    config = planned.config
    if planned.state is not State.TO_CONTINUE:
        return planned
    began = provenance.read(run_folder(config.out, config.run_id) / PROVENANCE_FILE)["config"]
    kernel = "torch" if keep_kernel and began.get("conv_kernel", "torch") == "torch" else config.conv_kernel
    return replace(planned, config=replace(config, threads=began.get("threads", config.threads), conv_kernel=kernel))


def _planned(config: RunConfig, restart: bool, accept: bool) -> Planned:
    folder = run_folder(config.out, config.run_id)
    if not os.path.lexists(folder / PROVENANCE_FILE):
        return _without_record(config, folder, restart)
    try:
        record = provenance.read(folder / PROVENANCE_FILE)
        RunConfig.from_dict(record["config"])
    except (StoreError, UserError) as error:
        if restart:
            return Planned(config, State.TO_DO, replaced=_replaced(config))
        return Planned(config, State.UNREADABLE, problem=f"{error} {_ANEW}")
    state, changed = _state(folder, record), _changed_code(record, config)
    lost = lost_rows(folder) if state is State.DONE else ""
    state = State.UNREADABLE if lost else state
    if restart and (changed or state is not State.DONE):
        return Planned(config, State.TO_DO, replaced=_replaced(config))
    if lost:
        return Planned(config, state, problem=f"{lost}. {_ANEW}")
    differing = differences(record["config"], config.as_dict())
    if differing and (differing := differences(_with_later_settings(record["config"], config), config.as_dict())):
        raise UserError(
            f"run {config.run_id} exists in {config.out} with other settings:\n  "
            + "\n  ".join(differing)
            + f"\nIts rows and new ones must not be mixed: give another --out, or delete {folder}"
        )
    if changed and state is State.TO_CONTINUE and not accept:
        raise UserError(
            f"run {config.run_id} in {config.out} is unfinished, and {changed} since. Rows of both programs would make "
            "one curve. Give --restart to begin it anew (its folder is kept aside), or --accept-changed-code to go on, "
            "which its rows will say"
        )
    if changed and state in (State.TO_DO, State.FAILED_BEFORE):  # no row of it will count: nothing is spliced
        return Planned(config, State.TO_DO, replaced=_replaced(config))
    return Planned(config, state, changed_code=bool(changed))


def _without_record(config: RunConfig, folder: Path, restart: bool) -> Planned:
    """A new run; or one whose record was lost, and with it which settings and code its checkpoint is of."""
    if not _has_checkpoint(folder):
        return Planned(config, State.TO_DO)
    if restart:
        return Planned(config, State.TO_DO, replaced=_replaced(config))
    problem = (
        f"{folder / PROVENANCE_FILE} is gone, and nothing else tells which settings and code its checkpoint is of: "
        f"restore the file from a copy. {_ANEW}"
    )
    return Planned(config, State.UNREADABLE, problem=problem)


def _has_checkpoint(folder: Path) -> bool:
    return any((folder / "checkpoint").glob("[0-9]*"))


def _state(folder: Path, record: Mapping[str, Any]) -> State:
    if record["status"] == "finished":
        return State.DONE
    if _has_checkpoint(folder):
        return State.TO_CONTINUE
    return State.FAILED_BEFORE if record["status"] == "failed" else State.TO_DO


def _changed_code(record: Mapping[str, Any], config: RunConfig) -> str:
    """What of the code differs from the stored run's, in words; empty if nothing does."""
    stored, refs = code_of(record), {"agent": config.agent, "suite": config.suite}
    changed = [
        f"the code of its {what} ({refs.get(what) or config.agent_config[what]}) has changed"
        for what, code in config.code.items()
        if stored.get(what) and code and stored[what] != code
    ]
    moved = [
        f"its {what} was {before} and is {now} now, and that they are the same was not recorded"
        for what, before, now in (
            ("agent", record["config"]["agent"], config.agent),
            ("suite", record["config"]["suite"], config.suite),
        )
        if not stored.get(what) and before != now and (is_path(before) or is_path(now))
    ]
    return " and ".join(changed + moved)


def _with_later_settings(stored: Mapping[str, Any], config: RunConfig) -> dict[str, Any]:
    """A stored configuration with the defaults of those of its agent's settings that are younger than it."""
    from covr_bench.config import registry

    spec, settings = registry.agent(config.agent), dict(stored["agent_config"])
    settings = _defaults(spec) | settings
    if spec.wraps:
        base = registry.agent(str(settings[spec.wraps]))
        settings["base_settings"] = _defaults(base) | settings.get("base_settings", {})
    return {**stored, "agent_config": settings}


def _defaults(spec: AgentSpec) -> dict[str, Any]:
    return {item.name: item.default for item in fields(spec.Config) if item.default is not MISSING}


def _replaced(config: RunConfig) -> Path:
    return Path(config.out) / "replaced" / time.strftime("%Y%m%d-%H%M%S") / config.run_id


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}; mend that folder, or give another --out") from error


def _move(config: RunConfig, aside: Path) -> None:
    """Keep a run's folder aside, but for one that another command has begun anew since the plan was made."""
    folder = run_folder(config.out, config.run_id)
    try:
        if writer_pid(config.out, config.run_id) is not None:
            return  # its worker is told who writes the run
        aside.parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder, aside)
    except OSError as error:
        raise UserError(f"cannot move {folder} to {aside}: {error.strerror or error}; mend that folder") from error
