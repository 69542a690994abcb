"""References: what an agent's gate is held against, as files that are valid on other machines.

`<folder>/<agent>/{reference.json, probe.trace, signals.parquet}`. A reference is replaced as a whole; why, and which
signals moved, is kept in the history of `reference.json`.
"""

from __future__ import annotations

import datetime
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covr_bench.gate.measure import BUDGET, Broken
from covr_bench.probe.trace import Trace, read
from results.files import read_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from covr_bench.probe.draws import Shape

SHIPPED = Path(__file__).parent / "references"
FORMAT = 1
FACTS, TRACE, SIGNALS = "reference.json", "probe.trace", "signals.parquet"
NAMED = 8  # signals that moved, as a history names them


class Other(Broken):
    """Why a reference does not count that is there: it was made with other settings, or on another suite."""


@dataclass(frozen=True)
class Reference:
    """What is stored of an agent.

    Attributes:
        facts: `digests` by task, `seeds`, `steps`, `suite`, `settings`, `environment` that made it, and `history`, each
            entry with `date`, `reason` and the signals that `moved`.
        trace: Of the probe; None where the agent cannot be probed.
        signals: As `analysis.gate.signals.signals` returns them.
    """

    facts: dict[str, Any]
    trace: Trace | None
    signals: pd.DataFrame


class References:
    """A side of the gate that is stored.

    Args:
        folder: Of the references.
        names: What each agent is called there, by what the user gave.
        settings: As `--set` takes them; a reference with others does not count.
        suite: Name or path; a reference made on another does not count either. None for any.
    """

    def __init__(
        self, folder: Path, names: Mapping[str, str], settings: Mapping[str, str], suite: str | None = None
    ) -> None:
        self.folder, self.names, self._settings, self._suite = folder, dict(names), dict(settings), suite
        self.name = "the reference" if folder == SHIPPED else f"the reference in {folder}"

    def get(self, agent: str) -> Reference | Broken:
        """The stored reference of an agent."""
        folder = self.folder / self.names[agent]
        try:
            facts = json.loads(read_bytes(folder / FACTS))
            if other := self._other(facts):
                return Other(f"{folder} {other}")
            return Reference(facts, read(folder / TRACE) if facts["probed"] else None, _read_signals(folder))
        except FileNotFoundError as error:
            names = sorted(path.parent.name for path in self.folder.glob(f"*/{FACTS}"))
            known = f"; there are {', '.join(names)}" if names else ""
            if isinstance(error.filename, str) and error.filename.endswith(FACTS):
                return Broken(f"no reference in {self.folder}{known}. `covr-bench gate --bless REASON` makes one")
            return Broken(f"the reference is damaged: {error.filename} is missing")
        except (KeyError, OSError, TypeError, ValueError, RecursionError) as error:
            return Broken(f"the reference in {folder} cannot be read: {error}")

    def _other(self, facts: Mapping[str, Any]) -> str:
        """What else than what is asked for stored facts are of; empty if nothing else."""
        if facts["format"] != FORMAT:
            return f"has format {facts['format']}, this version reads {FORMAT}"
        if facts["settings"] != self._settings:
            return f"was made with the settings {facts['settings'] or 'of the agent'}"
        if facts.get("budget", BUDGET) != BUDGET:
            return f"was made with the budget {facts['budget']}"
        # A suite's file counts by its name: on another machine it lies elsewhere.
        if self._suite is not None and Path(facts["suite"]).name != Path(self._suite).name:
            return f"was made on the suite {facts['suite']}"
        return ""

    def digests(self, agents: Sequence[str]) -> dict[str, dict[str, str] | Broken]:
        found = {agent: self.get(agent) for agent in agents}
        return {agent: each if isinstance(each, Broken) else each.facts["digests"] for agent, each in found.items()}

    def traces(self, agents: Sequence[str], swapped: tuple[str, Shape] | None = None) -> dict[str, Trace | Broken]:
        found = {agent: self.get(agent) for agent in agents}
        none = Broken("the reference has no trace of the probe" + (" in that order" if swapped else ""))
        if swapped:
            return dict.fromkeys(agents, none)
        return {agent: each if isinstance(each, Broken) else each.trace or none for agent, each in found.items()}

    def signals(self, agents: Sequence[str], seeds: Sequence[int]) -> dict[str, pd.DataFrame | Broken]:
        found = {agent: self.get(agent) for agent in agents}
        return {agent: each if isinstance(each, Broken) else each.signals for agent, each in found.items()}

    def store(self, agent: str, reference: Reference, reason: str, moved: Sequence[str]) -> Path:
        """Replace the reference of an agent as a whole, and note why. Returns its folder."""
        folder = self.folder / self.names[agent]
        before = self.get(agent)
        history = [] if isinstance(before, Broken) else before.facts["history"]
        date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
        facts = {
            "format": FORMAT,
            **reference.facts,
            "settings": self._settings,
            "probed": reference.trace is not None,
            "history": [*history, {"date": date, "reason": reason, "moved": list(moved)[:NAMED]}],
        }
        part = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        (part / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        if reference.trace is not None:
            reference.trace.write(part / TRACE)
        write_signals(reference.signals, part / SIGNALS)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
        return folder


def write_signals(signals: pd.DataFrame, file: Path) -> None:
    """Write signals in half the room that Parquet takes by itself: bytes of one rank together, no statistics."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(signals, preserve_index=False).replace_schema_metadata(None)
    numbers = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    pq.write_table(
        table,
        file,
        compression="zstd",
        compression_level=19,
        use_dictionary=[name for name in table.column_names if name not in numbers],
        use_byte_stream_split=numbers,
        write_statistics=False,
        store_schema=False,
    )


def _read_signals(folder: Path) -> pd.DataFrame:
    import pandas as pd

    return pd.read_parquet(folder / SIGNALS)
