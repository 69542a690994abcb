"""The command that makes stored runs again, from their provenance. Imports no agent, hence no torch."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from results import earlier
from results.store import RunId

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Record = Mapping[str, Any]


@dataclass(frozen=True)
class Command:
    """A command for some runs. text: empty if their records do not tell it."""

    run_ids: tuple[str, ...]
    text: str


def commands(records: Mapping[str, Record]) -> list[Command]:
    """The commands that make stored runs again.

    Args:
        records: By run id, from `results.provenance.statuses`.

    Returns:
        One command for all seeds with equal settings.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for run_id, record in records.items():
        try:
            arguments = _arguments(RunId.parse(run_id), record)
        except KeyError:  # a setting that the command needs is not recorded
            arguments = ()
        groups.setdefault(arguments or ("", run_id), []).append(run_id)
    return [Command(tuple(run_ids), _text(arguments, run_ids)) for arguments, run_ids in groups.items()]


def _text(arguments: Sequence[str], run_ids: Iterable[str]) -> str:
    """A shell line. The number of threads stands first: sums in another order round differently."""
    threads, *rest = arguments
    if not threads:
        return ""
    if rest[0] == "run":
        from analysis.rows.remarks import ranges

        rest += ["--seeds", ranges(sorted(RunId.parse(run_id).seed for run_id in run_ids)).replace(" ", "")]
    return f"OMP_NUM_THREADS={threads} {shlex.join(['covr-bench', *rest])}"


def _arguments(run: RunId, record: Record) -> tuple[str, ...]:
    """Threads, then all arguments but the seeds; empty for a run that no command made."""
    config = record["config"]
    if "evaluated" in config:
        return _evaluation(record)
    typed = _typed(record["sessions"][0]["command"], "run")
    if not typed or "overrides" not in config:
        return ()
    budget, env_steps = _budget(typed, earlier.budget(str(run), config), config["env_steps"])
    arguments = ["run", "--suite", config["suite"], "--task", run.task, "--agent", config["agent"], "--budget", budget]
    arguments += ["--env-steps", str(env_steps)] if env_steps else []
    arguments += ["--variant", config["variant"]] if config["variant"] else []
    for key, value in config["overrides"].items():
        arguments += ["--set", f"{key}={value}"]
    kernel = config.get("conv_kernel", "torch")
    arguments += ["--device", config["device"]] + (["--conv-kernel", kernel] if kernel != "torch" else [])
    return (str(config.get("threads", 1)), *arguments)


def _evaluation(record: Record) -> tuple[str, ...]:
    """Arguments of `covr-bench eval`: the trained run, the task, the first episodes' seed, the task's options."""
    config = record["config"]
    arguments = ["eval", config["evaluated"]["run"], "--task", f"{config['suite']}/{config['task']}"]
    arguments += ["--episodes", str(config["eval_episodes"]), "--seed", str(config["starts_seed"])]
    settings = [text for option, text in _typed(record["sessions"][0]["command"], "eval") if option == "--set"]
    arguments += [word for text in settings for word in ("--set", text)]
    return (str(config.get("threads", 1)), *arguments, "--device", config["device"])


@lru_cache(maxsize=1024)  # one command made many runs
def _typed(command: str, verb: str) -> tuple[tuple[str, str], ...]:
    """Options and values of a `covr-bench VERB`, in order; none of another command."""
    try:
        words = shlex.split(command)
    except ValueError:  # not a shell line: the run was started from Python
        return ()
    if words[:2] != ["covr-bench", verb]:
        return ()
    pairs: list[tuple[str, str]] = []
    for word, following in zip(words[2:], [*words[3:], ""], strict=True):
        if word.startswith("--"):
            name, sign, value = word.partition("=")
            pairs.append((name, value if sign else following))
    return tuple(pairs)


def _budget(typed: Sequence[tuple[str, str]], name: str, env_steps: int) -> tuple[str, int]:
    """Value of `--budget`, a budget's file as typed, and of `--env-steps`, 0 if the budget's length was not changed."""
    changed = name.endswith(f"-{env_steps}")
    file = next((value for option, value in typed if option == "--budget" and value.endswith(".py")), "")
    return file or (name.removesuffix(f"-{env_steps}") if changed else name), env_steps if changed else 0
