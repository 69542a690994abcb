"""From rows to scores: the final return of every run, and learning curves over seeds.

Rows that differ in suite, budget, labels, task or action repeat are never averaged together.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

PROTOCOL = ["suite", "budget", "labels"]  # one table or one figure each
CELL = [*PROTOCOL, "task", "action_repeat", "agent", "variant"]  # averaged over seeds only
_RUN = ["run_id", *CELL, "seed"]
_TEXT = {column: str for column in _RUN if column not in ("action_repeat", "seed")}
_STATUS = {"end": "finished", "error": "failed", "resume": "unfinished"}


def returns(frame: pd.DataFrame, env_steps: int | None = None) -> pd.DataFrame:
    """The evaluation returns among the rows of `results.store.read`, up to `env_steps` (inclusive)."""
    rows = frame[(frame["kind"] == "eval") & (frame["metric"] == "return")]
    return rows if env_steps is None else rows[rows["env_steps"] <= env_steps]


def final_scores(frame: pd.DataFrame, *, env_steps: int | None = None) -> pd.DataFrame:
    """One line per run: the last evaluation at or before `env_steps` (the very last if None).

    Columns: run_id, suite, budget, labels, task, action_repeat, agent, variant, seed, then env_steps (where that
    evaluation was made), score (its mean return; NaN stays NaN), evaluations (how many the run has up to there; with 0
    env_steps is 0 and score NaN) and status: `finished`, `failed` (an error row with no resume after it), or
    `unfinished`.
    """
    evaluated = returns(frame, env_steps)
    counts = evaluated.groupby("run_id", observed=True).size()
    last = evaluated.sort_values("env_steps", kind="stable").drop_duplicates("run_id", keep="last")
    last = last[[*_RUN, "env_steps", "value"]]
    without = frame[~frame["run_id"].isin(last["run_id"])].drop_duplicates("run_id", keep="last")
    without = without[_RUN].assign(env_steps=0, value=np.nan)
    scores = pd.concat([last, without]) if len(without) else last
    marks = frame[frame["kind"].isin(list(_STATUS))].drop_duplicates("run_id", keep="last")
    status = dict(zip(marks["run_id"], marks["kind"].map(_STATUS), strict=True))
    run_ids = scores["run_id"].tolist()
    scores = scores.assign(
        evaluations=np.array([counts.get(run_id, 0) for run_id in run_ids], dtype=np.int64),
        status=[status.get(run_id, "unfinished") for run_id in run_ids],
    )
    scores = scores.rename(columns={"value": "score"}).astype(_TEXT)  # as text, so that sorting is alphabetical
    return scores.sort_values([*CELL, "seed"], kind="stable", ignore_index=True)


def curves(frame: pd.DataFrame, *, env_steps: int | None = None) -> pd.DataFrame:
    """Return against environment steps, over seeds.

    Columns: suite, budget, labels, task, action_repeat, agent, variant, env_steps, n (seeds evaluated at that step),
    mean, std (of a sample; NaN for one seed), min, max. One seed's NaN makes mean, std, min and max NaN there.
    """
    rows = returns(frame, env_steps)
    rows = rows.drop_duplicates(["run_id", "env_steps"], keep="last")
    groups = rows.groupby([*CELL, "env_steps"], observed=True)["value"]
    result = groups.agg(n="size", mean="mean", std="std", min="min", max="max")
    measured = ["mean", "std", "min", "max"]
    result.loc[groups.count() < result["n"], measured] = np.nan  # pandas leaves NaN out unasked
    result = result.reset_index().astype({column: str for column in CELL if column in _TEXT})
    return result.sort_values([*CELL, "env_steps"], kind="stable", ignore_index=True)


def agent_name(agent: str, variant: str) -> str:
    """How an agent is called in tables and legends: `drqv2`, `drqv2-nstep=1`."""
    return f"{agent}-{variant}" if variant else agent


def protocol_name(suite: str, budget: str, labels: str) -> str:
    """How a table or figure is called: `dmc6@paper`, `dmc6@paper (rendering=fast)`."""
    return f"{suite}@{budget} ({labels})" if labels else f"{suite}@{budget}"
