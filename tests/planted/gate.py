"""Plant the mistakes of gate.yaml one by one and ask the gate.

`python tests/planted/gate.py REFERENCES OUT [WORD ...]`: each mistake is made in a copy of the tree, and that is held
against the references, once by all questions and once without the probe. OUT gets a JSON line for each: which question
answered, with which words, in how many seconds. Words choose the mistakes whose name holds one of them. Takes a minute
or two for each; run by hand.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from plant import ROOT, copied

from analysis.gate.verdicts import Line, exit_code
from covr_bench.gate.gate import Gate, Rules
from covr_bench.gate.measure import Side
from covr_bench.gate.references import References

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TASKS = ("catch", "catch_or_end")
RULES = {"margins": dict.fromkeys(TASKS, 6.0), "workers": 1}


class Remembered:
    """A side that measures everything once, and how long each took."""

    def __init__(self, side: Side) -> None:
        self.side, self.name = side, side.name
        self.seconds: dict[str, float] = {}
        self._known: dict[Any, Any] = {}

    def digests(self, agents: Sequence[str]) -> Any:
        return self._once("digests", lambda: self.side.digests(agents), agents)

    def traces(self, agents: Sequence[str]) -> Any:
        return self._once("traces", lambda: self.side.traces(agents), agents)

    def signals(self, agents: Sequence[str], seeds: Sequence[int]) -> Any:
        return self._once("signals", lambda: self.side.signals(agents, seeds), (*agents, *seeds))

    def _once(self, what: str, measure: Callable[[], Any], key: Sequence[Any]) -> Any:
        full_key = (what, *key)
        if full_key not in self._known:
            begun = time.monotonic()
            self._known[full_key] = measure()
            self.seconds[what] = self.seconds.get(what, 0.0) + time.monotonic() - begun
        return self._known[full_key]


def tried(fault: dict[str, str], references: Path) -> dict[str, Any]:
    """What the gate says of a mistake, with all questions and without the probe."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        copied(tree)
        file = tree / fault["file"]
        text = file.read_text(encoding="utf-8")
        if text.count(fault["right"]) != 1:
            raise ValueError(f"{fault['file']} holds {fault['right']!r} {text.count(fault['right'])} times")
        file.write_text(text.replace(fault["right"], fault["wrong"]), encoding="utf-8")
        with Side("the new side", tree, Path(folder) / "out", "catch", TASKS, workers=1) as alone:
            return _judged(fault, Remembered(alone), references)


def _judged(fault: dict[str, str], side: Remembered, references: Path) -> dict[str, Any]:
    agent = fault["agent"]
    stored = References(references, {agent: agent}, {})
    found: dict[str, Any] = {"name": fault["name"], "agent": agent}
    for title, probe in (("all", True), ("no probe", False)):
        lines = Gate(side, stored, TASKS, Rules(probe=probe, **RULES)).judge([agent])  # type: ignore[arg-type]
        found[title] = _worst(lines)
    return found | {"seconds": {key: round(value, 1) for key, value in side.seconds.items()}}


def _worst(lines: Sequence[Line]) -> dict[str, Any]:
    line = max(lines, key=lambda each: (exit_code([each]) > 0, len(each.moved)))
    return {"verdict": str(line.verdict), "question": line.question, "task": line.task, "sentence": line.sentence}


def main() -> None:
    references, out, words = Path(sys.argv[1]).resolve(), Path(sys.argv[2]), sys.argv[3:]
    entries = yaml.safe_load((Path(__file__).parent / "gate.yaml").read_text(encoding="utf-8"))
    for fault in entries:
        if not words or any(word in fault["name"] for word in words):
            found = tried(fault, references)
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
            print(f"{fault['name']}: {found['all']['verdict']}; without the probe {found['no probe']['verdict']}")
            sys.stdout.flush()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
