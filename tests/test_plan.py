"""The plan: every run once, in a useful order, less what is done; never mixed with another's rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from experiments import configure

from analysis.papers.published import published
from covr_bench.config import registry
from covr_bench.config.request import parse_seeds, request
from covr_bench.kit.api import AgentSpec, Context
from covr_bench.kit.errors import UserError
from covr_bench.kit.replay import Replay
from covr_bench.run.checkpoint import Checkpoints
from covr_bench.run.plan import State, plan
from covr_bench.run.twins import twins
from results import provenance
from results.layout import ROWS_FILE
from results.store import RunWriter, run_folder
from suites import catch
from suites.base import Budget, Suite, Task, Variant

SUITE = registry.suite("catch")
AGENTS = {name: registry.agent(name) for name in ("random", "drqv2")}


def configs(out: Path, **changes: Any) -> Any:
    options: dict[str, Any] = {"out": str(out), "overrides": {"batch_size": "8"}} | changes
    return configure(SUITE, "catch", AGENTS, options.pop("budget", SUITE.budgets["paper"]), **options)


def test_agents_times_tasks_times_seeds_each_once_seeds_outermost(tmp_path: Path) -> None:
    runs = configs(tmp_path)
    assert len({run.run_id for run in runs}) == len(runs) == 2 * 2 * 3
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert runs[1].run_id == "catch@paper/catch/drqv2-batch_size=8/0"
    assert {item.state for item in plan(runs).runs} == {State.TO_DO}


def test_tasks_and_seeds_can_be_chosen(tmp_path: Path) -> None:
    runs = configs(tmp_path, tasks=["catch_or_end"], seeds=[7])
    assert [run.run_id for run in runs] == [
        "catch@paper/catch_or_end/random/7",
        "catch@paper/catch_or_end/drqv2-batch_size=8/7",
    ]
    assert runs[0].action_repeat == 1
    with pytest.raises(UserError, match=r"unknown task of suite catch 'cach'. Did you mean 'catch'"):
        configs(tmp_path, tasks=["cach"])


@pytest.mark.parametrize("name", sorted(registry.suites()))
def test_every_suites_own_agents_can_be_planned_on_each_of_its_budgets(tmp_path: Path, name: str) -> None:
    suite = registry.suite(name)
    agents = {ref: registry.agent(ref) for ref in suite.agents}
    for budget in suite.budgets.values():
        runs = configure(suite, name, agents, budget, out=str(tmp_path))
        assert {run.agent for run in runs} == set(suite.agents)


@pytest.mark.parametrize(
    "name",
    [name for name in registry.agent_names() if name != "full_throttle" and registry.agent(name).sees != "state"],
)
def test_every_agent_can_be_made_with_the_small_frames_of_dmc6_short(tmp_path: Path, name: str) -> None:
    suite = registry.suite("dmc6")
    (config,) = configure(
        suite, "dmc6", {name: registry.agent(name)}, suite.budgets["short"], tasks=["cheetah_run"], out=str(tmp_path)
    )
    size = config.env["image_size"]
    context = Context(
        (9, size, size), 6, 4, config.env_steps, "cpu", 0, instruction=suite.task("cheetah_run").instruction
    )
    assert registry.make_agent(name, config.agent_config, context).state_dict() is not None


def test_a_benchmark_compares_covr_with_its_base_and_with_other_learners_by_default() -> None:
    for name in ("dmc6", "dmc6-ar2", "dmc-hard", "carracing", "carla"):
        assert {"random", "drqv2", "curl", "rad", "dgc", "covr"} <= set(registry.suite(name).agents)


def test_what_is_stored_decides_what_is_left(tmp_path: Path) -> None:
    runs = configs(tmp_path, seeds=[0])
    for run, status in zip(runs, ("finished", "failed", "interrupted", "running"), strict=True):
        provenance.begin(tmp_path, run.run_id, config=run.as_dict(), seeds={}, command="")
        if status != "running":
            provenance.finish(tmp_path, run.run_id, status, wall_s=1.0)
    (run_folder(tmp_path, runs[0].run_id) / ROWS_FILE).write_text('{"kind":"end"}\n')
    Checkpoints(run_folder(tmp_path, runs[2].run_id) / "checkpoint").save(1, {}, Replay(4, (3, 2, 2), 1, seed=0))
    assert [item.state.value for item in plan(runs).runs] == ["done", "failed before", "to continue", "to do"]


def test_a_stored_run_with_other_settings_is_refused_with_the_difference(tmp_path: Path) -> None:
    (old,) = configs(tmp_path, tasks=["catch"], seeds=[0])[1:]
    provenance.begin(tmp_path, old.run_id, config=old.as_dict(), seeds={}, command="")
    budget = Budget("paper", 30_000, 2_000, 10, (0,), {"lr": 0.5})
    with pytest.raises(UserError) as error:
        plan(configs(tmp_path, tasks=["catch"], seeds=[0], budget=budget))
    assert "env_steps: 20000 there, 30000 here" in str(error.value)
    assert "agent_config.lr: 0.0001 there, 0.5 here" in str(error.value)
    assert "batch_size" not in str(error.value).split("settings:")[1].split("Its rows")[0]
    assert str(run_folder(tmp_path, old.run_id)) in str(error.value)


def test_a_setting_that_is_younger_than_a_stored_run_had_its_default_there(tmp_path: Path) -> None:
    """An agent that gains a switch, off by default, or whose base does, has not become another."""
    covr = {"covr": registry.agent("covr")}
    (run,) = configure(SUITE, "catch", covr, SUITE.budgets["paper"], tasks=["catch"], seeds=[0], out=str(tmp_path))
    stored = run.as_dict()
    stored["agent_config"] = {key: value for key, value in run.agent_config.items() if key != "vlm_silent"}
    base = stored["agent_config"]["base_settings"]
    stored["agent_config"]["base_settings"] = {key: value for key, value in base.items() if key != "discount"}
    provenance.begin(tmp_path, run.run_id, config=stored, seeds={}, command="")
    provenance.finish(tmp_path, run.run_id, "finished", wall_s=1.0)
    (run_folder(tmp_path, run.run_id) / ROWS_FILE).write_text('{"kind":"end"}\n')
    assert [item.state for item in plan([run]).runs] == [State.DONE]
    other = replace(run, agent_config=run.agent_config | {"vlm_silent": "allow"})
    with pytest.raises(UserError, match=r"agent_config\.vlm_silent: fail there, allow here"):
        plan([other])


def test_another_machine_may_go_on(tmp_path: Path) -> None:
    (old,) = configs(tmp_path, tasks=["catch"], seeds=[0])[1:]
    provenance.begin(
        tmp_path, old.run_id, config=old.as_dict() | {"device": "cuda", "threads": 8}, seeds={}, command=""
    )
    assert plan([old]).runs[0].state is State.TO_DO


def test_names_that_cannot_be_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"budget 'a/b' cannot be part of a run id"):
        configs(tmp_path, budget=Budget("a/b", 10, 10, 1))


def test_an_agent_that_sees_no_pictures_needs_a_task_that_tells_it_more(tmp_path: Path) -> None:
    racing = registry.suite("carracing")
    with pytest.raises(UserError, match=r"agent driver sees states; task car_racing offers pixels only"):
        configure(racing, "carracing", {"driver": registry.agent("driver")}, racing.budgets["smoke"], out=str(tmp_path))
    driving = registry.suite("carla")
    (run, *_) = configure(driving, "carla", {"driver": registry.agent("driver")}, driving.budgets["smoke"])
    assert run.env["observation"] == "state"


def test_an_agent_that_looks_at_pictures_is_not_shown_states() -> None:
    driving, drqv2 = registry.suite("carla"), {"drqv2": registry.agent("drqv2")}
    with pytest.raises(UserError, match=r"drqv2 sees pixels; with env.observation=state task hw shows states"):
        configure(driving, "carla", drqv2, driving.budgets["smoke"], overrides={"env.observation": "state"})
    numbers = Suite("numbers", 1, (Task("count", catch.SUITE.tasks[0].make, 2, observations=("state",)),), {}, ())
    with pytest.raises(UserError, match=r"agent drqv2 sees pixels; task count offers states only"):
        configure(numbers, "numbers", drqv2, SUITE.budgets["smoke"])
    assert configure(numbers, "numbers", {"random": registry.agent("random")}, SUITE.budgets["smoke"])


@pytest.mark.parametrize("agent", ["drqv2", "random"])
@pytest.mark.parametrize("shown", ["pixel", "true"])
def test_what_a_task_cannot_show_is_refused(agent: str, shown: str) -> None:
    """A misspelt observation was a KeyError."""
    said = rf"bad setting of task catch: env.observation = '{shown}'; valid: pixels, state"
    with pytest.raises(UserError, match=said):
        configure(
            catch.SUITE, "catch", {agent: registry.agent(agent)}, catch.SUITE.budgets["smoke"], tasks=["catch"],
            overrides={"env.observation": shown},
        )  # fmt: skip


def test_two_agents_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"random and mine.py are both called 'random'"):
        configure(SUITE, "catch", {"random": AGENTS["random"], "mine.py": AGENTS["random"]}, SUITE.budgets["smoke"])


@pytest.mark.parametrize(
    ("text", "seeds"), [("", ()), ("3", (3,)), ("0,1,2", (0, 1, 2)), ("0-2", (0, 1, 2)), ("7,0-1", (7, 0, 1))]
)
def test_seeds_are_numbers_and_ranges(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["a", "1,,a", "-1", "1-", "2-1", "0,2-1", "0,0-1", ","])
def test_other_seeds_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--seeds"):
        parse_seeds(text)


@pytest.mark.parametrize("suite", registry.suites().values(), ids=lambda suite: suite.name)
def test_every_budget_is_long_enough_to_learn(suite: Suite) -> None:
    """Once `smoke` ended before the agent's first update."""
    agents = {name: registry.agent(name) for name in ("drqv2", "sac", "rad", "deepmdp")}
    for budget in suite.budgets.values():
        for config in configure(suite, suite.name, agents, budget):
            warm_up = config.agent_config.get("seed_steps", 0)
            warm_up += config.agent_config.get("random_agent_steps", 0) * config.action_repeat
            assert warm_up <= budget.env_steps / 2, config.run_id


@dataclass(frozen=True)
class Large:
    image_size: int = 100


def test_an_agent_chooses_the_size_of_its_frames() -> None:
    suite = registry.suite("catch")

    spec = AgentSpec("large", Large, lambda config, context: None, "control")  # type: ignore[arg-type,return-value]
    budget = suite.budgets["smoke"]
    assert {config.env["image_size"] for config in configure(suite, "catch", {"large": spec}, budget)} == {100}
    larger = configure(suite, "catch", {"large": spec}, budget, overrides={"env.image_size": "120"})
    assert {config.env["image_size"] for config in larger} == {120}


@pytest.mark.parametrize("suite", registry.suites().values(), ids=lambda suite: suite.name)
def test_every_task_of_a_suite_can_be_planned_on_each_of_its_budgets(tmp_path: Path, suite: Suite) -> None:
    """Also where a budget sets an option of the environment that only some of the tasks have."""
    covr = {"covr": registry.agent("covr")}
    for budget in suite.budgets.values():
        options = {key.removeprefix("env."): value for key, value in budget.overrides.items() if key.startswith("env.")}
        for task in suite.tasks:
            offered = {key: value for key, value in options.items() if key in task.options and key != "image_size"}
            for run in configure(suite, suite.name, covr, budget, tasks=[task.name], seeds=[0], out=str(tmp_path)):
                assert {key: value for key, value in run.env.items() if key != "image_size"} == offered


def test_a_budget_draws_frames_smaller_for_agents_that_ask_for_no_size() -> None:
    suite = registry.suite("catch")
    large = AgentSpec("large", Large, lambda config, context: None, "control")  # type: ignore[arg-type,return-value]
    agents = {"large": large, "random": registry.agent("random")}
    budget = Budget("tour", 1_000, 500, 1, (0,), {"env.image_size": 48})
    sizes = {config.agent: config.env["image_size"] for config in configure(suite, "catch", agents, budget)}
    assert sizes == {"large": 100, "random": 48}
    chosen = configure(suite, "catch", agents, budget, overrides={"env.image_size": "60"})
    assert {config.env["image_size"] for config in chosen} == {60}
    with pytest.raises(UserError, match=r"'env\.image_sise'. Did you mean 'env\.image_size'"):
        configure(suite, "catch", agents, Budget("tour", 1_000, 500, 1, (0,), {"env.image_sise": 48}))


ABLATION = Suite(
    "ablation",
    1,
    SUITE.tasks,
    SUITE.budgets,
    ("drqv2",),
    default_tasks=("catch_or_end",),
    variants=(
        Variant("drqv2", ""),
        Variant("drqv2", "M1", {"lr": "0.5", "batch_size": "8"}),
        Variant("drqv2", "as-it-is", {"lr": "1e-4"}),
    ),
)


def variants(tmp_path: Path, *names: str, **options: Any) -> Any:
    return configure(
        ABLATION, "x", AGENTS, SUITE.budgets["paper"], seeds=[0], variants=names, out=str(tmp_path), **options
    )


def test_a_suite_of_variants_runs_each_that_differs_once(tmp_path: Path) -> None:
    runs = {run.run_id: run.agent_config for run in variants(tmp_path)}
    assert list(runs) == [f"ablation@paper/catch_or_end/{name}/0" for name in ("random", "drqv2", "drqv2-M1")]
    assert (
        runs["ablation@paper/catch_or_end/drqv2-M1/0"] | {"lr": 1e-4, "batch_size": 256}
        == (runs["ablation@paper/catch_or_end/drqv2/0"])
    )


def test_the_agent_as_published_is_a_variant_that_can_be_asked_for(tmp_path: Path) -> None:
    names = [run.run_id.split("/")[2] for run in variants(tmp_path, "-")]
    assert names == ["random", "drqv2"]


def test_a_run_of_a_suite_of_variants_asks_for_itself_alone(tmp_path: Path) -> None:
    """The request of the unnamed one asked for all: `cancel` with it stopped them."""
    for run in variants(tmp_path):
        asked = request({**run.options, "suite": run.suite})
        assert [each.run_id for each in variants(tmp_path, *asked.variants) if each.agent == run.agent] == [run.run_id]


def test_the_users_settings_go_before_a_variants_and_join_its_name(tmp_path: Path) -> None:
    runs = variants(tmp_path, "M1", tasks=["catch"], overrides={"lr": "0.25"})
    assert [run.run_id for run in runs] == ["ablation@paper/catch/drqv2-M1,lr=0.25/0"]
    assert (runs[0].agent_config["lr"], runs[0].agent_config["batch_size"]) == (0.25, 8)


def test_an_unknown_variant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown variant of random, drqv2 in suite ablation 'M2'. Did you mean 'M1'"):
        variants(tmp_path, "M2")


def test_the_ablation_suite_has_every_row_of_the_papers_table_5(tmp_path: Path) -> None:
    suite = registry.suite("ablation")
    agents = {name: registry.agent(name) for name in suite.agents}
    runs = configure(suite, "ablation", agents, suite.budgets["smoke"], tasks=["catch"], seeds=[0], out=str(tmp_path))
    names = [run.run_id.split("/")[2] for run in runs]
    assert len(names) == len(set(names))
    assert {f"covr-M{i}" for i in range(1, 10)} | {"covr", "top_return-M10", "top_return-M11"} <= set(names)
    wanted = {(number.agent, number.variants[0]) for number in published("T5")}
    assert {f"{agent}-{variant}" if variant else agent for agent, variant in wanted} <= set(names)


def test_a_run_goes_on_with_the_threads_and_the_kernel_it_began_with(tmp_path: Path) -> None:
    (old,) = configs(tmp_path, tasks=["catch"], seeds=[0])[1:]
    provenance.begin(tmp_path, old.run_id, config=old.as_dict() | {"threads": 3}, seeds={}, command="")
    Checkpoints(run_folder(tmp_path, old.run_id) / "checkpoint").save(1, {}, Replay(4, (3, 2, 2), 1, seed=0))
    faster = replace(old, conv_kernel="winograd")
    for keep, kernel in ((True, "torch"), (False, "winograd")):
        (run,) = plan([faster], keep_kernel=keep).runs
        assert (run.state, run.config.threads, run.config.conv_kernel) == (State.TO_CONTINUE, 3, kernel)


def test_a_run_that_is_being_written_is_not_begun_anew(tmp_path: Path) -> None:
    """The command that handed it to a cluster is given again to watch it, `--restart` and all."""
    (config,) = configs(tmp_path, seeds=[0], tasks=["catch"], budget=SUITE.budgets["smoke"])[:1]
    with RunWriter(tmp_path, config.run_id, action_repeat=2):
        provenance.begin(tmp_path, config.run_id, config=config.as_dict(), seeds={}, command="cmd")
        made = plan([config], restart=True)
        made.prepare()
        assert made.remarks() == [f"is being written now, and left to its process: {config.run_id}"]
        assert (run_folder(tmp_path, config.run_id) / "provenance.json").exists()
    made = plan([config], restart=True)
    made.prepare()
    assert not run_folder(tmp_path, config.run_id).exists()
    assert any("begins anew" in remark for remark in made.remarks())


def test_what_another_command_began_since_the_plan_was_made_is_not_moved_away(tmp_path: Path) -> None:
    """Costs may be measured for minutes in between: two commands with --restart took each other's runs."""
    (config,) = configs(tmp_path, seeds=[0], tasks=["catch"], budget=SUITE.budgets["smoke"])[:1]
    provenance.begin(tmp_path, config.run_id, config=config.as_dict(), seeds={}, command="cmd")
    made = plan([config], restart=True)
    with RunWriter(tmp_path, config.run_id, action_repeat=2):
        made.prepare()
        assert (run_folder(tmp_path, config.run_id) / "provenance.json").exists()
    made.prepare()
    assert not run_folder(tmp_path, config.run_id).exists()


def test_code_that_was_mended_before_a_first_checkpoint_begins_a_run_of_its_own(tmp_path: Path) -> None:
    """None of its rows is of the old code, and all of them were marked as if."""
    (config,) = configs(tmp_path, seeds=[0], tasks=["catch"], budget=SUITE.budgets["smoke"])[:1]
    for status in ("failed", "interrupted"):
        old = config.as_dict() | {"code": {"agent": "old"}}
        provenance.begin(tmp_path / status, config.run_id, config=old, seeds={}, command="cmd")
        provenance.finish(tmp_path / status, config.run_id, status, wall_s=1.0)
        (run,) = plan([replace(config, out=str(tmp_path / status), code={"agent": "new"})]).runs
        assert run.state is State.TO_DO and run.replaced and not run.changed_code


def test_a_checkpoint_without_a_record_is_left_out(tmp_path: Path) -> None:
    """Nothing tells which code and settings it is of; it went on with any."""
    (config,) = configs(tmp_path, seeds=[0], tasks=["catch"], budget=SUITE.budgets["smoke"])[:1]
    checkpoint = run_folder(tmp_path, config.run_id) / "checkpoint" / "000000000100"
    checkpoint.mkdir(parents=True)
    (run,) = plan([config]).runs
    assert run.state is State.UNREADABLE and "provenance.json is gone" in run.problem
    (run,) = plan([config], restart=True).runs
    assert run.state is State.TO_DO and run.replaced


def test_a_setting_written_otherwise_is_told_to_be_the_same(tmp_path: Path) -> None:
    """Tables showed two agents of one seed each, without a word."""
    for config in configs(tmp_path, overrides={"lr": "1e-3"}, tasks=["catch"], seeds=[0]):
        provenance.begin(tmp_path, config.run_id, config=config.as_dict(), seeds={"run": 0}, command="c")
    (run_folder(tmp_path, "catch@paper/catch/drqv2-batch_size=7/0")).mkdir(parents=True)
    (run_folder(tmp_path, "catch@paper/catch/drqv2-batch_size=7/0") / "provenance.json").write_text("{")
    others = configs(tmp_path, overrides={"lr": "0.001"}, tasks=["catch", "catch_or_end"], seeds=[1, 2])
    (told,) = twins(others)
    assert told.startswith("drqv2-lr=0.001 has the settings of drqv2-lr=1e-3, which the store has")
    assert not twins(configs(tmp_path, overrides={"lr": "1e-3"}, tasks=["catch"], seeds=[1]))
    assert not twins(configs(tmp_path, overrides={"lr": "0.002"}, tasks=["catch"], seeds=[1]))
    assert not twins(configs(tmp_path / "elsewhere", overrides={"lr": "0.001"}))
