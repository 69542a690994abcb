"""One side's work in a process of its own, so that each side imports its own code: `covr_bench.gate.side`.

Orders are JSON objects, a line each, on standard input:

    {"name": ref}                                    what an agent calls itself
    {"probe": ref, "settings": {...}, "file": path, "swapped": [kind, shape]}  a trace; swapped may be null
    {"run": {...}}                                   runs, a request as `covr_bench.run` takes it

It answers with a JSON object a line: `{"name": text}`, `{"error": text}`, `{"progress": text}`, of each run
`{"run": id, "agent": ref, "task": name, "seed": n, "error": text}`, and `{"done": true}` after each order. Probes and
runs are forked from here, so that what is imported once serves them all, and a crash stays where it is.
"""

from __future__ import annotations

import json
import os
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

    def say(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=channel, flush=True)

    for line in sys.stdin:
        order = json.loads(line)
        try:
            _obey(order, say)
        except Exception as error:  # such as an agent's file that cannot be imported
            say({"error": _in_a_line(error)})
        say({"done": True})


def _obey(order: Mapping[str, Any], say: Say) -> None:
    if "name" in order:
        from covr_bench.config import registry

        say({"name": registry.agent(order["name"]).name})
    elif "probe" in order:
        say({"progress": f"probing {order['probe']}"})
        if error := _probe(order):
            say({"error": error})
    else:
        _run(order["run"], say)


def _probe(order: Mapping[str, Any]) -> str:
    """Write a trace, in a forked process; returns why there is none."""
    from covr_bench.config import registry
    from covr_bench.probe.probe import probe

    registry.agent(order["probe"])
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(read)
            swapped = (order["swapped"][0], tuple(order["swapped"][1])) if order["swapped"] else None
            probe(order["probe"], order["settings"], swapped).write(Path(order["file"]))
            code = 0
        except Exception as error:
            os.write(write, _in_a_line(error).encode())
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    return said or (f"it ended with status {os.waitstatus_to_exitcode(status)}" if status else "")


def _run(request: Mapping[str, Any], say: Say) -> None:
    from covr_bench import face

    def watch(jobs: Sequence[Job]) -> None:
        ended = sum(job.state.ended for job in jobs)
        say({"progress": f"{ended} of {len(jobs)} runs"})

    outcome = face.run(**request, watch=watch)
    for config in (planned.config for planned in outcome.plan.runs):
        reason = outcome.failed.get(config.run_id, "")
        names = {"run": config.run_id, "agent": config.agent, "task": config.task, "seed": config.seed}
        say({**names, "error": reason.splitlines()[-1] if reason else ""})


def _in_a_line(error: Exception) -> str:
    """An error; where it arose too, unless its message is meant for the user."""
    from covr_bench.kit.errors import UserError

    if isinstance(error, UserError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


if __name__ == "__main__":
    main()
