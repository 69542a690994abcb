"""Plant the mistakes of gate.yaml, or the harmless changes of harmless.yaml, one by one and ask the gate.

`python tests/planted/gate.py gate.yaml REFERENCES OUT [WORD ...]`: each is made in a copy of the tree, and that is held
against the references, once by all questions and once without the probe. OUT gets a JSON line for each: which question
answered, with which words, in how many seconds. Words choose the mistakes whose name holds one of them. Takes a minute
or two for each; run by hand. `python tests/planted/gate.py --table OUT` prints the table of docs/gate.md.
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
from covr_bench.gate.measure import Broken, Side
from covr_bench.gate.references import References

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TASKS = ("catch", "catch_or_end")
RULES = {"margins": dict.fromkeys(TASKS, 6.0), "workers": 1}


class Remembered:
    """A side that measures everything once, and how long each took. other: whether its short runs count as different,
    so that the third question is asked in any case."""

    def __init__(self, side: Side) -> None:
        self.side, self.name, self.other = side, side.name, False
        self.seconds: dict[str, float] = {}
        self._known: dict[Any, Any] = {}

    def digests(self, agents: Sequence[str]) -> Any:
        found = self._once("digests", lambda: self.side.digests(agents), agents)
        return (
            {a: d if isinstance(d, Broken) else dict.fromkeys(d, "other") for a, d in found.items()}
            if self.other
            else found
        )

    def traces(self, agents: Sequence[str], swapped: Any = None) -> Any:
        return self._once("traces", lambda: self.side.traces(agents, swapped), (*agents, swapped))

    def signals(self, agents: Sequence[str], seeds: Sequence[int]) -> Any:
        return self._once("signals", lambda: self.side.signals(agents, seeds), (*agents, *seeds))

    def _once(self, what: str, measure: Callable[[], Any], key: Sequence[Any]) -> Any:
        full_key = (what, *key)
        if full_key not in self._known:
            begun = time.monotonic()
            self._known[full_key] = measure()
            self.seconds[what] = self.seconds.get(what, 0.0) + time.monotonic() - begun
        return self._known[full_key]


def tried(fault: dict[str, Any], references: Path) -> dict[str, Any]:
    """What the gate says of a mistake, with all questions and without the probe."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        copied(tree)
        for edit in fault.get("edits", [fault]):
            file = tree / edit["file"]
            text = file.read_text(encoding="utf-8")
            if text.count(edit["right"]) != 1:
                raise ValueError(f"{edit['file']} holds {edit['right']!r} {text.count(edit['right'])} times")
            file.write_text(text.replace(edit["right"], edit["wrong"]), encoding="utf-8")
        with Side("the new side", tree, Path(folder) / "out", "catch", TASKS, workers=1) as alone:
            return _judged(fault, Remembered(alone), references)


def _judged(fault: dict[str, Any], side: Remembered, references: Path) -> dict[str, Any]:
    agent = fault["agent"]
    stored = References(references, {agent: agent}, {})
    found: dict[str, Any] = {"name": fault["name"], "agent": agent}
    for title, probe in (("all", True), ("no probe", False)):
        side.other = not probe
        lines = Gate(side, stored, TASKS, Rules(probe=probe, **RULES)).judge([agent])  # type: ignore[arg-type]
        found[title] = _worst(lines)
    return found | {"seconds": {key: round(value, 1) for key, value in side.seconds.items()}}


def _worst(lines: Sequence[Line]) -> dict[str, Any]:
    line = max(lines, key=lambda each: (exit_code([each]) > 0, len(each.moved)))
    return {"verdict": str(line.verdict), "question": line.question, "task": line.task, "sentence": line.sentence}


PASSES = ("identical", "same")


def table(out: Path) -> str:
    """Each mistake, what the gate says of it, and what it says without the probe, in Markdown."""
    lines = [
        "| mistake | agent | verdict, by question | words | without the probe | words | s |",
        "|---|---|---|---|---|---|---:|",
    ]
    found = {each["name"]: each for each in map(json.loads, out.read_text(encoding="utf-8").splitlines())}
    for each in found.values():
        whole, blind = each["all"], each["no probe"]
        asked = [f"{answer['verdict']} ({answer['question']})" for answer in (whole, blind)]
        words = [
            _words(whole["sentence"].partition("; behaviour")[0]),
            _words(blind["sentence"].partition("; mean")[0]),
        ]
        lines.append(
            f"| {each['name']} | `{each['agent']}` | {asked[0]} | {words[0]} | {asked[1]} | {words[1]} "
            f"| {sum(each['seconds'].values()):.0f} |"
        )
    caught = [sum(each[title]["verdict"] not in PASSES for each in found.values()) for title in ("all", "no probe")]
    lines.append(f"\n{caught[0]} of {len(found)} are caught, {caught[1]} without the probe.")
    return "\n".join(lines)


def _words(sentence: str) -> str:
    text = sentence.removeprefix("behaviour differs: ").partition("; ")[0]
    return text.replace(" in the new side", " here").replace("|", "\\|")


def main() -> None:
    if sys.argv[1] == "--table":
        print(table(Path(sys.argv[2])))
        return
    catalogue, references, out, words = sys.argv[1], Path(sys.argv[2]).resolve(), Path(sys.argv[3]), sys.argv[4:]
    entries = yaml.safe_load((Path(__file__).parent / catalogue).read_text(encoding="utf-8"))
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
