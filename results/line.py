"""The parts of a line of rows.jsonl: labels, and numbers as JSON has them; JSON read fast."""

from __future__ import annotations

import json
import math
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def json_value(text: bytes) -> Any:
    """The value of JSON text. Raises ValueError or RecursionError."""
    try:
        return _fast_parser()(text)
    except ValueError:  # Python's own reads more: half of a surrogate pair, say
        return json.loads(text)


@cache  # an import statement that is met for every line takes as long as the parser
def _fast_parser() -> Callable[[bytes], Any]:
    from pydantic_core import from_json  # four times as fast as Python's own

    return from_json


def checked_labels(labels: Mapping[str, object]) -> dict[str, str]:
    """Labels as text, sorted by key. Raises ValueError for a `,` or `=`, which `label_text` needs as separators."""
    text = {str(key): str(value) for key, value in sorted(labels.items())}
    for part in (*text, *text.values()):
        if not part or "," in part or "=" in part:
            raise ValueError(f"label {part!r} must be non-empty and without ',' and '='; labels were {dict(labels)}")
    return text


def label_text(labels: Mapping[str, object]) -> str:
    """Labels as one canonical string, `k=v,k=v` sorted by key; empty when there are none."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def measured(metric: str, value: float | Sequence[float]) -> dict[str, Any]:
    """The part of a row that differs between the metrics of one call."""
    import numpy as np  # not before there is something to write: the command line starts without it

    array = np.asarray(value, dtype=np.float64)
    if array.ndim > 1 or array.size == 0:
        raise ValueError(f"metric {metric!r} must be a number or a non-empty list of numbers, got {value!r}")
    if array.ndim == 0:
        return {"metric": metric, "value": _json_number(float(array))}
    episodes = array.tolist()
    return {
        "metric": metric,
        "value": _json_number(sum(episodes) / len(episodes)),
        "episodes": [_json_number(episode) for episode in episodes],
    }


def _json_number(value: float) -> float | str:
    """JSON has no NaN and no infinities: they are written as text."""
    return value if math.isfinite(value) else str(value)
