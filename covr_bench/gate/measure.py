"""What the gate wants to know of a side: digests of a short run, traces of the probe, signals of many runs."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from analysis.gate.signals import signals
from covr_bench.kit.errors import UserError
from covr_bench.probe.trace import Trace, read
from covr_bench.run import child
from results.layout import ROWS_FILE, run_folder
from results.states import RowKind
from results.store import read as read_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pandas as pd

BUDGET = "gate"
SHORT_STEPS = 400  # environment steps of the run whose every number is compared
_NOT_COMPARED = frozenset({"wall_s", "time"})  # fields of rows


@dataclass(frozen=True)
class Broken:
    """Why a side has no answer for an agent."""

    reason: str


class Measurements(Protocol):
    """A side of the gate. Agents are called by what the user gave; an answer that is not there is a `Broken`."""

    name: str

    def digests(self, agents: Sequence[str]) -> dict[str, dict[str, str] | Broken]:
        """By task, the digest of all numbers of a short run."""
        ...

    def traces(self, agents: Sequence[str]) -> dict[str, Trace | Broken]:
        """What the probe sees."""
        ...

    def signals(self, agents: Sequence[str], seeds: Sequence[int]) -> dict[str, pd.DataFrame | Broken]:
        """As `analysis.gate.signals.signals` returns them, of those seeds; of a stored side, of all that it has."""
        ...


@dataclass
class Side:
    """Code that runs here.

    Attributes:
        name: In words.
        root: Folder that its Python starts in: modules and files there come before installed ones.
        out: Folder of its results.
        suite: Name or path. tasks: Of it.
        settings: As `--set` takes them.
        workers: Runs at a time; None for the machine's choice.
        conv_kernel: What convolves on a CPU.
        say: Told what is going on.
    """

    name: str
    root: Path
    out: Path
    suite: str
    tasks: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    workers: int | None = None
    conv_kernel: str = "auto"
    say: Callable[[str], None] = lambda text: None

    def digests(self, agents: Sequence[str]) -> dict[str, dict[str, str] | Broken]:
        runs = self._run(agents, (0,), SHORT_STEPS)
        return {
            agent: each if isinstance(each, Broken) else {run["task"]: digest(self.out, run["run"]) for run in each}
            for agent, each in runs.items()
        }

    def traces(self, agents: Sequence[str]) -> dict[str, Trace | Broken]:
        folder = self.out / "traces"
        folder.mkdir(parents=True, exist_ok=True)
        files = {agent: folder / f"{i}.trace" for i, agent in enumerate(agents)}
        probes = [
            {"agent": agent, "settings": dict(self.settings), "file": str(file.resolve())}
            for agent, file in files.items()
        ]
        errors = {each["probe"]: each["error"] for each in self._ask({"probes": probes, "runs": []}) if "probe" in each}
        return {
            agent: Broken(errors.get(agent) or "its probe died") if errors.get(agent, "died") else read(file)
            for agent, file in files.items()
        }

    def signals(self, agents: Sequence[str], seeds: Sequence[int]) -> dict[str, pd.DataFrame | Broken]:
        runs = self._run(agents, seeds, None)
        found: dict[str, pd.DataFrame | Broken] = {}
        for agent, each in runs.items():
            found[agent] = each if isinstance(each, Broken) else self._signals([run["run"] for run in each])
        return found

    def _signals(self, run_ids: Sequence[str]) -> pd.DataFrame | Broken:
        frame = read_rows(self.out)
        table = signals(frame[frame["run_id"].isin(run_ids)])
        by_seed: dict[bytes, int] = {}
        for seed, rows in table.groupby("seed"):
            values = rows.drop(columns="seed").to_csv(index=False).encode()
            if values in by_seed:
                return Broken(f"seeds {by_seed[values]} and {seed} give the same numbers: its runs ignore their seed")
            by_seed[values] = int(seed)
        return table

    def _run(
        self, agents: Sequence[str], seeds: Sequence[int], env_steps: int | None
    ) -> dict[str, list[dict[str, Any]] | Broken]:
        """The finished runs of each agent; `Broken` where one failed or is missing."""
        request: dict[str, Any] = {
            "suite": self.suite,
            "agents": list(agents),
            "tasks": list(self.tasks),
            "seeds": list(seeds),
            "budget": BUDGET,
            "settings": dict(self.settings),
            "out": str(self.out.resolve()),
            "workers": self.workers,
            "conv_kernel": self.conv_kernel,
            "restart": True,
            "device": "cpu",
            "launcher": "forked",
        }
        request |= {"env_steps": env_steps} if env_steps else {}
        said = list(self._ask({"probes": [], "runs": [request]}))
        if failed := [each["error"] for each in said if "error" in each and "run" not in each]:
            if len(agents) == 1:
                return {agents[0]: Broken(failed[0])}
            return {agent: self._run([agent], seeds, env_steps)[agent] for agent in agents}  # one takes no other along
        runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for each in said:
            if "run" in each:
                runs[each["agent"]].append(each)
        wanted = len(seeds) * len(self.tasks)
        return {agent: _whole(self._runs_of(agent, runs), wanted) for agent in agents}

    def _runs_of(self, agent: str, runs: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """A file is known by its whole path on its side."""
        return runs.get(agent) or runs.get(str((self.root / agent).resolve())) or []

    def _ask(self, order: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Have a process of this side do an order; what it says, but progress, which is passed on."""
        path = os.pathsep.join([str(self.root), *filter(None, [str(_source_folder(self.root)), _python_path()])])
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                [sys.executable, str(_child(self.root)), "covr_bench.gate.side", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=self.root,
                env={**os.environ, "PYTHONPATH": path},
            )
            try:
                assert process.stdin and process.stdout
                process.stdin.write(json.dumps(order))
                process.stdin.close()
                yield from self._heard(process.stdout)
                if process.wait():
                    errors.seek(0)
                    raise UserError(f"{self.name} cannot be gated: {_why(errors.read())}")
            finally:
                process.kill()
                process.wait()

    def _heard(self, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
        for line in lines:
            message = json.loads(line)
            if "progress" in message:
                self.say(f"{self.name}: {message['progress']}")
            else:
                yield message


def _whole(runs: list[dict[str, Any]], wanted: int) -> list[dict[str, Any]] | Broken:
    for run in runs:
        if run["error"]:
            return Broken(f"{run['task']}, seed {run['seed']}: {run['error']}")
    return runs if len(runs) == wanted else Broken(f"{len(runs)} of {wanted} runs were made")


def _child(root: Path) -> Path:
    """What starts a module of ours: of the side's own covr-bench, or of the one that is installed."""
    own = root / "covr_bench" / "run" / "child.py"
    return own if own.is_file() else Path(child.__file__)


def _source_folder(root: Path) -> Path | str:
    return root / "src" if (root / "src").is_dir() else ""


def _python_path() -> str:
    return os.environ.get("PYTHONPATH", "")


def _why(errors: str) -> str:
    lines = errors.strip().splitlines() or ["its process ended without a word"]
    if "No module named covr_bench.gate" in lines[-1]:
        return "its covr-bench has no gate; name a later revision"
    return lines[-1]


def digest(out: Path, run_id: str) -> str:
    """SHA-256, in hex, of all that a run measured, times left out."""
    kept = hashlib.sha256()
    for line in (run_folder(out, run_id) / ROWS_FILE).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        timed = row["kind"] == RowKind.THROUGHPUT or row["metric"].endswith("seconds")
        if not timed:
            compared = {key: value for key, value in row.items() if key not in _NOT_COMPARED}
            kept.update(json.dumps(compared, sort_keys=True).encode())
    return kept.hexdigest()
