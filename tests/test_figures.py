"""Figures: whatever the names, every text is on the canvas, and distinct names look distinct."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.figures import style
from analysis.figures.papers import bars
from analysis.figures.statistics import differences
from analysis.statistics.bootstrap import Estimate
from analysis.statistics.intervals import Summary

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = "covr-base=rad,decode=expect,query_every=8 (vlm=Qwen/Qwen2.5-VL-3B-Instruct), and as many letters again: "
_PIXEL = 0.01
NAMES = (
    f"{LONG}A1", f"{LONG}A2", "W" * 100, "日本語のエージェントの名前はとても長いのでここで切れる三番",
    "سياسة التعلم المعزز", "a$b_$c^{2}", "_hidden",
)  # fmt: skip


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts of every figure that is saved; one that leaves its canvas fails."""
    shown: list[str] = []
    save = Figure.savefig

    def checked(figure: Figure, *arguments: Any, **options: Any) -> None:
        figure.draw_without_rendering()
        box = figure.get_tightbbox()  # of everything drawn, in inches
        width, height = figure.get_size_inches()
        assert min(box.x0, box.y0) >= -_PIXEL and box.x1 <= width + _PIXEL and box.y1 <= height + _PIXEL, box
        shown.extend(text.get_text() for text in figure.findobj(Text) if text.get_visible())
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", checked)
    return shown


@pytest.mark.parametrize("kind", ["curves", "aggregate", "profile", "improvement"])
def test_no_name_leaves_the_canvas_and_none_looks_like_another(
    cli: Callable[..., Any], tmp_path: Path, texts: list[str], kind: str
) -> None:
    with (tmp_path / "scores.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("agent", "task", "seed", "env_steps", "return"))
        rows = [
            (name, task, seed, step, 10 * number + step / 10 + seed)
            for number, name in enumerate(NAMES)
            for task in ("walker_walk", LONG.replace("/", " "))
            for seed in range(2)
            for step in (0, 100)
        ]
        writer.writerows(rows)
    given = ("--score-range", "0,1000", "--reps", 50)
    drawn = cli("plot", "--scores", tmp_path / "scores.csv", "--kind", kind, *given, "-o", tmp_path / "figure.png")
    assert drawn.code == 0
    assert drawn.err.count("no installed font") <= 1  # one note, however many letters are missing
    seen = {part.strip() for text in texts for part in text.replace(style.LEFT_TO_RIGHT, "").split("  >  ")}
    assert {"a$b_$c^{2}", "_hidden", "سياسة التعلم المعزز"} <= seen
    assert len({text for text in seen if text.startswith("covr-base") and text.endswith(("A1", "A2"))}) == 2


def test_bars_and_differences_of_long_names(tmp_path: Path, texts: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", style.MissingLetters)
        rows = [(name, [(Summary(1.0, 0.1, 5), None)] * 4) for name in NAMES]
        bars(f"title {LONG}", [LONG] * 4, rows, tmp_path / "bars.png")
        differences({name: Estimate(1.0, 0.5, 2.0) for name in NAMES}, LONG, tmp_path / "differences.png")
    assert len(texts) > 20


def test_no_interval_ends_at_the_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[float, float]] = []
    monkeypatch.setattr(style, "save", lambda figure, _: limits.append(figure.axes[0].get_xlim()))
    found = {"below": Estimate(-2.6, -6.7, 1.5), "above": Estimate(5.0, 2.0, 9.0)}
    differences(found, "of arms", tmp_path / "differences.png")
    ((low, high),) = limits
    assert low < -7 and high > 9.3


@pytest.mark.parametrize("kind", ["aggregate", "profile", "improvement"])
@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ("00", "one run per task: no interval"),
        ("01", "95 % interval (none of one run per task)"),
        ("11", "95 % interval"),
    ],
)
def test_a_figure_says_which_of_its_values_have_no_interval(
    cli: Callable[..., Any], tmp_path: Path, texts: list[str], kind: str, seeds: str, said: str
) -> None:
    """seeds: the last seed of each of two agents."""
    file = tmp_path / "scores.csv"
    runs = [(agent, seed) for agent, last in zip("ab", seeds, strict=True) for seed in range(int(last) + 1)]
    lines = [f"{agent},walker_walk,{seed},1,{100 * seed + ord(agent)}" for agent, seed in runs]
    file.write_text("\n".join(["agent,task,seed,env_steps,return", *lines]))
    options = ("--score-range", "0,1000", "--reps", 20, "-o", tmp_path / "a.png")
    assert cli("plot", "--scores", file, "--kind", kind, *options).code == 0
    if kind == "improvement" and seeds == "01":  # of this one pair
        said = "one run per task: no interval"
    assert any(" ".join(text.split()).endswith(said) for text in texts), texts


def test_an_agent_that_diverged_is_marked(cli: Callable[..., Any], tmp_path: Path, texts: list[str]) -> None:
    lines = [f"a,t,{seed},{step},{value}" for seed in (0, 1) for step, value in ((0, 1), (10, 2), (20, "nan"))]
    (tmp_path / "a.csv").write_text("\n".join(["agent,task,seed,env_steps,return", *lines]))
    assert cli("plot", "--scores", tmp_path / "a.csv", "-o", tmp_path / "a.png").code == 0
    assert "diverged after this" in texts


@pytest.mark.parametrize("last", [0, 1, 2, 3, 100_000])
def test_an_axis_of_steps_has_whole_steps(cli: Callable[..., Any], tmp_path: Path, texts: list[str], last: int) -> None:
    file = tmp_path / "scores.csv"
    file.write_text(f"agent,task,seed,env_steps,return\nm,walker_walk,0,0,1\nm,walker_walk,1,{last},3\n")
    assert cli("plot", "--scores", file, "-o", tmp_path / "a.png").code == 0
    assert not [text for text in texts if text.endswith("m") and text[0].isdigit()]  # thousandths


def test_infinite_returns_are_remarked_not_warned_of(cli: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "scores.csv"
    returns = ("inf", "-inf", "inf", "1e308", "1e308", "nan")
    lines = [f"m,walker_walk,{seed},{step},{value}" for seed, value in enumerate(returns) for step in (1, 2)]
    file.write_text("\n".join(["agent,task,seed,env_steps,return", *lines]) + "\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for verb in (("table", "--scores", file), ("compare", file, file), ("report", "--scores", file, "--reps", 5)):
            target = ("-o", tmp_path / "report.html") if verb[0] == "report" else ()
            assert cli(*verb, *target).code == 0
    assert "seeds 0-5 not a finite number" in cli("table", "--scores", file, "--format", "md").out
