"""What is asked of `run`, from the command line, YAML and Python alike; unknown names are refused."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from covr_bench.config.request import OPTIONS, Request, from_yaml, overlay, request, to_yaml
from covr_bench.kit.errors import UserError

EVERYTHING: dict[str, Any] = {
    "suite": "catch",
    "agents": ["drqv2", "random"],
    "tasks": ["catch"],
    "variants": ["M1"],
    "seeds": [0, 2],
    "budget": "smoke",
    "env_steps": 100,
    "settings": {"lr": "1e-3", "env.render": "fast"},
    "vlm": "tiny",
    "workers": 2,
    "per_gpu": 2,
    "device": "cpu",
    "conv_kernel": "torch",
    "launcher": "local",
    "launcher_settings": {"key": "value"},
    "trackers": ["tensorboard"],
    "tracker_settings": {"tensorboard.folder": "x"},
    "checkpoint_every": 60.0,
    "restart": True,
    "accept_changed_code": True,
    "allow_silent_vlm": True,
    "out": "elsewhere",
}


def test_every_field_can_be_given() -> None:
    assert set(EVERYTHING) == set(OPTIONS)


def test_a_request_survives_yaml(tmp_path: Path) -> None:
    asked = request(EVERYTHING)
    (tmp_path / "a.yaml").write_text(to_yaml(asked.as_dict()))
    assert request(from_yaml(tmp_path / "a.yaml")) == asked


def test_a_yaml_file_uses_the_names_of_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "suite: catch\nagent: random\nseeds: 0-2\nset: {lr: 0.001, flag: true}\nenv-steps: 50\ncheckpoint_every: 9\n"
    )
    asked = request(from_yaml(tmp_path / "a.yaml"))
    assert (asked.agents, asked.seeds, asked.settings) == (("random",), (0, 1, 2), {"lr": "0.001", "flag": "true"})
    assert (asked.env_steps, asked.checkpoint_every) == (50, 9.0)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("suit: catch", r"unknown option in .*a.yaml 'suit'. Did you mean 'suite'"),
        ("suite: catch\nworkers: 0", r"workers = 0: .*greater than or equal to 1"),
        ("suite: catch\nworkers: many", r"workers = 'many': .*valid integer"),
        ("suite: catch\nseeds: [0, -1]", r"seeds = -1"),
        ("suite: catch\nseeds: [0, 3, 0]", r"seeds = \[0, 3, 0\]: .*seed 0 stands there twice; name it once"),
        ("suite: catch\nconv-kernel: fft", r"conv-kernel = 'fft': .*'auto', 'torch' or 'winograd'"),
        ("suite: catch\ncheckpoint-every: 0", r"checkpoint-every = 0: .*greater than 0"),
        ("suite: catch\nset: fast", r"set = 'fast': give settings by name"),
        ("budget: smoke", r"names no suite"),
        ("- catch", r"should hold options by name"),
        ("a: [", r"is not YAML"),
        ("suite: catch\nbudget: smoke\nsuite: dmc6", r"gives 'suite' twice, and only one can hold"),
        ("suite: catch\nset: {lr: 1, nstep: 2, lr: 3}", r"gives 'lr' twice"),
        ("suite: catch\nagent: random\nagents: [drqv2]", r"gives both 'agent' and 'agents', which are one"),
        ("suite: catch\nenv-steps: 5\nenv_steps: 6", r"gives both 'env-steps' and 'env_steps'"),
    ],
)
def test_what_is_wrong_in_a_yaml_file_is_named(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=complaint):
        request(from_yaml(tmp_path / "a.yaml"), str(tmp_path / "a.yaml"))


def test_an_absent_yaml_file_is_named(cli: Callable[..., Any], tmp_path: Path) -> None:
    result = cli("run", "--config", tmp_path / "absent.yaml")
    assert result.code == 2
    assert f"cannot read {tmp_path / 'absent.yaml'}: No such file" in result.err


def test_the_command_line_overrides_the_file_and_joins_its_settings() -> None:
    file = {"suite": "catch", "budget": "smoke", "settings": {"lr": "1", "nstep": "2"}, "workers": 1}
    joined = overlay(file, {"budget": "short", "settings": {"lr": "3"}, "workers": None, "restart": False})
    assert joined == {"suite": "catch", "budget": "short", "settings": {"lr": "3", "nstep": "2"}, "workers": 1}


def test_files_are_known_by_their_whole_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vlm").mkdir()
    asked = request({"suite": "s.py", "agents": ["a.py", "random"], "budget": "b.py", "vlm": "vlm"})
    assert asked.suite == str(tmp_path / "s.py")
    assert asked.agents == (str(tmp_path / "a.py"), "random")
    assert (asked.budget, asked.vlm) == (str(tmp_path / "b.py"), str(tmp_path / "vlm"))
    settings = {"base": "base.py", "covr.vlm": "vlm.py", "lr": "1e-3", "vlm": "tiny"}
    asked = request({"suite": "catch", "settings": settings})
    assert asked.settings == settings | {"base": str(tmp_path / "base.py"), "covr.vlm": str(tmp_path / "vlm.py")}


def test_a_request_is_a_command_line_again() -> None:
    words = shlex.split(request(EVERYTHING).command())
    assert words[:4] == ["covr-bench", "run", "--suite", "catch"]
    for words_of_one in (["--agent", "drqv2"], ["--seeds", "0,2"], ["--set", "lr=1e-3"], ["--env-steps", "100"]):
        at = words.index(words_of_one[1]) - 1
        assert words[at : at + 2] == words_of_one
    assert "--restart" in words
    assert shlex.split(Request("catch").command()) == ["covr-bench", "run", "--suite", "catch"]


@given(st.dictionaries(st.text(min_size=1), st.one_of(st.text(), st.floats(allow_nan=False), st.booleans())))
def test_settings_of_any_kind_survive_as_text(settings: dict[str, Any]) -> None:
    asked = request({"suite": "catch", "settings": settings})
    assert request(yaml.safe_load(to_yaml(asked.as_dict()))) == asked


@pytest.mark.parametrize(("field", "value"), [("vlm", ""), ("budget", ""), ("agents", ["sac", ""]), ("seeds", "")])
def test_a_name_that_is_empty_is_no_default(field: str, value: Any) -> None:
    for ask in (lambda: overlay({}, {field: value}), lambda: request({"suite": "catch", field: value})):
        with pytest.raises(UserError, match=f"--{OPTIONS[field]} is empty: give a name, or leave it out"):
            ask()


def test_a_zero_is_no_default_either() -> None:
    joined = overlay({"suite": "catch", "workers": 2}, {"workers": 0})
    with pytest.raises(UserError, match="workers = 0: "):
        request(joined)


def test_an_empty_vlm_of_the_command_line_runs_no_stand_in(cli: Callable[..., Any], tmp_path: Path) -> None:
    done = cli("run", "--suite", "catch", "--agent", "vbe", "--vlm", "", "--dry-run", "--out", tmp_path / "out")
    assert done.code == 2 and done.err.count("\n") == 1 and "--vlm is empty" in done.err
