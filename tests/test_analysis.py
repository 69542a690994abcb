"""Scores, tables and figures average like with like, and say what is missing."""

from __future__ import annotations

import csv
import io
import math
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from analysis import grids
from analysis.figures import style
from analysis.figures.curves import learning_curves
from analysis.rows.scores import agent_name, choose, final_scores
from analysis.tables.scores import CSV_COLUMNS, NOTES, tables, to_csv, to_latex, to_markdown, to_terminal
from covr_bench.cli.show import file_names
from results.store import RunWriter, read

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

TASKS = ("walker_walk", "cheetah_run")


def write_run(
    out: Path, run_id: str, scores: list[float], *, action_repeat: int = 2, status: str = "end", **labels: str
) -> None:
    """Evaluations at 0, 100, 200... environment steps."""
    with RunWriter(out, run_id, action_repeat=action_repeat, labels=labels) as writer:
        for index, score in enumerate(scores):
            writer.write("eval", 100 * index, 100 * index // action_repeat, {"return": [score], "success_rate": 0.5})
        if status == "end":
            writer.end()
        elif status == "error":
            writer.error("out of memory")


def test_final_score_is_the_last_evaluation_within_the_budget(tmp_path: Path) -> None:
    write_run(tmp_path, "dmc6@paper/walker_walk/sac/0", [1.0, 2.0, 3.0])
    write_run(tmp_path, "dmc6@paper/walker_walk/sac/1", [4.0, 5.0], status="error")
    write_run(tmp_path, "dmc6@paper/walker_walk/sac/2", [], status="error")
    write_run(tmp_path, "dmc6@paper/walker_walk/sac/3", [6.0], status="none")
    columns = ["seed", "env_steps", "score", "evaluations", "status"]
    last = final_scores(read(tmp_path))[columns].to_numpy().tolist()
    assert last[0] == [0, 200, 3.0, 3, "finished"]
    assert last[1] == [1, 100, 5.0, 2, "failed"]
    assert last[2][:2] == [2, 0]
    assert math.isnan(last[2][2])
    assert last[2][3:] == [0, "failed"]
    assert last[3] == [3, 0, 6.0, 1, "unfinished"]
    assert final_scores(read(tmp_path), env_steps=150)["score"].tolist()[:2] == [2.0, 5.0]


def test_run_resumed_after_a_failure_is_not_failed(tmp_path: Path) -> None:
    run_id = "dmc6@paper/walker_walk/sac/0"
    write_run(tmp_path, run_id, [1.0, 2.0], status="error")
    with RunWriter(tmp_path, run_id, action_repeat=2) as writer:
        writer.resume(100, 50)
    assert final_scores(read(tmp_path))["status"].tolist() == ["unfinished"]
    with RunWriter(tmp_path, run_id, action_repeat=2) as writer:
        writer.end()
    assert final_scores(read(tmp_path))["status"].tolist() == ["finished"]


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6))
def test_cell_is_mean_and_sample_deviation(tmp_path_factory: pytest.TempPathFactory, scores: list[float]) -> None:
    out = tmp_path_factory.mktemp("out")
    for seed, score in enumerate(scores):
        write_run(out, f"dmc6@paper/walker_walk/sac/{seed}", [0.0, score])
    made = tables(read(out))
    (cell,) = made[0].cells.values()
    assert cell.n == len(scores)
    assert cell.env_steps == 100
    assert cell.mean == pytest.approx(statistics.fmean(scores), abs=1e-6)
    if len(scores) > 1:
        assert cell.std == pytest.approx(statistics.stdev(scores), rel=1e-6, abs=1e-4)
    (row,) = csv.DictReader(io.StringIO(to_csv(made)))
    assert (float(row["mean"]), int(row["n"])) == (cell.mean, cell.n)  # in full precision
    assert row["std"] == ("" if len(scores) == 1 else repr(cell.std))


def test_one_table_per_protocol(tmp_path: Path) -> None:
    write_run(tmp_path, "dmc6@paper/walker_walk/sac/0", [1.0])
    write_run(tmp_path, "dmc6@paper/walker_walk/sac/1", [2.0], rendering="fast")
    write_run(tmp_path, "dmc6@quick/walker_walk/sac/0", [3.0])
    made = tables(read(tmp_path))
    assert [table.title for table in made] == ["dmc6@paper", "dmc6@paper (rendering=fast)", "dmc6@quick"]
    assert [[cell.mean for cell in table.cells.values()] for table in made] == [[1.0], [2.0], [3.0]]
    lines = to_csv(made).splitlines()
    assert lines[0] == ",".join([*CSV_COLUMNS, NOTES])
    assert lines[2].startswith("dmc6,paper,rendering=fast,walker_walk,sac,,1,2.0,,0,2,last,1,2.0,")


def test_task_at_two_action_repeats_is_two_columns(tmp_path: Path) -> None:
    write_run(tmp_path, "dmc6@paper/walker_walk/sac/0", [1.0])
    write_run(tmp_path, "dmc6@paper/walker_walk/drq/0", [3.0], action_repeat=4)
    (table,) = tables(read(tmp_path))
    assert table.columns == (("walker_walk", 2), ("walker_walk", 4))
    assert not table.means
    assert "walker_walk (action repeat 4)" in to_markdown([table])


def test_table_says_what_is_missing_and_averages_only_whole_rows(tmp_path: Path) -> None:
    for seed in (0, 1):
        for task in TASKS:
            write_run(tmp_path, f"dmc6@paper/{task}/sac/{seed}", [100.0 * seed])
            write_run(tmp_path, f"dmc6@paper/{task}/nan/{seed}", [1.0, math.nan if seed else 1.0])
    write_run(tmp_path, "dmc6@paper/walker_walk/drq/0", [7.0, 8.0], status="error")
    write_run(tmp_path, "dmc6@paper/walker_walk/drq/1", [9.0], status="none")
    (table,) = tables(read(tmp_path), tasks={"dmc6": TASKS}, seeds={"dmc6@paper": (0, 1, 2)})
    assert table.means == {"sac": 50.0}
    assert [task for task, _ in table.columns] == list(TASKS)
    notes = "\n".join(table.notes)
    for note in (
        "sac on cheetah_run, walker_walk: seed 2 not run",
        "drq on walker_walk: seed 0 failed",
        "drq on walker_walk: seed 1 unfinished",
        "drq on walker_walk: seeds scored at different steps, 0 to 100",
        "drq: no score on cheetah_run",
        "nan on cheetah_run, walker_walk: seed 1 not a finite number at the last evaluation",
    ):
        assert note in notes
    text = to_markdown([table])
    assert "| sac | 50.0 ± 70.7† | 50.0 ± 70.7† | 50.0† |" in text
    assert "| drq | 8.5 ± 0.7† | - | - |" in text
    assert "| nan | nan† | nan† | - |" in text
    assert "over 2 seeds" in text
    assert "not all comparable" in text


def test_expected_task_that_nobody_ran_is_a_column(tmp_path: Path) -> None:
    write_run(tmp_path, "dmc6@paper/walker_walk/sac/0", [1.0])
    (table,) = tables(read(tmp_path), tasks={"dmc6": TASKS})
    assert "| agent | walker_walk | cheetah_run |" in to_markdown([table])
    assert table.notes == ("sac: no score on cheetah_run",)
    assert not table.means


def test_renderers_turn_and_escape(tmp_path: Path) -> None:
    for task in TASKS:
        write_run(tmp_path, f"dmc6@paper/{task}/sac-a|[red]b/0", [1.0])
    made = tables(read(tmp_path))
    assert "| task | sac-a\\|[red]b |" in to_markdown(made, rows="tasks")
    stream = io.StringIO()
    Console(file=stream, width=100).print(to_terminal(made, rows="tasks"))
    assert "sac-a|[red]b" in stream.getvalue()
    assert "mean over tasks" in stream.getvalue()
    with pytest.raises(ValueError, match="valid: agents, tasks"):
        to_markdown(made, rows="columns")


def test_no_runs_make_no_tables(tmp_path: Path) -> None:
    assert tables(read(tmp_path)) == []


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
@pytest.mark.parametrize("count", [1, 10])
def test_figure_has_a_panel_per_task(tmp_path: Path, suffix: str, magic: bytes, count: int) -> None:
    for task in range(count):
        for agent in range(8):
            write_run(tmp_path, f"dmc6@paper/task{task}/agent{agent}/0", [0.0, 10.0 * agent, 20.0], rendering="fast")
    assert learning_curves(read(tmp_path), tmp_path / f"figure.{suffix}") == []
    data = (tmp_path / f"figure.{suffix}").read_bytes()
    assert data.startswith(magic)
    if suffix == "svg":
        text = data.decode()
        assert all(text.count(f"<!-- task{task} -->") == 1 for task in range(count))
        assert text.count("<!-- agent7 -->") == 1
        assert "<!-- dmc6@paper (rendering=fast) -->" in text


def test_no_two_of_forty_agents_look_alike() -> None:
    assert len({str(look) for look in style.styles([f"agent{n}" for n in range(40)]).values()}) == 40


def test_figure_draws_the_mean_only_where_all_seeds_are(tmp_path: Path) -> None:
    from matplotlib.axes import Axes

    drawn: list[tuple[list[float], list[float]]] = []
    thin: list[list[list[float]]] = []
    original, originals = Axes.plot, Axes.add_collection
    write_run(tmp_path, "dmc6@paper/walker_walk/sac/0", [0.0, 10.0, 20.0])
    write_run(tmp_path, "dmc6@paper/walker_walk/sac/1", [0.0, 30.0])

    def spy(self: Axes, x: pd.Series, y: pd.Series, **style: Any) -> object:
        drawn.append((list(x), list(y)))
        return original(self, x, y, **style)

    def seeds(self: Axes, lines: Any, **options: Any) -> object:
        thin.extend(segment.tolist() for segment in lines.get_segments())
        return originals(self, lines, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Axes, "plot", spy)
        patch.setattr(Axes, "add_collection", seeds)
        remarks = learning_curves(read(tmp_path), tmp_path / "figure.png")
    assert remarks == ["sac on walker_walk: runs end at 100 to 200 env steps; the mean is drawn where all are"]
    assert thin == [[[0, 0.0], [100, 10.0], [200, 20.0]], [[0, 0.0], [100, 30.0]]]
    assert drawn == [([0, 100], [0.0, 20.0])]


def test_seeds_that_log_at_different_steps_have_a_mean_of_step_functions(tmp_path: Path) -> None:
    from matplotlib.axes import Axes

    drawn: list[list[float]] = []
    original = Axes.plot
    for seed, level in enumerate((100.0, 500.0, 900.0)):
        with RunWriter(tmp_path, f"dmc6@paper/walker_walk/m/{seed}", action_repeat=1) as writer:
            for index in range(1, 21):
                writer.write("eval", 1000 * index + seed, index, {"return": [level]})
            writer.end()

    def spy(self: Axes, x: Any, y: Any, **style: Any) -> object:
        drawn.append(list(y))
        return original(self, x, y, **style)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Axes, "plot", spy)
        learning_curves(read(tmp_path), tmp_path / "figure.png")
    assert set(drawn[-1]) == {500.0}
    assert len(drawn[-1]) == 56  # every step of a seed from 1,002 to 20,000


def test_an_agent_that_diverged_keeps_its_curve_up_to_there(tmp_path: Path) -> None:
    write_run(tmp_path, "dmc6@paper/walker_walk/sac/0", [1.0, 2.0, math.nan, math.nan])
    path = tmp_path / "figure.svg"
    assert learning_curves(read(tmp_path), path) == [
        "dmc6@paper/walker_walk/sac/0: 2 evaluations are not finite numbers and not drawn, from 200 env steps on"
    ]
    assert path.exists()


def test_figure_refuses_to_mix_and_names_what_it_cannot_draw(tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    with pytest.raises(ValueError, match="no evaluations"):
        learning_curves(read(tmp_path), path)
    write_run(tmp_path, "dmc6@paper/walker_walk/sac/0", [1.0, math.inf, np.nan])
    assert learning_curves(read(tmp_path), path) == [
        "dmc6@paper/walker_walk/sac/0: 2 evaluations are not finite numbers and not drawn, from 100 env steps on"
    ]
    with pytest.raises(ValueError, match=r"\['walker'\].*walker_walk"):
        learning_curves(read(tmp_path), path, tasks=["walker"])
    write_run(tmp_path, "dmc6@paper/walker_walk/sac/1", [1.0], rendering="fast")
    with pytest.raises(ValueError, match=r"dmc6@paper, dmc6@paper \(rendering=fast\)"):
        learning_curves(read(tmp_path), path)


def test_tables_need_neither_torch_nor_a_simulator_nor_matplotlib() -> None:
    code = "import sys, analysis.tables.scores, results.store; results.store.read; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "gymnasium", "mujoco", "dm_control", "matplotlib", "scipy"} & set(loaded)


def test_a_task_of_zeros_does_not_get_a_scale_of_rounding() -> None:
    """Its axis once ran to 0.05."""
    from matplotlib.figure import Figure

    axis = Figure().subplots()
    axis.plot([0, 1000], [0.0, 0.0])
    style.returns_axis(axis)
    assert axis.get_ylim() == (0.0, 1.0)
    axis.plot([0, 1000], [0.0, 300.0])
    style.returns_axis(axis)
    assert axis.get_ylim()[0] == 0.0


def test_a_label_of_the_agent_is_another_agent_of_the_same_table(tmp_path: Path) -> None:
    """COVR with its VLM stands beside the agents without one; another backend does not."""
    write_run(tmp_path, "dmc6@paper/walker_walk/sac/0", [1.0])
    write_run(tmp_path, "dmc6@paper/walker_walk/covr/0", [2.0], vlm="tiny")
    write_run(tmp_path, "dmc6@paper/walker_walk/covr/1", [4.0], vlm="big")
    write_run(tmp_path, "dmc6@paper/walker_walk/covr/2", [8.0], vlm="tiny", backend="embedded")
    made = tables(read(tmp_path))
    assert [table.title for table in made] == ["dmc6@paper", "dmc6@paper (backend=embedded)"]
    assert [cell.mean for cell in made[0].cells.values()] == [4.0, 2.0, 1.0]
    assert made[0].agents == ("covr (vlm=big)", "covr (vlm=tiny)", "sac")
    assert 'dmc6,paper,"backend=embedded,vlm=tiny",walker_walk,covr,,1,8.0,,0,2,last,' in to_csv(made)
    learning_curves(read(tmp_path)[lambda frame: frame["seed"] < 2], tmp_path / "figure.svg")
    assert "<!-- covr (vlm=tiny) -->" in (tmp_path / "figure.svg").read_text()


def test_files_of_protocols_have_names_that_fit_and_differ() -> None:
    """A label with a slash ended `run` in a traceback; two suites wrote one figure."""
    names = file_names(["my suite", "mysuite", "mine.map=maps/town1", "é" * 300, "é" * 301])
    assert len(set(names)) == 5
    assert names[0] == "mysuite" and names[2] == "mine.map=maps_town1"
    assert all(len(name.encode()) < 200 and "/" not in name for name in names)


def test_agents_are_called_by_what_sets_them_apart() -> None:
    assert agent_name("covr", "", "backend=embedded,vlm=tiny") == "covr (vlm=tiny)"
    assert agent_name("covr", "base=sac,vlm=tiny", "vlm=tiny") == "covr-base=sac,vlm=tiny"


def test_a_run_under_two_sets_of_labels_is_said(tmp_path: Path) -> None:
    """Resumed after its settings changed: nothing says which of its numbers is which but this."""
    write_run(tmp_path, "dmc6@paper/walker_walk/sac/0", [1.0], status="none")
    with RunWriter(tmp_path, "dmc6@paper/walker_walk/sac/0", action_repeat=2, labels={"render": "fast"}) as writer:
        writer.write("eval", 100, 50, {"return": [3.0]})
        writer.end()
    (table,) = tables(read(tmp_path))
    assert table.title == "dmc6@paper (render=fast)"
    assert "seed 0 run under several sets of labels" in "\n".join(table.notes)


def test_a_run_whose_vlm_was_lost_is_marked(tmp_path: Path) -> None:
    """Its key expired after some answers: its return stood there as that of an agent with a VLM."""
    for seed, shares in ((0, [0.9, 0.4]), (1, [0.4, 0.9])):
        with RunWriter(tmp_path, f"dmc6@paper/walker_walk/vbe/{seed}", action_repeat=2) as writer:
            for step, share in enumerate(shares, 1):
                writer.write("vlm", 100 * step, 50 * step, {"valid_share": share})
            writer.write("eval", 200, 100, {"return": [3.0 + seed]})
            writer.end()
    (table,) = tables(read(tmp_path))
    assert "seed 0 fewer than half of its VLM's answers state an action" in "\n".join(table.notes)


def test_a_seed_run_on_one_task_only_is_missed_on_the_others(tmp_path: Path) -> None:
    for run in ("walker_walk/sac/0", "walker_walk/sac/1", "walker_walk/sac/2", "cheetah_run/sac/1"):
        write_run(tmp_path, f"dmc6@paper/{run}", [1.0])
    (table,) = tables(read(tmp_path))
    assert table.notes == ("sac on cheetah_run: seeds 0, 2 not run",)


def test_rows_can_be_chosen_by_task_and_agent(tmp_path: Path) -> None:
    for run in ("walker_walk/sac/0", "walker_walk/sac-k=1/0", "cheetah_run/sac/0", "cheetah_run/drq/0"):
        write_run(tmp_path, f"dmc6@paper/{run}", [1.0])
    frame = read(tmp_path)
    assert len(final_scores(choose(frame, agents=["sac"]))) == 3
    assert len(final_scores(choose(frame, agents=["sac-k=1", "drq"]))) == 2
    assert len(final_scores(choose(frame, agents=["sac"], tasks=["cheetah_run"]))) == 1
    write_run(tmp_path, "dmc6@paper/cheetah_run/covr-base=drq/0", [1.0], vlm="tiny")
    assert len(final_scores(choose(read(tmp_path), agents=["covr-base=drq"]))) == 1  # without the label
    with pytest.raises(ValueError, match="no run of agent 'rad'; there are runs of: drq, sac, sac-k=1"):
        choose(frame, agents=["rad"])
    with pytest.raises(ValueError, match="no run of task 'walker'"):
        choose(frame, tasks=["walker"])


def test_latex_escapes_what_a_name_can_hold(tmp_path: Path) -> None:
    for task in TASKS:
        write_run(tmp_path, f"dmc6@paper/{task}/sac-50%_of$x&{{}}~^#|<b>/0", [-1.0])
    text = to_latex(tables(read(tmp_path)))
    assert r"sac-50\%\_of\$x\&\{\}\textasciitilde{}\textasciicircum{}\#\textbar{}$<$b$>$" in text
    assert r"walker\_walk & " in text
    assert r"& $-$1.000 " in text
    assert text.count(r"\begin{tabular}{lrrr}") == text.count(r"\end{tabular}") == 1


@pytest.mark.parametrize("name", ["_hidden", "$x", "a$b$c", "$\\frac{1}", "日本"])
@pytest.mark.filterwarnings("ignore:Glyph")
def test_any_name_is_drawn_as_it_is(tmp_path: Path, name: str) -> None:
    """`$...$` would be a formula, and matplotlib leaves names with a leading underscore out of legends."""
    write_run(tmp_path, f"dmc6@paper/walker_walk/sac-{name}/0", [0.0, 1.0])
    learning_curves(read(tmp_path), tmp_path / "figure.svg")
    assert f"<!-- sac-{name} -->" in (tmp_path / "figure.svg").read_text(encoding="utf-8")


def test_pdf_fonts_are_embedded_and_the_file_repeats(tmp_path: Path) -> None:
    write_run(tmp_path, "dmc6@paper/walker_walk/sac/0", [0.0, 1.0])
    for name in ("a.pdf", "b.pdf", "a.svg", "b.svg"):
        learning_curves(read(tmp_path), tmp_path / name)
    data = (tmp_path / "a.pdf").read_bytes()
    assert b"FontFile2" in data and b"/Type3" not in data
    assert data == (tmp_path / "b.pdf").read_bytes()
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_table_names_what_is_kept_apart_and_what_was_scored_elsewhere(tmp_path: Path) -> None:
    write_run(tmp_path, "dmc6@paper/walker_walk/sac/0", [1.0, 2.0])
    write_run(tmp_path, "dmc6@paper/walker_walk/drq/0", [1.0, 2.0, 3.0])
    write_run(tmp_path, "dmc6@short/walker_walk/sac/0", [1.0])
    write_run(tmp_path, "dmc6@paper/walker_walk/rad/0", [1.0, 2.0, 3.0], backend="embedded")
    write_run(tmp_path, "dmc6@paper/walker_walk/rad/1", [1.0, 2.0, 3.0], backend="carla-0.9.16")
    notes = {table.title: table.notes for table in tables(read(tmp_path))}
    assert notes["dmc6@paper"] == (
        "scored at different environment steps: drq 200; sac 100 (--env-steps 100 leaves out what is later)",
        "sac was also run as dmc6@short: kept apart",
    )
    assert notes["dmc6@paper (backend=embedded)"] == (
        "rad was also run as dmc6@paper (backend=carla-0.9.16): kept apart",
    )


def test_a_table_tells_the_action_repeats_of_a_task_apart(tmp_path: Path) -> None:
    write_run(tmp_path, "dmc6@paper/walker_walk/sac/0", [1.0])
    write_run(tmp_path, "dmc6@paper/walker_walk/sac/1", [1.0], action_repeat=4)
    (table,) = tables(read(tmp_path))
    assert "sac on walker_walk (action repeat 2): seed 1 not run" in table.notes


def test_a_table_of_what_came_later_says_so(tmp_path: Path) -> None:
    """It said that nothing was evaluated yet, and of each seed that it never was."""
    with RunWriter(tmp_path, "dmc6@paper/walker_walk/sac/0", action_repeat=2) as writer:
        for step in (1000, 2000):
            writer.write("eval", step, step // 2, {"return": 1.0})
    (table,) = tables(read(tmp_path), env_steps=500)
    assert "\nNo evaluation up to 500 environment steps.\n" in to_markdown([table])
    assert "sac on walker_walk: seed 0 not evaluated before 1,000 env steps" in table.notes
    assert not any("never" in note for note in table.notes)


def test_two_runs_of_one_seed_are_said(tmp_path: Path) -> None:
    """Such as one that an earlier version called `paper`, beside one of `scripts`: the mean counted two seeds."""
    for budget in ("paper", "scripts"):
        write_run(tmp_path, f"dmc6@{budget}/walker_walk/rad/0", [1.0])
    frame = read(tmp_path).assign(budget="scripts")
    (table,) = tables(frame)
    assert "rad on walker_walk: seed 0 run more than once: each run counts as a seed" in table.notes


def test_a_table_of_runs_never_evaluated_says_so(tmp_path: Path) -> None:
    write_run(tmp_path, "dmc6@paper/walker_walk/sac/0", [], status="error")
    assert "\nNo evaluation yet.\n" in to_markdown(tables(read(tmp_path)))


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_terminal_breaks_no_number_and_loses_no_column(width: int) -> None:
    """Columns that have no room stand in a further table below, and headers are broken between words."""
    header = ("method", "our agent", *(f"task {number} ofあい" for number in range(9)))
    rows = tuple((f"m{row}", "a" * 40, *(f"{row}{number}.5 ± 123.4 (5)" for number in range(9))) for row in range(3))
    file = io.StringIO()
    Console(file=file, width=width).print(
        grids.to_terminal([grids.Grid("title", "caption", header, rows, text_columns=2)])
    )
    lines = file.getvalue().splitlines()
    assert max(map(cell_len, lines)) <= width
    assert all(line.rstrip()[-1] == "│" for line in lines if line.startswith("│"))
    assert all(cell in file.getvalue() for row in rows for cell in row[2:])


def test_what_was_never_evaluated_has_a_line_in_the_csv(tmp_path: Path) -> None:
    write_run(tmp_path, "dmc6@paper/walker_walk/sac/0", [1.0])
    with RunWriter(tmp_path, "dmc6@paper/walker_walk/taco/0", action_repeat=2) as writer:
        writer.write("error", 0, 0, {"error": 1.0})
    rows = {row["agent"]: row for row in csv.DictReader(io.StringIO(to_csv(tables(read(tmp_path)))))}
    assert (rows["sac"]["n"], rows["sac"]["notes"]) == ("1", "")
    taco = rows["taco"]
    assert (taco["n"], taco["mean"], taco["env_steps"]) == ("0", "", "")
    assert taco["notes"] == "seed 0 never evaluated; seed 0 failed"


def test_shares_have_three_decimals(tmp_path: Path) -> None:
    write_run(tmp_path, "dmc6@paper/walker_walk/sac/0", [0.8654])
    assert "| sac | 0.865 |" in to_markdown(tables(read(tmp_path)))
    write_run(tmp_path, "dmc6@paper/walker_walk/drq/0", [812.34])
    assert "| sac | 0.9 |" in to_markdown(tables(read(tmp_path)))


def test_what_became_of_a_vlms_answers_is_that_of_the_steps_scored(tmp_path: Path) -> None:
    """Scored up to 150, a run is not marked for the answers of step 200."""
    with RunWriter(tmp_path, "dmc6@paper/walker_walk/vbe/0", action_repeat=2) as writer:
        for step, share in ((100, 0.9), (200, 0.4)):
            writer.write("eval", step, step // 2, {"return": [3.0]})
            writer.write("vlm", step, step // 2, {"valid_share": share})
        writer.end()
    frame = read(tmp_path)
    assert [final_scores(frame, env_steps=steps)["acted"].tolist() for steps in (150, None)] == [[0.9], [0.4]]
    marked = ["VLM's answers" in "\n".join(tables(frame, env_steps=steps)[0].notes) for steps in (150, None)]
    assert marked == [False, True]


def test_a_cell_is_of_the_earliest_step_of_its_seeds(tmp_path: Path) -> None:
    for seed, last in ((0, 200), (1, 100)):
        with RunWriter(tmp_path, f"dmc6@paper/walker_walk/sac/{seed}", action_repeat=2) as writer:
            writer.write("eval", last, last // 2, {"return": [3.0]})
            writer.end()
    (table,) = tables(read(tmp_path))
    assert [cell.env_steps for cell in table.cells.values()] == [100]


def test_a_budget_of_another_length_is_explained_by_the_one_it_is_made_of(tmp_path: Path) -> None:
    with RunWriter(tmp_path, "dmc6@paper-500/walker_walk/sac/0", action_repeat=2) as writer:
        writer.write("eval", 500, 250, {"return": [3.0]})
        writer.end()
    (table,) = tables(read(tmp_path), budgets={"dmc6@paper": "The published protocol."})
    assert table.legend == ("Budget paper-500: The published protocol.",)


@pytest.mark.parametrize("budget", ["paper-500-from-dmc6.walker_walk", "paper-mine"])
def test_a_budget_of_another_name_has_not_its_sentence(budget: str, tmp_path: Path) -> None:
    """An evaluation has episodes of its own number; it is of one task, so that it lacks no other."""
    with RunWriter(tmp_path, f"dmc6@{budget}/walker_walk/sac/0", action_repeat=2) as writer:
        writer.write("eval", 500, 250, {"return": [3.0]})
        writer.end()
    (table,) = tables(
        read(tmp_path), tasks={"dmc6": ["walker_walk", "cheetah_run"]}, budgets={"dmc6@paper": "Published."}
    )
    assert table.legend == ()
    assert [text for text in table.notes if "no score on" in text] == (
        [] if "from" in budget else ["sac: no score on cheetah_run"]
    )
