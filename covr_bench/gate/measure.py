"""What the gate wants to know of a side: digests of a short run, traces of the probe, signals of many runs."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from analysis.gate.signals import signals
from covr_bench.gate.process import SideProcess
from covr_bench.probe.trace import Trace, read
from results.layout import ROWS_FILE, run_folder
from results.states import RowKind
from results.store import read as read_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd
    from typing_extensions import Self

    from covr_bench.probe.draws import Shape

BUDGET = "gate"
SHORT_STEPS = 400  # environment steps of the run whose every number is compared
_NOT_COMPARED = frozenset({"wall_s", "time"})  # fields of rows


@dataclass(frozen=True)
class Broken:
    """Why a side has no answer for an agent."""

    reason: str


def same_digests(ours: Mapping[str, str], theirs: Mapping[str, str]) -> bool:
    """Whether digests by task are those of the other side, which may have more tasks."""
    return all(theirs.get(task) == each for task, each in ours.items())


class Measurements(Protocol):
    """A side of the gate. Agents are called by what the user gave; an answer that is not there is a `Broken`."""

    name: str

    def digests(self, agents: Sequence[str]) -> dict[str, dict[str, str] | Broken]:
        """By task, the digest of all numbers of a short run."""
        ...

    def traces(self, agents: Sequence[str], swapped: tuple[str, Shape] | None = None) -> dict[str, Trace | Broken]:
        """What the probe sees; swapped: with draws of that kind and shape in the other order."""
        ...

    def signals(self, agents: Sequence[str], seeds: Sequence[int]) -> dict[str, pd.DataFrame | Broken]:
        """As `analysis.gate.signals.signals` returns them, of those seeds; of a stored side, of all that it has."""
        ...


class Side:
    """Code that runs here. A context manager, whose process ends with it.

    Args:
        name: In words.
        root: Folder that its Python starts in: modules and files there are its own.
        out: Folder of its results.
        suite: Name or path. tasks: Of it.
        settings: As `--set` takes them.
        workers: Runs at a time; None for the machine's choice.
        conv_kernel: What convolves on a CPU.
        say: Told what is going on.
        instead_of: The folder that `root` is another state of; `root` itself if not given.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        out: Path,
        suite: str,
        tasks: Sequence[str],
        *,
        settings: Mapping[str, str] | None = None,
        workers: int | None = None,
        conv_kernel: str = "auto",
        say: Callable[[str], None] = lambda text: None,
        instead_of: Path | None = None,
    ) -> None:
        self.name, self.root, self.out, self.suite, self.tasks = name, root, out, suite, tasks
        self.settings, self._workers, self._conv_kernel = dict(settings or {}), workers, conv_kernel
        self._process = SideProcess(name, root, instead_of or root, say)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.close()

    def names(self, agents: Sequence[str]) -> dict[str, str]:
        """What agents call themselves; a file that cannot be imported goes by its own name."""
        found = {agent: list(self._process.ask({"name": agent})) for agent in agents}
        return {agent: said[0].get("name", Path(agent).stem) for agent, said in found.items()}

    def digests(self, agents: Sequence[str]) -> dict[str, dict[str, str] | Broken]:
        runs = self._run(agents, (0, 1), SHORT_STEPS)
        return {agent: each if isinstance(each, Broken) else self._digests(each) for agent, each in runs.items()}

    def _digests(self, runs: Sequence[Mapping[str, Any]]) -> dict[str, str] | Broken:
        """By task, of seed 0; the other seed only has to differ."""
        found = {(run["task"], run["seed"]): digest(self.out, run["run"]) for run in runs}
        if deaf := [task for task, seed in found if seed and found[task, 0] == found[task, seed]]:
            return Broken(f"{', '.join(deaf)}: {_deaf(0, 1)}")
        return {task: each for (task, seed), each in found.items() if not seed}

    def traces(self, agents: Sequence[str], swapped: tuple[str, Shape] | None = None) -> dict[str, Trace | Broken]:
        return {agent: self._trace(agent, swapped) for agent in agents}

    def _trace(self, agent: str, swapped: tuple[str, Shape] | None) -> Trace | Broken:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "probe.trace"
            order = {"probe": agent, "settings": self.settings, "file": str(file), "swapped": swapped}
            said = list(self._process.ask(order))
            return Broken(said[0]["error"]) if said else read(file)

    def signals(self, agents: Sequence[str], seeds: Sequence[int]) -> dict[str, pd.DataFrame | Broken]:
        runs = self._run(agents, seeds, None)
        found: dict[str, pd.DataFrame | Broken] = {}
        for agent, each in runs.items():
            found[agent] = each if isinstance(each, Broken) else self._signals([run["run"] for run in each])
        return found

    def _signals(self, run_ids: Sequence[str]) -> pd.DataFrame | Broken:
        frame = read_rows(self.out)
        return distinct(signals(frame[frame["run_id"].isin(run_ids)]))

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
            "settings": self.settings,
            "out": str(self.out.resolve()),
            "workers": self._workers,
            "conv_kernel": self._conv_kernel,
            "restart": True,
            "device": "cpu",
            "launcher": "forked",
        }
        request |= {"env_steps": env_steps} if env_steps else {}
        said = list(self._process.ask({"run": request}))
        if failed := [each["error"] for each in said if "error" in each and "run" not in each]:
            if len(agents) == 1:
                return {agents[0]: Broken(failed[0])}
            return {agent: self._run([agent], seeds, env_steps)[agent] for agent in agents}  # one takes no other along
        runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for each in said:
            runs[each["agent"]].append(each)
        wanted = len(seeds) * len(self.tasks)
        return {agent: _whole(self._runs_of(agent, runs), wanted) for agent in agents}

    def _runs_of(self, agent: str, runs: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """A file is known by its whole path on its side."""
        return runs.get(agent) or runs.get(str((self.root / agent).resolve())) or []


def distinct(table: pd.DataFrame) -> pd.DataFrame | Broken:
    """The same table of signals; `Broken` if two seeds have the same numbers."""
    by_seed: dict[bytes, int] = {}
    for seed, rows in table.groupby("seed"):
        values = rows.drop(columns="seed").to_csv(index=False).encode()
        if values in by_seed:
            return Broken(_deaf(by_seed[values], seed))
        by_seed[values] = int(seed)
    return table


def _deaf(one: int, other: int) -> str:
    return f"seeds {one} and {other} give the same numbers: its runs ignore their seed"


def _whole(runs: list[dict[str, Any]], wanted: int) -> list[dict[str, Any]] | Broken:
    for run in runs:
        if run["error"]:
            return Broken(f"{run['task']}, seed {run['seed']}: {run['error']}")
    return runs if len(runs) == wanted else Broken(f"{len(runs)} of {wanted} runs were made")


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
