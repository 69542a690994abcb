"""The process of one side of the gate, for as long as the gate needs it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covr_bench.kit.errors import UserError
from covr_bench.run import child
from covr_bench.run.messages import message_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class SideProcess:
    """Obeys orders with a side's own code; see `gate.side`.

    Args:
        name: Of the side, in words.
        root: Folder that it starts in; modules and files there are its own.
        instead_of: The folder that `root` is another state of; paths into it lead into `root`.
        say: Told what is going on.
    """

    def __init__(self, name: str, root: Path, instead_of: Path, say: Callable[[str], None]) -> None:
        self._name, self._say = name, say
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by `close`)
        self._process = subprocess.Popen(
            [sys.executable, str(_starter(root)), "covr_bench.gate.side", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=root,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(_search_path(root, instead_of))},
        )

    def ask(self, order: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """What it answers to an order, but progress, which is passed on. Raises UserError if it cannot work at all."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure() from None
        for line in self._process.stdout:
            message = message_in(line)
            if message is None:
                continue
            if "done" in message:
                return
            if "progress" in message:
                self._say(f"{self._name}: {message['progress']}")
            else:
                yield message
        raise self._failure()

    def close(self) -> None:
        """End it; may be called twice."""
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._errors.close()

    def _failure(self) -> UserError:
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines() or ["its process ended without a word"]
        old = "No module named covr_bench.gate" in lines[-1] or "No module named 'covr_bench.gate'" in lines[-1]
        why = "its covr-bench has no gate; name a later revision" if old else lines[-1]
        return UserError(f"{self._name} cannot be gated: {why}")


def _starter(root: Path) -> Path:
    """What starts a module of ours: of the side's own covr-bench, or of the one that is installed."""
    own = root / "covr_bench" / "run" / "child.py"
    return own if own.is_file() else Path(child.__file__)


def _search_path(root: Path, instead_of: Path) -> Iterator[str]:
    """The side's own folders, then what the user's PYTHONPATH names; another covr-bench there does not count."""
    yield str(root)
    if (root / "src").is_dir():
        yield str(root / "src")
    for entry in filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        path = Path(entry).resolve()
        if path.is_relative_to(instead_of):
            yield str(root / path.relative_to(instead_of))
        elif not (path / "covr_bench").is_dir():
            yield str(path)
