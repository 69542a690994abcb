"""Four scores of a run: from its last evaluation, its last three, all of them, and its last training episodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from results.states import RowKind

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

LAST, LAST3, TRAIN10, AUC = SCORES = ("last", "last3", "train10", "auc")
_DEFINITIONS = {
    LAST: "{} of the last evaluation",
    LAST3: "mean {} of the last three evaluations of a seed",
    TRAIN10: "mean {} of the training episodes (exploring actions) that ended in the last 10 % of a run's environment "
    "steps",
    AUC: "area under the curve of a seed's evaluations divided by its length, i.e. the mean {} from the first to the "
    "last of them",
}


def definition(score: str, metric: str = "return") -> str:
    """A score of `SCORES` in words. Raises ValueError for another."""
    return _DEFINITIONS[checked(score)].format(metric)


def checked(score: str) -> str:
    """The score itself. Raises ValueError if it is none of `SCORES`."""
    if score not in SCORES:
        raise ValueError(f"unknown score {score!r}; valid: {', '.join(SCORES)}")
    return score


@np.errstate(invalid="ignore", over="ignore")
def mean_and_deviation(scores: Floats) -> tuple[float, float]:
    """Mean and sample deviation over seeds; not finite, and without a warning, if one score is not or there is none."""
    if not len(scores):
        return np.nan, np.nan
    if len(scores) > 1 and np.isfinite(scores).all() and scores.min() == scores.max():
        return float(scores.min()), 0.0  # by the formulas, rounding would count as spread
    return float(scores.mean()), float(scores.std(ddof=1)) if len(scores) > 1 else np.nan


@np.errstate(invalid="ignore", over="ignore")  # remarks name returns that are infinite
def run_scores(frame: pd.DataFrame, *, env_steps: int | None = None, metric: str = "return") -> pd.DataFrame:
    """All scores of every run.

    Only evaluations and episodes with the labels of the run's last evaluation count.

    Args:
        frame: Rows as `results.store.read` returns them.
        env_steps: Leave out what was measured after this environment step; nothing if None.
        metric: What was measured.

    Returns:
        One line per run. Columns by score of `SCORES` (float64, NaN without a measurement; a measurement that is NaN
        makes the score NaN) and `<score>_over`, how many evaluations or episodes it is the mean of; int64 columns row
        (index in `frame` of the run's last evaluation, else of its last row), evaluations (also under other labels),
        label_sets (under how many sets of labels the run was measured), evaluated_from and evaluated_at (steps of the
        first and last counted evaluation; 0 without one), evaluated_after (step of the first evaluation after
        `env_steps`; 0 without one), trained_to (the run's environment steps, up to `env_steps`);
        float64 column acted (share of its VLM's answers that state an action, NaN without a VLM).
    """
    run, label = (frame[name].astype("category").cat.codes.to_numpy(np.int64) for name in ("run_id", "labels"))
    steps, value = frame["env_steps"].to_numpy(np.int64), frame["value"].to_numpy(np.float64)
    num_runs = int(run.max(initial=-1)) + 1
    every = (frame["metric"] == metric).to_numpy(bool)
    wanted = every if env_steps is None else every & (steps <= env_steps)
    evaluations, episodes = (
        _in_order(np.flatnonzero(wanted & (frame["kind"] == kind.value).to_numpy(bool)), run, steps)
        for kind in (RowKind.EVAL, RowKind.EPISODE)
    )
    row = np.full(num_runs, -1, np.int64)
    for rows in (np.arange(len(run)), evaluations):
        row[run[rows]] = rows  # of repeated indices the last counts
    length = np.zeros(num_runs, np.int64)
    np.maximum.at(length, run, steps)
    length = length if env_steps is None else np.minimum(length, env_steps)
    own = label[row] if num_runs else row
    result: dict[str, npt.NDArray[np.generic]] = {
        "row": row,
        "evaluations": np.bincount(run[evaluations], minlength=num_runs),
        "label_sets": _label_sets(np.concatenate([evaluations, episodes]), run, label, own),
        "trained_to": length,
        "evaluated_after": _first(every & ~wanted & (frame["kind"] == RowKind.EVAL.value).to_numpy(bool), run, steps),
    }
    counted = evaluations[label[evaluations] == own[run[evaluations]]]
    result |= _of_evaluations(run[counted], steps[counted], value[counted], num_runs)
    answers = np.flatnonzero(((frame["kind"] == RowKind.VLM.value) & (frame["metric"] == "valid_share")).to_numpy(bool))
    answers = answers if env_steps is None else answers[steps[answers] <= env_steps]
    result["acted"] = np.full(num_runs, np.nan)
    result["acted"][run[answers]] = value[answers]  # of repeated indices the last counts
    late = episodes[10 * steps[episodes] > 9 * length[run[episodes]]]
    late = late[label[late] == own[run[late]]]
    result[TRAIN10], result[f"{TRAIN10}_over"] = _means(run[late], value[late], num_runs)
    return pd.DataFrame(result)[row >= 0].reset_index(drop=True)


def _of_evaluations(run: Ints, steps: Ints, value: Floats, num_runs: int) -> dict[str, npt.NDArray[np.generic]]:
    """The scores of evaluations that are sorted by run and step; of two at one step the later row counts."""
    kept = np.ones(len(run), bool)
    kept[:-1] = (np.diff(run) > 0) | (np.diff(steps) > 0)
    run, steps, value = run[kept], steps[kept], value[kept]
    first, last = np.zeros(num_runs, np.int64), np.zeros(num_runs, np.int64)
    first[run[::-1]], last[run] = steps[::-1], steps
    result: dict[str, npt.NDArray[np.generic]] = {"evaluated_from": first, "evaluated_at": last}
    ends = np.searchsorted(run, np.arange(num_runs), side="right")
    from_end = ends[run] - np.arange(len(run))
    for score, most in ((LAST, 1), (LAST3, 3)):
        near = from_end <= most
        result[score], result[f"{score}_over"] = _means(run[near], value[near], num_runs)
    same = np.diff(run) == 0
    width, middle = np.diff(steps)[same], (value[1:] + value[:-1])[same] / 2
    area = np.bincount(run[1:][same], weights=width * middle, minlength=num_runs)
    span = last - first
    result[AUC] = np.where(span > 0, area / np.maximum(span, 1), result[LAST])  # one evaluation: its own value
    result[f"{AUC}_over"] = np.bincount(run, minlength=num_runs)
    return result


def _means(run: Ints, value: Floats, num_runs: int) -> tuple[Floats, Ints]:
    """Mean and number of the values of each run; NaN without one."""
    counts = np.bincount(run, minlength=num_runs)
    sums = np.bincount(run, weights=value, minlength=num_runs)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan), counts


def _in_order(rows: Ints, run: Ints, steps: Ints) -> Ints:
    """The rows by run and step; those at one step stay in their order."""
    return rows[np.lexsort((steps[rows], run[rows]))]


def _first(chosen: npt.NDArray[np.bool_], run: Ints, steps: Ints) -> Ints:
    """The lowest step of each run's chosen rows; 0 without one."""
    first = np.full(int(run.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, run[chosen], steps[chosen])
    return np.where(first < np.iinfo(np.int64).max, first, 0)


def _label_sets(rows: Ints, run: Ints, label: Ints, own: Ints) -> Ints:
    """Under how many sets of labels each run has rows. own: the label of each run."""
    other = rows[label[rows] != own[run[rows]]]
    size = int(label.max(initial=0)) + 1
    pairs = np.unique(run[other] * size + label[other])
    measured = np.bincount(run[rows], minlength=len(own)) > 0
    return measured + np.bincount(pairs // size, minlength=len(own))
