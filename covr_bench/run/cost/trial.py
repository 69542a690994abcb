"""The process that tries environments and agents.

Reads one request a line from standard input and answers each with one line of JSON: what was measured, or
`{"error": text}`.
"""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

from covr_bench.config.run_config import RunConfig
from covr_bench.kit.errors import UserError
from covr_bench.run.cost.agent_trial import try_agent
from covr_bench.run.cost.env_trial import try_env
from covr_bench.run.cost.measured import AgentCost, EnvCost

if TYPE_CHECKING:
    from collections.abc import Mapping


def main(channel: TextIO) -> None:
    """Answer requests until there are no more."""
    for line in sys.stdin:
        request = json.loads(line)
        answer = _answer(RunConfig.from_dict(request["config"]), request["env"])
        print(json.dumps(answer), file=channel, flush=True)


def _answer(config: RunConfig, env: Mapping[str, Any] | None) -> dict[str, Any]:
    """env: that of an agent's trial; None for a trial of the environment."""
    try:
        return asdict(_tried(config, env))
    except UserError as error:
        return {"error": str(error)}
    except Exception as error:  # raised by the code of an agent or a suite: its author needs the place
        return {"error": _failure(config, error, "task" if env is None else "agent")}


def _tried(config: RunConfig, env: Mapping[str, Any] | None) -> EnvCost | AgentCost:
    return try_env(config) if env is None else try_agent(config, EnvCost.from_dict(env))


def _failure(config: RunConfig, error: Exception, option: str) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    tried = f"agent {config.agent} fails in its first steps on" if option == "agent" else "first steps fail of"
    return (
        f"{tried} task {config.task} of suite {config.suite}: {type(error).__name__}: {error} "
        f"({place.filename}, line {place.lineno}). Mend its code, change its settings with --set, or choose another "
        f"--{option}."
    )


if __name__ == "__main__":
    from covr_bench.run.worker import keep_heap, message_channel

    keep_heap()
    main(message_channel())
