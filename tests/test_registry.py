"""Names: ours, a user's file, an installed package; two of one name are an error."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from covr_bench.config import registry
from covr_bench.kit.errors import UserError
from covr_bench.kit.extensions import _entry_points

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


def test_an_installed_agent_joins_by_entry_point(site: Path) -> None:
    (site / "other_agents.py").write_text(AGENT_FILE.format(name="theirs"))
    install(site, "agents", "theirs", "other_agents:AGENT")
    assert registry.agent_names()[-1] == "theirs"
    assert registry.agent("theirs").name == "theirs"
    assert registry.agent("random").name == "random"


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
