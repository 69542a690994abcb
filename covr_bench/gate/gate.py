"""The four questions, each asked of those agents that the one before did not settle."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from analysis.gate.behaviour import Behaviour, behaviour
from analysis.gate.returns import Answer, Returns, looks, returns
from analysis.gate.signals import areas
from analysis.gate.verdicts import Line, Verdict, judged
from covr_bench.gate.measure import Broken, same_digests
from covr_bench.probe.differences import Mathematics, compare
from covr_bench.probe.trace import UPDATES, Trace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from covr_bench.gate.measure import Measurements

FIRST_NEW_SEED = 100  # the reference's are the first: runs of one seed are not independent
REFERENCE_SEEDS = 8
FEWEST, MOST = 3, 8  # new seeds
SIDES = ("the reference", "the new side")


@dataclass(frozen=True)
class Rules:
    """How strict the gate is.

    Attributes:
        alpha: Chance that anything at all is called different or worse that is not.
        margins: By task, the loss of return that does not matter.
        at_least: By task, the mean training return that a new side must reach.
        allow_change: Whether a change passes that is not worse.
        max_seconds: Time for it all; None for no limit.
        workers: Runs at a time.
        probe: Whether the second question is asked.
    """

    alpha: float = 0.05
    margins: Mapping[str, float] = field(default_factory=dict)
    at_least: Mapping[str, float] = field(default_factory=dict)
    allow_change: bool = False
    max_seconds: float | None = None
    workers: int = 1
    probe: bool = True


@dataclass
class Gate:
    """A gate in progress.

    Attributes:
        new, reference: The two sides.
        tasks: Names.
        rules: How strict it is.
        lines: The verdicts so far.
        tables: By agent, the signals of the reference and of the new side, where they were asked for.
    """

    new: Measurements
    reference: Measurements
    tasks: Sequence[str]
    rules: Rules
    lines: list[Line] = field(default_factory=list)
    tables: dict[str, tuple[pd.DataFrame, pd.DataFrame]] = field(default_factory=dict)
    _not_comparable: dict[str, str] = field(default_factory=dict)  # by agent, why its mathematics is not

    def judge(self, agents: Sequence[str]) -> list[Line]:
        """Verdicts on agents, each on every task. Raises UserError if a side cannot run at all."""
        self._begun = time.monotonic()
        equal, others = self._same_code(agents)
        self._seconds_a_run = (time.monotonic() - self._begun) / max(1, len(agents) * len(self.tasks))
        changes = self._same_mathematics(equal, others)
        if changes:
            self._same_behaviour(changes)
        if self.rules.at_least:
            self._reaches([agent for agent in agents if not self._is_broken(agent)])
        order = {agent: i for i, agent in enumerate(agents)}
        return sorted(self.lines, key=lambda line: (order[line.agent], list(self.tasks).index(line.task)))

    def _settle(self, agent: str, verdict: Verdict, sentence: str, question: int) -> None:
        seconds = time.monotonic() - self._begun
        self.lines += [Line(agent, task, verdict, sentence, question, seconds) for task in self.tasks]

    def _is_broken(self, agent: str) -> bool:
        return any(line.agent == agent and line.verdict is Verdict.BROKEN for line in self.lines)

    def _same_code(self, agents: Sequence[str]) -> tuple[list[str], list[str]]:
        """Settle what is broken; of the others, whose short runs are equal to the last bit, and whose are not."""
        equal: list[str] = []
        others: list[str] = []
        new = self.new.digests(agents)
        alive = [agent for agent in agents if not isinstance(new[agent], Broken)]
        old = self.reference.digests(alive)
        for agent in agents:
            ours = new[agent]
            if isinstance(ours, Broken):
                self._settle(agent, Verdict.BROKEN, ours.reason, 1)
                continue
            theirs = old[agent]
            if isinstance(theirs, Broken):
                self._settle(agent, Verdict.BROKEN, f"nothing to hold it against: {theirs.reason}", 1)
            elif missing := [task for task in ours if task not in theirs]:
                self._settle(agent, Verdict.BROKEN, f"{self.reference.name} has nothing of {', '.join(missing)}", 1)
            else:
                (equal if same_digests(ours, theirs) else others).append(agent)
        return equal, others

    def _same_mathematics(self, equal: Sequence[str], others: Sequence[str]) -> dict[str, str]:
        """Settle what computes the same; of the others, how they differ, or nothing if that cannot be said.

        An agent whose short runs are equal is asked, too: what it does later, such as a second round of a VLM, is in
        none of their numbers.
        """
        agents = [*equal, *others] if self.rules.probe else []
        theirs = self.reference.traces(agents) if agents else {}
        followed = [agent for agent in agents if not isinstance(theirs[agent], Broken)]
        ours = self.new.traces(followed) if followed else {}
        changes: dict[str, str] = {}
        for agent in (*equal, *others):
            a, b = theirs.get(agent), ours.get(agent)
            if isinstance(b, Broken):
                self._settle(agent, Verdict.BROKEN, f"the probe: {b.reason}", 2)
                continue
            # Neither can be asked of an agent that no probe can follow: its runs decide.
            verdict, sentence = self._held(agent, a, b) if isinstance(a, Trace) and b else (None, "")
            if agent in equal and verdict in (None, Mathematics.SAME):
                text = f"every number of a short run is that of {self.reference.name}"
                self._settle(agent, Verdict.IDENTICAL, f"{text}; {sentence}" if sentence else text, 1)
            elif verdict is Mathematics.SAME:
                self._settle(agent, Verdict.SAME, sentence, 2)
            elif verdict is Mathematics.NOT_COMPARABLE:
                changes[agent], self._not_comparable[agent] = "", sentence
            else:
                changes[agent] = sentence
        return changes

    def _held(self, agent: str, reference: Trace, new: Trace) -> tuple[Mathematics, str]:
        """What a trace says beside the reference's, and in a sentence: what agrees, or the first that differs."""
        found, count = compare(reference, new), len(reference.quantities)
        if found.verdict is Mathematics.CHANGED and (order := self._same_in_another_order(agent, reference)):
            return Mathematics.SAME, f"same mathematics: {count} quantities agree, {order}"
        if found.verdict is Mathematics.CHANGED:
            return found.verdict, found.differences[0].sentence(*SIDES)
        agreed = f"same mathematics: {count} quantities of the first updates agree"
        return found.verdict, agreed if found.verdict is Mathematics.SAME else found.sentence(*SIDES)

    def _same_in_another_order(self, agent: str, reference: Trace) -> str:
        """Says so if only the order of random numbers is another: of equal draws in pairs, the second comes first.

        Which of two equally distributed numbers is used where makes no difference to the agent.
        """
        for kind, shape, count in reference.facts["draws"]:
            if count % (2 * UPDATES) == 0 and math.prod(shape) > 1:  # as many in each update, at least a pair
                found = self.new.traces([agent], (kind, tuple(shape)))[agent]
                if not isinstance(found, Broken) and compare(reference, found).verdict is Mathematics.SAME:
                    return f"the random numbers {kind} {tuple(shape)} being drawn in another order"
        return ""

    def _same_behaviour(self, changes: Mapping[str, str]) -> None:
        """Settle the rest, by runs of several seeds."""
        agents = list(changes)
        alpha = self.rules.alpha / len(agents)
        seeds = self._affordable(self._seeds_for(alpha), len(agents))
        if not seeds:
            self.lines += [self._line(agent, task, changes[agent], None) for agent in agents for task in self.tasks]
            return
        ours = self.new.signals(agents, _new_seeds(seeds))
        theirs = self.reference.signals(agents, range(REFERENCE_SEEDS))
        for agent in agents:
            new, old = ours[agent], theirs[agent]
            for each in (new, old):
                if isinstance(each, Broken):
                    self._settle(agent, Verdict.BROKEN, each.reason, 3)
                    break
            else:
                self._judge(agent, changes[agent], old, new, alpha)

    def _judge(self, agent: str, change: str, old: pd.DataFrame, new: pd.DataFrame, alpha: float) -> None:
        found = behaviour(old, new, alpha)
        planned = looks(new["seed"].nunique())
        answers = self._returns(old, new, planned, alpha) if change or found.moved else {}
        for more in planned[1:] if self.rules.allow_change else ():  # else it fails as `changed` whatever they say
            undecided = any(each.answer is Answer.UNDECIDED for each in answers.values())
            if not undecided or found.broken or self._affordable(more, 1) < more:
                break
            further = self.new.signals([agent], _new_seeds(more))[agent]
            if isinstance(further, Broken):
                self._settle(agent, Verdict.BROKEN, further.reason, 4)
                return
            new = further
            answers = self._returns(old, new, planned, alpha)
        self.tables[agent] = (old, new)
        for task in self.tasks:
            self.lines.append(self._line(agent, task, change, found, answers.get(task)))

    def _line(self, agent: str, task: str, change: str, found: Behaviour | None, answer: Returns | None = None) -> Line:
        line = judged(agent, task, change, found, answer, allow_change=self.rules.allow_change)
        reason = self._not_comparable.get(agent)
        sentence = f"mathematics {reason}; {line.sentence}" if reason else line.sentence
        return replace(line, sentence=sentence, seconds=time.monotonic() - self._begun)

    def _returns(
        self, old: pd.DataFrame, new: pd.DataFrame, planned: Sequence[int], alpha: float
    ) -> dict[str, Returns]:
        each = alpha / len(self.tasks)
        return {
            task: returns(areas(old, task).tolist(), areas(new, task).tolist(), self.rules.margins[task], each, planned)
            for task in self.tasks
        }

    def _seeds_for(self, alpha: float) -> int:
        """Fewest new seeds whose best order among the reference's has a chance of at most alpha."""
        enough = (n for n in range(FEWEST, MOST) if math.comb(REFERENCE_SEEDS + n, n) * alpha >= 1)
        return next(enough, MOST)

    def _affordable(self, seeds: int, agents: int) -> int:
        """As many of these seeds as fit into the time; 0 if fewer than two do."""
        if self.rules.max_seconds is None:
            return seeds
        left = self.rules.max_seconds - (time.monotonic() - self._begun)
        fit = int(left / (2 * self._seconds_a_run * agents * len(self.tasks)))
        return min(seeds, fit) if fit >= 2 else 0

    def _reaches(self, agents: Sequence[str]) -> None:
        """Turn into `worse` what does not reach the returns that are asked for."""
        missing = [agent for agent in agents if agent not in self.tables]
        measured = self.new.signals(missing, _new_seeds(FEWEST)) if missing else {}
        for i, line in enumerate(self.lines):
            wanted = self.rules.at_least.get(line.task)
            if wanted is None or line.agent not in agents:
                continue
            table = self.tables[line.agent][1] if line.agent in self.tables else measured[line.agent]
            if isinstance(table, Broken):
                self.lines[i] = Line(line.agent, line.task, Verdict.BROKEN, table.reason, 4, line.seconds)
            elif not (mean := float(areas(table, line.task).mean(skipna=False))) >= wanted:
                verdict = Verdict.BROKEN if math.isnan(mean) else Verdict.WORSE
                found = "a run has no training return" if math.isnan(mean) else f"mean training return {mean:.4g}"
                text = f"{found}, at least {wanted:g} is asked for"
                self.lines[i] = Line(line.agent, line.task, verdict, text, 4, line.seconds, line.moved)


def _new_seeds(count: int) -> tuple[int, ...]:
    return tuple(range(FIRST_NEW_SEED, FIRST_NEW_SEED + count))
