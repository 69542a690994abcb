"""Cards: what a visitor of a published policy or store reads first."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.rows.stand_ins import stand_ins

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

LIBRARY = "covr-bench"


def policy_card(record: Mapping[str, Any], rows: pd.DataFrame, name: str, licence: str, *, video: bool) -> str:
    """Markdown with the front matter that the hub reads. rows: of the run. video: whether there is one."""
    config = record["config"]
    mean, low, high, n = _last_return(rows)
    protocol, name_of_task, agent, _ = str(record["run_id"]).split("/")
    task = f"{protocol.partition('@')[0]}/{name_of_task}"
    result = {
        "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
        "dataset": {"name": task, "type": task},
        "metrics": [{"type": "mean_reward", "name": "return", "value": round(mean, 3)}],
    }
    front = {
        "library_name": LIBRARY,
        "tags": ["reinforcement-learning", LIBRARY, str(config["task"])],
        **({"license": licence} if licence else {}),
        "model-index": [{"name": agent, "results": [result]}],
    }
    labels = _labels(rows)
    interval = f"95 % interval {low:.4g} to {high:.4g} over these episodes (Student's t)"
    episodes = f"the mean of {n} episodes from starts that the seed fixes, {interval}" if n > 1 else "one episode"
    film = ["", "[An episode](episode.mp4)."] if video else []
    code = ["", _OWN_CODE] if str(config["agent"]).endswith(".py") else []
    lines = [
        _front(front),
        f"# `{agent}` on `{task}`",
        "",
        f"Return {mean:.4g} after {config['env_steps']:,} environment steps: {episodes}. One training run, seed "
        f"{config['seed']}: this says nothing of other seeds.",
        *(["", f"**Marked {labels}.**"] if labels else []),
        "",
        "![Learning curve](curve.png)",
        *film,
        "",
        "## Evaluate it",
        "",
        f"    pip install {LIBRARY}",
        f"    covr-bench eval {name}",
        "",
        "or from Python:",
        "",
        "    import covr_bench",
        f'    with covr_bench.load_policy("{name}") as policy:',
        "        policy.play(episodes=10)",
        *code,
        "",
        "## How it was made",
        "",
        *_facts(record),
        "",
        "Settings of the agent:",
        "",
        *(f"    {key}: {json.dumps(value)}" for key, value in sorted(config.get("agent_config", {}).items())),
        "",
        "`rows.jsonl` has every evaluation and training episode, `provenance.json` the rest. Nothing here is a pickle.",
    ]
    return "\n".join(lines) + "\n"


_OWN_CODE = (
    "The agent is code of its author, `agent.py`. Read it first; it runs with `--trust-code`, or "
    "`load_policy(..., trust_code=True)`."
)


def store_card(records: Sequence[Mapping[str, Any]], rows: pd.DataFrame, name: str, licence: str) -> str:
    """Markdown of a store's rows as a data set. records: also of runs without rows, which it counts apart."""
    front = {
        "tags": ["reinforcement-learning", LIBRARY],
        **({"license": licence} if licence else {}),
        "configs": [{"config_name": "rows", "data_files": "rows.parquet"}],
    }
    with_rows = set(rows["run_id"].astype(str))
    measured = [record for record in records if record["run_id"] in with_rows]
    unmeasured = len(records) - len(measured)
    more = f", and for {unmeasured} more without rows" if unmeasured else ""
    runs = Counter("/".join(str(record["run_id"]).split("/")[:3]) for record in measured)
    states = Counter(str(record["status"]) for record in measured)
    labels = {part for text in rows["labels"].astype(str).unique() for part in text.split(",") if part}
    marks = [f"`{label}` ({meaning})" for label in sorted(labels) for _, meaning in stand_ins(label)]
    others = [f"`{label}`" for label in sorted(labels) if not stand_ins(label)]
    lines = [
        _front(front),
        f"# {len(measured)} run{'s' if len(measured) != 1 else ''} of covr-bench",
        "",
        f"Runs by state: {', '.join(f'{count} {state}' for state, count in sorted(states.items()))}. "
        f"{len(rows):,} rows: every evaluation, training episode and measurement, with its environment step.",
        *(["", f"Some rows are of stand-ins: {'; '.join(marks)}."] if marks else []),
        *(["", f"Labels of rows: {', '.join(others)}."] if others else []),
        "",
        "| suite@budget/task/agent | seeds |",
        "|---|---:|",
        *(f"| `{run}` | {count} |" for run, count in sorted(runs.items())),
        "",
        "    import pandas as pd",
        f'    rows = pd.read_parquet("{name.replace("hf:", "hf://datasets/")}/rows.parquet")',
        "",
        f"`provenance.jsonl` has a line for each run{more}: its settings, code, seeds, versions and machine.",
    ]
    return "\n".join(lines) + "\n"


def _front(values: Mapping[str, Any]) -> str:
    import yaml

    return f"---\n{yaml.safe_dump(dict(values), sort_keys=False)}---\n"


def _last_return(rows: pd.DataFrame) -> tuple[float, float, float, int]:
    """Mean return of the last evaluation, its 95 % interval over episodes, and how many there were."""
    from analysis.statistics.intervals import Summary, mean_interval

    evaluations = rows[(rows["kind"] == "eval") & (rows["metric"] == "return")].sort_values("env_steps")
    episodes = np.asarray(evaluations["episodes"].iloc[-1], np.float64)
    deviation = float(episodes.std(ddof=1)) if len(episodes) > 1 else np.nan
    found = mean_interval(Summary(float(episodes.mean()), deviation, len(episodes)))
    return found.value, found.low, found.high, len(episodes)


def _labels(rows: pd.DataFrame) -> str:
    return ", ".join(sorted(set(rows["labels"].astype(str)) - {""}))


def _facts(record: Mapping[str, Any]) -> list[str]:
    environment = record["environment"]
    packages = ", ".join(f"{name} {version}" for name, version in environment.get("packages", {}).items())
    gpus = ", ".join(map(str, environment.get("gpus", []))) or "no GPU"
    return [
        f"- `{record['sessions'][-1]['command']}`",
        f"- commit {environment.get('git_sha') or 'unknown'} of {LIBRARY} {environment.get('version')}, "
        f"Python {environment.get('python')}, {packages}",
        f"- {environment.get('cpu')}, {gpus}, {record['wall_s']:.0f} s",
    ]
