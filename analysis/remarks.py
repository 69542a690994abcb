"""What a reader of a number must be told about the runs behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd


def remarks(runs: pd.DataFrame, seeds: Sequence[int] = ()) -> list[str]:
    """On the runs of one agent on one task, lines of `analysis.scores.final_scores`. seeds: those there should be."""
    found = []
    measured = runs[runs["evaluations"] > 0]
    for chosen, remark in (
        (sorted(set(seeds) - set(runs["seed"].tolist())), "not run"),
        (_seeds(runs[runs["evaluations"] == 0]), "never evaluated"),
        (_seeds(runs[runs["status"] == "failed"]), "failed"),
        (_seeds(measured[measured["status"] == "unfinished"]), "unfinished"),
        (_seeds(measured[~np.isfinite(measured["score"])]), "not a finite number at the last evaluation"),
        (_seeds(runs[runs["label_sets"] > 1]), "evaluated under several sets of labels in one run; the last counts"),
    ):
        if chosen:
            found.append(f"{'seed' if len(chosen) == 1 else 'seeds'} {ranges(chosen)} {remark}")
    steps = measured["env_steps"]
    if steps.nunique() > 1:
        found.append(f"seeds scored at different steps, {steps.min():,} to {steps.max():,}")
    return found


def gathered(noted: Mapping[tuple[str, str], Sequence[str]]) -> list[str]:
    """`sac on walker_walk, cheetah_run: seed 2 failed`, from the tasks by agent and remark."""
    return [f"{name} on {', '.join(dict.fromkeys(tasks))}: {remark}" for (name, remark), tasks in noted.items()]


def ranges(numbers: Sequence[int]) -> str:
    """`0, 2, 5-9` of increasing whole numbers."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{p[0]}-{p[-1]}" if len(p) > 2 else ", ".join(map(str, p)) for p in parts)


def _seeds(runs: pd.DataFrame) -> list[int]:
    return sorted(int(seed) for seed in runs["seed"])
