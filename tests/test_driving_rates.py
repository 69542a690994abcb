"""Error rates of driving: pooled over seeds at the scored evaluation, with their interval, in every format."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from analysis.rows.driving import Rate
from analysis.statistics.intervals import wilson
from analysis.tables.scores import (
    CSV_COLUMNS,
    NOTES,
    Table,
    rates_grid,
    tables,
    to_csv,
    to_grids,
    to_latex,
    to_markdown,
    to_terminal,
)
from results.store import RunWriter, read

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from analysis.grids import Grid

Measured = dict[str, list[float]]


def drive(
    out: Path, run_id: str, *evaluations: Measured, failed: bool = False, backend: str = "embedded", **labels: str
) -> None:
    """Evaluations at 0, 100, 200... environment steps."""
    with RunWriter(out, run_id, action_repeat=1, labels={"backend": backend} | labels) as writer:
        for index, measured in enumerate(evaluations):
            writer.write("eval", 100 * index, 100 * index, measured)
        writer.error("out of memory") if failed else writer.end()


def episodes(
    collided: Sequence[float] = (0, 0), off_road: Sequence[float] = (0, 0), metres: Sequence[float] = (1, 1)
) -> Measured:
    found = {"return": metres, "driving_distance_m": metres, "collided": collided, "off_road": off_road}
    return {name: list(map(float, values)) for name, values in found.items()} | {"end_horizon": [1.0] * len(metres)}


def the_table(out: Path, **options: Any) -> Table:
    (table,) = tables(read(out), **options)
    return table


def lines(grid: Grid) -> list[dict[str, str]]:
    return [dict(zip(grid.header, row, strict=True)) for row in grid.rows]


def test_a_rate_is_pooled_over_the_seeds_at_the_scored_evaluation(tmp_path: Path) -> None:
    drive(tmp_path, "carla@paper/hw/sac/0", episodes((1, 1), (1, 1)), episodes((1, 0), metres=(10, 30)))
    drive(tmp_path, "carla@paper/hw/sac/1", episodes((1, 1), (1, 1)), episodes((0, 0), (0, 1), metres=(40, 60)))
    grid = rates_grid(the_table(tmp_path))
    assert grid.title == "Error rates: carla@paper (backend=embedded)"
    assert "at 100 environment steps" in grid.caption
    assert lines(grid) == [
        {
            "task": "hw",
            "agent": "sac",
            "seeds": "2",
            "distance (m)": "35.0 ± 21.2",
            "collided": "1 of 4 (5\N{EN DASH}70%)",
            "off road": "1 of 4 (5\N{EN DASH}70%)",
        }
    ]
    (early,) = lines(rates_grid(the_table(tmp_path, env_steps=99)))
    assert early["collided"] == "4 of 4 (51\N{EN DASH}100%)"


@settings(max_examples=10, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=60), min_size=1, max_size=4))
def test_the_count_is_that_of_all_episodes_whatever_the_seeds(
    tmp_path_factory: pytest.TempPathFactory, crashed: list[list[bool]]
) -> None:
    out = tmp_path_factory.mktemp("out")
    for seed, each in enumerate(crashed):
        drive(out, f"carla@paper/hw/sac/{seed}", {"return": [1.0] * len(each), "stuck": list(map(float, each))})
    table = the_table(out)
    count, number = sum(map(sum, crashed)), sum(map(len, crashed))
    (found,) = table.driving.values()
    assert dict(found.rates) == {"stuck": Rate(count, number, len(crashed))}
    (row,) = csv.DictReader(io.StringIO(to_csv([table])))
    assert (int(row["stuck_count"]), int(row["stuck_episodes"])) == (count, number)
    assert (float(row["stuck_low"]), float(row["stuck_high"])) == wilson(count, number)
    assert not {name for name in row if name.startswith(("collided", "driving"))}


def test_agents_tasks_backends_and_action_repeats_stay_apart(tmp_path: Path) -> None:
    for run_id, collided in (("hw/sac/0", 1), ("hw/driver/0", 0), ("gp/sac/0", 0), ("hw/sac-k=1/0", 0)):
        drive(tmp_path, f"carla@paper/{run_id}", episodes((collided,) * 2))
    drive(tmp_path, "carla@paper/hw/sac/1", episodes((0, 0)), backend="carla-0.9.16")
    drive(tmp_path, "carla@smoke/hw/sac/0", episodes((0, 0)))
    drive(tmp_path, "carla@paper-from-carla.hw/a/sac/0", episodes((0, 0)), trained_on="carla/hw")
    score_tables = tables(read(tmp_path), tasks={"carla": ["hw", "gp", "a"]})
    assert len(score_tables) == 4
    shown = {grid.title: lines(grid) for grid in map(rates_grid, score_tables)}
    paper = shown.pop("Error rates: carla@paper (backend=embedded)")
    assert [(line["task"], line["agent"], line["collided"].split(" (")[0]) for line in paper] == [
        ("hw", "driver", "0 of 2"),
        ("hw", "sac", "2 of 2"),
        ("hw", "sac-k=1", "0 of 2"),
        ("gp", "sac", "0 of 2"),
    ]
    assert all([line["collided"] for line in each] == ["0 of 2 (0\N{EN DASH}66%)"] for each in shown.values())


def test_tasks_without_errors_have_no_second_table(tmp_path: Path) -> None:
    drive(tmp_path, "dmc6@paper/walker_walk/sac/0", {"return": [1.0], "success": [1.0], "end_horizon": [1.0]})
    table = the_table(tmp_path)
    assert [grid.title for grid in to_grids(table)] == ["dmc6@paper (backend=embedded)"]
    assert to_csv([table]).splitlines()[0] == ",".join([*CSV_COLUMNS, NOTES])


def test_what_is_incomplete_is_said_and_not_counted(tmp_path: Path) -> None:
    shares = {"return": [1.0, 1.0], "stuck": [0.25, 1.0], "collided": [1.0, 0.0]}
    drive(tmp_path, "carla@paper/hw/sac/0", shares)
    drive(tmp_path, "carla@paper/hw/sac/1", {"return": [1.0]}, failed=True)
    with RunWriter(tmp_path, "carla@paper/gp/sac/0", action_repeat=1, labels={"backend": "embedded"}) as writer:
        writer.write("eval", 0, 0, {"return": 1.0, "collided": 0.5})  # a mean without its episodes
        writer.end()
    table = the_table(tmp_path)
    grid = rates_grid(table)
    gp, hw = lines(grid)
    assert (hw["seeds"], hw["collided"]) == ("2†", "1 of 2 (9\N{EN DASH}91%)")
    assert (gp["seeds"], gp["collided"]) == ("1†", "-")
    assert "stuck" not in hw
    assert set(grid.notes) == {
        "sac on gp: seed 1 not run",
        "sac on hw: seed 1 failed",
        "sac on hw: no rate of 'stuck': not stored as 1 or 0 for every episode",
        "sac on hw: 'collided' measured for 1 of 2 seeds",
        "sac on gp: no rate of 'collided': not stored as 1 or 0 for every episode",
    }
    assert set(table.notes) < set(grid.notes)  # word for word: a page says each once


def test_many_episodes_have_tenths_of_a_percent(tmp_path: Path) -> None:
    drive(tmp_path, "carla@paper/hw/sac/0", {"return": [1.0], "collided": [0.0] * 300})
    drive(tmp_path, "carla@paper/gp/sac/0", {"return": [1.0], "collided": [0.0] * 100})
    drive(tmp_path, "carla@paper/a/sac/0", {"return": [1.0], "collided": [0.0] * 99})
    shown = {line["task"]: line["collided"] for line in lines(rates_grid(the_table(tmp_path)))}
    assert shown == {
        "hw": "0 of 300 (0.0\N{EN DASH}1.3%)",
        "gp": "0 of 100 (0.0\N{EN DASH}3.7%)",
        "a": "0 of 99 (0\N{EN DASH}4%)",
    }


def test_every_format_has_it(tmp_path: Path) -> None:
    drive(tmp_path, "carla@paper/hw/sac/0", episodes((1, 0), metres=(10, 30)))
    score_tables = [the_table(tmp_path)]
    assert "| hw | sac | 1 | 20.0 | 1 of 2 (9\N{EN DASH}91%) | 0 of 2 (0\N{EN DASH}66%) |" in to_markdown(score_tables)
    assert r"hw & sac & 1 & 20.0 & 1 of 2 (9" + "\N{EN DASH}" + r"91\%)" in to_latex(score_tables)
    console = Console(width=120, file=io.StringIO())
    console.print(to_terminal(score_tables, rows="tasks"))
    assert "1 of 2 (9\N{EN DASH}91%)" in console.file.getvalue()  # type: ignore[attr-defined]
    (row,) = csv.DictReader(io.StringIO(to_csv(score_tables)))
    assert (row["driving_distance_m_mean"], row["driving_distance_m_std"]) == ("20.0", "")


def test_the_commands_show_it(cli: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "results"
    drive(out, "carla@paper/hw/sac/0", episodes((1, 0)), failed=True)
    assert "1 of 2 (9\N{EN DASH}91%)" in cli("table", "--out", out, "--format", "md").out
    as_csv = cli("table", "--out", out, "--format", "csv")
    assert "collided_count" in as_csv.out.splitlines()[0]
    assert as_csv.err.count("sac on hw: seed 0 failed") == 1
    assert cli("report", "--out", out, "-o", tmp_path / "page.html", "--reps", 200).code == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert '<a href="#errors-1">' in page and '<h3 id="errors-1">Error rates</h3>' in page
    assert "1 of 2 (9\N{EN DASH}91%)" in page
    assert page.count("<li>sac on hw: seed 0 failed</li>") == 1


@pytest.mark.parametrize("score", ["last", "train10", "auc"])
def test_rates_are_those_of_the_last_evaluation_whatever_the_score(tmp_path: Path, score: str) -> None:
    """A run that went on after it: train10 is measured where training ends."""
    out, run_id = tmp_path, "carla@paper/hw/sac/0"
    drive(out, run_id, episodes((1, 1)), episodes((1, 0)))
    with RunWriter(out, run_id, action_repeat=1, labels={"backend": "embedded"}) as writer:
        writer.write("episode", 140, 140, {"return": 2.0})
    (line,) = lines(rates_grid(the_table(out, score=score)))
    assert line["collided"] == "1 of 2 (9\N{EN DASH}91%)"
