"""Draws docs/reference_curve.png: our runs on cartpole_swingup beside what is published.

python docs/reference_curve.py [STORE], by default results/reference. Runs of the budget `short` are left out: they see
other pictures.
"""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis.rows.scores import returns
from results.store import read

ROOT = Path(__file__).resolve().parent.parent
NOTE = {
    ("covr", "set-0924ff88"): ", 64 pixels, stand-in VLM",
    ("rad", "set-46f6a035"): ", 64 pixels",
    ("drqv2", "clock=agent"): ", official clock",
    ("curl", "image_size=76,random_agent_steps=500,window=64"): ", 64 of 76 pixels",
}
ORANGE, GREY = "#D55E00", "0.55"
STYLE = {"covr": ("#0072B2", "o"), "rad": ("#009E73", "^"), "drqv2": (ORANGE, "s"), "curl": ("#CC79A7", "v")}


def main(store: str, to: Path) -> None:
    ours = returns(read(store))
    ours = ours[(ours["task"] == "cartpole_swingup") & (ours["budget"] != "short")]
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    planet(left, ours[ours["suite"] == "dmc6"])
    official(right, ours[ours["suite"] == "dmc6-ar2"])
    for axis in (left, right):
        axis.set(xlabel="environment steps", ylabel="return", ylim=(0, 1250), yticks=range(0, 1001, 200))
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", linewidth=0.4, alpha=0.5)
        axis.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k")
        axis.legend(frameon=False, loc="upper left", fontsize=7)
    figure.savefig(to, dpi=160)


def planet(axis, rows) -> None:
    """dmc6: means and deviations of our seeds along the way, of others' at 100k."""
    for (agent, variant), runs in rows.groupby(["agent", "variant"], observed=True):
        color, marker = STYLE[agent]
        seeds = runs["seed"].nunique()
        label = f"{agent}, ours, {seeds} seed{'s' if seeds > 1 else ''}{NOTE.get((agent, variant), '')}"
        at = runs.groupby("env_steps")["value"].agg(["mean", "std"])
        dashes = ":" if variant == "clock=agent" else "-"
        axis.plot(at.index, at["mean"], dashes, color=color, marker=marker, markersize=4, label=label)
        axis.fill_between(
            at.index, at["mean"] - at["std"], at["mean"] + at["std"], color=color, alpha=0.15, linewidth=0
        )
    published = pd.read_csv(ROOT / "results" / "published" / "dmc6_100k.csv")
    published = published[published["task"] == "cartpole_swingup"]
    for (agent, mean, std), shift, mark in zip(
        published[["agent", "mean", "std"]].itertuples(index=False), (1500, 4000), "sD", strict=True
    ):
        label = {"drq": "DrQ", "curl": "CURL"}[agent] + ", published, mean ± std"
        axis.errorbar(100_000 + shift, mean, std, color=GREY, marker=mark, capsize=3, linestyle="none", label=label)
    axis.set_title("dmc6: cartpole_swingup, action repeat 8", fontsize=10)


def official(axis, rows) -> None:
    """dmc6-ar2: our start beside each official seed's."""
    curves = pd.read_csv(ROOT / "results" / "published" / "drqv2_official_curves.csv")
    curves = curves[(curves["task"] == "cartpole_swingup") & (curves["env_steps"] <= 40_000)]
    for seed, run in curves.groupby("seed"):
        label = "DrQ-v2, official, 10 seeds" if seed == curves["seed"].min() else None
        axis.plot(run["env_steps"], run["return"], color=GREY, linewidth=0.8, linestyle="--", label=label)
    for seed, run in rows.groupby("seed"):
        axis.plot(
            run["env_steps"],
            run["value"],
            color=ORANGE,
            marker="o",
            markersize=4,
            label=f"drqv2, ours, seed {seed}",
        )
    axis.set_title("dmc6-ar2: cartpole_swingup, action repeat 2", fontsize=10)


if __name__ == "__main__":
    given = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "results" / "reference")
    main(given, ROOT / "docs" / "reference_curve.png")
