"""W&B, MLflow and Trackio: what each has of a run that is over. `tox -e trackers` has these packages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from covr_bench.kit.errors import UserError
from covr_bench.track import base, late
from covr_bench.track.follow import by_step
from covr_bench.track.late import tell
from covr_bench.track.line import MOST_WAITING, Line
from results import provenance
from results.layout import PROVENANCE_FILE, run_folder
from results.store import RunWriter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RUNS = ("catch@tried/catch/random/0", "catch@tried/catch/drqv2-lr=0.1,x=a b/1")
RETURNS = {0: 1.0, 100: 2.5, 200: float("nan")}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two runs that have ended, one of them as failed."""
    for run_id, status in zip(RUNS, ("finished", "failed"), strict=True):
        with RunWriter(tmp_path, run_id, action_repeat=1) as writer:
            for step, value in RETURNS.items():
                writer.write("eval", step, step, {"return": value, "length": 40.0})
            writer.write("signal", 200, 200, {"loss": 7.0})
        record: dict[str, Any] = {"schema": 1, "run_id": run_id, "status": status, "environment": {"cpu": "some"}}
        record["sessions"] = [{"command": "covr-bench run it", "started": "2026-11-28T07:43:56+00:00"}]
        suite_budget, task, agent, seed = run_id.split("/")
        config = {"suite": suite_budget, "task": task, "agent": agent, "seed": int(seed), "out": "elsewhere"}
        provenance.write(run_folder(tmp_path, run_id) / PROVENANCE_FILE, record | {"config": config})
    return tmp_path


def problems(store: Path, name: str, **settings: str) -> list[tuple[str, str, str]]:
    told = list(tell(store, RUNS, [name], {f"{name}.{key}": value for key, value in settings.items()}))
    return [each for each in told if each[2]]


class Heard:
    """A tracker of the first version, without `video`."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def begin(self, run_id: str, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        self.calls.append(("begin", run_id, config["out"], facts["cpu"]))

    def rows(self, run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self.calls.append(("rows", run_id, len(rows)))

    def end(self, run_id: str, status: str) -> None:
        self.calls.append(("end", run_id, status))

    def close(self) -> None:
        self.calls.append(("close",))


def told_to(heard: Heard, store: Path, runs: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(late, "made", lambda refs, settings: [("mine", heard)])
    return [problem for *_, problem in tell(store, runs, ["mine"], {})]


def test_a_store_is_told_from_the_start_with_its_status(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard()
    assert told_to(heard, store, RUNS, monkeypatch) == ["", ""]
    ends = [("finished", RUNS[0]), ("failed", RUNS[1])]
    expected = [[("begin", run, str(store), "some"), ("rows", run, 7), ("end", run, status)] for status, run in ends]
    assert heard.calls == [*expected[0], *expected[1], ("close",)]


def test_of_a_long_run_every_row_is_told_in_parts(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late, "AT_ONCE", 3)
    heard = Heard()
    assert told_to(heard, store, RUNS[:1], monkeypatch) == [""]
    assert [call[2] for call in heard.calls if call[0] == "rows"] == [3, 3, 1]


def test_of_what_was_measured_twice_the_last_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that a killed session had left behind its checkpoint were told, and those that count were not."""
    folder = run_folder(tmp_path, RUNS[0])
    with RunWriter(tmp_path, RUNS[0], action_repeat=2) as writer:
        provenance.begin(tmp_path, RUNS[0], config={"out": str(tmp_path)}, seeds={}, command="it")
        for step in (1000, 2000, 3000):
            writer.write("eval", step, step // 2, {"return": [1.0]})
    with RunWriter(tmp_path, RUNS[0], action_repeat=2) as writer:
        writer.resume(1000, 1000)
        writer.write("eval", 2000, 1000, {"return": [9.0]})
    told: list[Any] = []

    class Keeps(Heard):
        def rows(self, run_id: str, rows: Sequence[Any]) -> None:
            told.extend((row["env_steps"], row["value"]) for row in rows if row["kind"] == "eval")

    assert told_to(Keeps(), tmp_path, [folder.relative_to(tmp_path / "runs").as_posix()], monkeypatch) == [""]
    assert told == [(1000, 1.0), (2000, 9.0)]


def test_a_run_that_cannot_be_read_keeps_no_other_back(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run_folder(store, RUNS[0]) / PROVENANCE_FILE).write_text("{")
    first, second = told_to(Heard(), store, RUNS, monkeypatch)
    assert "cannot read" in first
    assert second == ""


def test_a_run_that_cannot_be_told_keeps_no_other_back(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoNetwork(Heard):
        def begin(self, run_id: str, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
            if run_id == RUNS[0]:
                raise OSError("no network")

    assert told_to(NoNetwork(), store, RUNS, monkeypatch) == ["OSError: no network", ""]


def test_a_tracker_that_falls_far_behind_is_silenced_and_holds_no_more_memory() -> None:
    import threading

    let_go = threading.Event()

    class Slow(Heard):
        def rows(self, run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
            let_go.wait()

    line = Line("slow", Slow())
    for _ in range(MOST_WAITING + 50):
        line.tell("rows", "run", [])
    assert line.failure == f"it is {MOST_WAITING:,} calls behind"
    assert line._calls.qsize() <= MOST_WAITING
    let_go.set()
    assert line.close(10)


def test_films_are_told_where_a_tracker_takes_them(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Films(Heard):
        def video(self, run_id: str, file: str) -> None:
            self.calls.append(("video", run_id, file))

    film = run_folder(store, RUNS[0]) / "episode.mp4"
    film.write_bytes(b"film")
    heard = Films()
    assert told_to(heard, store, RUNS[:1], monkeypatch) == [""]
    assert heard.calls[2] == ("video", RUNS[0], str(film))
    assert told_to(Heard(), store, RUNS[:1], monkeypatch) == [""]  # one that takes none


def test_rows_of_a_step_are_one_record() -> None:
    row = {"kind": "eval", "env_steps": 5, "metric": "return", "value": "nan"}
    other = row | {"metric": "length", "value": 40.0}
    found = by_step([row, other, row | {"kind": "signal"}])
    assert list(found) == [5]
    assert found[5]["eval/length"] == 40.0
    assert found[5]["eval/return"] != found[5]["eval/return"]  # NaN
    assert set(found[5]) == {"eval/return", "eval/length"}


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"pip install 'covr-bench\[no_such_package\]'"):
        base.needed("no_such_package")


def test_mlflow_has_curves_status_and_provenance_and_the_run_once(
    store: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs covr-bench[mlflow]")
    monkeypatch.chdir(elsewhere := tmp_path_factory.mktemp("elsewhere"))
    assert problems(store, "mlflow") == []
    assert problems(store, "mlflow") == []  # told again: the same runs
    client = mlflow.MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
    (experiment,) = [each for each in client.search_experiments() if each.name == "covr-bench"]
    runs = {run.data.tags["mlflow.runName"]: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == set(RUNS)
    assert [runs[run_id].info.status for run_id in RUNS] == ["FINISHED", "FAILED"]
    history = client.get_metric_history(runs[RUNS[0]].info.run_id, "eval/return")
    assert {(each.step, each.value) for each in history if each.step < 200} == {(0, 1.0), (100, 2.5)}
    assert runs[RUNS[1]].data.params["seed"] == "1"
    (artifact,) = client.list_artifacts(runs[RUNS[0]].info.run_id)
    stored = json.loads(Path(client.download_artifacts(runs[RUNS[0]].info.run_id, artifact.path)).read_text())
    assert stored["facts"]["cpu"] == "some"
    path = run_folder(store, RUNS[0]) / PROVENANCE_FILE
    path.write_text(path.read_text().replace("2026-11-28T", "2026-11-29T"))
    assert problems(store, "mlflow") == []  # one of them has begun anew
    names = [run.data.tags["mlflow.runName"] for run in client.search_runs([experiment.experiment_id])]
    assert sorted(names) == sorted([*RUNS, RUNS[0]])
    assert list(elsewhere.iterdir()) == []  # its files are beside the runs, as its database is


def test_wandb_writes_offline_without_a_key(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="needs covr-bench[wandb]")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert problems(store, "wandb") == []
    files = list((store / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == len(RUNS)
    data = b"".join(file.read_bytes() for file in files)
    for said in (*(run_id.encode() for run_id in RUNS), b"eval/return", b"env_steps"):
        assert said in data


def test_trackio_has_the_curves(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(store / "trackio"))
    trackio = pytest.importorskip("trackio", reason="needs covr-bench[trackio]")
    assert problems(store, "trackio") == []
    runs = {run.name.rpartition("/")[0]: run for run in trackio.Api().runs("covr-bench")}
    assert set(runs) == set(RUNS)
    assert list((store / "trackio").glob("*.db"))
