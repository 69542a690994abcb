"""The gate's questions in order, its verdicts and exit codes, and what it writes: with sides that are made up."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.figures import style
from analysis.figures.signals import bands
from analysis.gate.behaviour import behaviour, distances
from analysis.gate.output import as_json, junit, markdown, summary
from analysis.gate.signals import RETURN, areas, features, signals
from analysis.gate.verdicts import EXIT_CODES, Line, Verdict, exit_code
from analysis.report.gate import gate_page
from covr_bench.cli.gate import TELL_S, _key, teller
from covr_bench.config import registry
from covr_bench.gate.bless import bless
from covr_bench.gate.gate import FEWEST, REFERENCE_SEEDS, Gate, Rules
from covr_bench.gate.measure import Broken
from covr_bench.gate.paths import located
from covr_bench.gate.references import SHIPPED, Reference, References, write_signals
from covr_bench.gate.request import GateRequest, request
from covr_bench.kit.errors import UserError
from covr_bench.probe.trace import Trace
from results.store import RunWriter, read

TASKS = ("one", "two")


def table(seeds: Sequence[int], *, shift: float = 0.0, of: str = "loss", origin: int = 0) -> pd.DataFrame:
    """Signals of runs that differ by chance; one of them shifted, in deviations."""
    parts = []
    for seed in seeds:
        rng = np.random.default_rng((origin, seed))
        for task in TASKS:
            level = {name: rng.normal() for name in ("loss", "q", "action", RETURN)}
            level[of] += shift
            rows = {name: value + 0.1 * rng.normal(size=20) for name, value in level.items()}
            parts.append(pd.DataFrame({"task": task, "seed": seed, "interval": range(1, 21), **rows}))
    return pd.concat(parts, ignore_index=True)


@dataclass
class Made:
    """A side with given answers. asked: what it was asked, in order."""

    name: str = "the reference"
    code: str = "a"
    trace: Any = None
    shift: float = 0.0
    of: str = "loss"
    broken: str = ""
    spoilt: bool = False
    reordered: bool = False  # the same trace as the reference's, if draws in pairs change places
    asked: list[str] = field(default_factory=list)

    def digests(self, agents: Sequence[str]) -> dict[str, Any]:
        self.asked.append("digests")
        answer: Any = Broken(self.broken) if self.broken else dict.fromkeys(TASKS, self.code)
        return dict.fromkeys(agents, answer)

    def traces(self, agents: Sequence[str], swapped: Any = None) -> dict[str, Any]:
        self.asked.append(f"traces, {swapped} swapped" if swapped else "traces")
        found = trace(1.0) if swapped and self.reordered else self.trace or trace(1.0)
        return dict.fromkeys(agents, found)

    def signals(self, agents: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
        self.asked.append(f"signals of {len(seeds)}")
        found = table(seeds, shift=self.shift, of=self.of)
        if self.spoilt:
            found.loc[found.index[-1], "loss"] = np.nan
            found.loc[found["interval"] > 14, "loss"] = np.nan
        return dict.fromkeys(agents, found)


def trace(value: float, draws: int = 3, *, pairs: bool = False) -> Trace:
    drawn = [["normal", [2, 2], 12], ["integer", [6], 6]] if pairs else [["normal", [2], draws]]
    found = Trace({"agent": "x", "dtype": "float64", "defaults": {}, "draws": drawn})
    found.add("update 0 at step 4: target_q", value)
    return found


def judge(new: Made, old: Made | None = None, agents: Sequence[str] = ("x",), **rules: Any) -> list[Line]:
    margins = dict.fromkeys(TASKS, rules.pop("margin", 3.0))
    return Gate(new, old or Made(), TASKS, Rules(margins=margins, **rules)).judge(agents)


def verdicts(lines: Sequence[Line]) -> set[Verdict]:
    return {line.verdict for line in lines}


def test_equal_numbers_are_identical_and_no_further_run_is_made() -> None:
    new, old = Made(), Made()
    lines = judge(new, old)
    assert verdicts(lines) == {Verdict.IDENTICAL} and [line.task for line in lines] == list(TASKS)
    assert new.asked == old.asked == ["digests", "traces"] and exit_code(lines) == 0
    without = judge(Made(trace=trace(1.1)), probe=False)
    assert verdicts(without) == {Verdict.IDENTICAL} and "quantities" not in without[0].sentence


def test_what_a_short_run_does_not_reach_is_seen_by_the_probe() -> None:
    lines = judge(Made(trace=trace(1.1)))
    assert verdicts(lines) == {Verdict.CHANGED} and "target_q: 1 in the reference, 1.1" in lines[0].sentence


def test_equal_traces_are_the_same_mathematics() -> None:
    new = Made(code="b")
    lines = judge(new)
    assert verdicts(lines) == {Verdict.SAME} and new.asked == ["digests", "traces"]
    assert "same mathematics" in lines[0].sentence and exit_code(lines) == 0


def test_draws_in_another_order_are_the_same_mathematics() -> None:
    pairs = Trace(trace(1.1).facts | {"draws": [["normal", [2, 2], 12], ["integer", [6], 6]]}, trace(1.1).quantities)
    old, new = Made(trace=trace(1.0, pairs=True)), Made(code="b", trace=pairs, reordered=True)
    lines = judge(new, old)
    assert verdicts(lines) == {Verdict.SAME} and "normal (2, 2) being drawn in another order" in lines[0].sentence
    assert new.asked == ["digests", "traces", "traces, ('normal', (2, 2)) swapped"]
    assert verdicts(judge(Made(code="b", trace=pairs), old)) == {Verdict.CHANGED}


def test_another_formula_is_changed_and_named_until_it_is_blessed() -> None:
    lines = judge(Made(code="b", trace=trace(1.1)))
    assert verdicts(lines) == {Verdict.CHANGED} and exit_code(lines) == 3
    assert "update 0 at step 4: target_q: 1 in the reference, 1.1 in the new side" in lines[0].sentence
    assert "no signal moved" in lines[0].sentence


def test_mathematics_that_cannot_be_compared_is_said_beside_what_the_runs_show() -> None:
    new = Made(code="b", trace=trace(1.1, draws=4))
    lines = judge(new)
    assert lines[0].sentence.startswith(
        "mathematics not comparable: the random numbers are not the same: 3 draws of normal (2,) in the reference, "
        "4 in the new side; no signal moved"
    )
    assert verdicts(lines) == {Verdict.SAME} and lines[0].question == 3


def test_a_change_passes_where_it_is_allowed_and_shown_not_to_be_worse() -> None:
    new = Made(code="b", trace=trace(1.1))
    lines = judge(new, allow_change=True, margin=6.0)
    assert verdicts(lines) == {Verdict.CHANGED} and exit_code(lines, allow_change=True) == 0
    assert "not worse by more than 6" in lines[0].sentence


def test_a_change_that_cannot_be_decided_is_undecided_where_changes_are_allowed() -> None:
    new = Made(code="b", trace=trace(1.1))
    lines = judge(new, allow_change=True, margin=0.1)
    assert verdicts(lines) == {Verdict.UNDECIDED} and exit_code(lines, allow_change=True) == 5
    assert "seeds a side would decide" in lines[0].sentence
    assert new.asked[2:] == ["signals of 3", "signals of 5", "signals of 8"]


def test_what_cannot_be_compared_is_judged_by_its_behaviour() -> None:
    same = judge(Made(code="b", trace=trace(1.1, draws=4)))
    assert verdicts(same) == {Verdict.SAME} and "no signal moved" in same[0].sentence
    moved = judge(Made(code="b", trace=trace(1.1, draws=4), shift=20.0))
    assert Verdict.CHANGED in verdicts(moved) and exit_code(moved) == 3
    assert "behaviour differs: loss" in moved[0].sentence and moved[0].moved[0].signal == "loss"


def test_without_the_probe_behaviour_decides() -> None:
    new = Made(code="b", trace=trace(1.1), shift=20.0, of="q")
    lines = judge(new, probe=False)
    assert "traces" not in new.asked and Verdict.CHANGED in verdicts(lines)
    assert lines[0].question == 3 and lines[0].moved[0].signal == "q"


def test_returns_that_fall_are_worse() -> None:
    lines = judge(Made(code="b", trace=trace(1.1), shift=-20.0, of=RETURN), allow_change=True)
    assert verdicts(lines) == {Verdict.WORSE} and exit_code(lines, allow_change=True) == 1
    assert lines[0].question == 4 and "worse" in lines[0].sentence


def test_what_fails_or_has_no_reference_is_broken() -> None:
    lines = judge(Made(broken="one, seed 0: critic_loss is nan"))
    assert verdicts(lines) == {Verdict.BROKEN} and exit_code(lines) == 4 and "critic_loss is nan" in lines[0].sentence
    missing = judge(Made(), Made(broken="no reference in refs"))
    assert verdicts(missing) == {Verdict.BROKEN} and "nothing to hold it against" in missing[0].sentence
    assert exit_code([]) == 4


def test_a_signal_that_is_no_number_is_broken() -> None:
    lines = judge(Made(code="b", trace=trace(1.1), spoilt=True))
    assert Verdict.BROKEN in verdicts(lines) and "not a finite number: " in lines[0].sentence


def test_one_broken_agent_takes_no_other_along() -> None:
    class Half(Made):
        def digests(self, agents: Sequence[str]) -> dict[str, Any]:
            return super().digests(agents) | {"bad": Broken("no such file")}

    lines = judge(Half(), agents=("bad", "good"))
    assert [(line.agent, line.verdict) for line in lines] == [
        ("bad", Verdict.BROKEN), ("bad", Verdict.BROKEN), ("good", Verdict.IDENTICAL), ("good", Verdict.IDENTICAL),
    ]  # fmt: skip


def test_at_least_is_asked_of_an_identical_agent_too() -> None:
    new = Made()
    lines = judge(new, at_least={"two": 100.0})
    assert [line.verdict for line in lines] == [Verdict.IDENTICAL, Verdict.WORSE]
    assert "at least 100 is asked for" in lines[1].sentence and new.asked == [
        "digests",
        "traces",
        f"signals of {FEWEST}",
    ]


def test_no_time_for_runs_is_undecided_and_says_so() -> None:
    lines = judge(Made(code="b", trace=trace(1.1, draws=4)), max_seconds=0.0)
    assert verdicts(lines) == {Verdict.UNDECIDED} and "no time for runs" in lines[0].sentence


def test_more_agents_get_more_seeds_so_that_the_whole_command_seldom_alarms() -> None:
    new = Made(code="b", trace=trace(1.1))
    judge(new, agents=[f"a{i}" for i in range(24)])
    assert "signals of 4" in new.asked


def test_the_gravest_verdict_decides() -> None:
    lines = [Line("x", "one", verdict, "", 1) for verdict in reversed(EXIT_CODES)]
    assert exit_code(lines) == 4 and exit_code(lines[:-1]) == 1 and exit_code(lines[:-2]) == 3
    assert exit_code(lines[:-2], allow_change=True) == 5


def test_signals_of_a_store(tmp_path: Path) -> None:
    with RunWriter(tmp_path, "catch@gate/catch/x/3", action_repeat=2) as writer:
        for step in range(40, 801, 40):
            writer.write("signal", step, step // 2, {"loss": step / 40})
            writer.write("episode", step - 10, step // 2, {"return": 7.0, "length": 40.0})
        writer.write("eval", 800, 400, {"return": [1.0, 3.0]})
        writer.write("vlm", 800, 400, {"heldout_error": 0.5, "finetune_seconds": 9.0})
    found = signals(read(tmp_path))
    assert found["interval"].tolist() == list(range(1, 21)) and found["loss"].tolist() == list(range(1, 21))
    assert found["evaluation return"].iloc[-1] == 2.0 and found["vlm: heldout_error"].iloc[-1] == 0.5
    assert not [name for name in found if "seconds" in name]
    assert areas(found, "catch").tolist() == [7.0]
    assert features(found)["catch", "loss", "early"].tolist() == [4.0]


def test_signals_that_only_one_side_has_are_remarks() -> None:
    old, new = table(range(8)), table(range(100, 103)).rename(columns={"q": "q1"})
    found = behaviour(old, new, 0.05)
    assert found.remarks == ("q: only the reference has it", "q1: only the new side has it") and not found.moved


def test_distances_name_what_is_far_without_a_test() -> None:
    far = distances(table(range(8)), table(range(8), shift=30.0))
    assert far[0].signal == "loss" and far[0].deviations > 10
    assert "where the reference has" in far[0].text()


def test_a_reference_is_kept_whole_with_its_history(tmp_path: Path) -> None:
    references = References(tmp_path, {"agents/mine.py": "mine"}, {})
    stored = Reference({"digests": {"one": "a"}, "seeds": REFERENCE_SEEDS}, trace(1.0), table(range(8)))
    for reason in ("first", "a wider clip, on purpose"):
        references.store("agents/mine.py", stored, reason, ["loss, late: 3 where the reference has 2 (9 deviations)"])
    found = references.get("agents/mine.py")
    assert isinstance(found, Reference)
    assert [entry["reason"] for entry in found.facts["history"]] == ["first", "a wider clip, on purpose"]
    pd.testing.assert_frame_equal(found.signals, stored.signals)
    assert found.trace is not None and found.trace.quantities == trace(1.0).quantities
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_reference_that_is_missing_damaged_or_of_other_settings_says_so(tmp_path: Path) -> None:
    references = References(tmp_path, {"x": "x", "y": "y"}, {})
    stored = Reference({"digests": {}}, None, table(range(8)))
    references.store("x", stored, "first", [])
    missing = references.get("y")
    assert isinstance(missing, Broken) and "there are x" in missing.reason and "--bless" in missing.reason
    other = References(tmp_path, {"x": "x"}, {"lr": "1"}).get("x")
    assert isinstance(other, Broken) and "settings" in other.reason
    (tmp_path / "x" / "signals.parquet").write_bytes(b"nonsense")
    damaged = references.get("x")
    assert isinstance(damaged, Broken) and "cannot be read" in damaged.reason
    (tmp_path / "x" / "signals.parquet").unlink()
    gone = references.get("x")
    assert isinstance(gone, Broken) and "signals.parquet is missing" in gone.reason


def test_every_agent_that_learns_ships_with_a_reference() -> None:
    """Those without are the scripted players of single tasks."""
    agents = registry.our_agents()
    references = References(SHIPPED, {name: name for name in agents}, {})
    found = {name: references.get(name) for name in agents}
    without = {name for name, each in found.items() if isinstance(each, Broken)}
    assert without == {"catcher", "driver", "full_throttle", "swing_up"}
    for name in sorted(agents.keys() - without):
        signals = found[name].signals  # type: ignore[union-attr]
        runs = signals.groupby("task")["seed"].nunique()
        assert runs.to_dict() == {"catch": REFERENCE_SEEDS, "catch_or_end": REFERENCE_SEEDS}, name
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*") if file.is_file()) < 5e6


def test_what_is_written_for_people_and_programs() -> None:
    lines = judge(Made(code="b", trace=trace(1.1, draws=4), shift=20.0))
    text = markdown(lines, against="main|x", allow_change=False)
    assert text.startswith("### Gate against main|x: ") and "fails with exit code 3" in text
    assert "Signals that moved, the farthest first:" in text
    record = json.loads(as_json(lines, against="main", allow_change=False))
    assert record["exit_code"] == 3 and record["lines"][0]["moved"][0]["signal"] == "loss"
    root = ET.fromstring(junit(lines, allow_change=False))
    assert [suite.get("name") for suite in root] == ["x"] and root[0].get("tests") == "2"
    assert len(root.findall(".//failure")) == int(root[0].get("failures") or 0) >= 1
    assert not ET.fromstring(junit(lines, allow_change=True)).findall(".//failure")
    assert summary([], allow_change=False).startswith("nothing was judged")


def test_the_page_shows_bands_and_loads_nothing() -> None:
    gate = Gate(
        Made(code="b", trace=trace(1.1, draws=4), shift=20.0), Made(), TASKS, Rules(margins=dict.fromkeys(TASKS, 3.0))
    )
    lines = gate.judge(["x"])
    page = gate_page(lines, gate.tables, against="main <b>", allow_change=False)
    assert page.count("<svg") == 2 and "main &lt;b&gt;" in page
    assert "8 seeds, lowest to highest" in page or "<path" in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")


def test_the_table_of_a_pyproject_is_taken_and_the_command_line_wins(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.covr-bench.gate]\nagent = ["mine.py"]\nagainst = "refs"\nmax-minutes = 9\nmargin = {catch = 2.5}\n'
        "set = {lr = 1e-3, flag = true}\n"
    )
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    found = request({"against": None, "max_minutes": 4.0, "allow_change": False}, deep)
    assert (found.agent, found.against, found.max_minutes) == ((str(tmp_path / "mine.py"),), "refs", 4.0)
    assert found.margin == {"catch": 2.5} and found.alpha == 0.05
    assert found.set == {"lr": "0.001", "flag": "true"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no agent named"),
        ('[tool.covr-bench.gate]\nagent = "x"\nagianst = "main"', "agianst"),
        ('[tool.covr-bench.gate]\nagent = "x"\nalpha = 2', "alpha = 2"),
        ("[tool.covr-bench", "cannot read"),
        ('[tool.covr-bench.gate]\nagent = "x"\nset = "lr"', "set = 'lr': give settings by name"),
        ('[tool.covr-bench.gate]\nagent = "x"\nmargin = 3', "margin = 3: Input should be a valid dictionary"),
        ('[tool.covr-bench.gate]\nagent = "x"\nmax-minutes = 3\nmax_minutes = 4', "gives 'max_minutes' twice"),
        ('[tool.covr-bench]\ngate = "drqv2"', "is 'drqv2'; it should be a table"),
        ("tool = 3", "is 3; it should be a table"),
    ],
)
def test_a_wrong_table_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(UserError, match=message):
        request({}, tmp_path)


@pytest.mark.parametrize("catalogue", ["catalogue.yaml", "gate.yaml", "harmless.yaml"])
def test_the_catalogues_fit_the_code(catalogue: str) -> None:
    """Each text that is to be replaced stands in its file once; there are as many as docs/gate.md says."""
    import yaml

    root = Path(__file__).parents[1]
    entries = yaml.safe_load((root / "tests" / "planted" / catalogue).read_text())
    assert len(entries) >= {"catalogue.yaml": 100, "gate.yaml": 40, "harmless.yaml": 10}[catalogue]
    assert len({json.dumps(entry.get("name", entry)) for entry in entries}) == len(entries)
    for entry in entries:
        for edit in entry.get("edits", [entry]):
            assert (root / edit["file"]).read_text().count(edit["right"]) == 1, entry
            assert edit["right"] != edit["wrong"]


def test_signals_are_stored_bit_for_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    odd = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45], np.float32)
    columns = {f"s{n}": np.concatenate([odd, rng.normal(size=200)]).astype(np.float32) for n in range(40)}
    stored = pd.DataFrame({"task": ["catch"] * 205, "seed": 3, "interval": np.arange(205), **columns})
    write_signals(stored, tmp_path / "signals.parquet")
    found = pd.read_parquet(tmp_path / "signals.parquet")
    pd.testing.assert_frame_equal(found, stored, check_exact=True)
    assert all(found[name].to_numpy().tobytes() == stored[name].to_numpy().tobytes() for name in columns)
    stored.to_parquet(tmp_path / "plain.parquet", compression="zstd", index=False)
    assert (tmp_path / "signals.parquet").stat().st_size < 0.8 * (tmp_path / "plain.parquet").stat().st_size


def test_a_log_is_told_what_goes_on_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    tell = teller(shown.append)
    for seconds, text in ((0.0, "first"), (TELL_S / 2, "too soon"), (TELL_S, "second")):
        monkeypatch.setattr("covr_bench.cli.gate.time.monotonic", lambda now=1000 + seconds: now)
        tell(text)
    assert shown == ["first", "second"]


class Endless(Made):
    """A side no training episode of which finishes."""

    def signals(self, agents: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
        return {agent: each.drop(columns=RETURN) for agent, each in super().signals(agents, seeds).items()}


def test_without_a_finished_episode_the_returns_say_so() -> None:
    """The gate ended with a KeyError."""
    lines = judge(Endless(code="b", trace=trace(1.1)), Endless(), allow_change=True)
    assert verdicts(lines) == {Verdict.UNDECIDED} and exit_code(lines, allow_change=True) == 5
    assert "the reference and of the new side has no finite training return" in lines[0].sentence
    asked = judge(Endless(), Endless(), at_least={"one": -5.0})
    assert [line.verdict for line in asked] == [Verdict.BROKEN, Verdict.IDENTICAL]
    assert asked[0].sentence == "a run has no training return, at least -5 is asked for"


@dataclass
class Part(Made):
    """A side that has digests of these tasks alone."""

    tasks: tuple[str, ...] = ()

    def digests(self, agents: Sequence[str]) -> dict[str, Any]:
        return {agent: dict.fromkeys(self.tasks, self.code) for agent in agents}


def test_a_reference_holds_for_its_tasks_and_no_other() -> None:
    """A task that the reference never measured was called the same; one of its tasks alone was called changed."""
    lines = judge(Made(), Part(tasks=("one",)))
    assert verdicts(lines) == {Verdict.BROKEN} and exit_code(lines) == 4
    assert lines[0].sentence == "the reference has nothing of two"
    margins = dict.fromkeys(TASKS, 3.0)
    (line,) = Gate(Part(tasks=("two",)), Made(), ("two",), Rules(margins=margins)).judge(["x"])
    assert line.verdict is Verdict.IDENTICAL


def test_a_part_of_the_tasks_does_not_replace_the_reference_of_all(tmp_path: Path) -> None:
    references = References(tmp_path, {"x": "x"}, {})
    sides: dict[str, Any] = {"whole": Part(tasks=("one", "two")), "part": Part(tasks=("two",), code="b")}
    for side in sides.values():
        side.suite = "gate"
    assert not bless(["x"], sides["whole"], references, "all", lambda text: None)
    failed = bless(["x"], sides["part"], references, "one task", lambda text: None)
    assert failed == {
        "x": "its reference has one too, which would be lost: bless all of its tasks together, or remove "
        f"{tmp_path / 'x'} first"
    }
    assert set(references.digests(["x"])["x"]) == {"one", "two"}


def test_what_the_probe_alone_sees_can_be_blessed(tmp_path: Path) -> None:
    """The gate failed and --bless refused, since the short runs were equal."""
    references = References(tmp_path, {"x": "x"}, {})
    said: list[str] = []
    for value in (1.0, 1.1, 1.1):
        side: Any = Made(trace=trace(value))
        side.suite = "gate"
        assert not bless(["x"], side, references, "on purpose", said.append)
    stored = references.get("x")
    assert isinstance(stored, Reference) and stored.trace and len(stored.facts["history"]) == 2
    assert [text.partition(";")[0].partition(" in ")[0] for text in said] == [
        "x: stored",
        "x: stored",
        "x: does what its reference does",
    ]


def test_paths_of_a_table_count_from_its_folder(tmp_path: Path) -> None:
    """They counted from where the command was given."""
    (tmp_path / "pyproject.toml").write_text(
        '[tool.covr-bench.gate]\nagent = ["mine.py", "drqv2"]\nagainst = "refs"\nsuite = "own.py"\nout = "found"\n'
        'set = {base = "acts.py", vlm = "tiny"}\n'
    )
    (tmp_path / "refs").mkdir()
    (tmp_path / "deep").mkdir()
    found = request({}, tmp_path / "deep")
    assert found.agent == (str(tmp_path / "mine.py"), "drqv2") and found.suite == str(tmp_path / "own.py")
    assert (found.against, found.out) == (str(tmp_path / "refs"), str(tmp_path / "found"))
    assert found.set == {"base": str(tmp_path / "acts.py"), "vlm": "tiny"}
    assert request({"out": "there", "against": "main"}, tmp_path / "deep").out == "there"
    (tmp_path / "refs").rmdir()
    assert request({"bless": "the first"}, tmp_path / "deep").against == str(tmp_path / "refs")


def test_a_home_folder_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of the name ~ was made."""
    monkeypatch.setenv("HOME", str(tmp_path))
    found = request({"agent": ("x",), "against": "~/refs", "out": "~/out"}, tmp_path)
    assert (found.against, found.out) == (str(tmp_path / "refs"), str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"against": ""}, "--against is empty"),
        ({"bless": ""}, "--bless is empty"),
        ({"agent": ("",)}, "--agent is empty"),
        ({"task": ("",)}, "--task is empty"),
        ({"conv_kernel": ""}, "--conv-kernel is empty"),
        ({"alpha": 0.0}, "alpha = 0"),
        ({"max_minutes": 0.0}, "max_minutes = 0"),
        ({"workers": 0}, "workers = 0"),
    ],
)
def test_empty_and_zero_are_not_as_if_nothing_was_said(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    """They were ignored: with an unset variable, the gate was held against another reference, and passed."""
    with pytest.raises(UserError, match=message):
        request({"agent": ("drqv2",)} | given, tmp_path)


def test_both_sides_find_files_by_their_path_from_the_root(tmp_path: Path) -> None:
    """A suite by its whole path, or an agent outside the repository, was the working tree's on both sides."""
    root, folder = tmp_path / "mine", tmp_path / "mine" / "deep"
    folder.mkdir(parents=True)
    asked = GateRequest(
        ("../x.py", "drqv2"), against="main", suite=str(root / "own.py"), set={"base": "acts.py", "vlm": "tiny"}
    )
    found = located(asked, folder, root, revision=True)
    assert (found.agent, found.suite) == (("x.py", "drqv2"), "own.py")
    assert found.set == {"base": "deep/acts.py", "vlm": "tiny"}
    outside = str(tmp_path / "x.py")
    for each in (
        GateRequest((outside,), against="main"),
        GateRequest(("x",), against="main", suite=outside),
        GateRequest(("x",), against="main", set={"vlm": outside}),
    ):
        with pytest.raises(UserError, match=r"x\.py is not in the repository .* hold it against itself"):
            located(each, folder, root, revision=True)
        assert outside in str(located(each, folder, root, revision=False))


@pytest.mark.parametrize(
    ("settings", "suite", "reason"),
    [({"lr": "1"}, "catch", "the settings of the agent"), ({}, "dmc6", "on the suite catch")],
)
def test_no_reference_of_something_else_is_replaced(
    tmp_path: Path, settings: dict[str, str], suite: str, reason: str
) -> None:
    """It was, and its history was lost."""
    side: Any = Made()
    side.suite = "catch"
    assert not bless(["x"], side, References(tmp_path, {"x": "x"}, {}, "catch"), "the first", lambda text: None)
    before = (tmp_path / "x" / "reference.json").read_bytes()
    other = References(tmp_path, {"x": "x"}, settings, suite)
    failed = bless(["x"], Made(code="b"), other, "another", lambda text: None)  # type: ignore[arg-type]
    assert reason in failed["x"] and "give another folder, or remove it" in failed["x"]
    assert (tmp_path / "x" / "reference.json").read_bytes() == before


def test_a_reference_of_another_format_is_not_replaced(tmp_path: Path) -> None:
    references = References(tmp_path, {"x": "x"}, {})
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "reference.json").write_text('{"format": 2}')
    failed = bless(["x"], Made(), references, "another", lambda text: None)  # type: ignore[arg-type]
    assert "has format 2, this version reads 1, and would be lost" in failed["x"]


def test_runs_of_a_revision_are_not_those_of_other_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were taken for what the installed packages do, whichever had made them."""
    plain: dict[str, Any] = {"version": "1", "packages": {"torch": "2"}, "git_sha": "a"}
    others = [plain | {"version": "2"}, plain | {"packages": {"torch": "3"}}, plain | {"git_sha": "b"}]
    others.append({"version": "1", "packages": {"torch": "2"}, "git_sha": None, "content_sha256": "c"})
    keys = []
    for facts in (plain, *others, plain):
        monkeypatch.setattr("results.environment.collect", lambda facts=facts: facts)
        keys.append(_key("0" * 40, GateRequest(("x",)), tmp_path))
    assert keys[0] == keys[-1] and len(set(keys)) == len(others) + 1


def test_an_interval_is_drawn_where_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(style, "save", lambda figure, path: drawn.append(figure))
    table = pd.DataFrame({"task": "t", "seed": 0, "interval": range(1, 21), "loss": 1.0})
    bands(table, table, ["loss"], "a.png")
    for line in drawn[0].axes[0].lines:
        assert line.get_xdata()[[0, -1]] == pytest.approx([0.05, 1.0])


def test_what_never_varied_is_far_off_when_it_moves() -> None:
    reference, new = (
        pd.DataFrame(
            [("t", seed, at, value) for seed in range(4) for at in range(1, 21)],
            columns=["task", "seed", "interval", "loss"],
        )
        for value in (2.0, 3.0)
    )
    found = distances(reference, new)
    assert {each.window for each in found} == {"early", "middle", "late"}
    assert "which never varies" in found[0].text()
