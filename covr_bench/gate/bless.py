"""Making references: the new side becomes what later ones are held against."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.gate.behaviour import distances
from covr_bench.gate.gate import REFERENCE_SEEDS
from covr_bench.gate.measure import BUDGET, SHORT_STEPS, Broken, same_digests
from covr_bench.gate.references import Other, Reference
from covr_bench.probe.differences import Mathematics, compare
from results.environment import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from covr_bench.gate.measure import Side
    from covr_bench.gate.references import References
    from covr_bench.probe.trace import Trace


def bless(
    agents: Sequence[str], new: Side, references: References, reason: str, say: Callable[[str], None]
) -> dict[str, str]:
    """Store what the new side does as the reference of each agent that does something else than its reference.

    Args:
        agents: By what the user gave.
        new: The side to store.
        references: Where.
        reason: Kept beside it.
        say: Told of each agent.

    Returns:
        Why agents could not be stored, by agent.
    """
    failed: dict[str, str] = {}
    digests, stored = new.digests(agents), references.digests(agents)
    for agent in agents:
        ours = digests[agent]
        if isinstance(ours, Broken):
            failed[agent] = ours.reason
            continue
        theirs = stored[agent]
        if isinstance(theirs, Other):
            failed[agent] = f"{theirs.reason}, and would be lost with its history: give another folder, or remove it"
            continue
        if not isinstance(theirs, Broken) and (lost := [task for task in theirs if task not in ours]):
            failed[agent] = (
                f"its reference has {', '.join(lost)} too, which would be lost: bless all of its tasks together, or "
                f"remove {references.folder / references.names[agent]} first"
            )
            continue
        trace = new.traces([agent])[agent]
        same = not isinstance(theirs, Broken) and same_digests(ours, theirs)
        if same and _same_trace(references.traces([agent])[agent], trace):
            say(f"{agent}: does what its reference does; nothing to bless")
        else:
            failed |= _store(agent, ours, trace, new, references, reason, say)
    return failed


def _same_trace(reference: Trace | Broken, new: Trace | Broken) -> bool:
    """Whether the gate's probe would see no difference, either."""
    if isinstance(reference, Broken) or isinstance(new, Broken):
        return isinstance(reference, Broken) and isinstance(new, Broken)
    return compare(reference, new).verdict is Mathematics.SAME


def _store(
    agent: str,
    digests: dict[str, str],
    trace: Trace | Broken,
    new: Side,
    references: References,
    reason: str,
    say: Callable[[str], None],
) -> dict[str, str]:
    before = references.get(agent)
    signals = new.signals([agent], range(REFERENCE_SEEDS))[agent]
    if isinstance(signals, Broken):
        return {agent: signals.reason}
    moved = [] if isinstance(before, Broken) else [each.text() for each in distances(before.signals, signals)]
    facts = {
        "suite": new.suite,
        "budget": BUDGET,
        "short_steps": SHORT_STEPS,
        "seeds": REFERENCE_SEEDS,
        "digests": digests,
        "environment": collect(),
    }
    if isinstance(trace, Broken):
        say(f"{agent}: the probe cannot follow it ({trace.reason}); its signals alone are stored")
    reference = Reference(facts, None if isinstance(trace, Broken) else trace, signals)
    folder = references.store(agent, reference, reason, moved)
    say(f"{agent}: stored in {folder}" + (f"; moved: {'; '.join(moved[:3])}" if moved else ""))
    return {}
