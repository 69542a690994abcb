"""The contract of environments, tried before anything is launched."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from covr_bench.kit.errors import UserError
from suites.base import SimulatorError
from suites.contract.check import check
from suites.contract.trial import raised

if TYPE_CHECKING:
    from collections.abc import Mapping

    from suites.base import Task, TaskEnv


def checked_env(suite: str, task: Task, options: Mapping[str, Any]) -> TaskEnv:
    """An environment of a task, within an episode, after its spaces and first steps were found to be in order.

    Args:
        suite: The suite's name or file, for the message.
        task: Of that suite.
        options: Of the task's `make`.

    Raises:
        UserError: It cannot be made, or breaks the contract; a sentence for each problem, with its mend.
    """
    env = made(suite, task, options)
    if broken := check(env, task, options):
        with suppress(Exception):  # what is told is why it cannot be used
            env.close()
        problems = [f"\n  {problem}" for finding in broken for problem in finding.problems]
        raise UserError(
            f"task {task.name} of suite {suite} cannot be trained on:{''.join(problems)}\n"
            f"`covr-bench check-env {suite}/{task.name}` tries all that an environment promises."
        )
    return env


def made(suite: str, task: Task, options: Mapping[str, Any], seed: int = 0) -> TaskEnv:
    """The environment of a task. Raises UserError that says why there is none."""
    try:
        return task.make(seed, **options)
    except (ImportError, SimulatorError) as error:  # an optional simulator; the message says how to add or start it
        raise UserError(str(error)) from error
    except ValueError as error:
        raise UserError(f"task {task.name} does not take the settings {dict(options)}: {error}") from error
    except Exception as error:
        raise UserError(
            f"task {task.name} of suite {suite} cannot be made: make(seed={seed}) raises {raised(error)}; mend its make"
        ) from error
