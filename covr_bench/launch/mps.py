"""NVIDIA's Multi-Process Service: processes that share a GPU compute on it at the same time, not in turns.

A fault of one of them ends all that share the service on that GPU, so it is off unless asked for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

from covr_bench.kit.errors import UserError
from covr_bench.run.gpus import ORDER, PCI, VISIBLE

if TYPE_CHECKING:
    from types import TracebackType

CONTROL = "nvidia-cuda-mps-control"
PIPES, LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
PATIENCE_S = 30.0
RISK = "a fault of one run ends all runs that share its GPU; they go on from their checkpoints"


class Mps:
    """The service, for as long as this block: one that runs already is used, and left running.

    Attributes:
        environment: Variables of every process that is to use it.
        started: Whether this object has started it.

    Raises:
        UserError: On entering, if the service is not installed or does not start.
    """

    def __init__(self) -> None:
        self.environment: dict[str, str] = {}
        self.started = False

    def __enter__(self) -> Mps:
        if shutil.which(CONTROL) is None:
            raise UserError(f"mps=true needs {CONTROL}, which comes with NVIDIA's driver: install it, or leave mps out")
        if PIPES in os.environ:
            self.environment = {PIPES: os.environ[PIPES]}
        if not _answers(self.environment):
            self._start()
        return self

    def _start(self) -> None:
        """With all GPUs: it would count those it is given anew from 0."""
        self._folder = tempfile.mkdtemp(prefix="covr-bench-mps-")
        self.environment = {PIPES: self._folder, LOGS: self._folder}
        env = {name: value for name, value in os.environ.items() if name != VISIBLE} | {ORDER: PCI} | self.environment
        try:
            done = subprocess.run([CONTROL, "-d"], env=env, capture_output=True, text=True, timeout=PATIENCE_S)
            reason = (done.stderr or done.stdout).strip() if done.returncode else ""
        except (OSError, subprocess.SubprocessError) as error:
            reason = str(error)
        if reason or not _answers(self.environment):
            shutil.rmtree(self._folder, ignore_errors=True)
            raise UserError(
                f"{CONTROL} -d does not start: {reason or 'it does not answer'}. Leave mps out to go without"
            )
        self.started = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.started:
            _ask("quit", self.environment)
            shutil.rmtree(self._folder, ignore_errors=True)
            self.started = False


def _answers(environment: dict[str, str]) -> bool:
    return _ask("get_server_list", environment) == 0


def _ask(question: str, environment: dict[str, str]) -> int:
    """The exit status of the control program, 1 if it hangs."""
    try:
        done = subprocess.run(
            [CONTROL],
            input=f"{question}\n",
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
    except (OSError, subprocess.SubprocessError):
        return 1
    return done.returncode
