"""Names: ours, a user's file, an installed package; two of one name are an error."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import covr_bench
from covr_bench.config import registry
from covr_bench.config.experiment import compose, design
from covr_bench.config.request import Request
from covr_bench.kit import extensions
from covr_bench.kit.errors import Note, UserError
from covr_bench.kit.extensions import _entry_points
from suites.base import Budget, Variant
from suites.catch import SUITE

AGENT_FILE = """
from covr_bench import AgentSpec
from baselines.random import Config, Random
AGENT = AgentSpec("{name}", Config, Random, "control")
"""


def install(folder: Path, group: str, name: str, value: str, package: str = "other") -> None:
    """What pip leaves of a package: its entry points."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[covr_bench.{group}]\n{name} = {value}\n")
    _entry_points.cache_clear()  # a process reads them once


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return tmp_path


def test_a_name_is_a_file_name() -> None:
    for name in registry.agent_names():
        assert registry.agent(name).name == name
    assert "drqv2" in registry.agent_names()


@pytest.mark.parametrize("look_up", [registry.agent, registry.suite])
def test_an_unknown_name_gets_the_nearest(look_up: object) -> None:
    near = "drqv" if look_up is registry.agent else "dmc7"
    with pytest.raises(UserError, match=rf"unknown .* '{near}'. Did you mean .*Valid: "):
        look_up(near)  # type: ignore[operator]


def test_an_unknown_budget_names_those_of_the_suite() -> None:
    with pytest.raises(UserError, match=r"unknown budget of suite catch 'smok'. Did you mean 'smoke'"):
        registry.budget(registry.suite("catch"), "smok")


def test_a_file_given_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(AGENT_FILE.format(name="mine"))
    monkeypatch.chdir(tmp_path)
    assert registry.agent("mine.py").name == "mine"
    assert registry.agent(str(tmp_path / "mine.py")).name == "mine"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x = 1", "defines no AGENT"),
        ("import absent_module", "cannot be imported: ModuleNotFoundError: No module named 'absent_module'"),
        ("AGENT = (", "cannot be imported: SyntaxError"),
    ],
)
def test_a_broken_file_is_named(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(UserError, match=complaint) as error:
        registry.agent(str(path))
    assert str(path) in str(error.value)
    with pytest.raises(UserError, match=r"no file"):
        registry.agent(str(tmp_path / "absent.py"))


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("agent", AGENT_FILE.format(name="drqv2")),
        ("suite", "from suites.catch import SUITE"),
        ("budget", "from covr_bench import Budget\nBUDGET = Budget('paper', 10, 10, 1)"),
    ],
)
def test_a_file_may_not_take_a_known_name(what: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    look_up = {
        "agent": registry.agent,
        "suite": registry.suite,
        "budget": lambda ref: registry.budget(registry.suite("catch"), ref),
    }
    with pytest.raises(UserError, match=rf"{path} calls its {what} .* there is another {what} of that name"):
        look_up[what](str(path))


BUDGET_FILE = """
from covr_bench import Budget
BUDGET = Budget(**({{"name": "mine", "env_steps": 200, "eval_every": 100, "eval_episodes": 1}} | {given}))
"""
SUITE_FILE = """
from dataclasses import replace
from suites.catch import SUITE as CATCH
TASK = replace(CATCH.tasks[0], **{task})
SUITE = replace(CATCH, **({{"name": "mine", "tasks": (TASK,)}} | {suite}))
"""
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.floats(), st.text("a/. ", max_size=2), st.just(()), st.just({})
)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"eval_every": 0}, r"BUDGET = Budget\(...\) of .*b.py: eval_every = 0: .* greater than or equal to 1"),
        ({"env_steps": -1}, r"env_steps = -1: Input should be greater than"),
        ({"env_steps": 1.5, "eval_episodes": "x"}, r"env_steps = 1.5: .* valid integer.*; eval_episodes = 'x'"),
        ({"seeds": 3}, r"seeds = 3: Input should be a valid tuple"),
        ({"seeds": ()}, r"seeds = \(\): Tuple should have at least 1 item"),
        ({"overrides": ("lr", 1)}, r"overrides = \('lr', 1\): Input should be a valid dictionary"),
        ({"name": None}, r"name = None: Input should be a valid string"),
    ],
)
def test_a_budget_that_is_none_is_refused_where_it_is_read(given: Any, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text(BUDGET_FILE.format(given=given))
    with pytest.raises(UserError, match=complaint):
        registry.budget(registry.suite("catch"), str(tmp_path / "b.py"))


@pytest.mark.parametrize(
    ("task", "suite", "complaint"),
    [
        ({"max_episode_steps": None}, {}, r"tasks.0.max_episode_steps = None: Input should be a valid integer"),
        ({"score_range": (5, 5)}, {}, r"suite of .* cannot be run: the score_range of its task catch is \(5.0, 5.0\)"),
        ({"score_range": (0, float("inf"))}, {}, r"score_range of its task catch is \(0.0, inf\)"),
        ({"observations": ()}, {}, r"its task catch has no observations"),
        ({}, {"tasks": ()}, r"it has no task"),
        ({}, {"tasks": ("catch",)}, r"cannot be imported: AttributeError: 'str' object has no attribute 'family'"),
        ({}, {"default_tasks": ("katch",)}, r"its default_tasks name 'katch', which is none of its tasks: catch"),
        ({}, {"agents": "drqv2"}, r"agents = 'drqv2': Input should be a valid tuple"),
        ({}, {"version": "two"}, r"version = 'two': Input should be a valid integer"),
        ({}, {"budgets": {"b": Budget("b", 1, 0, 1)}}, r"budgets.b.eval_every = 0"),
        ({}, {"variants": (Variant("covr", "x", {"lr": 1}),)}, r"variants.0.settings.lr = 1: .* valid string"),  # type: ignore[dict-item]
    ],
)
def test_a_suite_that_is_none_is_refused_where_it_is_read(
    task: Any, suite: Any, complaint: str, tmp_path: Path
) -> None:
    text = SUITE_FILE.format(task=task, suite=suite).replace("inf)", "float('inf'))")
    (tmp_path / "s.py").write_text("from suites.base import Budget, Variant\n" + text)
    with pytest.raises(UserError, match=complaint):
        registry.suite(str(tmp_path / "s.py"))


def test_tasks_of_one_name_are_refused(tmp_path: Path) -> None:
    text = SUITE_FILE.format(task={}, suite={}).replace("(TASK,)", "(TASK, TASK)")
    (tmp_path / "s.py").write_text(text)
    with pytest.raises(UserError, match="two of its tasks are called 'catch'"):
        registry.suite(str(tmp_path / "s.py"))


def test_a_suite_may_have_lists_and_no_agents_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(SUITE_FILE.format(task={}, suite={"agents": [], "default_tasks": ["catch"]}))
    assert registry.suite(str(tmp_path / "s.py")).default_tasks == ("catch",)
    request = Request(str(tmp_path / "s.py"), budget="smoke")
    with pytest.raises(UserError, match="no agents that run when none is asked for; give --agent"):
        design(request)
    assert design(replace(request, agents=("random",))).cells


@given(name=st.sampled_from([item.name for item in fields(Budget)]), value=VALUES)
@settings(max_examples=60)
def test_whatever_a_budget_holds_it_is_planned_or_refused(name: str, value: Any) -> None:
    budget = Budget(**{"name": "mine", "env_steps": 200, "eval_every": 100, "eval_episodes": 1, name: value})
    suite = registry.suite("catch")
    with suppress(UserError):
        found = extensions.sound(registry.BUDGETS, budget, "here")
        experiment = compose(Request("catch"), suite, found, {"random": registry.agent("random")})
        assert experiment.runs(device="cpu", threads=1, conv_kernel="torch")


@pytest.mark.parametrize("name", registry.suites())
def test_our_own_suites_are_as_a_users_must_be(name: str) -> None:
    assert extensions.sound(registry.SUITES, registry.suite(name), name) == registry.suite(name)


def test_an_installed_agent_joins_by_entry_point(site: Path) -> None:
    (site / "other_agents.py").write_text(AGENT_FILE.format(name="theirs"))
    install(site, "agents", "theirs", "other_agents:AGENT")
    assert registry.agent_names()[-1] == "theirs"
    assert registry.agent("theirs").name == "theirs"
    assert registry.agent("random").name == "random"


def test_an_installed_agent_that_was_edited_since_it_was_imported_is_refused(site: Path) -> None:
    """Its runs had the code's new hash and its old settings, as in a notebook."""
    (site / "edited_agents.py").write_text(AGENT_FILE.format(name="edited"))
    install(site, "agents", "edited", "edited_agents:AGENT")
    asked = {"agents": ["edited"], "tasks": ["catch"], "budget": "smoke", "out": site / "out"}
    assert covr_bench.plan("catch", **asked).todo
    with (site / "edited_agents.py").open("a") as file:
        file.write("# another\n")
    with pytest.raises(UserError, match=r"edited_agents.py, or what it imports, was edited since this process"):
        covr_bench.plan("catch", **asked)


@pytest.mark.parametrize(
    ("group", "name", "call", "ours"),
    [
        ("agents", "drqv2", registry.agent_names, "baselines/drqv2.py"),
        ("suites", "dmc6", registry.suites, "suites/dmc.py"),
        ("budgets", "paper", lambda: registry.budgets(registry.suite("catch")), "suite catch"),
    ],
)
def test_an_installed_package_may_not_take_our_names(
    group: str, name: str, call: object, ours: str, site: Path
) -> None:
    install(site, group, name, "other:THING")
    with pytest.raises(UserError, match=rf"two {group} are called '{name}': {ours} and other:THING of other"):
        call()  # type: ignore[operator]


def test_two_packages_may_not_share_a_name(site: Path) -> None:
    install(site, "agents", "theirs", "a:AGENT", package="first")
    install(site, "agents", "theirs", "b:AGENT", package="second")
    with pytest.raises(UserError, match=r"two agents are called 'theirs': .* of .* and .* of .*"):
        registry.agent("theirs")


def test_an_entry_point_is_named_as_what_it_loads(site: Path) -> None:
    (site / "liar.py").write_text(AGENT_FILE.format(name="drqv2"))
    install(site, "agents", "honest", "liar:AGENT")
    with pytest.raises(UserError, match=r"liar:AGENT of other is named 'drqv2'; both names must be equal"):
        registry.agent("honest")


def test_a_package_that_cannot_be_loaded_is_named(site: Path) -> None:
    install(site, "agents", "theirs", "absent_module:AGENT")
    with pytest.raises(UserError, match=r"absent_module:AGENT of other cannot be loaded"):
        registry.agent("theirs")


@pytest.mark.parametrize(
    ("group", "name", "listing", "ask"),
    [
        ("suites", "theirs", registry.suites, lambda: registry.suite("theirs")),
        ("budgets", "tiny", lambda: registry.budgets(SUITE), lambda: registry.budget(SUITE, "tiny")),
    ],
)
def test_a_broken_package_is_left_out_of_what_is_listed(
    group: str, name: str, listing: Callable[[], Any], ask: Callable[[], Any], site: Path
) -> None:
    before = listing()
    install(site, group, name, "absent_module:IT")
    with pytest.warns(Note, match=r"absent_module:IT of other cannot be loaded: .* It is left out\."):
        assert listing() == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert registry.suite("catch").name == "catch"
        assert registry.budget(SUITE, "smoke") == SUITE.budgets["smoke"]
    with pytest.raises(UserError, match=r"absent_module:IT of other cannot be loaded"):
        ask()


def test_agents_of_a_broken_package_are_left_out_of_the_list(site: Path, cli: Any) -> None:
    install(site, "agents", "theirs", "absent_module:AGENT")
    listed = cli("list", "agents")
    assert listed.code == 0, listed.err
    assert "drqv2" in listed.out
    assert "absent_module:AGENT of other cannot be loaded" in listed.err


def test_a_budget_is_stored_under_the_name_its_suite_gives_it() -> None:
    suite = replace(SUITE, budgets={"smoke": replace(SUITE.budgets["smoke"], name="other")})
    assert registry.budget(extensions.sound(registry.SUITES, suite, "here"), "smoke").name == "smoke"


@pytest.mark.parametrize("kind", ["launcher", "tracker"])
def test_launchers_and_trackers_are_listed_with_their_settings(kind: str, cli: Any) -> None:
    listed = cli("list", f"{kind}s")
    assert listed.code == 0, listed.err
    for text in {"launcher": ("local", "slurm", "partition="), "tracker": ("wandb", "mlflow", "experiment=")}[kind]:
        assert text in listed.out
