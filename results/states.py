"""States and kinds that files hold as text."""

from __future__ import annotations

from enum import Enum


class TextEnum(str, Enum):
    """An enumeration whose members are their text: equal to it, printed as it, and stored as it."""

    def __str__(self) -> str:
        return str(self.value)


class Status(TextEnum):
    """State of a run in its provenance."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class RowKind(TextEnum):
    """Kind of a row of rows.jsonl; docs/store.md says when each is written."""

    EVAL = "eval"
    EPISODE = "episode"
    TRAIN = "train"
    SIGNAL = "signal"
    THROUGHPUT = "throughput"
    VLM = "vlm"
    ERROR = "error"
    RESUME = "resume"
    END = "end"
