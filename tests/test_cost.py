"""What runs cost: what is tried, what is remembered, and what becomes of a trial that fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from experiments import configure

from covr_bench.config import registry
from covr_bench.config.run_config import HANDFUL, RunConfig, setting
from covr_bench.kit.api import Context
from covr_bench.kit.errors import UserError
from covr_bench.run.cores import Cores, cores
from covr_bench.run.cost import clock, kinds, memory
from covr_bench.run.cost.agent_trial import at_once, experience, extrapolated, try_agent
from covr_bench.run.cost.estimate import START_S, Cost, costs, longest_first
from covr_bench.run.cost.measured import AgentCost, EnvCost
from covr_bench.run.cost.trials import Request, Trials

if TYPE_CHECKING:
    from collections.abc import Iterator

SUITE = registry.suite("catch")
SMALL = {"image_size": "32", "hidden_dim": "8", "feature_dim": "4", "batch_size": "2"}
SMALL_DRQV2 = {f"drqv2.{name}": value for name, value in SMALL.items() if name != "image_size"}
ENV = EnvCost(1e-3, 100, (9, 32, 32), "uint8", 1, 50_000)
AGENT = AgentCost(2e-3, 3e-3, 1_000, 400_000, 7_000)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of what is remembered, in a user's cache folder that is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "covr-bench" / "costs.json"


def runs(agent: str = "drqv2", **options: Any) -> list[RunConfig]:
    options = {"seeds": [0], "overrides": {"drqv2.batch_size": "8"} if agent == "drqv2" else {}} | options
    return configure(SUITE, "catch", {agent: registry.agent(agent)}, SUITE.budgets["paper"], **options)


def run(**options: Any) -> RunConfig:
    return runs(tasks=["catch"], **options)[0]


class Measured:
    """Trials that answer at once. requests: all that were made."""

    requests: list[Request]

    def __init__(self, threads: int, together: bool) -> None:
        self.waiting: deque[Request] = deque()

    def __enter__(self) -> Measured:
        return self

    def __exit__(self, *error: object) -> None: ...

    def ask(self, request: Request) -> None:
        self.waiting.append(request)
        self.requests.append(request)

    def answer(self) -> tuple[Request, dict[str, Any]]:
        request = self.waiting.popleft()
        if request.config.agent_config.get("lr") == 0.5 and request.env:
            raise UserError("it diverged")
        return request, json.loads(json.dumps(asdict(AGENT if request.env else ENV)))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    Measured.requests = []
    monkeypatch.setattr("covr_bench.run.cost.survey.Trials", Measured)
    return Measured.requests


def estimated(configs: list[RunConfig]) -> tuple[list[Cost], list[str], list[str]]:
    """The costs, what was said of progress, and the warnings."""
    said: list[str] = []
    warned: list[str] = []
    return costs(configs, {}, said.append, warned.append), said, warned


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 3},
        {"task": "catch_or_end", "action_repeat": 1, "agent": "sac"},
        {"env_steps": 77, "eval_every": 5, "eval_episodes": 1},
        {"out": "elsewhere", "run_id": "a/b/c/d/0"},
        {"settings": {"lr": 0.5, "stddev_steps": 7, "seed_steps": 9, "replay_capacity": 11}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_agents_cost_does_not_depend_on(changes: dict[str, Any]) -> None:
    config = run(agent=changes.get("agent", "drqv2"))
    settings = config.agent_config | {
        name: value for name, value in changes.pop("settings", {}).items() if name in config.agent_config
    }
    other = replace(config, agent_config=settings, **changes)
    assert kinds.agent_key(config, ENV, {}) == kinds.agent_key(other, replace(ENV, action_dim=6), {})


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {"batch_size": 9}},
        {"settings": {"hidden_dim": 9}},
        {"settings": {"critic_target_tau": 0.0}},
        {"env": replace(ENV, obs_shape=(9, 84, 84))},
        {"threads": 2},
        {"device": "cuda"},
        {"conv_kernel": "winograd"},
        {"code": {"agent": "edited"}},
        {"facts": {"cpu": "another"}},
    ],
    ids=lambda changes: str(next(iter(changes))),
)
def test_an_agents_cost_depends_on(changes: dict[str, Any]) -> None:
    config = run()
    settings = config.agent_config | changes.pop("settings", {})
    env, facts = changes.pop("env", ENV), changes.pop("facts", {})
    other = replace(config, agent_config=settings, **changes)
    assert kinds.agent_key(config, ENV, {}) != kinds.agent_key(other, env, facts)


@pytest.mark.parametrize("agent", ["random", "vbe", "mine"])
def test_the_action_repeat_counts_where_its_meaning_is_not_known(agent: str) -> None:
    config = replace(run(agent="sac"), agent=agent)
    config = config if agent == "mine" else replace(config, agent_config={})
    assert kinds.agent_key(config, ENV, {}) != kinds.agent_key(replace(config, action_repeat=7), ENV, {})
    assert kinds.learning_steps(replace(config, action_repeat=7)) == 1


@pytest.mark.parametrize("repeat", [1, 2, 4, 8])
@pytest.mark.parametrize("agent", ["drqv2", "sac"])
def test_an_agent_learns_as_often_as_its_cost_says(monkeypatch: pytest.MonkeyPatch, agent: str, repeat: int) -> None:
    config = replace(run(agent=agent, overrides=SMALL if agent == "sac" else SMALL_DRQV2), action_repeat=repeat)
    context = Context(ENV.obs_shape, 1, repeat, 1_000, "cpu", 0)
    made: Any = registry.make_agent(agent, at_once(config.agent_config), context)
    learned: list[int] = []
    monkeypatch.setattr(made, "learn", lambda replay, step, guidance: learned.append(step) or {})
    replay, _ = experience(ENV, "cpu")
    for step in range(repeat, 80 * repeat + 1, repeat):
        made.update(replay, step)
    assert len(learned) == pytest.approx(80 * kinds.learning_steps(config), abs=1)


def test_bursts_are_tried_one_update_at_a_time_and_their_length_costs_nothing() -> None:
    """MR.Q makes as many updates of its encoder in a burst as there are steps until the next."""
    config = run(agent="mrq")
    assert at_once(config.agent_config)["target_period"] == 1
    longer = replace(config, agent_config=dict(config.agent_config) | {"target_period": 999})
    assert kinds.agent_key(config, ENV, {}) == kinds.agent_key(longer, ENV, {})


def test_settings_of_a_wrapped_agent_count_as_its_own_would() -> None:
    base = {"lr": 1e-3, "batch_size": 8, "replay_capacity": 5}
    assert kinds.what_counts({"base_settings": base}) == {"base_settings": {"lr": True, "batch_size": 8}}


def test_an_environments_cost_depends_on_what_is_simulated_and_drawn() -> None:
    config, task = run(), SUITE.task("catch")
    key = kinds.env_key(config, task, {})
    default = task.options["image_size"]
    for same in ({"agent": "sac"}, {"seed": 4}, {"suite": "another name"}, {"env": {"image_size": default}}):
        assert kinds.env_key(replace(config, **same), task, {}) == key
    assert kinds.env_key(config, replace(task, make=task.make, instruction="x"), {}) == key
    for other in ({"env": {"image_size": 32}}, {"action_repeat": 9}, {"code": {"suite": "edited"}}, {"threads": 2}):
        assert kinds.env_key(replace(config, **other), task, {}) != key
    assert kinds.env_key(config, SUITE.task("catch_or_end"), {}) != key
    assert kinds.env_key(config, replace(task, family="dmc"), {}) != key
    assert kinds.env_key(config, task, {"gl_renderer": "llvmpipe"}) != key


def test_each_kind_is_tried_once_and_remembered_for_every_folder_of_results(
    measured: list[Request], tmp_path: Path
) -> None:
    both = runs(seeds=[0, 1, 2], out=str(tmp_path / "a"))
    first, said, _ = estimated(both)
    assert [request.env is None for request in measured] == [True, True, False]
    # drqv2 learns every four environment steps, of which an agent step of catch takes two.
    assert [config.action_repeat for config in both] == [2, 1] * 3
    assert first == [
        Cost(
            *(ENV.step_s, AGENT.act_s, AGENT.update_s * share, ENV.frame_bytes, AGENT.state_bytes),
            *(450_000, 3 * 32 * 32, AGENT.gpu_bytes),
        )
        for share in (0.5, 0.25) * 3
    ]
    assert said[0] == "measuring costs on this machine, once: 0 of 3, catch"
    assert [text.split(": ")[1].split(",")[0] for text in said] == [f"{n} of 3" for n in range(4)]
    again, said, warned = estimated(runs(seeds=[5], out=str(tmp_path / "b")))
    assert len(measured) == 3
    assert (again, said, warned) == (first[:2], [], [])


@pytest.mark.parametrize("text", ["", "{ damaged", "[1]", '{"env-1": 3}', '"x"', "\0"])
def test_a_damaged_file_is_measured_anew_and_mended(measured: list[Request], cache: Path, text: str) -> None:
    expected = estimated([run()])[0]
    cache.write_text(text)
    assert estimated([run()])[0] == expected
    assert len(measured) == 4
    assert len(json.loads(cache.read_text())) == 2


def test_an_entry_of_another_version_is_measured_anew(measured: list[Request], cache: Path) -> None:
    expected = estimated([run()])[0]
    entries = json.loads(cache.read_text())
    cache.write_text(json.dumps({key: {"seconds": 3} for key in entries}))
    assert estimated([run()])[0] == expected
    assert len(measured) == 4


def test_a_cache_that_cannot_be_written_is_named_and_costs_only_time(measured: list[Request], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    for tried in (2, 4):
        found, _, warned = estimated([run()])
        assert found[0].env_s == ENV.step_s
        assert len(measured) == tried
        assert len(warned) == 1
        assert "costs are measured anew each time: cannot write" in warned[0]
        assert "XDG_CACHE_HOME" in warned[0]


def test_two_processes_keep_what_the_other_found(cache: Path) -> None:
    memory.remember(cache, {"env-1": {"a": 1}})
    memory.remember(cache, {"env-2": {"b": 2}})
    assert memory.recall(cache) == {"env-1": {"a": 1}, "env-2": {"b": 2}}


def test_costs_are_measured_once_per_kind_of_node_and_shared_through_the_store(
    measured: list[Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other nodes of the same kind, with another cache folder of the user, find them in the store."""
    config = run(out=str(tmp_path / "out"))
    (tmp_path / "out" / "runs").mkdir(parents=True)
    origins: list[str] = []

    def ask(node: dict[str, Any], home: str) -> int:
        monkeypatch.setattr(kinds, "machine", lambda: node)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / home))
        before = len(measured)
        costs([config], {}, lambda text: None, lambda text: None, origins.append)
        return len(measured) - before

    first = {"cpu": "EPYC", "gpus": ["H100"], "packages": {"torch": "2.7"}}
    assert ask(first, "a") == 2
    today = time.strftime("%Y-%m-%d")
    node = "on this kind of node (EPYC, H100, torch 2.7); in " + str(tmp_path / "out" / "cache" / "costs.json")
    assert origins[-1] == f"2 measured now, {node}"
    assert ask(dict(first), "b") == 0
    assert origins[-1] == f"2 of {today}, {node}"
    assert ask(first | {"gpus": []}, "b") == 2
    assert "no GPU" in origins[-1]
    shutil.rmtree(tmp_path / "out" / "cache")
    assert ask(first, "b") == 0  # the user's cache had what the store told, and tells it anew
    assert (tmp_path / "out" / "cache" / "costs.json").exists()


def test_the_kind_of_node_is_not_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many GPUs it has, how much memory and which kernel: a step costs the same."""
    facts = {"cpu": "EPYC", "packages": {"torch": "2.7"}, "python": "3.11", "version": "1", "git_sha": "a"}
    one = facts | {"gpus": ["NVIDIA H100, 550.1"], "ram_bytes": 1, "cpu_cores": 8, "platform": "Linux-5"}
    other = facts | {"gpus": ["NVIDIA H100, 550.2"] * 4, "ram_bytes": 2, "cpu_cores": 9, "platform": "Linux-6"}
    found = []
    for collected in (one, other, one | {"cpu": "Xeon"}, one | {"gpus": []}, one | {"packages": {"torch": "2.8"}}):
        monkeypatch.setattr("results.environment.collect", lambda collected=collected: collected)
        found.append(kinds.machine.__wrapped__())
    assert found[0] == found[1]
    assert all(found[0] != kind for kind in found[2:])


MEASURES = """
import sys, time
from pathlib import Path
from covr_bench.run.cost.memory import alone
with alone(Path(sys.argv[1]), sys.argv[2], lambda: print("waits", flush=True)):
    print("measures", flush=True)
    sys.stdin.readline()
"""


def test_only_one_of_a_kind_measures_at_a_time(tmp_path: Path) -> None:
    """As a hundred tasks of an array do that start at once; another kind of node does not wait."""
    pipe = subprocess.PIPE

    def start(node: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", MEASURES, str(tmp_path / "costs.json"), node]
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    first = start("a")
    assert first.stdout and first.stdout.readline() == "measures\n"
    second, other = start("a"), start("b")
    assert second.stdout and second.stdout.readline() == "waits\n"
    assert other.stdout and other.stdout.readline() == "measures\n"
    first.kill()  # however it ends
    assert second.stdout.readline() == "measures\n"
    for process in (first, second, other):
        process.communicate("\n")


def test_memory_is_the_process_its_replay_and_a_checkpoint() -> None:
    config = run(overrides={"replay_capacity": "500"}, env_steps=4_000)
    cost = Cost(0.0, 0.0, 0.0, 0.0, agent_bytes=10.0, ram_bytes=1_000.0, slot_bytes=7.0)
    assert cost.memory_bytes(config) == 1_000 + 20 + 7 * 500
    whole = run(overrides={"replay_capacity": "10000"}, env_steps=4_000)
    assert cost.memory_bytes(whole) == 1_020 + 7 * (2_000 + 250 + 64)


def test_no_disk_is_planned_for_frames_that_an_agent_does_not_keep() -> None:
    """The disk of all frames of the run was, whatever the agent keeps."""
    cost = Cost(0.0, 0.0, 0.0, frame_bytes=7.0, agent_bytes=10.0)
    keeps = registry.agent("random").replay_frames
    assert keeps is not None
    assert cost.running_bytes(run(agent="random", env_steps=4_000)) == 20 + 7 * max(keeps, HANDFUL)
    assert cost.running_bytes(run(env_steps=4_000)) == 20 + 7 * (2_000 + 250 + 64)


def test_the_longest_runs_start_first(measured: list[Request]) -> None:
    """catch_or_end has twice the agent steps of catch; where nothing is known, those of most steps come first."""
    both = runs(seeds=[0, 1])
    short = replace(both[0], env_steps=10, run_id="catch@paper/catch/drqv2/7")
    assert longest_first([short, *both], {}) == [*both, short]
    estimated(both)
    names = [(config.task, config.seed) for config in longest_first([short, *both], {})]
    assert names == [("catch_or_end", 0), ("catch_or_end", 1), ("catch", 0), ("catch", 1), ("catch", 0)]
    assert longest_first([short, *both], {})[-1] == short
    unknown = replace(both[0], agent_config={"batch_size": 99}, env_steps=5, run_id="catch@paper/catch/drqv2/9")
    assert longest_first([*both, unknown], {})[0] == unknown


def test_what_was_measured_before_a_trial_fails_is_kept(measured: list[Request], cache: Path) -> None:
    with pytest.raises(UserError, match="it diverged"):
        estimated([run(overrides={"lr": "0.5"})])
    assert [key.split("-")[0] for key in json.loads(cache.read_text())] == ["env"]


def test_the_time_of_a_batch_is_on_the_line_through_two_smaller_ones() -> None:
    assert extrapolated({16: 0.25, 64: 0.75}, 256) == pytest.approx(0.75 + 192 * 0.5 / 48)
    assert extrapolated({32: 0.5}, 32) == 0.5
    assert extrapolated({16: 0.5, 64: 0.4}, 256) == 0.4  # a faster large batch is noise


@pytest.mark.parametrize("agent", ["sac", "covr"])
def test_learning_that_begins_late_is_costed_all_the_same(agent: str) -> None:
    chosen = SMALL | ({"base": "sac", "vlm": "scripted", "episodes": "cut"} if agent == "covr" else {})
    config = run(agent=agent, overrides=chosen)
    assert setting(config.agent_config, "random_agent_steps") == 1_000
    assert try_agent(config, ENV).update_s > 0


def test_no_time_is_planned_for_updates_before_learning_begins() -> None:
    """drqv2 begins after seed_steps environment steps, rad after so many agent steps, deepmdp makes up for them."""
    cost = Cost(0.0, 0.0, 1.0, 0.0, 0.0)

    def planned(agent: str, **lengths: int) -> float:
        config = run(agent=agent, overrides={name: str(value) for name, value in lengths.items()}, env_steps=5_000)
        assert config.action_repeat == 2
        return cost.seconds(config, 40) - START_S

    assert planned("random") == 2_500
    assert planned("drqv2", seed_steps=4_000) == 500
    assert planned("drqv2", seed_steps=9_000) == 0
    assert planned("rad", random_agent_steps=100) == 2_400
    assert planned("deepmdp", random_agent_steps=100) == 2_500
    assert planned("deepmdp", random_agent_steps=100, initial_updates=40) == 2_440


def test_waiting_for_a_core_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "SCHEDSTAT", tmp_path / "schedstat")
    monkeypatch.setattr("time.perf_counter", lambda: 10.0)
    assert clock.unhindered() == 10.0
    (tmp_path / "schedstat").write_text("123 4000000000 5\n")
    assert clock.unhindered() == 6.0


def test_a_trial_runs_in_a_folder_whose_files_are_named_as_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("random", "analysis", "types", "covr_bench"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('the wrong file')")
    monkeypatch.chdir(tmp_path)
    (cost,), _, _ = estimated([run(overrides=SMALL_DRQV2)])
    assert min(cost.env_s, cost.act_s, cost.update_s) > 0
    assert min(cost.frame_bytes, cost.agent_bytes) > 0


FAILS = """
import os
from baselines.random import Config, Random
from covr_bench import AgentSpec

class Fails(Random):
    def act(self, obs, step, explore):
        {what}

AGENT = AgentSpec("fails", Config, Fails, "control")
"""


@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        ("raise ValueError('no such pixel')", r"agent .*fails.py fails in its first steps on task catch of suite "
         r"catch: ValueError: no such pixel \(.*fails.py, line 8\). Mend its code, .* choose another --agent"),
        ("os._exit(3)", r"the trial of .*fails.py on catch ended with status 3"),
        ("raise SystemExit(0)", r"ended with status 0. Its code ended the process \(sys.exit"),
        ("raise KeyboardInterrupt", r"ended with status -2. Its code ended the process"),
    ],
)  # fmt: skip
def test_a_trial_that_fails_names_agent_task_and_mend(tmp_path: Path, what: str, complaint: str) -> None:
    file = tmp_path / "fails.py"
    file.write_text(FAILS.format(what=what))
    with pytest.raises(UserError, match=complaint) as error:
        estimated([run(agent=str(file))])
    assert "Traceback" not in str(error.value)


STRICT = """
import numpy as np
from baselines.random import Config, Random
from covr_bench import AgentSpec

class Strict(Random):
    # on-policy: an update takes what the action before it left
    def __init__(self, config, context):
        super().__init__(config, context)
        self.services, self.left = context.services, []
    def act(self, obs, step, explore):
        action = super().act(obs, step, explore)
        self.left = [action] if explore else self.left
        return action
    def update(self, replay, step):
        self.left.pop()
        assert len(self.services.play(lambda render: self, 2)["return"]) == 2
        shown = self.services.demonstrate("scripted", 4, 0, lambda obs: obs[:1])
        assert len(shown.images) == len(shown.rewards) >= 4
        return {"loss": 1.0}

AGENT = AgentSpec("strict", Config, Strict, "control")
"""


def test_a_trial_keeps_what_agents_are_promised(tmp_path: Path) -> None:
    """An action before each update, episodes and demonstrations: agents that rely on them were refused."""
    file = tmp_path / "strict.py"
    file.write_text(STRICT)
    (cost,), _, _ = estimated([run(agent=str(file))])
    assert cost.update_s > 0


def test_the_trial_of_what_is_no_agent_says_so(tmp_path: Path) -> None:
    file = tmp_path / "none.py"
    file.write_text(FAILS.format(what="return None").replace("Config, Fails,", "Config, lambda config, context: None,"))
    with pytest.raises(UserError, match=r"the agent NoneType has no method act; see covr_bench.kit.api.Agent"):
        estimated([run(agent=str(file))])


PARENT = """
import sys, time
from covr_bench.run.cost.trials import Trials
with Trials(1, together=True) as trials:
    print(*[child.process.pid for child in trials._children], flush=True)
    time.sleep(600)
"""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_no_trial_outlives_the_process_that_wants_to_know(parent: subprocess.Popen[str]) -> None:
    assert parent.stdout
    children = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(children) == 2
    parent.kill()
    deadline = time.monotonic() + 60
    while alive := [pid for pid in children if is_alive(pid)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.02)


def test_trials_end_with_the_block_that_made_them() -> None:
    with Trials(1, together=False) as trials:
        (child,) = trials._children
    assert child.process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("there", "limit", "runs", "expected"),
    [
        (4, "", 6, ""),
        (4, "4", 6, ""),
        (4, "1", 6, "OMP_NUM_THREADS=1 limits this to one run at a time; unset it or give --workers"),
        (4, "2", 6, "OMP_NUM_THREADS=2 limits this to 2 runs at a time; unset it or give --workers"),
        (4, "2", 2, ""),
        (4, "2", 1, "OMP_NUM_THREADS=2 limits this run to 2 of 4 cores; unset it to use all"),
        (4, "many", 6, ""),
    ],
)
def test_the_limit_of_omp_num_threads_is_explained(
    monkeypatch: pytest.MonkeyPatch, there: int, limit: str, runs: int, expected: str
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(there), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert cores().reason(runs) == expected
    assert cores() == Cores(int(limit) if limit.isdigit() else there, there)
