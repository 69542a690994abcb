"""What is published of a run or a store: folders with a card, without pickles and without this machine's paths."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covr_bench.config.run_config import RunConfig
from covr_bench.kit.code import code_hash, imports_beside
from covr_bench.kit.errors import UserError
from covr_bench.policies.load import AGENT_FILE
from covr_bench.remote.card import policy_card, store_card
from covr_bench.remote.paths import names_of, shortened, shortened_lines
from results import provenance
from results.code_identity import code_of, is_changed
from results.layout import PROVENANCE_FILE, ROWS_FILE, StoreWarning, recorded, run_folder
from results.shape import completed

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

CARD = "README.md"
CURVE, VIDEO = "curve.png", "episode.mp4"
TABLE = "rows.parquet"


def policy(run: Path, to: Path, name: str, *, video: bytes = b"", licence: str = "") -> None:
    """Lay out a trained policy: what it acts by, rows, record, curve, film and card, as `load_policy` reads them.

    Args:
        run: Its folder, in a store.
        to: A folder that is not there; a failure leaves a part of it.
        name: By which others will load it, for the card.
        video: An episode, MP4; none if empty.
        licence: An SPDX identifier.

    Raises:
        UserError: The run has not finished, has no evaluation, is in no store, or is of code that was edited since or
            cannot be given away in one file.
        StoreError: Its record or its rows cannot be read.
    """
    from covr_bench.run.checkpoint import Checkpoints
    from covr_bench.run.trained import what_acts

    record = completed(provenance.read(run / PROVENANCE_FILE))
    record = {"run_id": "/".join(run.resolve().parts[-4:])} | record
    RunConfig.from_dict(record["config"])  # complains of what is missing
    out = _store_of(run, str(record["run_id"]))
    if record["status"] != "finished":
        raise UserError(f"run {record['run_id']} is {record['status']}; the same command that began it finishes it")
    if str(record["config"]["agent_config"].get("base", "")).endswith(".py"):
        raise UserError(f"run {record['run_id']} is of a base in a file; others need that base as a package first")
    if str(record["config"]["suite"]).endswith(".py"):
        raise UserError(f"run {record['run_id']} is of a suite in a file; others need that suite as a package first")
    if (agent := str(record["config"]["agent"])).endswith(".py"):
        _check_agent(agent, record)
    rows, state = _of_run(out, str(record["run_id"])), _final(run)
    to.mkdir(parents=True)
    Checkpoints(to / "checkpoint").save_final(state["env_steps"], what_acts(state))
    if (run / "adapters").is_dir():
        shutil.copytree(run / "adapters", to / "adapters")
    names = names_of(record, [out, *_folders(agent)])
    (to / ROWS_FILE).write_text(shortened_lines((run / ROWS_FILE).read_text("utf-8"), names), encoding="utf-8")
    if agent.endswith(".py"):
        shutil.copyfile(agent, to / AGENT_FILE)
    told = shortened(record, names)
    (to / PROVENANCE_FILE).write_text(json.dumps(told, indent=1), encoding="utf-8")
    if video:
        (to / VIDEO).write_bytes(video)
    _draw(rows, to / CURVE)
    (to / CARD).write_text(policy_card(told, rows, name, licence, video=bool(video)), encoding="utf-8")


def store(out: Path, to: Path, name: str, *, licence: str = "") -> None:
    """Lay out a store's rows as a data set: one table, the records, and a card.

    A run with a damaged record, or without one, is left out with a warning. Raises UserError if there are no others.
    """
    found = {run_id: {"run_id": run_id} | record for run_id, record in provenance.statuses(out).items()}
    for run_id in sorted({*recorded(out)} - found.keys()):
        warnings.warn(f"run {run_id} has no record, and is not published", StoreWarning, stacklevel=2)
    if not found:
        raise UserError(f"there are no runs in {out}")
    names = {run_id: names_of(record, [out]) for run_id, record in found.items()}
    records = [shortened(record, names[run_id]) for run_id, record in found.items()]
    rows = _rows(out, names)
    measured = set(rows["run_id"].astype(str))
    for record in records:
        if record["status"] == "finished" and record["run_id"] not in measured:
            warnings.warn(f"run {record['run_id']} is finished and has no rows to publish", StoreWarning, stacklevel=2)
    to.mkdir(parents=True)
    _write_table(rows, to / TABLE)
    (to / "provenance.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in records), encoding="utf-8")
    (to / CARD).write_text(store_card(records, rows, name, licence), encoding="utf-8")


def _store_of(run: Path, run_id: str) -> Path:
    """The folder of results that a run's folder is in."""
    parts = run.resolve().parts
    out = Path(*parts[: -1 - len(Path(run_id).parts)])
    if run_folder(out, run_id) != run.resolve():
        raise UserError(f"{run} is not in a folder of results; publish the run there, or copy what is published")
    return out


def _final(run: Path) -> dict[str, Any]:
    """The state a finished run ended with."""
    from covr_bench.run.checkpoint import load_saved

    if not any((run / "checkpoint").glob("[0-9]*-final")) or not (saved := load_saved(run / "checkpoint")):
        raise UserError(
            f"{run / 'checkpoint'} has no final weights; they were deleted, or the run is of an early version"
        )
    return saved.state


def _check_agent(file: str, record: Mapping[str, Any]) -> None:
    """Raises UserError unless a user's file is there, as the run was trained with it, and needs no other."""
    run = f"run {record['run_id']} was trained with the agent in {file}"
    if not Path(file).is_file():
        raise UserError(f"{run}, and that file is gone")
    if is_changed(code_of(record), {"agent": code_hash(file, "")}):
        raise UserError(f"{run}, which was edited since: bring the old file back, or train anew")
    if beside := imports_beside(file):
        raise UserError(
            f"{run}, which imports {', '.join(beside)} from beside it: make one file of them, or a package that others "
            "can install, and train anew"
        )


def _folders(agent: str) -> list[Path]:
    return [Path(agent).parent] if agent.endswith(".py") else []


def _of_run(out: Path, run_id: str) -> pd.DataFrame:
    """The rows of one run, with an evaluation among them."""
    from analysis.rows.scores import returns
    from results.store import read_run

    rows = read_run(out, run_id)
    if returns(rows).empty:
        path = run_folder(out, run_id) / ROWS_FILE
        raise UserError(f"{path} has no evaluation: restore it from a copy, or train anew")
    return rows


def _rows(out: Path, names: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """The rows of these runs. names: by run, from `names_of`."""
    from results.store import read

    rows = read(out)
    run_ids = rows["run_id"].astype(str)
    rows, run_ids = (each[run_ids.isin(list(names))] for each in (rows, run_ids))
    texts = [shortened(text, names[run_id]) for text, run_id in zip(rows["text"].astype(str), run_ids, strict=True)]
    return rows.assign(text=texts)


def _draw(rows: pd.DataFrame, file: Path) -> None:
    from analysis.figures.curves import learning_curves

    learning_curves(rows, file)


def _write_table(rows: pd.DataFrame, file: Path) -> None:
    """Without what pandas notes about its own types: it cannot read a list's again."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None), file)
