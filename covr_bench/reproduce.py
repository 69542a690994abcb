"""The command that makes stored runs again, from their provenance. Imports no agent, hence no torch."""

from __future__ import annotations

import hashlib
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.remarks import ranges
from covr_bench import registry
from results.store import RunId

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Record = Mapping[str, Any]


@dataclass(frozen=True)
class Command:
    """text: what to type for these runs, empty where their records do not tell."""

    run_ids: tuple[str, ...]
    text: str


def commands(records: Mapping[str, Record]) -> list[Command]:
    """One command for all seeds that were run alike. records: by run id, of `results.provenance.statuses`."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for run_id, record in records.items():
        groups.setdefault(_arguments(RunId.parse(run_id), record) or ("", run_id), []).append(run_id)
    return [Command(tuple(run_ids), _text(arguments, run_ids)) for arguments, run_ids in groups.items()]


def _text(arguments: Sequence[str], run_ids: Iterable[str]) -> str:
    """The number of threads goes first: sums in another order round differently."""
    threads, *rest = arguments
    if not threads:
        return ""
    if rest[0] == "run":
        rest += ["--seeds", ranges(sorted(RunId.parse(run_id).seed for run_id in run_ids)).replace(" ", "")]
    return f"OMP_NUM_THREADS={threads} {shlex.join(['covr-bench', *rest])}"


def _arguments(run: RunId, record: Record) -> tuple[str, ...]:
    """Threads, then all arguments but the seeds; nothing where the settings cannot be told from what was typed."""
    config = record["config"]
    if "evaluated" in config:
        return _evaluation(record)
    typed = _typed(record["sessions"][0]["command"], "run")
    overrides = _overrides(typed, run.agent, config)
    text = _variant_text(overrides, run.agent, config)
    variant = next(
        (name for name in _variants(typed, run) if ",".join(filter(None, (name, text))) == run.variant), None
    )
    if variant is None:
        return ()
    budget, env_steps = _budget(typed, run.budget, config["env_steps"])
    arguments = ["run", "--suite", config["suite"], "--task", run.task, "--agent", config["agent"], "--budget", budget]
    arguments += ["--env-steps", str(env_steps)] if env_steps else []
    arguments += ["--variant", variant] if variant else []
    for key, value in overrides.items():
        arguments += ["--set", f"{key}={value}"]
    kernel = config.get("conv_kernel", "torch")
    arguments += ["--device", config["device"]] + (["--conv-kernel", kernel] if kernel != "torch" else [])
    return (str(config.get("threads", 1)), *arguments)


def _evaluation(record: Record) -> tuple[str, ...]:
    """Of a run that `covr-bench eval` made: the trained run, the task, the starts and the task's options as typed."""
    config = record["config"]
    arguments = ["eval", config["evaluated"]["run"], "--task", f"{config['suite']}/{config['task']}"]
    arguments += ["--episodes", str(config["eval_episodes"]), "--seed", str(config["starts_seed"])]
    settings = [text for option, text in _typed(record["sessions"][0]["command"], "eval") if option == "--set"]
    arguments += [word for text in settings for word in ("--set", text)]
    return (str(config.get("threads", 1)), *arguments, "--device", config["device"])


def _typed(command: str, verb: str) -> list[tuple[str, str]]:
    """Options and values of a `covr-bench VERB`, in order; none of anything else."""
    try:
        words = shlex.split(command)
    except ValueError:  # not a shell's words: the run was started from Python
        return []
    if words[:2] != ["covr-bench", verb]:
        return []
    pairs: list[tuple[str, str]] = []
    for word, following in zip(words[2:], [*words[3:], ""], strict=True):
        if word.startswith("--"):
            name, sign, value = word.partition("=")
            pairs.append((name, value if sign else following))
    return pairs


def _overrides(typed: Sequence[tuple[str, str]], agent: str, config: Mapping[str, Any]) -> dict[str, str]:
    """The typed settings that are this run's: the command may have named other agents too."""
    found = {}
    for text in _settings(typed):
        key, _, value = (part.strip() for part in text.partition("="))
        if _parts(key, agent, config) != ("", ""):
            found[key] = value
    if "vlm" in config["agent_config"] and any(option == "--vlm" for option, _ in typed):
        found["vlm"] = str(config["agent_config"]["vlm"])  # a folder by its whole path
    return found


def _settings(typed: Sequence[tuple[str, str]]) -> list[str]:
    """What `--set` was given, and the options that are short for it."""
    options = dict(typed)
    settings = [text for option, text in typed if option == "--set"]
    if "--carla-host" in options or "--carla-port" in options:
        settings.append(f"env.host={options.get('--carla-host', '127.0.0.1')}")
    return settings + ([f"env.port={options['--carla-port']}"] if "--carla-port" in options else [])


def _parts(key: str, agent: str, config: Mapping[str, Any]) -> tuple[str, str]:
    """Whose setting a key is, `env`, `own`, `base` or nobody's (""), and its name: as `covr_bench.config` has it."""
    own = config["agent_config"].keys() - {"base_settings"}
    base = config["agent_config"].get("base_settings", {}).keys()
    prefix, _, name = key.rpartition(".")
    if prefix == "env" and name in config["env"]:
        return "env", key
    if prefix in ("", agent) and name in own:
        return "own", name
    if name in base and prefix in ("", agent, config["agent_config"].get("base")):
        return "base", name
    return "", ""


def _variant_text(overrides: Mapping[str, str], agent: str, config: Mapping[str, Any]) -> str:
    """What `covr_bench.config.variant_name` calls a run with these overrides."""
    mine: dict[str, str] = {}
    for key in sorted(overrides, key=lambda key: "." in key):  # a key with an agent's name goes before one without
        mine[_parts(key, agent, config)[1]] = overrides[key]
    text = ",".join(f"{name}={value}" for name, value in sorted(mine.items()))
    if not text or (len(text) <= 60 and re.fullmatch(r"[\w.,=+-]+", text)):
        return text
    return "set-" + hashlib.sha256(text.encode()).hexdigest()[:8]


def _variants(typed: Sequence[tuple[str, str]], run: RunId) -> list[str]:
    """The suite's variants of the agent that it may be, by name."""
    suite = registry.suites().get(run.suite)
    known = [variant.name for variant in suite.variants if variant.agent == run.agent] if suite else []
    return ["", *known, *(value for option, value in typed if option == "--variant")]


def _budget(typed: Sequence[tuple[str, str]], name: str, env_steps: int) -> tuple[str, int]:
    """`--budget` and, if it was shortened or lengthened, `--env-steps`, else 0. A budget's file as it was typed."""
    changed = name.endswith(f"-{env_steps}")
    file = next((value for option, value in typed if option == "--budget" and value.endswith(".py")), "")
    return file or (name.removesuffix(f"-{env_steps}") if changed else name), env_steps if changed else 0
