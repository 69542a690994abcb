"""`covr-bench report`: what the page holds and refuses, that its commands are true, and how it behaves in a browser."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
import re
import shlex
import shutil
import tracemalloc
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from browser import browser
from experiments import configure
from hypothesis import given
from hypothesis import strategies as st

from analysis.figures.style import short_names
from analysis.report.curves import MAX_POINTS, mean_and_interval
from analysis.report.drawings import MAX_NAME, inline
from analysis.report.origin import RunEntry, entries, period
from analysis.report.page import Command, _commands
from analysis.report.runs import packed
from analysis.rows.external import to_marl_eval
from analysis.rows.scores import final_scores
from analysis.statistics.bootstrap import aggregates
from analysis.statistics.comparison import comparisons
from analysis.statistics.summary import Bootstrap
from covr_bench.cli import report as report_command
from covr_bench.cli import reproduce
from covr_bench.cli.choice import Choice
from covr_bench.cli.report import ReportOptions, write_report
from covr_bench.config import registry
from covr_bench.config.request import parse_pairs
from covr_bench.kit.errors import UserError
from results import provenance
from results.code_identity import is_mixed
from results.layout import ROWS_FILE
from results.store import RunWriter, no_rows, read, run_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from browser import Page

LIGHT = ("--reps", 200)
HOSTILE = "</script><img src=x onerror=window.hacked=1><!--"
LONG = "x" * 300
HEADER = "agent,task,seed,env_steps,return"


class Parsed(HTMLParser):
    """elements: tag and attributes; scripts, text: what stands in script elements, and elsewhere."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data

    def all(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]

    @property
    def data(self) -> Any:
        return json.loads(self.scripts[-3])


def write_run(out: Path, run_id: str, returns: Mapping[int, float], *, error: str = "", **labels: str) -> None:
    with RunWriter(out, run_id, action_repeat=2, labels=labels) as writer:
        for env_steps, value in returns.items():
            writer.write("eval", env_steps, env_steps // 2, {"return": value})
        writer.error(error) if error else writer.end()


def write_record(
    out: Path, agent: str, typed: str, *, seeds: Sequence[int] = (0,), status: str = "finished"
) -> list[str]:
    """Provenance of the runs of an agent that `covr-bench run --suite catch --budget smoke TYPED` makes; their ids."""
    typed = f"run --suite catch --budget smoke --task catch {typed}"
    words = shlex.split(typed)
    given: dict[str, list[str]] = {"--set": [], "--agent": []}
    for option, value in itertools.pairwise(words):
        given.setdefault(option, []).append(value)
    suite = registry.suite("catch")
    specs = {name: registry.agent(name) for name in given["--agent"]}
    overrides = parse_pairs(given["--set"])
    budget = suite.budgets["smoke"]
    configs = configure(suite, "catch", specs, budget, tasks=["catch"], seeds=seeds, overrides=overrides, out=str(out))
    mine = [config for config in configs if config.agent == agent]
    for config in mine:
        seeds_used, command = {"run": config.seed}, f"covr-bench {typed}"
        provenance.begin(out, config.run_id, config=config.as_dict(), seeds=seeds_used, command=command)
        provenance.finish(out, config.run_id, status, wall_s=3.0)
    return [config.run_id for config in mine]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two agents on two tasks, one run failed, one with a stand-in VLM and its rounds, one on another backend."""
    out = tmp_path_factory.mktemp("filled") / "results"
    for agent, quality in (("drqv2", 30.0), ("random", 10.0)):
        for task in ("catch", "catch_or_end"):
            for seed in range(3):
                run_id = f"catch@smoke/{task}/{agent}/{seed}"
                write_run(out, run_id, {0: 1.0, 200: quality + seed, 400: quality + 2 * seed})
    write_run(out, "catch@smoke/catch/sac/0", {0: 1.0, 200: 2.0}, error="RuntimeError: <b>out of memory</b>")
    write_run(out, "catch@smoke/catch/random-env.backend=embedded/0", {0: 7.0, 400: 9.0}, backend="embedded")
    with RunWriter(out, "catch@smoke/catch/covr/0", action_repeat=2, labels={"vlm": "tiny"}) as writer:
        for number in (0, 1):
            counts = {"answers_ok": 30.0 * number, "answers_no_match": 10.0 * number, "valid_share": 0.75}
            writer.write("vlm", 200 * number, 100 * number, {"round": float(number), "return": 5.0 + number} | counts)
        writer.write("eval", 400, 200, {"return": 20.0})
        writer.end()
    for agent in ("random", "drqv2"):
        write_record(out, agent, "--agent random --agent drqv2 --seeds 0-2", seeds=(0, 1, 2))
    write_record(out, "sac", "--agent sac", status="failed")
    return out


@pytest.fixture
def out(filled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filled, tmp_path / "results"))


@pytest.fixture
def make(cli: Callable[..., Any], tmp_path: Path) -> Callable[..., Parsed]:
    def call(*arguments: object) -> Parsed:
        result = cli("report", "-o", tmp_path / "page.html", *LIGHT, *arguments)
        assert result.code == 0, result.err
        return Parsed((tmp_path / "page.html").read_text(encoding="utf-8"))

    return call


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("hostile") / "scores.csv"
    lines = [
        f'"{agent}","{task}",{seed},{step},{step * (seed + 1)}'
        for agent in (HOSTILE, LONG, LONG + "y", "$a_b$")
        for task in (HOSTILE, LONG)
        for seed in range(2)
        for step in (0, 10, 20)
    ]
    file.write_text("\n".join([HEADER, *lines]) + "\n")
    return file


def check_whole(page: Parsed) -> None:
    """Nothing from outside, ids unique, links lead somewhere, only the page's own scripts may run."""
    for name in ("src", "href", "xlink:href", "poster", "action"):
        assert all(value.startswith(("#", "data:")) for value in page.all(name)), page.all(name)
    assert max(Counter(page.all("id")).values()) == 1
    links = {value[1:] for name in ("href", "xlink:href") for value in page.all(name) if value.startswith("#")}
    assert links <= set(page.all("id"))
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    (policy,) = [a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    allowed = set(re.findall("'sha256-(.*?)'", policy))
    own = [page.scripts[0], *page.scripts[-2:]]
    assert {base64.b64encode(hashlib.sha256(js.encode()).digest()).decode() for js in own} == allowed
    assert len(page.scripts) == 4 and "default-src 'none'" in policy


def test_everything_is_on_the_page(make: Callable[..., Parsed], out: Path) -> None:
    page = make("--out", out, "--title", "Our <runs>")
    check_whole(page)
    for text in (
        "Our <runs>", "13 finished, 1 failed", "RuntimeError: <b>out of memory</b>", "32.0 ± 2.0 (3)",
        "catch@smoke (backend=embedded)", "stand-in VLM", "stand-in simulator", "sac on catch: seed 0 failed",
        "The VLM by round: covr (vlm=tiny) on catch", "75.0%", "P(X > Y)", "cores are returns from 0 to 60",
        f"covr-bench stats --out {out} --reps 200 --seed 0", "replay_capacity",
    ):  # fmt: skip
        assert text in page.text, text
    assert re.search(r"covr-bench \S+, (commit|content) ", page.text)  # of a checkout, of an installed package
    together, apart = page.data
    assert [panel["title"] for panel in together["panels"]] == ["catch", "catch_or_end", "all tasks"]
    assert [panel["title"] for panel in apart["panels"]] == ["catch"]
    assert [agent["name"] for agent in apart["agents"]] == ["random-env.backend=embedded"]
    (drqv2,) = [
        each for each in together["panels"][0]["series"] if together["agents"][each["agent"]]["name"] == "drqv2"
    ]
    assert (drqv2["mean"], drqv2["n"]) == ([1.0, 31.0, 32.0], 3)
    assert [seed["y"] for seed in drqv2["seeds"]] == [[1.0, 30.0 + seed, 30.0 + 2 * seed] for seed in range(3)]
    assert sum(attributes.get("class") == "failure" for _, attributes in page.elements) == 1


def test_the_newest_gate_has_its_section(make: Callable[..., Parsed], out: Path, cli: Callable[..., Any]) -> None:
    assert "The gate" not in make("--out", out).text
    (out / "gate").mkdir()
    line = {"agent": "mine <b>", "task": "catch", "verdict": "changed", "sentence": "target_q differs"}
    (out / "gate" / "gate.json").write_text(json.dumps({"against": "main", "exit_code": 3, "lines": [line]}))
    page = make("--out", out)
    check_whole(page)
    for text in ("The gate", "Against main: exit code 3", "mine <b>", "changed", "target_q differs"):
        assert text in page.text, text
    (out / "gate" / "gate.json").write_text('{"lines": 3}')
    refused = cli("report", "--out", out, "-o", out / "page.html")
    assert refused.code == 2 and "gate.json is no gate's" in refused.err


def test_a_choice_of_runs(make: Callable[..., Parsed], out: Path) -> None:
    page = make("--out", out, "--agent", "random", "--task", "catch", "--env-steps", "200")
    check_whole(page)
    assert "11.0 ± 1.0" in page.text
    assert [agent["name"] for each in page.data for agent in each["agents"]] == [
        "random",
        "random-env.backend=embedded",
    ]
    assert max(max(xs) for each in page.data for panel in each["panels"] for xs in panel["xs"]) == 200


def test_names_from_elsewhere_stay_text(make: Callable[..., Parsed], hostile: Path) -> None:
    page = make("--scores", hostile)
    check_whole(page)
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert HOSTILE in page.text and LONG in page.text
    assert "None recorded: these are external scores" in page.text
    assert {agent["name"] for agent in page.data[0]["agents"]} == {HOSTILE, LONG, LONG + "y", "$a_b$"}


def test_numbers_that_are_none_are_gaps(make: Callable[..., Parsed], tmp_path: Path) -> None:
    file = tmp_path / "scores.csv"
    file.write_text(f"{HEADER}\na,t,0,0,1\na,t,0,10,nan\na,t,0,20,3\na,t,1,0,1\na,t,1,10,2\na,t,2,0,\nb,u,0,5,7\n")
    page = make("--scores", file)
    check_whole(page)
    first, second, *_ = page.data[0]["panels"]
    assert [(panel["title"], panel["xs"]) for panel in (first, second)] == [
        ("t", [[0, 10, 20], [0, 10], [0]]),
        ("u", [[5]]),
    ]
    assert first["series"][0]["mean"] == [None]
    assert [seed["y"] for seed in first["series"][0]["seeds"]] == [[1.0, None, 3.0], [1.0, 2.0], [None]]
    assert (second["series"][0]["mean"], second["series"][0]["low"]) == ([7.0], [None])


def test_a_clock_that_was_wrong_hides_no_other_time() -> None:
    frame = pd.DataFrame({"time": [86_400.0, float("inf"), 1e18, float("nan")]})
    assert period([], frame) == "1970-01-02 00:00 UTC"
    assert period([], frame[1:]) == "none recorded"


def test_one_run(make: Callable[..., Parsed], tmp_path: Path) -> None:
    write_run(tmp_path, "catch@smoke/catch/random/0", {0: 1.0})
    page = make("--out", tmp_path)
    check_whole(page)
    assert "1 finished" in page.text
    assert "statistics-1" not in page.all("id")


def test_a_run_that_went_on_with_changed_code_is_drawn_from_there(make: Callable[..., Parsed], tmp_path: Path) -> None:
    """The page of the whole store was impossible."""
    run = "catch@short/catch/drqv2/0"
    with RunWriter(tmp_path, run, action_repeat=2) as writer:
        for step in (1000, 2000):
            writer.write("eval", step, step // 2, {"return": [1.0]})
    with RunWriter(tmp_path, run, action_repeat=2, labels={"code": "changed"}) as writer:
        for step in (3000, 4000):
            writer.write("eval", step, step // 2, {"return": [step / 1000]})
        writer.end()
    page = make("--out", tmp_path)
    (panel,) = page.data[0]["panels"]
    assert (page.data[0]["agents"][0]["name"], panel["xs"]) == ("drqv2 (code=changed)", [[3000, 4000]])
    assert panel["series"][0]["mean"] == [3.0, 4.0]
    (found,) = comparisons(read(tmp_path), {})
    assert found.evaluations["env_steps"].tolist() == [3000, 4000]


def test_seeds_made_by_different_code_are_told(make: Callable[..., Parsed], out: Path) -> None:
    """They are averaged; an average of three seeds of one agent and one of another stood there as any other."""
    assert "made its seeds" not in make("--out", out).text
    for task, other in (("catch", "b" * 64), ("catch_or_end", "c" * 64)):
        file = run_folder(out, f"catch@smoke/{task}/random/2") / "provenance.json"
        if file.exists():
            record = json.loads(file.read_text())
            own = record["sessions"][-1]["code"]["agent"]
            record["sessions"][-1]["code"] = {"agent": other, "suite": ""}
            file.write_text(json.dumps(record))
    told = make("--out", out).text
    sentence = "random: the sources of the code that made its seeds differ, if only in a comment: "
    assert sentence + f"2 by agent {own[:12]} and 1 by agent {'b' * 12} on catch" in told
    assert told.count("made its seeds") == 1


def test_hashes_that_an_earlier_version_did_not_record_differ_from_none() -> None:
    new, old = {"agent": "a", "suite": "", "base": "b"}, {"agent": "a", "suite": ""}
    assert not is_mixed([new, old, {}, new])
    assert is_mixed([new, old, {"agent": "c", "suite": ""}]) and is_mixed([old, new, new | {"base": "d"}])


def test_what_was_measured_under_another_setting_is_in_nothing_of_the_new_one(
    make: Callable[..., Parsed], cli: Callable[..., Any], tmp_path: Path
) -> None:
    """The embedded server's evaluations were in the sample efficiency of real CARLA, and its curves had a seed more."""
    for seed, backends in enumerate((("embedded", "embedded"), ("embedded", "carla-0.9.16"))):
        for task in ("catch", "catch_or_end"):
            for part, backend in enumerate(backends):
                labels = {"backend": backend}
                with RunWriter(tmp_path, f"catch@short/{task}/drqv2/{seed}", action_repeat=2, labels=labels) as writer:
                    for step in (1000 + 2000 * part, 2000 + 2000 * part):
                        writer.write("eval", step, step // 2, {"return": [step / 1000]})
                    writer.end()
    real, stand_in = sorted(comparisons(read(tmp_path), {}), key=lambda each: each.setting)
    assert real.setting == "backend=carla-0.9.16"
    assert sorted(set(real.evaluations["env_steps"])) == [3000, 4000]
    assert stand_in.evaluations["run_id"].nunique() == 2
    real_curves, embedded_curves = (each["panels"][0]["series"] for each in make("--out", tmp_path).data)
    assert [series["mean"] for series in real_curves] == [[3.0, 4.0]]
    assert [len(series["seeds"]) for series in embedded_curves] == [1]
    exported = to_marl_eval(read(tmp_path))[0]
    (tasks,) = [each for name, each in exported.items() if "0.9.16" in name]
    assert [step["step_count"] for step in list(tasks["catch"]["drqv2"]["seed_1"].values())[:-1]] == [3000, 4000]
    assert cli("plot", "--out", tmp_path, "-o", tmp_path / "a.svg").code == 0


def test_failures_of_a_chosen_suite_are_told(make: Callable[..., Parsed], tmp_path: Path) -> None:
    """`--suite` left out the runs without rows, and the page said that there were no failures."""
    write_run(tmp_path, "catch@smoke/catch/sac/0", {100: 1.0})
    write_record(tmp_path, "random", "--agent random", status="failed")
    for options in ((), ("--suite", "catch"), ("--task", "catch")):
        page = make("--out", tmp_path, *options)
        assert "catch@smoke/catch/random/0" in page.text and "every run is finished" not in page.text, options


def test_nothing_but_failures(make: Callable[..., Parsed], tmp_path: Path) -> None:
    write_run(tmp_path, "catch@smoke/catch/sac/0", {}, error="it broke")
    write_record(tmp_path, "random", "--agent random", status="interrupted")
    page = make("--out", tmp_path)
    check_whole(page)
    assert "it broke" in page.text and "interrupted" in page.text
    assert page.data[0]["panels"] == []


def test_what_was_left_out_is_on_the_page(make: Callable[..., Parsed], cli: Callable[..., Any], out: Path) -> None:
    """It went to standard error alone, and a finished run without rows was no failure."""
    gone, cut = (run_folder(out, f"catch@smoke/catch/drqv2/{seed}") for seed in (1, 2))
    (gone / ROWS_FILE).write_text("")
    (cut / ROWS_FILE).write_text("{" + (cut / ROWS_FILE).read_text())
    said = cli("report", "-o", out / "page.html", *LIGHT, "--out", out).err
    page = make("--out", out)
    check_whole(page)
    assert "catch@smoke/catch/drqv2/1 is left out: it finished" in page.text
    assert "catch/drqv2/2/rows.jsonl: skipped 1 unreadable line" in page.text
    assert said.count("drqv2/1 is left out") == said.count("drqv2/2/rows.jsonl: skipped") == 1
    assert "It finished, but none of its rows can be read." in page.text
    assert "unreadable" in [attributes.get("class", "")[7:] for tag, attributes in page.elements if tag == "strong"]


def test_what_is_refused(cli: Callable[..., Any], out: Path, tmp_path: Path) -> None:
    (tmp_path / "empty" / "runs").mkdir(parents=True)
    for arguments, complaint in (
        (("--out", tmp_path / "empty"), "no rows in"),
        (("--out", tmp_path / "nowhere"), "nowhere"),
        (("--out", out, "--suite", "dmc6"), "no rows of suite 'dmc6'"),
        (("--out", out, "--agent", "sacc"), "no run of agent 'sacc'"),
        (("--out", out, "--over", "drq"), "no agent 'drq'"),
        (("--out", out, "-o", tmp_path / "page.pdf"), "a name that ends in .html"),
        (("--out", out, "-o", tmp_path / "absent" / "page.html"), "cannot write to"),
    ):
        result = cli("report", "-o", tmp_path / "page.html", *LIGHT, *arguments)
        assert (result.code, complaint in result.err) == (2, True), result.err
    assert not (tmp_path / "page.html").exists()


def test_neither_torch_nor_a_simulator_is_imported(out: Path, tmp_path: Path, start: Callable[..., Any]) -> None:
    (tmp_path / "torch.py").write_text("raise AssertionError('torch was imported')")
    (tmp_path / "dm_control.py").write_text("raise AssertionError('dm_control was imported')")
    process = start("report", "--out", out, "-o", tmp_path / "page.html", *LIGHT, path=(tmp_path,))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


@given(
    st.lists(
        st.dictionaries(st.integers(0, 30), st.floats(-100, 100) | st.just(np.nan), min_size=1), min_size=1, max_size=4
    )
)
def test_a_curve_is_the_mean_of_the_last_evaluations_so_far(runs: list[dict[int, float]]) -> None:
    steps = [np.array(sorted(run)) for run in runs]
    values = [np.array([run[step] for step in sorted(run)]) for run in runs]
    grid, (mean, low, high) = mean_and_interval(steps, values, Bootstrap(curve_reps=50))
    first, last = max(x[0] for x in steps), min(x[-1] for x in steps)
    assert grid.tolist() == sorted({step for run in runs for step in run if first <= step <= last})
    for index, step in enumerate(grid):
        so_far = [run[max(at for at in run if at <= step)] for run in runs]
        assert mean[index] == pytest.approx(np.mean(so_far), nan_ok=True)
        if len(runs) > 1 and np.isfinite(so_far).all():
            assert min(so_far) - 1e-9 <= low[index] <= high[index] <= max(so_far) + 1e-9
        else:
            assert np.isnan([low[index], high[index]]).all()


def test_a_curves_interval_is_that_of_stats() -> None:
    values = np.random.default_rng(0).random((5, 3))
    _, estimate = mean_and_interval([np.arange(3)] * 5, list(values), Bootstrap(curve_reps=500, seed=3))
    for index in range(3):
        expected = aggregates(values[:, [index]], ("mean",), reps=500, seed=3)["mean"]
        assert estimate[:, index] == pytest.approx(expected, abs=1e-12)


def test_a_curve_of_many_runs_takes_little_memory() -> None:
    """An array of replicates by runs by runs would fill it."""
    runs = 400
    tracemalloc.start()
    mean_and_interval(
        [np.arange(3)] * runs, list(np.random.default_rng(0).random((runs, 3))), Bootstrap(curve_reps=500)
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    steps = np.arange(0, 5000, 10)
    grid, _ = mean_and_interval([steps], [steps * 1.0], Bootstrap())
    assert (len(grid), grid[0], grid[-1]) == (MAX_POINTS, 0, 4990)


@pytest.mark.deep
@given(st.sets(st.text("ab", min_size=MAX_NAME - 2, max_size=MAX_NAME + 40), max_size=8))
def test_short_names_differ(names: set[str]) -> None:
    short = short_names(sorted(names), MAX_NAME)
    assert len(set(short.values())) == len(names)
    assert all(len(text) <= MAX_NAME for text in short.values())


def test_a_drawing_brings_no_style_comment_or_id_of_its_own() -> None:
    svg = inline(
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="9pt" height="4pt">'
        "<metadata>m</metadata><style>*{fill:red}</style><!-- </script> -->"
        '<defs><path id="a"/><clipPath id="c"/></defs>'
        '<use xlink:href="#a" clip-path="url(#c)" style="fill: #000000; stroke: #0072b2"/></svg>',
        "f1",
        'a "name"',
    )
    page = Parsed(str(svg))
    assert page.all("id") == ["f1-a", "f1-c"]
    assert (page.all("xlink:href"), page.all("clip-path")) == (["#f1-a"], ["url(#f1-c)"])
    assert "fill: var(--ink); stroke: #0072b2" in page.all("style")
    assert page.all("aria-label") == ['a "name"']
    assert "red" not in svg and "</script>" not in svg and "metadata" not in svg


@pytest.mark.parametrize(
    ("agent", "typed"),
    [
        ("random", "--agent random --agent drqv2 --set drqv2.nstep=1 --seeds 0,1"),
        ("drqv2", "--set drqv2.nstep=1 --set lr=1e-3 --set nstep=2 --agent random --agent drqv2 --workers 2"),
        (
            "drqv2",
            "--agent drqv2 --set hidden_dim=64 --set feature_dim=32 --set batch_size=128 --set env.frame_stack=4",
        ),
        ("covr", "--agent covr --agent drqv2 --set base=drqv2 --set drqv2.nstep=1 --set psi0=50"),
        ("covr", "--agent covr --set covr.psi0=60 --set score=return --set vlm=tiny --set rad.lr=1e-4"),
    ],
)
def test_a_command_finds_its_runs_done(
    cli: Callable[..., Any], make: Callable[..., Parsed], tmp_path: Path, agent: str, typed: str
) -> None:
    out = tmp_path / "results"
    for run_id in write_record(out, agent, typed, seeds=(0, 1)):
        write_run(out, run_id, {0: 1.0, 400: 2.0})
    make("--out", out)
    page = (tmp_path / "page.html").read_text()
    (command,) = [line for line in Parsed(page).text.splitlines() if line.startswith("OMP_NUM_THREADS")]
    command = command.partition("copy")[0]
    variables, program, *words = shlex.split(command)
    assert (variables, program) == ("OMP_NUM_THREADS=1", "covr-bench")
    shown = cli(*words, "--out", out, "--dry-run")
    assert shown.code == 0, shown.err
    assert "2 runs of 400 env steps (catch@smoke): 2 done" in shown.out
    assert page.count('href="#command-0"') == 1


def test_the_command_of_an_evaluation() -> None:
    trained = "catch@smoke/catch/drqv2/0"
    config = {"suite": "catch", "task": "catch_or_end", "eval_episodes": 3, "starts_seed": 7, "device": "cpu"}
    typed = f"covr-bench eval {trained} other/1 --task catch_or_end --seed=7 --set env.frame_stack=2"
    record = {"config": config | {"evaluated": {"run": trained}}, "sessions": [{"command": typed}]}
    (made,) = reproduce.commands({"catch@smoke-from-catch.catch/catch_or_end/drqv2-set-0/0": record})
    assert made.text == (
        f"OMP_NUM_THREADS=1 covr-bench eval {trained} --task catch/catch_or_end --episodes 3 --seed 7 "
        "--set env.frame_stack=2 --device cpu"
    )


def test_a_command_names_the_server_that_was_given() -> None:
    given = parse_pairs(["env.host=127.0.0.1", "env.port=2004"])
    config = {"suite": "carla", "agent": "random", "variant": "", "overrides": given, "env_steps": 9, "device": "cpu"}
    record = {"config": config, "sessions": [{"command": "covr-bench run --suite carla --carla-port 2004"}]}
    (made,) = reproduce.commands({"carla@paper-9/hw/random-env.host=127.0.0.1,env.port=2004/0": record})
    words = shlex.split(made.text)
    assert [word for word in words if word.startswith("env.")] == ["env.host=127.0.0.1", "env.port=2004"]
    assert words[words.index("--budget") + 1 : words.index("--budget") + 4] == ["paper", "--env-steps", "9"]


def test_a_run_from_elsewhere_has_no_command(make: Callable[..., Parsed], tmp_path: Path) -> None:
    (run_id,) = write_record(tmp_path, "drqv2", "--agent drqv2 --set nstep=1")
    record = provenance.read(tmp_path / "runs" / run_id / "provenance.json")
    record["sessions"][0]["command"] = "python my_script.py"
    provenance.write(tmp_path / "runs" / run_id / "provenance.json", record)
    write_run(tmp_path, run_id, {0: 1.0})
    page = make("--out", tmp_path)
    assert "were not started by covr-bench run" in page.text
    assert not [link for link in page.all("href") if link.startswith("#command-")]


def test_an_episode_is_recorded_where_none_is_stored(
    make: Callable[..., Parsed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for agent in ("drqv2", "random"):
        for run_id in write_record(tmp_path, agent, f"--agent {agent}", seeds=(0, 1)):
            write_run(tmp_path, run_id, {0: 1.0})
    asked = []

    def example_episode(run_folder: Path, size: int) -> bytes:
        asked.append((run_folder.parts[-2:], size))
        if "drqv2" in run_folder.parts:
            raise UserError("run drqv2 has no checkpoint left")
        return b"recorded"

    monkeypatch.setattr("covr_bench.cli.record.example_episode", example_episode)
    page = make("--out", tmp_path, "--videos")
    assert asked == [(("drqv2", "0"), 168), (("random", "0"), 168)]
    assert page.all("src") == ["data:video/mp4;base64," + base64.b64encode(b"recorded").decode()]
    assert not make("--out", tmp_path).all("src")


def test_videos(make: Callable[..., Parsed], out: Path, cli: Callable[..., Any]) -> None:
    folder = out / "runs" / "catch@smoke" / "catch"
    (folder / "random" / "1" / "example.mp4").write_bytes(b"stored")
    (folder / "drqv2" / "0" / "example.mp4").write_bytes(bytes(report_command.VIDEO_BYTES + 1))
    page = make("--out", out)
    check_whole(page)
    assert page.all("src") == ["data:video/mp4;base64," + base64.b64encode(b"stored").decode()]
    assert "random on catch, seed 1, catch@smoke" in page.text
    said = cli("report", "--out", out, "-o", out / "page.html", *LIGHT).err
    assert "no room for the video of catch@smoke/catch/drqv2/0 (2.5 MB)" in said


# In a browser.


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def page_file(filled: Path) -> Path:
    write_report(Choice(out=filled), filled / "page.html", ReportOptions(reps=200))
    return filled / "page.html"


@pytest.fixture(scope="module")
def hostile_file(hostile: Path) -> Path:
    write_report(Choice(scores=hostile), hostile.with_suffix(".html"), ReportOptions(reps=200))
    return hostile.with_suffix(".html")


@pytest.fixture
def shown(tab: Page, page_file: Path) -> Page:
    """The page with its first curves drawn."""
    tab.errors.clear()
    tab.requests.clear()
    tab.open(page_file)
    tab.run("document.querySelector('.chart').scrollIntoView({block: 'center'})")
    tab.wait("document.querySelector('.chart canvas') !== null")
    return tab


PICTURE = "document.querySelector('.chart canvas').toDataURL()"


def changes(page: Page, act: Callable[[], object]) -> None:
    """The first curves look different after `act`."""
    before = page.run(PICTURE)
    act()
    page.wait(f"{PICTURE} !== {json.dumps(before)}")


def test_it_opens_alone_and_without_errors(shown: Page, page_file: Path) -> None:
    assert shown.errors == []
    assert shown.requests == [page_file.as_uri()]
    assert shown.run("document.title").startswith("covr-bench")


def test_agents_and_axes_are_toggled(shown: Page) -> None:
    pressed = "document.querySelector('.agent').getAttribute('aria-pressed')"
    changes(shown, lambda: shown.click(".agent"))
    assert shown.run(pressed) == "false"
    changes(shown, lambda: shown.click(".agent"))
    assert shown.run(pressed) == "true"
    for what in ("seeds", "bands", "logX", "logY", "none", "all"):
        changes(shown, lambda what=what: shown.click(f"[data-toggle={what}]"))
    assert shown.errors == []


def test_a_log_axis_says_what_it_leaves_out(tab: Page, make: Callable[..., Parsed], tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(f"{HEADER}\na,t,0,0,-1\na,t,0,10,5\na,t,0,20,50\n")
    make("--scores", tmp_path / "scores.csv")
    tab.errors.clear()
    tab.open(tmp_path / "page.html", height=3000)
    tab.wait("document.querySelector('.chart canvas') !== null")
    note = "document.querySelector('.hidden-note')"
    assert tab.run(f"{note}.hidden") is True
    tab.click("[data-toggle=logY]")
    tab.wait(f"!{note}.hidden && {note}.textContent.includes('0 and less')")
    tab.click("[data-toggle=logX]")
    tab.click("[data-toggle=logY]")
    tab.wait(f"{note}.hidden")
    assert tab.errors == []


def test_values_are_shown_under_the_pointer_and_by_keys(shown: Page) -> None:
    x, y = shown.middle(".chart")
    shown.move(x + 5, y)
    shown.wait("document.querySelector('.tip')?.textContent.includes('200 steps')")
    lines = shown.run("[...document.querySelectorAll('.tip div')].map(line => line.textContent)")
    assert lines[0].startswith("drqv231 [30, 32] n=3")
    shown.move(2, 2)
    shown.wait("document.querySelector('.tip') === null")
    shown.run("document.querySelector('.chart').focus({preventScroll: true})")
    shown.press("ARROW_RIGHT")
    shown.wait("document.querySelector('.tip')?.textContent.startsWith('0 steps')")
    shown.press("ARROW_RIGHT")
    shown.wait("document.querySelector('.tip')?.textContent.startsWith('200 steps')")
    shown.press("ESCAPE")
    shown.wait("document.querySelector('.tip') === null")


def test_light_and_dark(shown: Page, page_file: Path) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light = shown.run(background)
    shown.open(page_file, dark=True)
    dark = shown.run(background)
    assert sum(map(int, re.findall(r"\d+", dark))) < 150 < 600 < sum(map(int, re.findall(r"\d+", light)))
    shown.click("#theme")  # from auto to light
    assert shown.run(background) == light
    shown.click("#theme")
    assert shown.run("document.documentElement.dataset.theme") == "dark"
    shown.click("#theme")
    assert shown.run("document.documentElement.dataset.theme ?? 'auto'") == "auto"
    assert shown.errors == []


@pytest.mark.parametrize("width", [380, 800, 1400])
def test_hostile_and_long_names_neither_run_nor_widen_the_page(tab: Page, hostile_file: Path, width: int) -> None:
    tab.errors.clear()
    tab.open(hostile_file, width=width, height=3000)
    tab.run("document.querySelector('.chart').scrollIntoView({block: 'center'})")
    tab.wait("document.querySelector('.chart canvas') !== null")
    tab.run("document.querySelectorAll('details').forEach(each => { each.open = true })")
    tab.run("dispatchEvent(new Event('beforeprint'))")
    x, y = tab.middle(".chart")
    tab.move(x, y)
    tab.wait("document.querySelector('.tip') !== null")
    assert tab.run("document.documentElement.scrollWidth") == width
    assert tab.run("window.hacked ?? 0") == 0
    assert tab.run("document.images.length") == 0
    assert tab.errors == []


def test_tables_are_sorted_and_saved(shown: Page) -> None:
    first = "document.querySelector('#protocol-1 table')"
    values = f"[...{first}.tBodies[0].rows].map((row) => parseFloat(row.cells[1].textContent))"
    shown.click("#protocol-1 thead th.number")
    falling = [value for value in shown.run(values) if value is not None]
    assert falling == sorted(falling, reverse=True)
    shown.click("#protocol-1 thead th.number")
    rising = [value for value in shown.run(values) if value is not None]
    assert rising == sorted(rising)
    assert shown.run(f"{first}.querySelector('[aria-sort]').getAttribute('aria-sort')") == "ascending"
    assert shown.run("document.querySelectorAll('.tools button[aria-label$=CSV]').length") > 1
    assert shown.run("document.querySelectorAll('.tools button[aria-label$=SVG]').length") > 0
    assert shown.errors == []


def test_smoothing_is_a_choice_that_is_off(shown: Page) -> None:
    button = "[data-toggle=smooth]"
    assert shown.run(f"document.querySelector('{button}').getAttribute('aria-pressed')") == "false"
    changes(shown, lambda: shown.click(button))


def test_a_link_to_a_run_opens_it(shown: Page) -> None:
    assert shown.run("document.querySelector('.failure a').getAttribute('href')").startswith("#run-")
    shown.click(".failure a")
    shown.wait("document.querySelector(location.hash).open")


def unpacked(data: Any) -> list[tuple[Any, ...]]:
    """As the page's script does it: id, status, score, facts, settings."""
    texts, found = data["texts"], []
    lines: list[list[tuple[str, str]]] = [[], []]  # facts, settings
    for run_id, status, score, *parts in data["runs"]:
        for part, (length, changes) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
            lines[part] = [*lines[part], *[("", "")] * length][:length]
            for position, name, text in zip(changes[::3], changes[1::3], changes[2::3], strict=True):
                lines[part][position] = (texts[name], texts[text])
        found.append((run_id, status, score, *map(tuple, lines)))
    return found


def test_thousands_of_runs_take_little_room_and_lose_nothing() -> None:
    common = tuple((f"setting{n}", "x" * 20) for n in range(40))
    entries = [
        RunEntry(
            f"s@b/t/a/{seed}", "finished", 100, math.nan if seed == 3 else 1.5, "",
            (("session", f"at {seed}"),) * (1 + seed % 3), (*common[: 40 - seed % 2], ("seed", str(seed))),
        )
        for seed in range(2000)
    ]  # fmt: skip
    data = packed(entries)
    assert unpacked(json.loads(json.dumps(data))) == [
        (each.run_id, each.status, each.score_text, each.facts, each.settings) for each in entries
    ]
    assert len(json.dumps(data)) < 300 * len(entries)
    assert packed(entries[:100]) is None


def test_runs_beyond_a_page_are_found_and_linked(tab: Page, make: Callable[..., Parsed], tmp_path: Path) -> None:
    lines = "".join(f"m,t,{seed},{step},{seed}\n" for seed in range(150) for step in (0, 10))
    scores = tmp_path / "scores.csv"
    scores.write_text(f"agent,task,seed,env_steps,return\n{lines}")
    page = make("--scores", scores, "--reps", 10)
    assert "The other 50 runs need JavaScript." in page.text
    tab.open(tmp_path / "page.html")
    shown = "[...document.querySelectorAll('.run .run-id')].map(each => each.textContent)"
    assert len(tab.run(shown)) == 100
    tab.run("document.querySelector('#runs .tools button:last-of-type').click()")
    assert len(tab.run(shown)) == 50
    tab.run("location.hash = '#run-7'")
    tab.wait("document.querySelector('#run-7')?.open === true")
    tab.run(
        "(box => { box.value = 'm/149 FINISHED'; box.dispatchEvent(new Event('input')) })"
        "(document.querySelector('#runs input'))"
    )
    assert [name.endswith("m/149") for name in tab.run(shown)] == [True]


def test_thousands_of_unknown_commands_are_one_line() -> None:
    scores = final_scores(no_rows())
    known = Command("covr-bench run", ("s@b/t/a/0",))
    unknown = [Command("", (f"s@b/t/a/{seed}",)) for seed in range(1, 1000)]
    assert [what for what, _ in _commands([known, *unknown], scores)] == ["s@b/t/a/0", "999 others"]
    assert len(_commands([known, *unknown[:5]], scores)) == 6


def test_a_run_is_listed_with_its_last_return_whatever_the_score(tmp_path: Path) -> None:
    with RunWriter(tmp_path, "dmc6@paper/walker_walk/sac/0", action_repeat=2) as writer:
        for step, value in ((0, 10.0), (100, 30.0)):
            writer.write("eval", step, step // 2, {"return": [value]})
        writer.end()
    frame = read(tmp_path)
    (entry,) = entries(final_scores(frame, score="auc"), frame, {})
    assert entry.score_text == "30.0 at 100"
