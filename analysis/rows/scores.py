"""From rows to scores: the final return of every run, and learning curves over seeds.

Rows that differ in suite, budget, labels, task or action repeat are never averaged together. A label that says what the
agent was (`vlm=tiny`) makes it another agent of the same table; any other label (`backend=embedded`) another table.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

AGENT_LABELS = ("vlm", "code")  # keys of the labels that say what the agent was, not how the task was set
PROTOCOL = ["suite", "budget", "setting"]  # one table or one figure each; setting: the labels other than the agent's
CELL = [*PROTOCOL, "labels", "task", "action_repeat", "agent", "variant"]  # averaged over seeds only
_RUN = ["run_id", *CELL, "seed"]
_READ = [column for column in [*_RUN, "env_steps", "value", "kind", "metric"] if column != "setting"]
_TEXT = {column: str for column in _RUN if column not in ("action_repeat", "seed")}
_STATUS = {"end": "finished", "error": "failed", "resume": "unfinished"}


def returns(frame: pd.DataFrame, env_steps: int | None = None, *, metric: str = "return") -> pd.DataFrame:
    """The evaluations among the rows of `results.store.read`, up to `env_steps` (inclusive).

    Adds the column `setting`. metric: what was measured; the episode's return if not given.
    """
    rows = frame[(frame["kind"] == "eval") & (frame["metric"] == metric)]
    return with_setting(rows if env_steps is None else rows[rows["env_steps"] <= env_steps])


def with_setting(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with the column `setting`: their labels without those of the agent."""
    return frame.assign(setting=_mapped(frame["labels"], lambda text: _labels(text, of_agent=False)))


def choose(frame: pd.DataFrame, *, tasks: Sequence[str] = (), agents: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of these tasks and agents, all where none is given.

    An agent is given as it is shown (`agent_name`), or without variant and labels. Raises ValueError for one without
    rows.
    """
    columns = ["agent", "variant", "labels"]
    triples = list(frame[columns].drop_duplicates().astype(str).itertuples(index=False, name=None))
    _check("task", tasks, frame["task"].unique())
    _check("agent", agents, [name for triple in triples for name in (agent_name(*triple), triple[0])])
    if agents:
        wanted = {triple for triple in triples if {agent_name(*triple), triple[0]} & set(agents)}
        frame = frame[[triple in wanted for triple in zip(*(frame[column] for column in columns), strict=True)]]
    return frame[frame["task"].isin(tasks)] if tasks else frame


def final_scores(frame: pd.DataFrame, *, env_steps: int | None = None, metric: str = "return") -> pd.DataFrame:
    """One line per run: the last evaluation at or before `env_steps` (the very last if None).

    Columns: run_id, suite, budget, setting, labels, task, action_repeat, agent, variant, seed, then env_steps (where
    that evaluation was made), score (its mean return; NaN stays NaN), evaluations (how many the run has up to there;
    with 0 env_steps is 0 and score NaN), label_sets (under how many sets of labels they were made) and status:
    `finished`, `failed` (an error row with no resume after it), or `unfinished`. metric: as in `returns`.
    """
    frame = frame[_READ]  # taking rows of the others, of the episodes above all, would take most of the time
    evaluated = returns(frame, env_steps, metric=metric)
    counts = evaluated.groupby("run_id", observed=True).size()
    label_sets = evaluated.drop_duplicates(["run_id", "labels"]).groupby("run_id", observed=True).size()
    last = evaluated.sort_values("env_steps", kind="stable").drop_duplicates("run_id", keep="last")
    last = last[[*_RUN, "env_steps", "value"]].astype(_TEXT)  # as text, so that sorting is alphabetical
    each = frame.drop_duplicates("run_id", keep="last")
    without = with_setting(each[~each["run_id"].astype(str).isin(last["run_id"])])
    without = without[_RUN].assign(env_steps=0, value=np.nan).astype(_TEXT)
    scores = pd.concat([last, without]) if len(without) else last
    marks = frame[frame["kind"].isin(list(_STATUS))].drop_duplicates("run_id", keep="last")
    status = pd.Series(marks["kind"].astype(str).map(_STATUS).to_numpy(), index=marks["run_id"].astype(str))
    for series in (counts, label_sets):
        series.index = series.index.astype(str)
    scores = scores.assign(
        evaluations=counts.reindex(scores["run_id"]).fillna(0).to_numpy(np.int64),
        label_sets=label_sets.reindex(scores["run_id"]).fillna(0).to_numpy(np.int64),
        status=status.reindex(scores["run_id"]).fillna("unfinished").to_numpy(),
    )
    scores = scores.rename(columns={"value": "score"})
    return scores.sort_values([*CELL, "seed"], kind="stable", ignore_index=True)


def curves(frame: pd.DataFrame, *, env_steps: int | None = None) -> pd.DataFrame:
    """Return against environment steps, over seeds.

    Columns: suite, budget, setting, labels, task, action_repeat, agent, variant, env_steps, n (seeds evaluated at that
    step), mean, std (of a sample; NaN for one seed), min, max. One seed's NaN makes mean, std, min and max NaN there.
    """
    rows = returns(frame, env_steps)
    rows = rows.drop_duplicates(["run_id", "env_steps"], keep="last")
    groups = rows.groupby([*CELL, "env_steps"], observed=True)["value"]
    result = groups.agg(n="size", mean="mean", std="std", min="min", max="max")
    measured = ["mean", "std", "min", "max"]
    result.loc[groups.count() < result["n"], measured] = np.nan  # pandas leaves NaN out unasked
    result = result.reset_index().astype({column: str for column in CELL if column in _TEXT})
    return result.sort_values([*CELL, "env_steps"], kind="stable", ignore_index=True)


@cache  # asked for every run of a store, of few agents
def agent_name(agent: str, variant: str, labels: str = "") -> str:
    """How an agent is called in tables and legends: `drqv2`, `drqv2-nstep=1`, `covr (vlm=tiny)`."""
    known = variant.split(",")  # a label that the variant states is not said twice
    rest = ",".join(part for part in _labels(labels, of_agent=True).split(",") if part and part not in known)
    name = f"{agent}-{variant}" if variant else agent
    return f"{name} ({rest})" if rest else name


def protocol_name(suite: str, budget: str, setting: str) -> str:
    """How a table or figure is called: `dmc6@paper`, `dmc6@paper (rendering=fast)`."""
    return f"{suite}@{budget} ({setting})" if setting else f"{suite}@{budget}"


def _labels(text: str, *, of_agent: bool) -> str:
    """Those of the labels `k=v,k=v` that are the agent's, or the others."""
    return ",".join(part for part in text.split(",") if part and (part.split("=")[0] in AGENT_LABELS) == of_agent)


def _mapped(column: pd.Series[str], function: Callable[[str], str]) -> pd.Series[str]:
    """A function of each of many texts, called once per different text."""
    found = column.astype("category").cat
    values = pd.Categorical([function(str(text)) for text in found.categories])
    return pd.Series(values[found.codes.to_numpy()], index=column.index)


def _check(what: str, wanted: Sequence[str], found: Iterable[str]) -> None:
    valid = sorted(set(map(str, found)))
    for name in wanted:
        if name not in valid:
            raise ValueError(f"no run of {what} {name!r}; there are runs of: {', '.join(valid) or 'none'}")
