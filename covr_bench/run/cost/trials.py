"""The processes that trials happen in, seen from the one that wants to know."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from covr_bench.kit.errors import UserError
from covr_bench.run.child import python_child
from covr_bench.run.messages import message_in

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import IO

    from covr_bench.config.run_config import RunConfig


_BY_ITSELF = (
    " Its code ended the process (sys.exit, os._exit or KeyboardInterrupt): let it raise an error that says why."
)
_ENDED = {0: _BY_ITSELF, -signal.SIGINT: _BY_ITSELF}  # by exit status


@dataclass(frozen=True)
class Request:
    """A trial.

    Attributes:
        key: Of the kind of environment or agent.
        config: A run of that kind.
        env: What is known of its environment, if its agent is to be tried; None for the environment itself.
    """

    key: str
    config: RunConfig
    env: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        size = self.config.env.get("image_size", "")
        return f"{self.config.agent} on {self.config.task}" if self.env else f"{self.config.task} {size}".strip()


@dataclass
class _Child:
    process: subprocess.Popen[str]
    log: IO[str]
    request: Request | None = None  # that it is busy with


class Trials:
    """Tries environments and agents, in two processes side by side or in one.

    Args:
        threads: Torch threads of each run.
        together: Whether two may be tried at the same time.
    """

    def __init__(self, threads: int, together: bool) -> None:
        # llvmpipe's own threads are set as they are for a run.
        env = os.environ | {"OMP_NUM_THREADS": str(threads), "LP_NUM_THREADS": str(threads - 1)}
        self._backlog: list[Request] = []
        self._answers: queue.Queue[tuple[_Child, str]] = queue.Queue()
        self._children = [self._started(env) for _ in range(1 + together)]

    def _started(self, env: Mapping[str, str]) -> _Child:
        log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the child
        pipe = subprocess.PIPE
        command = python_child("covr_bench.run.cost.trial")
        child = _Child(subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True, env=env), log)
        threading.Thread(target=self._listen, args=(child,), daemon=True).start()
        return child

    def _listen(self, child: _Child) -> None:
        assert child.process.stdout
        for line in child.process.stdout:
            if not line.endswith("\n") or message_in(line) is not None:
                self._answers.put((child, line))
        self._answers.put((child, ""))

    def ask(self, request: Request) -> None:
        """Hand in a trial."""
        self._backlog.append(request)
        self._hand_out()

    def _hand_out(self) -> None:
        """Give each process that is free something to do: the first one environments as long as there are some."""
        for child in self._children:
            if child.request is None and self._backlog:
                preferred = [each for each in self._backlog if (each.env is None) == (child is self._children[0])]
                child.request = (preferred or self._backlog)[0]
                self._backlog.remove(child.request)
                self._send(child, {"config": child.request.config.as_dict(), "env": child.request.env})

    def _send(self, child: _Child, request: Mapping[str, Any]) -> None:
        assert child.process.stdin
        try:
            print(json.dumps(request), file=child.process.stdin, flush=True)
        except BrokenPipeError:
            raise self._died(child) from None

    @property
    def waiting(self) -> list[Request]:
        """Those without an answer, the ones that are tried now first."""
        return [child.request for child in self._children if child.request] + self._backlog

    def answer(self) -> tuple[Request, dict[str, Any]]:
        """The next that was measured. Raises UserError if a trial failed."""
        child, line = self._answers.get()
        if not line.endswith("\n"):
            raise self._died(child)
        request, answer = child.request, json.loads(line)
        assert request
        if "error" in answer:
            raise UserError(answer["error"])
        child.request = None
        self._hand_out()
        return request, answer

    def _died(self, child: _Child) -> UserError:
        status = child.process.wait()
        child.log.seek(0)
        last = "\n".join(child.log.read().strip().splitlines()[-5:])
        tried = f"the trial of {child.request}" if child.request else "a trial"
        why = _ENDED.get(status, " Was memory short? Give a smaller --set batch_size." if status < 0 else "")
        return UserError(f"{tried} ended with status {status}.{why}\n{last}".strip())

    def __enter__(self) -> Trials:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.process.kill()
        for child in self._children:
            child.process.wait()
            child.log.close()
