"""Remarks for the reader of a number: what is missing or unusual in the runs behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.rows.final import AUC, LAST, LAST3, TRAIN10
from analysis.rows.scores import PROTOCOL, RunState, protocol_name, same_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import pandas as pd


_NOT_FINITE = {LAST: "not a finite number at the last evaluation"}
_MISSING = {TRAIN10: "without a training episode in the last 10 % of the environment steps, so without train10"}


RunColumns = Mapping[str, "npt.NDArray[Any]"]  # of lines of `final_scores`, those that remarks are about
_COLUMNS = (
    "seed",
    "status",
    "env_steps",
    "scored",
    "score",
    "label_sets",
    "evaluated_from",
    "evaluated_after",
    "acted",
)


def run_columns(runs: pd.DataFrame) -> RunColumns:
    """The columns of lines of `final_scores` that remarks are about, as arrays: selecting runs of a frame is slow."""
    return {name: runs[name].to_numpy() for name in _COLUMNS}


def remarks(runs: RunColumns, seeds: Sequence[int] = (), score: str = LAST) -> list[str]:
    """Remarks on the runs of one agent on one task.

    Args:
        runs: `run_columns` of these runs.
        seeds: Seeds that should be among them.
        score: The score of these lines.

    Returns:
        Texts such as `seed 2 failed`.
    """
    found = []
    seed, status, steps, scored = (runs[name] for name in ("seed", "status", "env_steps", "scored"))
    measured = scored > 0
    later = ~measured & (runs["evaluated_after"] > 0) & (score != TRAIN10)
    known, counts = np.unique(seed, return_counts=True)
    for chosen, remark in (
        (sorted(set(seeds) - set(seed.tolist())), "not run"),
        (known[counts > 1].tolist(), "run more than once: each run counts as a seed"),
        (_sorted(seed[later]), f"not evaluated before {min(runs['evaluated_after'][later], default=0):,} env steps"),
        (_sorted(seed[~measured & ~later]), _MISSING.get(score, "never evaluated")),
        (_sorted(seed[status == RunState.FAILED.value]), "failed"),
        (_sorted(seed[measured & (status == RunState.UNFINISHED.value)]), "unfinished"),
        (
            _sorted(seed[measured & ~np.isfinite(runs["score"])]),
            _NOT_FINITE.get(score, f"without a finite {score}"),
        ),
        (
            _sorted(seed[runs["acted"] < 0.5]),
            "fewer than half of its VLM's answers state an action",
        ),
        (
            _sorted(seed[runs["label_sets"] > 1]),
            "run under several sets of labels; those of the last evaluation count",
        ),
        (_sorted(seed[(score == LAST3) & measured & (scored < 3)]), "with fewer than three evaluations for last3"),
        (_sorted(seed[(score == AUC) & (scored == 1)]), "with one evaluation only, which is taken as auc"),
    ):
        if chosen:
            found.append(f"{seeds_text(chosen)} {remark}")
    steps = steps[measured]
    if len(steps) and not same_steps(steps.min(), steps.max()):
        found.append(f"seeds scored at different steps, {steps.min():,} to {steps.max():,}")
    begins = runs["evaluated_from"][measured]
    if score == AUC and len(begins) and begins.min() < begins.max():
        found.append(f"first evaluations at different steps, {begins.min():,} to {begins.max():,}")
    return found


def merged_remarks(tasks_by_remark: Mapping[tuple[str, str], Sequence[str]]) -> list[str]:
    """Texts such as `sac on walker_walk, cheetah_run: seed 2 failed`. tasks_by_remark: keys are agent and remark."""
    return [
        f"{name} on {', '.join(dict.fromkeys(tasks))}: {remark}" for (name, remark), tasks in tasks_by_remark.items()
    ]


def seeds_text(seeds: Sequence[int]) -> str:
    """Increasing seeds as text: `seed 3`, `seeds 0, 2, 5-9`."""
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {ranges(seeds)}"


def step_remarks(scores: pd.DataFrame) -> list[str]:
    """A remark if agents, by `name`, were not all scored at about the same environment step."""
    steps = scores[scores["scored"] > 0].groupby("name")["env_steps"].agg(["min", "max"])
    if steps.empty or same_steps(steps["min"].min(), steps["max"].max()):
        return []
    each = "; ".join(
        f"{name} {low:,}" + (f" to {high:,}" if high > low else "") for name, low, high in steps.itertuples()
    )
    return [
        f"scored at different environment steps: {each} (--env-steps {steps['min'].min()} leaves out what is later)"
    ]


def protocol_remarks(scores: pd.DataFrame) -> dict[tuple[str, str, str], list[str]]:
    """Per suite, budget and setting: which agents, by `name`, also ran under another budget or setting of the suite."""
    found: dict[tuple[str, str], set[tuple[str, str, str]]] = {}
    for suite, budget, setting, name in scores[[*PROTOCOL, "name"]].drop_duplicates().astype(str).to_numpy():
        found.setdefault((name, suite), set()).add((suite, budget, setting))
    remarks_by_protocol: dict[tuple[str, str, str], list[str]] = {}
    for (name, _), protocols in sorted(found.items()):
        for protocol in protocols if len(protocols) > 1 else ():
            others = ", ".join(sorted(protocol_name(*other) for other in protocols - {protocol}))
            remarks_by_protocol.setdefault(protocol, []).append(f"{name} was also run as {others}: kept apart")
    return remarks_by_protocol


def ranges(numbers: Sequence[int]) -> str:
    """Increasing whole numbers as text: `0, 2, 5-9`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{p[0]}-{p[-1]}" if len(p) > 2 else ", ".join(map(str, p)) for p in parts)


def _sorted(seeds: npt.NDArray[np.int64]) -> list[int]:
    return sorted(map(int, seeds))
