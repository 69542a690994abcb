"""A run's identity includes its code: its agent's source and what stands beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import covr_bench
from covr.vlm.weights import checkpoint_hash
from covr_bench.config import registry
from covr_bench.config.experiment import code_of_agent
from covr_bench.kit.code import code_hash
from covr_bench.kit.errors import UserError
from results import provenance
from results.store import read_run, run_folder

AGENT = """
import json, helper
from covr_bench import AgentSpec
from baselines.random import Config, Random
class Mine(Random):
    def update(self, replay, step):
        import later
        return {{}}
AGENT = AgentSpec("{name}", Config, Mine, "control", replay_frames=0)
"""


def folder_of(path: Path, name: str = "mine", *, helper: str = "x = 1\n", later: str = "y = 1\n") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "helper.py").write_text(helper)
    (path / "later.py").write_text(later)
    (path / "agent.py").write_text(AGENT.format(name=name))
    return path / "agent.py"


def test_the_hash_is_of_the_file_and_of_what_it_imports_from_beside_it(tmp_path: Path) -> None:
    base = code_hash(str(folder_of(tmp_path / "a")), "")
    assert code_hash(str(folder_of(tmp_path / "b" / "c")), "") == base
    assert code_hash(str(folder_of(tmp_path / "d", helper="x = 2\n")), "") != base
    assert code_hash(str(folder_of(tmp_path / "e", later="y = 2\n")), "") != base
    (tmp_path / "a" / "other.py").write_text("nobody imports it")
    (tmp_path / "a" / "json.py").write_text("hidden by the standard library")
    assert code_hash(str(tmp_path / "a" / "agent.py"), "") == base
    with (tmp_path / "a" / "agent.py").open("a") as file:
        file.write("# changed\n")
    assert code_hash(str(tmp_path / "a" / "agent.py"), "") != base


CHAIN = """
from covr_bench import AgentSpec
from baselines.random import Config, Random
import first
def lazy():
    import later
    from parts import level
    return later.TOLD + level.TOLD
AGENT = AgentSpec("mine", Config, Random, "control", paper=first.second.inner.TOLD)
"""


def test_modules_beside_a_file_are_as_their_files_are_now(tmp_path: Path) -> None:
    """One process, as a notebook is."""
    agent, inner = tmp_path / "agent.py", tmp_path / "second" / "inner.py"
    inner.parent.mkdir()
    agent.write_text(CHAIN)
    (tmp_path / "first.py").write_text("import second.inner")
    (inner.parent / "__init__.py").write_text("")
    program = tmp_path / "notebook.py"
    program.write_text(f"""
import first
from pathlib import Path
from covr_bench.config import registry
inner, ref = Path({str(inner)!r}), {str(agent)!r}
def told():
    return registry.agent(ref).paper
assert (told(), first) == ("A", __import__("first"))
assert (told(), first) == ("A", __import__("first"))
for text in ("TOLD = 'B'", "TOLD = 'C'"):
    inner.write_text(text)
    assert told() == text[-2]
Path(__file__).write_text("pass")
inner.write_text("TOLD = 'D'")
assert told() == "D"
import sys
assert "registry" in vars(sys.modules["__main__"])
def lazily():
    registry.agent(ref)
    (module,) = [each for name, each in sys.modules.items() if name.startswith("covr_bench_user_")]
    return module.lazy()
assert lazily() == "11"
(inner.parents[1] / "later.py").write_text("TOLD = '2'")
assert lazily() == "21"
(inner.parents[1] / "parts" / "level.py").write_text("TOLD = '3'")
assert lazily() == "23"
""")
    inner.write_text("TOLD = 'A'")
    (tmp_path / "parts").mkdir()
    for file in (tmp_path / "later.py", tmp_path / "parts" / "level.py"):
        file.write_text("TOLD = '1'")
    subprocess.run([sys.executable, str(program)], check=True)


def test_line_ends_do_not_count(tmp_path: Path) -> None:
    unix, windows = folder_of(tmp_path / "a"), folder_of(tmp_path / "b")
    windows.write_bytes(unix.read_bytes().replace(b"\n", b"\r\n"))
    assert code_hash(str(unix), "") == code_hash(str(windows), "")


def test_our_agents_have_hashes_of_their_own() -> None:
    hashes = {name: code_hash(name, registry.module_of(name)) for name in registry.agent_names()}
    assert len(set(hashes.values())) == len(hashes)
    assert all(hashes.values())


def test_a_package_beside_the_file_counts_with_its_relative_imports(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("from .one import x\n")
    (tmp_path / "parts" / "one.py").write_text("x = 1\n")
    (tmp_path / "agent.py").write_text("import parts\n")
    before = code_hash(str(tmp_path / "agent.py"), "")
    (tmp_path / "parts" / "one.py").write_text("x = 2\n")
    assert code_hash(str(tmp_path / "agent.py"), "") != before


def test_two_agents_with_neighbours_of_one_name(tmp_path: Path) -> None:
    first, second = (folder_of(tmp_path / name, name, helper=f"x = {name!r}\n") for name in ("one", "two"))
    hashes = [code_hash(str(file), "") for file in (first, second)]
    for file, name in ((first, "one"), (second, "two"), (first, "one")):
        spec = registry.agent(str(file))
        assert spec.make.update.__globals__["helper"].x == name  # type: ignore[attr-defined]
    assert [code_hash(str(file), "") for file in (first, second)] == hashes


def test_two_agents_with_folders_of_one_name(tmp_path: Path) -> None:
    """Such a folder needs no __init__.py; the second agent got the first one's settings."""
    for name in ("one", "two"):
        folder = tmp_path / name
        (folder / "nets").mkdir(parents=True)
        (folder / "nets" / "config.py").write_text(f"x = {name!r}\n")
        text = (
            "from baselines.random import AGENT as RANDOM\nfrom covr_bench import AgentSpec\nfrom nets import config\n"
        )
        (folder / "agent.py").write_text(f"{text}AGENT = AgentSpec(config.x, RANDOM.Config, RANDOM.make, 'control')\n")
    for name in ("one", "two", "one"):
        assert registry.agent(str(tmp_path / name / "agent.py")).name == name


def command(agent: Path, out: Path, *more: str) -> list[Any]:
    return ["run", "--suite", "catch", "--task", "catch", "--budget", "smoke", "--agent", agent, "--out", out, *more]


@pytest.fixture
def unfinished(tmp_path: Path) -> tuple[Path, Path]:
    """An agent's file and a store that holds an unfinished run of it."""
    agent, out = folder_of(tmp_path / "lab"), tmp_path / "results"
    run = out / "runs" / "catch@smoke" / "catch" / "mine" / "0"
    (run / "checkpoint" / "000000000100").mkdir(parents=True)
    return agent, out


def begin(cli: Callable[..., Any], agent: Path, out: Path) -> None:
    from covr_bench.config.experiment import design
    from covr_bench.config.request import request

    asked = request({"suite": "catch", "tasks": ["catch"], "budget": "smoke", "agents": [str(agent)], "out": str(out)})
    (config,) = design(asked).runs(device="cpu", threads=1, conv_kernel="torch")
    provenance.begin(out, config.run_id, config=config.as_dict(), seeds={}, command="")


def test_going_on_with_changed_code_is_refused_with_the_ways_out(
    cli: Callable[..., Any], unfinished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from covr_bench.run import plan as planning  # noqa: F401

    agent, out = unfinished
    begin(cli, agent, out)
    (agent.parent / "helper.py").write_text("x = 2\n")
    result = cli(*command(agent, out, "--dry-run"))
    assert result.code == 2
    assert f"the code of its agent ({agent}) has changed since" in result.err
    assert "--restart" in result.err
    assert "--accept-changed-code" in result.err


@pytest.mark.parametrize(("agent", "what"), [("top_return", "base"), ("vbe", "vlm")])
def test_the_code_of_a_base_and_of_a_vlms_file_counts(agent: str, what: str, tmp_path: Path) -> None:
    """The run went on with other code in silence, or counted as done."""
    file = tmp_path / "mine.py"
    example = Path(__file__).parents[1] / "examples" / "vlm_plugin.py"
    file.write_text(
        example.read_text() if what == "vlm" else AGENT.format(name="mine").replace("import json, helper", "")
    )
    (tmp_path / "later.py").write_text("")
    options = {"tasks": ["catch"], "budget": "smoke", "agents": [agent], "seeds": [0], "out": tmp_path / "results"}

    def made(**more: Any) -> Any:
        (run,) = covr_bench.plan("catch", **options, settings={what: str(file)}, **more).runs
        return run

    config = made().config
    (run_folder(config.out, config.run_id) / "checkpoint" / "000000000100").mkdir(parents=True)
    provenance.begin(config.out, config.run_id, config=config.as_dict(), seeds={}, command="")
    assert not made().changed_code
    file.write_text(f"{file.read_text()}\n# another\n")
    with pytest.raises(UserError, match=f"the code of its {what} \\({file}\\) has changed since"):
        made()
    assert made(accept_changed_code=True).changed_code
    record = provenance.read(run_folder(config.out, config.run_id) / "provenance.json")
    for code in (record["config"]["code"], record["sessions"][0]["code"]):  # as earlier versions wrote it
        del code[what]
    provenance.write(run_folder(config.out, config.run_id) / "provenance.json", record)
    assert not made().changed_code
    assert not provenance.went_on_with_other_code(config.out, config.run_id, made().config.code)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """What looks like a checkpoint's folder, with weights that are too large to be read whole."""
    folder = tmp_path / "model"
    (folder / ".cache").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate((1 << 26) + 12345)
    return folder


def test_the_weights_of_a_vlms_folder_count(model: Path, tmp_path: Path) -> None:
    """A run went on with other weights, and seeds of old and new ones were averaged."""
    options = {"tasks": ["catch"], "budget": "smoke", "agents": ["vbe"], "seeds": [0], "out": tmp_path / "results"}

    def made(**more: Any) -> Any:
        (run,) = covr_bench.plan("catch", **options, vlm=str(model), **more).runs
        return run

    config = made().config
    (run_folder(config.out, config.run_id) / "checkpoint" / "000000000100").mkdir(parents=True)
    provenance.begin(config.out, config.run_id, config=config.as_dict(), seeds={}, command="")
    assert not made().changed_code
    (model / "config.json").write_text('{"a": 1}')
    with pytest.raises(UserError, match=f"the code of its vlm \\({model}\\) has changed since"):
        made()
    assert made(accept_changed_code=True).changed_code
    record = provenance.read(run_folder(config.out, config.run_id) / "provenance.json")
    for code in (record["config"]["code"], record["sessions"][0]["code"]):  # as earlier versions wrote it
        del code["vlm"]
    provenance.write(run_folder(config.out, config.run_id) / "provenance.json", record)
    assert not made().changed_code


def test_of_a_vlms_folder_names_sizes_and_bytes_count_and_no_times(model: Path, tmp_path: Path) -> None:
    base = checkpoint_hash(str(model))
    shutil.copytree(model, tmp_path / "copy")
    assert checkpoint_hash(str(tmp_path / "copy")) == base
    os.utime(model / "config.json", (1, 1))
    (model / ".cache" / "download.json").write_text("a time")
    (model / ".DS_Store").write_text("of a desktop")
    assert checkpoint_hash(str(model)) == base
    seen = {base}
    for start in (0, 9 << 22, (1 << 26) + 12000):  # of the large file: its head, a matrix, its end
        with (model / "model.safetensors").open("r+b") as file:
            file.seek(start)
            file.write(b"x" * min(1 << 22, (1 << 26) + 12345 - start))
        seen.add(checkpoint_hash(str(model)))
    (model / "config.json").rename(model / "other.json")
    seen.add(checkpoint_hash(str(model)))
    assert len(seen) == 5


def test_a_vlm_that_is_no_folder_has_no_weights_here(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model.rename("tiny")  # the name comes first
    for name in ("tiny", "scripted", "Qwen/Qwen2.5-VL-3B-Instruct", "openai:http://127.0.0.1:1/v1#m"):
        assert "vlm" not in code_of_agent("vbe", registry.agent("vbe"), {"vlm": name})
    assert "vlm" not in code_of_agent("random", registry.agent("random"), {})
    assert code_of_agent("vbe", registry.agent("vbe"), {"vlm": "./tiny"})["vlm"]
    tuned = code_of_agent("vbe", registry.agent("vbe"), {"vlm": "openai:http://x/v1", "tuner": "./tiny"})
    assert tuned["tuner"] and "vlm" not in tuned


def test_an_unchanged_file_may_move(unfinished: tuple[Path, Path], tmp_path: Path) -> None:
    agent, out = unfinished
    begin(lambda: None, agent, out)
    moved = folder_of(tmp_path / "elsewhere")
    options = {"tasks": ["catch"], "budget": "smoke", "out": out, "agents": [str(moved)]}
    (run,) = covr_bench.plan("catch", **options).runs
    assert (run.state.value, run.changed_code) == ("to continue", False)
    (moved.parent / "later.py").write_text("y = 3\n")
    (run,) = covr_bench.plan("catch", **options, accept_changed_code=True).runs
    assert (run.state.value, run.changed_code) == ("to continue", True)
    (run,) = covr_bench.plan("catch", **options, restart=True).runs
    assert run.state.value == "to do"
    assert run.replaced is not None


@pytest.mark.deep
@pytest.mark.parametrize("way", ["accept_changed_code", "restart"])
def test_changed_code_is_in_the_rows_or_the_run_begins_anew(way: str, tmp_path: Path) -> None:
    agent, out = folder_of(tmp_path / "lab"), tmp_path / "results"
    crash = "import os, pathlib\nflag = pathlib.Path(__file__).with_name('flag')\n"
    crash += "if flag.exists(): raise RuntimeError('of mine')\n"
    (agent.parent / "later.py").write_text(crash)
    options = {"tasks": ["catch"], "budget": "smoke", "out": out, "agents": [str(agent)], "env_steps": 120}
    (agent.parent / "flag").touch()
    outcome = covr_bench.run("catch", **options, checkpoint_every=1e-9)
    ((run_id, error),) = outcome.failed.items()
    assert "of mine" in error
    (agent.parent / "later.py").write_text("y = 2\n")
    (out / "runs" / run_id / "checkpoint").mkdir(exist_ok=True)
    outcome = covr_bench.run("catch", **options, **{way: True})
    assert not outcome.failed
    rows = read_run(out, run_id)
    last = rows[rows["kind"] == "end"].iloc[-1]
    if way == "restart":
        assert last["labels"] == ""
        (kept,) = (out / "replaced").rglob("rows.jsonl")
        assert json.loads(kept.read_text().splitlines()[-1])["kind"] == "error"
    else:
        assert "code=changed" in last["labels"]
        record = provenance.statuses(out)[run_id]
        assert record["sessions"][-1]["accepted_changed_code"]["to"] == record["sessions"][-1]["code"]


def test_a_file_edited_while_runs_wait_is_not_run_under_the_code_that_was_planned(
    cli: Callable[..., Any], tmp_path: Path
) -> None:
    """They ran with the edited file, and their records named the code before it."""
    agent, out = folder_of(tmp_path / "lab"), tmp_path / "results"
    edit = """
        from pathlib import Path
        if (Path(helper.__file__).parents[1] / "results/runs").exists():  # not when costs are measured
            Path(helper.__file__).write_text("x = 2")"""
    agent.write_text(agent.read_text().replace("        import later", edit))
    result = cli(*command(agent, out, "--seeds", "0-1", "--workers", "1"))
    assert result.code == 1
    assert "catch@smoke/catch/mine/1 failed: code of its agent or suite was edited after it was planned" in (
        " ".join((result.out + result.err).split())
    )
    assert "catch@smoke/catch/mine/0 finished" in result.out
    again = cli(*command(agent, out, "--seeds", "1"))
    assert again.code == 0, again.err
