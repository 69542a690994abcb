"""One damaged run never hides another: every verb names it, leaves it out, and shows the others' numbers unchanged."""

from __future__ import annotations

import copy
import csv
import io
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from results import provenance
from results.layout import PROVENANCE_FILE, ROWS_FILE, StoreWarning, run_folder
from results.store import RunWriter, read

CELL = "dmc6@paper/walker_walk"
CONFIG = {
    "suite": "dmc6", "suite_version": 1, "task": "walker_walk", "seed": 0, "env_steps": 200, "eval_every": 100,
    "eval_episodes": 1, "action_repeat": 2, "agent_config": {"lr": 0.1}, "env": {"image_size": 32}, "device": "cpu",
    "threads": 1, "conv_kernel": "torch", "variant": "", "overrides": {"lr": "0.1"},
    "code": {"agent": "ab", "suite": ""},
}  # fmt: skip
GOOD = [f"{CELL}/good-set-0123abcd/{seed}" for seed in range(3)]
VERBS: dict[str, tuple[Any, ...]] = {
    "table": ("table", "--format", "csv"),
    "paper": ("table", "--paper", "T4", "--format", "csv"),
    "stats": ("stats", "--reps", 5, "--format", "csv"),
    "plot": ("plot", "-o", "curves.svg"),
    "report": ("report", "--reps", 5, "-o", "report.html"),
}


def write_run(out: Path, run_id: str, score: float = 2.0) -> Path:
    """A run with everything that a real one records; returns its folder."""
    with RunWriter(out, run_id, action_repeat=2) as writer:
        for step in (0, 100, 200):
            writer.write("eval", step, step // 2, {"return": [score * step]})
        writer.end()
    agent, _, variant = run_id.split("/")[2].partition("-")
    provenance.begin(
        out, run_id, config=CONFIG | {"agent": agent, "variant": variant, "run_id": run_id}, seeds={"run": 0},
        command=f"covr-bench run --suite dmc6 --agent {agent} --budget paper", options={"suite": "dmc6"},
        extra={"gl_backend": "egl", "gl_vendor": "m", "gl_renderer": "r"},
    )  # fmt: skip
    provenance.finish(out, run_id, "finished", wall_s=1.0)
    return run_folder(out, run_id)


def replaced(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def in_its_place(path: Path, make: Callable[[Path], None]) -> None:
    path.unlink()
    make(path)


def unreadable(path: Path) -> None:
    """A file that even root cannot open: a link to itself."""
    in_its_place(path, lambda it: it.symlink_to(it.name))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "empty": lambda path: replaced(path, lambda data: b""),
    "half": lambda path: replaced(path, lambda data: data[: len(data) // 2 - 3]),
    "nul": lambda path: replaced(path, lambda data: b"\0" * len(data)),
    "bytes": lambda path: replaced(path, lambda data: bytes(range(256))),
    "list": lambda path: replaced(path, lambda data: b'["x"]\n'),
    "number": lambda path: replaced(path, lambda data: b"7\n"),
    "deep": lambda path: replaced(path, lambda data: b"[" * 100_000),
    "newer": lambda path: replaced(path, lambda data: data.replace(b'"schema": 1', b'"schema": 99')),
    "folder": lambda path: in_its_place(path, Path.mkdir),
    "pipe": lambda path: in_its_place(path, os.mkfifo),
    "loop": unreadable,
    "dangling": lambda path: in_its_place(path, lambda it: it.symlink_to("nowhere")),
    "gone": Path.unlink,
}
UNNAMED = {(PROVENANCE_FILE, "gone"), (PROVENANCE_FILE, "dangling")}  # none recorded: nothing is damaged


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same good runs, alone and among runs that are damaged in every way."""
    good, damaged = (tmp_path_factory.mktemp(name) for name in ("good", "damaged"))
    for out in (good, damaged):
        for seed, run_id in enumerate(GOOD):
            write_run(out, run_id, score=2.0 + seed)
    for file in (ROWS_FILE, PROVENANCE_FILE):
        for name, damage in DAMAGES.items():
            damage(write_run(damaged, f"{CELL}/{file[:4]}_{name}-set-4567abcd/0") / file)
    return good, damaged


def lines_of_good(text: str) -> list[dict[str, str]]:
    """Lines on the good agent alone. Profiles are taken at scores that depend on all agents."""
    lines = [line for line in csv.DictReader(io.StringIO(text)) if any("good" in str(each) for each in line.values())]
    return [line for line in lines if not line.get("over") and line.get("statistic") != "profile"]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.filterwarnings("ignore")
def test_every_verb_names_what_is_damaged_and_shows_the_rest(
    cli: Callable[..., Any], stores: tuple[Path, Path], verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    good, damaged = (cli(*VERBS[verb], "--out", out) for out in stores)
    assert (good.code, damaged.code) == (0, 0), damaged.err
    assert lines_of_good(good.out) == lines_of_good(damaged.out)
    for file, name in ((file, name) for file in (ROWS_FILE, PROVENANCE_FILE) for name in DAMAGES):
        told = damaged.err if file == ROWS_FILE or verb in ("table", "report") else f"{file[:4]}_{name}"
        assert f"{file[:4]}_{name}" in told or (file, name) in UNNAMED
    assert "Traceback" not in damaged.err
    assert "UserWarning" not in damaged.err


@pytest.mark.filterwarnings("ignore")
def test_comparing_and_showing_pass_over_what_is_damaged(cli: Callable[..., Any], stores: tuple[Path, Path]) -> None:
    good, damaged = stores
    same = cli("compare", good, damaged, "--reps", 5, "--format", "json")
    assert same.code == 0, same.err
    (line,) = json.loads(same.out)["lines"]
    assert (line["agent"], line["verdict"]) == ("good-set-0123abcd", "identical")
    for run_id in (str(path.relative_to(damaged / "runs")) for path in damaged.glob("runs/*/*/*/*")):
        shown = cli("show", run_id, "--out", damaged)
        assert shown.code in (0, 2)
        assert shown.code == 0 or "damaged" in shown.err or "unknown run" in shown.err or "cannot read" in shown.err


def spoiled(value: Any) -> Iterator[Any]:
    """The value with each part missing, or of another type."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield {name: each for name, each in value.items() if name != key}
            yield from (value | {key: other} for other in (None, 7, "x", ["x"], {"x": {}}) if other != part)
            yield from (value | {key: each} for each in spoiled(part))
    elif isinstance(value, list) and value:
        yield []
        yield from ([each, *value[1:]] for each in (None, 7, [], *spoiled(value[0])))


@pytest.mark.parametrize("verb", ["table", "stats", "report"])
def test_a_copy_of_a_run_is_no_seed_of_its_own(cli: Callable[..., Any], tmp_path: Path, verb: str) -> None:
    folder = write_run(tmp_path, GOOD[0])
    shutil.copytree(folder, folder.parent / "1")
    again = [cli(*VERBS[verb], "--out", tmp_path) for _ in range(2)]
    for result in again:
        assert f"{folder.parent / '1'} is a copy of run {GOOD[0]}" in " ".join(result.err.split())
    with pytest.warns(StoreWarning, match="is left out"):
        assert set(read(tmp_path)["seed"]) == {0}


def test_a_run_by_another_name_is_read_by_that_name(tmp_path: Path) -> None:
    folder = write_run(tmp_path, GOOD[0])
    folder.parent.rename(folder.parent.with_name("mine"))
    assert set(read(tmp_path)["agent"]) == {"mine"}


@pytest.mark.deep
@pytest.mark.filterwarnings("ignore")
def test_no_field_of_a_record_can_break_the_report(cli: Callable[..., Any], tmp_path: Path) -> None:
    good, out = tmp_path / "good", tmp_path / "out"
    for each in (good, out):
        for run_id in GOOD:
            write_run(each, run_id)
    record = provenance.read(run_folder(out, GOOD[0]) / PROVENANCE_FILE)
    rows = (run_folder(out, GOOD[0]) / ROWS_FILE).read_bytes()
    number = 0
    for number, each in enumerate(spoiled(copy.deepcopy(record))):
        folder = run_folder(out, f"{CELL}/bad-set-4567abcd/{number}")
        folder.mkdir(parents=True)
        (folder / PROVENANCE_FILE).write_text(json.dumps(each))
        (folder / ROWS_FILE).write_bytes(rows)
    assert number > 200
    result = cli("report", "--out", out, "--reps", 5, "-o", tmp_path / "report.html")
    assert result.code == 0, result.err
    for _, kept in zip(range(60), provenance.statuses(out), strict=False):
        assert cli("show", kept, "--out", out).code == 0
    assert cli("compare", good, out, "--reps", 5).code == 0
    assert cli("table", "--out", out).code == 0


def test_a_full_disk_leaves_the_old_files(
    cli: Callable[..., Any], stores: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("a.pdf", "a.svg", "a.png", "r.html", "m.json")
    for name in names:
        (tmp_path / name).write_text("old")
    read(stores[0])  # the cache is written before the disk is full
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        outcomes = {
            name: cli(*verb, "--out", stores[0], option, tmp_path / name)
            for name, verb, option in (
                *((name, ("plot",), "-o") for name in names[:3]),
                ("r.html", ("report", "--reps", 5), "-o"),
                ("m.json", ("stats", "--reps", 5), "--marl-eval"),
            )
        }
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    for name, outcome in outcomes.items():
        assert outcome.code == 2
        assert "cannot write to" in outcome.err
        assert (tmp_path / name).read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
