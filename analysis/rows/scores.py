"""From rows to scores: the final return of every run.

Rows that differ in suite, budget, labels, task or action repeat are never averaged together. A label that describes the
agent (`vlm=tiny`) makes another agent of the same table; any other label (`backend=embedded`) makes another table.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.rows.final import LAST, TRAIN10, checked, run_scores
from results.states import RowKind, TextEnum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy.typing as npt

AGENT_LABELS = ("vlm", "code")  # keys of the labels that describe the agent, not the task
PROTOCOL = ["suite", "budget", "setting"]  # one table or one figure each; setting: the labels that are not the agent's
CELL = [*PROTOCOL, "labels", "task", "action_repeat", "agent", "variant"]  # averaged over seeds only
_RUN = ["run_id", *CELL, "seed"]
STEPS_TOLERANCE = 0.01  # share by which steps may differ and still count as the same: an episode ends where it ends
READ = [column for column in [*_RUN, "env_steps", "value", "kind", "metric"] if column != "setting"]  # for scores
_TEXT = {column: str for column in _RUN if column not in ("action_repeat", "seed")}


class RunState(TextEnum):
    """What the rows of a run tell of its end."""

    FINISHED = "finished"
    FAILED = "failed"
    UNFINISHED = "unfinished"


# Invisible marks that would turn the text around a name: they are shown as escapes.
_DIRECTION = {
    ord(mark): f"\\u{ord(mark):04x}"
    for mark in "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
}
_STATE = {
    RowKind.END.value: RunState.FINISHED.value,
    RowKind.ERROR.value: RunState.FAILED.value,
    RowKind.RESUME.value: RunState.UNFINISHED.value,
}


def same_steps(low: float, high: float) -> bool:
    """Whether scores measured at these environment steps, the fewest and the most, can be compared."""
    return high - low <= STEPS_TOLERANCE * high


def returns(frame: pd.DataFrame, env_steps: int | None = None, *, metric: str = "return") -> pd.DataFrame:
    """The rows of evaluations, with the additional column `setting`.

    Args:
        frame: Rows as `results.store.read` returns them.
        env_steps: Last environment step to include; all if None.
        metric: What the evaluations measured.

    Returns:
        A part of `frame` in its order.
    """
    rows = frame[(frame["kind"] == RowKind.EVAL.value) & (frame["metric"] == metric)]
    return with_setting(rows if env_steps is None else rows[rows["env_steps"] <= env_steps])


def counted(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Those of rows of `returns` that enter scores: not what a run measured before its labels changed."""
    rows = evaluations.sort_values("env_steps", kind="stable").astype({"run_id": str, "labels": str})
    last = rows.drop_duplicates("run_id", keep="last").set_index("run_id")["labels"]
    own = evaluations["run_id"].astype(str).map(last)
    return evaluations[(evaluations["labels"].astype(str) == own).to_numpy(bool)]


def up_to(frame: pd.DataFrame, env_steps: int | None) -> pd.DataFrame:
    """The rows up to an environment step, and those that say what became of a run; all if None."""
    if env_steps is None:
        return frame
    return frame[(frame["env_steps"] <= env_steps) | frame["kind"].isin(list(_STATE))]


def with_setting(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with the additional column `setting`: their labels without those that describe the agent."""
    return frame.assign(setting=_mapped(frame["labels"], lambda text: parted(text)[0]))


def choose(frame: pd.DataFrame, *, tasks: Sequence[str] = (), agents: Sequence[str] = ()) -> pd.DataFrame:
    """Select the rows of some tasks and agents.

    Args:
        frame: Rows as `results.store.read` returns them.
        tasks: Names of tasks; all if empty.
        agents: Names as tables show them (`agent_name`), or without labels, or without variant too; all if empty.

    Returns:
        The selected rows in their order.

    Raises:
        ValueError: For a task or agent without rows; the message lists those that have some.
    """
    columns = ["agent", "variant", "labels"]
    triples = list(frame[columns].drop_duplicates().astype(str).itertuples(index=False, name=None))
    _check("task", tasks, frame["task"].unique())
    names = {triple: (agent_name(*triple), agent_name(*triple[:2]), triple[0]) for triple in triples}
    _check("agent", agents, [name for each in names.values() for name in each])
    if agents:
        wanted = {triple for triple, each in names.items() if set(agents).intersection(each)}
        frame = frame[[triple in wanted for triple in zip(*(frame[column] for column in columns), strict=True)]]
    return frame[frame["task"].isin(tasks)] if tasks else frame


def final_scores(
    frame: pd.DataFrame, *, env_steps: int | None = None, metric: str = "return", score: str = LAST
) -> pd.DataFrame:
    """The final score of every run.

    Args:
        frame: Rows as `results.store.read` returns them.
        env_steps: Score what was measured up to this environment step; everything if None.
        metric: What was measured.
        score: One of `analysis.rows.final.SCORES`.

    Returns:
        One line per run, ordered by `CELL` and seed. Text columns run_id, suite, budget, setting, labels, task, agent,
        variant, status (a `RunState`: failed means an error row without a resume after it); int64 columns
        action_repeat, seed, env_steps (where the scored evaluation was made, or the scored training ends), scored (how
        many evaluations or episodes the score is the mean of; if 0, env_steps is 0 and score NaN); float64 column score
        (in the metric's unit; NaN stays NaN); and the columns of `run_scores`, which hold the other scores.

    Raises:
        ValueError: For an unknown score.
    """
    frame = frame[READ]  # selecting rows of all columns, the episodes above all, would take most of the time
    measured = run_scores(frame, env_steps=env_steps, metric=metric)
    runs = with_setting(frame.iloc[measured.pop("row").to_numpy()])[_RUN].astype(_TEXT)  # text sorts alphabetically
    scores = pd.concat([runs.reset_index(drop=True), measured], axis=1)
    marks = frame[frame["kind"].isin(list(_STATE))].drop_duplicates("run_id", keep="last")
    status = pd.Series(marks["kind"].astype(str).map(_STATE).to_numpy(), index=marks["run_id"].astype(str))
    scores["status"] = status.reindex(scores["run_id"]).fillna(RunState.UNFINISHED.value).to_numpy()
    return with_score(scores, score).sort_values([*CELL, "seed"], kind="stable", ignore_index=True)


def with_score(scores: pd.DataFrame, score: str) -> pd.DataFrame:
    """Lines of `final_scores` with another score. Raises ValueError for an unknown one."""
    over = scores[f"{checked(score)}_over"]
    at = scores["trained_to" if score == TRAIN10 else "evaluated_at"]
    return scores.assign(env_steps=at.where(over > 0, 0), score=scores[score], scored=over)


@cache  # called for every run of a store, which has few agents
def agent_name(agent: str, variant: str, labels: str = "") -> str:
    """Name of an agent in tables and legends: `drqv2`, `drqv2-nstep=1`, `covr (vlm=tiny)`."""
    known = variant.split(",")  # a label that the variant states is not repeated
    rest = ",".join(part for part in parted(labels)[1].split(",") if part and part not in known)
    name = f"{agent}-{variant}" if variant else agent
    return (f"{name} ({rest})" if rest else name).translate(_DIRECTION)


def agent_names(frame: pd.DataFrame) -> npt.NDArray[np.object_]:
    """`agent_name` of each line, which has the columns agent, variant and labels."""
    columns = ["agent", "variant", "labels"]
    distinct = frame[columns].drop_duplicates().astype(str).itertuples(index=False, name=None)
    names = np.array([agent_name(*triple) for triple in distinct], object)
    which: npt.NDArray[np.int64] = frame.groupby(columns, observed=True, sort=False).ngroup().to_numpy()
    return names[which]


def protocol_name(suite: str, budget: str, setting: str) -> str:
    """Name of a table or figure: `dmc6@paper`, `dmc6@paper (rendering=fast)`."""
    return f"{suite}@{budget} ({setting})" if setting else f"{suite}@{budget}"


def parted(labels: str) -> tuple[str, str]:
    """Of labels `k=v,k=v` the setting, which makes another table, and those that describe the agent."""
    parts = [part for part in labels.split(",") if part]
    of_agent = [part for part in parts if part.split("=")[0] in AGENT_LABELS]
    return ",".join(part for part in parts if part not in of_agent), ",".join(of_agent)


def _mapped(column: pd.Series[str], function: Callable[[str], str]) -> pd.Series[str]:
    """Apply a function to each of many texts, once per distinct text."""
    found = column.astype("category").cat
    values = pd.Categorical([function(str(text)) for text in found.categories])
    return pd.Series(values[found.codes.to_numpy()], index=column.index)


def _check(what: str, wanted: Sequence[str], found: Iterable[str]) -> None:
    valid = sorted(set(map(str, found)))
    for name in wanted:
        if name not in valid:
            raise ValueError(f"no run of {what} {name!r}; there are runs of: {', '.join(valid) or 'none'}")
