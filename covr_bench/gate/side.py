"""One side's work in a process of its own, so that each side imports its own code: `python -m covr_bench.gate.side`.

Its order is JSON on standard input: `probes`, each `{"agent", "settings", "file"}`, and `runs`, each a request as
`covr_bench.run` takes it. It prints a JSON object a line: `{"probe": ref, "error": text}` of each probe,
`{"progress": text}`, `{"run": id, "agent": ref, "task": name, "seed": n, "error": text}` of each run, and
`{"error": text}` where a request could not be planned.
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covr_bench.run.worker import message_channel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from covr_bench.launch.base import Job

    Say = Callable[[dict[str, Any]], None]


def main() -> None:
    channel = message_channel()
    order = json.load(sys.stdin)

    def say(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=channel, flush=True)

    for each in order["probes"]:
        say({"progress": f"probing {each['agent']}"})
        say({"probe": each["agent"], "error": _probe(each)})
    for request in order["runs"]:
        _run(request, say)


def _probe(order: Mapping[str, Any]) -> str:
    from covr_bench.kit.errors import UserError
    from covr_bench.probe.probe import probe

    try:
        probe(order["agent"], order["settings"]).write(Path(order["file"]))
    except UserError as error:
        return str(error)
    except Exception as error:  # of the agent: this side reports it, and goes on with the others
        return _last_frame(error)
    return ""


def _run(request: Mapping[str, Any], say: Say) -> None:
    from covr_bench import face

    def watch(jobs: Sequence[Job]) -> None:
        ended = sum(job.state.ended for job in jobs)
        say({"progress": f"{ended} of {len(jobs)} runs"})

    try:
        outcome = face.run(**request, watch=watch)
    except Exception as error:  # such as an agent's file that cannot be imported
        say({"error": _last_frame(error)})
        return
    for config in (planned.config for planned in outcome.plan.runs):
        reason = outcome.failed.get(config.run_id, "")
        names = {"run": config.run_id, "agent": config.agent, "task": config.task, "seed": config.seed}
        say({**names, "error": reason.splitlines()[-1] if reason else ""})


def _last_frame(error: Exception) -> str:
    """An error and where it arose, in a line."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


if __name__ == "__main__":
    main()
