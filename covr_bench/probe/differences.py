"""Where two traces part ways: the first quantity that differs, in the order in which quantities arise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from covr_bench.probe.trace import Quantity, Trace

TOLERANCE = {"float64": 1e-8, "float32": 2e-3}
"""Largest difference that is rounding, relative to the quantity's largest value."""
OF_A_VLM, RECORDED = 1e-6, "recorded "  # a VLM and what is measured of it are float32; how the names of that begin
_OF_PARAMETERS = (": gradient of ", ": weights of ")


class Mathematics(str, Enum):
    """What two traces say of each other."""

    SAME = "same mathematics"
    CHANGED = "changed"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True)
class Difference:
    """A quantity that differs: its name, both sides in words, and by how much relative to its largest value."""

    name: str
    a: str
    b: str
    relative: float

    def sentence(self, a: str = "A", b: str = "B") -> str:
        """Such as `update 0 at step 16: q: 0.21 in A, 0.19 in B (9.5 %)`. a, b: what the sides are called."""
        size = f" ({100 * self.relative:.2g} %)" if math.isfinite(self.relative) else ""
        return f"{self.name}: {self.a} in {a}, {self.b} in {b}{size}"


@dataclass(frozen=True)
class Comparison:
    """verdict: of the two traces. differences: in order of arising. reason: why they cannot be compared, else empty;
    {a} and {b} stand for the sides."""

    verdict: Mathematics
    differences: tuple[Difference, ...]
    reason: str = ""

    def sentence(self, a: str = "A", b: str = "B") -> str:
        """The verdict with its evidence. a, b: what the sides are called."""
        verdict: str = self.verdict.value
        if self.verdict is Mathematics.SAME:
            return verdict
        if self.verdict is Mathematics.NOT_COMPARABLE:
            return f"{verdict}: {self.reason.format(a=a, b=b)}"
        return f"{verdict}: the first difference is {self.differences[0].sentence(a, b)}"


def compare(a: Trace, b: Trace) -> Comparison:
    """Hold two traces side by side.

    Args:
        a, b: Of the same agent in two states, or of two agents.

    Returns:
        `CHANGED` for other defaults or another computation; `NOT_COMPARABLE` where the two draw other random numbers,
        so that every number differs for that reason alone. A setting that only one side has changes nothing by itself:
        what agents compute with it tells.
    """
    settings, of_one = _settings(a.facts, b.facts)
    if a.facts["dtype"] != b.facts["dtype"]:
        reason = f"{{a}} was computed in {a.facts['dtype']}, {{b}} in {b.facts['dtype']}"
        return Comparison(Mathematics.CHANGED if settings else Mathematics.NOT_COMPARABLE, tuple(settings), reason)
    found = (*settings, *_quantities(a.quantities, b.quantities, TOLERANCE[a.facts["dtype"]]))
    if not found:
        return Comparison(Mathematics.SAME, ())
    if not (settings or of_one) and (reason := _other_draws(a.facts, b.facts)):
        return Comparison(Mathematics.NOT_COMPARABLE, found, reason)
    return Comparison(Mathematics.CHANGED, (*settings, *of_one, *found[len(settings) :]))


def _settings(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[list[Difference], list[Difference]]:
    """Other defaults, and settings that only one side has. What a probe is set to is the same on both sides."""
    ours, theirs = a.get("defaults", {}), b.get("defaults", {})
    both: list[Difference] = []
    of_one: list[Difference] = []
    for name in dict.fromkeys([*ours, *theirs]):
        left, right = (str(each.get(name, "absent")) for each in (ours, theirs))
        if left != right:
            known = name in ours and name in theirs
            (both if known else of_one).append(Difference(f"setting {name}", left, right, math.nan))
    return both, of_one


def _quantities(a: Sequence[Quantity], b: Sequence[Quantity], tolerance: float) -> Iterable[Difference]:
    theirs = {each.name: each for each in b}
    ours = {each.name for each in a}
    unnamed_a = _groups(each for each in a if each.name not in theirs)
    unnamed_b = _groups(each for each in b if each.name not in ours)
    for quantity in a:
        other, group = theirs.get(quantity.name), _group(quantity.name)
        if other is not None:
            of_a_vlm = quantity.name.startswith(RECORDED)
            yield from _difference(quantity.name, quantity, other, max(tolerance, OF_A_VLM) if of_a_vlm else tolerance)
        elif group in unnamed_a:
            yield from _renamed(group, unnamed_a.pop(group), unnamed_b.pop(group, []), tolerance)
        elif not group:
            yield Difference(quantity.name, _shown(quantity), "absent", math.nan)
    for group, members in unnamed_b.items():
        yield Difference(f"{group}{members[0].name.removeprefix(group)}", "absent", _shown(members[0]), math.nan)
    yield from (
        Difference(each.name, "absent", _shown(each), math.nan)
        for each in b
        if each.name not in ours and not _group(each.name)
    )


def _group(name: str) -> str:
    """What gradients and weights of one update are called before their parameter's name; empty of anything else."""
    for part in _OF_PARAMETERS:
        before, found, _ = name.partition(part)
        if found:
            return f"{before}{part}"
    return ""


def _groups(quantities: Iterable[Quantity]) -> dict[str, list[Quantity]]:
    groups: dict[str, list[Quantity]] = {}
    for each in quantities:
        if group := _group(each.name):
            groups.setdefault(group, []).append(each)
    return groups


def _renamed(group: str, a: Sequence[Quantity], b: Sequence[Quantity], tolerance: float) -> Iterable[Difference]:
    """Parameters of other names are held side by side in the order of their sizes and values."""
    if len(a) != len(b):
        yield Difference(f"{group}all parameters", f"{len(a)} arrays", f"{len(b)} arrays", math.nan)
        return
    for ours, theirs in zip(*(sorted(each, key=lambda q: (q.shape, q.values)) for each in (a, b)), strict=True):
        yield from _difference(ours.name, ours, theirs, tolerance)


def _difference(name: str, a: Quantity, b: Quantity, tolerance: float) -> Iterable[Difference]:
    if a.shape != b.shape:
        yield Difference(name, f"shape {a.shape}", f"shape {b.shape}", math.nan)
        return
    scale = max((abs(value) for value in (*a.values, *b.values) if math.isfinite(value)), default=0.0)
    gaps = [_gap(x, y) for x, y in zip(a.values, b.values, strict=True)]
    largest = max(range(len(gaps)), key=gaps.__getitem__, default=-1)
    if largest >= 0 and not gaps[largest] <= tolerance * scale:  # NaN differs from any number
        relative = gaps[largest] / scale if scale else math.nan
        yield Difference(name, f"{a.values[largest]:.6g}", f"{b.values[largest]:.6g}", relative)


def _gap(x: float, y: float) -> float:
    """0 between numbers that are equally not finite, too."""
    return 0.0 if x == y or (math.isnan(x) and math.isnan(y)) else abs(x - y)


def _shown(quantity: Quantity) -> str:
    return f"{quantity.values[0]:.6g}" if len(quantity.values) == 1 else f"shape {quantity.shape}"


def _other_draws(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """How the random numbers that were drawn differ in kind, shape or number; empty if they do not."""
    ours, theirs = ({(kind, tuple(shape)): count for kind, shape, count in each["draws"]} for each in (a, b))
    for (kind, shape), _ in [*ours.items(), *theirs.items()]:
        left, right = ours.get((kind, shape), 0), theirs.get((kind, shape), 0)
        if left != right:
            return f"the random numbers are not the same: {left} draws of {kind} {shape} in {{a}}, {right} in {{b}}"
    return ""
