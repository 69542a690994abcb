"""A trace: named quantities in the order in which they arise, and its file."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

UPDATES = 6  # of an agent, in a trace
FORMAT = 1
WHOLE = 8  # numbers of a quantity that are kept one by one; of a larger one, what does not depend on their order
DIGITS = 13  # significant ones that are kept


@dataclass(frozen=True)
class Quantity:
    """One step of the computation.

    Attributes:
        name: Such as `update 2: gradient of critic.q1.0.weight`.
        shape: Of the array.
        values: All its numbers if they are few; else their sum, the sum of their absolute values and the root of the
            sum of their squares.
    """

    name: str
    shape: tuple[int, ...]
    values: tuple[float, ...]


@dataclass
class Trace:
    """What a probe saw. facts: what it was made of and with, JSON values."""

    facts: dict[str, Any] = field(default_factory=dict)
    quantities: list[Quantity] = field(default_factory=list)

    def add(self, name: str, array: Any) -> None:
        """Append a quantity: a tensor, an array or a number."""
        array = np.asarray(array.numpy(force=True) if hasattr(array, "requires_grad") else array)
        self.quantities.append(Quantity(name, array.shape, _values(array.astype(np.float64))))

    def write(self, path: Path) -> None:
        """As JSON, a quantity a line, compressed."""
        lines = [json.dumps([each.name, each.shape, each.values]) for each in self.quantities]
        head = json.dumps({"format": FORMAT, "facts": self.facts})
        path.write_bytes(gzip.compress(("\n".join([head, *lines]) + "\n").encode(), mtime=0))


def read(path: Path) -> Trace:
    """The inverse of `Trace.write`. Raises ValueError for another file."""
    try:
        head, *lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
        if head["format"] != FORMAT:
            raise ValueError(f"format {head['format']}, this version reads {FORMAT}")
        quantities = [Quantity(name, tuple(shape), tuple(map(float, values))) for name, shape, values in lines]
    except (KeyError, TypeError, ValueError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is no trace of a probe: {error}") from error
    return Trace(head["facts"], quantities)


def _values(array: Any) -> tuple[float, ...]:
    if array.size <= WHOLE:
        values = array.ravel().tolist()
    else:
        values = [array.sum(), np.abs(array).sum(), math.sqrt(np.square(array).sum())]
    return tuple(float(f"{value:.{DIGITS}g}") for value in values)
