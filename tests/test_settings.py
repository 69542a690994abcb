"""Settings resolved once: unknown names are refused wherever they stand; a task's defaults are its family's alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from experiments import configure

import covr_bench
from covr_bench.config import registry
from covr_bench.config.experiment import design
from covr_bench.config.request import Request
from covr_bench.config.settings import of_env
from covr_bench.kit.api import AgentSpec
from covr_bench.kit.errors import UserError
from suites.base import Budget, Suite, Task, Variant

CATCH = registry.suite("catch")
DRQV2 = registry.agent("drqv2")
BUDGET_FILE = """
from suites.base import Budget
BUDGET = Budget("mine", 200, 100, 1, overrides={overrides})
"""


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"batch_sise": 8}, r"unknown setting of budget mine 'batch_sise'. Did you mean 'batch_size'"),
        ({"drqv2.batch_sise": 8}, r"'drqv2.batch_sise'. Did you mean 'drqv2.batch_size'"),
        ({"drqv3.batch_size": 8}, r"'drqv3.batch_size'. Did you mean 'drqv2.batch_size'"),
        ({"covr.psi": 8}, r"'covr.psi'. Did you mean 'covr.psi0'"),
        ({"env.image_sise": 8}, r"'env.image_sise'. Did you mean 'env.image_size'"),
    ],
)
def test_a_budget_files_misspelt_key_is_refused(
    overrides: dict[str, int], complaint: str, cli: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "b.py").write_text(BUDGET_FILE.format(overrides=overrides))
    request = Request("catch", agents=("drqv2",), budget=str(tmp_path / "b.py"), out=str(tmp_path))
    with pytest.raises(UserError, match=complaint):
        design(request)


@pytest.mark.parametrize(
    "key", ["batch_size", "covr.psi0", "psi0", "model_batch_size", "vpf.rollout", "env.image_size"]
)
def test_a_budget_may_set_what_agents_have_that_are_not_run(key: str, tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text(BUDGET_FILE.format(overrides={key: 32}))
    assert design(Request("catch", agents=("random",), budget=str(tmp_path / "b.py"))).cells


def test_an_agent_that_follows_another_has_its_settings_of_a_budget_and_its_own_above_them(tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text(BUDGET_FILE.format(overrides={"covr.psi0": 32, "covr.accept": "always"}))
    request = Request("catch", agents=("covr_plus",), tasks=("catch",), seeds=(0,), budget=str(tmp_path / "b.py"))
    found = {}
    for own in ({}, {"covr_plus.psi0": "64"}, {"psi0": "48"}):
        (config,) = design(replace(request, settings=own)).runs(device="cpu", threads=1, conv_kernel="torch")
        found[str(own)] = config.agent_config["psi0"], config.agent_config["accept"]
    assert list(found.values()) == [(32, "always"), (64, "always"), (48, "always")]


def test_an_agent_that_follows_none_is_refused() -> None:
    agents = {"drqv2": replace(DRQV2, follows="drvq2")}
    with pytest.raises(UserError, match=r"unknown agent that drqv2 follows 'drvq2'. Did you mean 'drqv2'"):
        configure(CATCH, "catch", agents, CATCH.budgets["smoke"])


def test_a_variants_unknown_key_is_refused() -> None:
    suite = replace(CATCH, variants=(Variant("drqv2", "M1", {"lrr": "1"}),))
    with pytest.raises(UserError, match=r"unknown setting of variant M1 'lrr'. Did you mean 'lr'"):
        configure(suite, "catch", {"drqv2": DRQV2}, CATCH.budgets["smoke"])


def effect_runs(**settings: str) -> dict[str, Any]:
    asked = Request("effect", agents=("drqv2", "dpl"), budget="smoke", variants=("-",), seeds=(0,), settings=settings)
    runs = design(asked).runs(device="cpu", threads=1, conv_kernel="torch")
    return {run.run_id.split("/")[2]: run for run in runs}


def test_a_setting_of_the_base_that_a_budget_chose_is_in_the_name_and_the_request() -> None:
    """The runs had it, and were called as published: the base was taken to be another."""
    runs = effect_runs(**{"drqv2.lr": "0.5"})
    assert set(runs) == {"drqv2-lr=0.5", "dpl-lr=0.5"}
    assert runs["dpl-lr=0.5"].agent_config["base_settings"]["lr"] == 0.5
    assert runs["dpl-lr=0.5"].options["settings"] == {"drqv2.lr": "0.5"}
    assert set(effect_runs(stddev_steps="500")) == {"drqv2-stddev_steps=500", "dpl-stddev_steps=500"}


def test_a_setting_that_the_base_of_a_budget_lacks_is_refused() -> None:
    """It was accepted, was in the run's name, and changed nothing."""
    for key in ("rad.lr", "init_temperature"):
        with pytest.raises(UserError, match=f"unknown setting '{key}'"):
            effect_runs(**{key: "0.01"})


def test_the_users_settings_go_before_a_variants_however_it_names_them() -> None:
    suite = replace(CATCH, variants=(Variant("drqv2", "fast", {"drqv2.lr": "1e-3"}),))
    (run,) = configure(
        suite, "x", {"drqv2": DRQV2}, CATCH.budgets["smoke"], tasks=["catch"], seeds=[0], overrides={"lr": "5e-5"}
    )
    assert (run.run_id.split("/")[2], run.agent_config["lr"]) == ("drqv2-fast,lr=5e-5", 5e-5)


def test_a_vlm_that_is_given_twice_is_refused() -> None:
    with pytest.raises(UserError, match="--vlm and --set vlm=tiny-knowing contradict"):
        design(Request("catch", agents=("dpl",), budget="smoke", vlm="tiny", settings={"vlm": "tiny-knowing"}))


def test_a_run_is_asked_for_again_without_what_was_of_one_command() -> None:
    """Its request.yaml began it anew every time, or accepted every later change of code."""
    asked = Request("catch", agents=("random",), budget="smoke", seeds=(0,), restart=True, accept_changed_code=True)
    (run, *_) = design(asked).runs(device="cpu", threads=1, conv_kernel="torch")
    assert not {"restart", "accept_changed_code"} & run.options.keys()


def test_a_run_is_asked_for_again_by_its_own_variant() -> None:
    suite = replace(CATCH, variants=(Variant("drqv2", "M1"), Variant("drqv2", "M2", {"lr": "1"})))
    runs = configure(suite, "catch", {"drqv2": DRQV2}, CATCH.budgets["smoke"], tasks=["catch"], seeds=[0])
    assert [run.options["variants"] for run in runs] == [["M1"], ["M2"]]


def test_a_run_is_checkpointed_as_often_as_asked() -> None:
    asked = Request("catch", agents=("random",), budget="smoke", seeds=(0,), checkpoint_every=7.0)
    (run, *_) = design(asked).runs(device="cpu", threads=1, conv_kernel="torch")
    assert run.checkpoint_every_s == 7.0


def test_a_variant_may_set_the_environment() -> None:
    suite = replace(CATCH, variants=(Variant("drqv2", "M1", {"env.image_size": "48"}),))
    runs = configure(suite, "catch", {"drqv2": DRQV2}, CATCH.budgets["smoke"])
    assert {run.env["image_size"] for run in runs} == {48}


@dataclass(frozen=True)
class Config:
    lr: float = 0.1


def spec_with(defaults: dict[str, Any]) -> AgentSpec:
    return AgentSpec("tried", Config, lambda config, context: None, "control", task_defaults=defaults)  # type: ignore[arg-type,return-value]


def test_a_task_defaults_unknown_key_is_refused() -> None:
    spec = spec_with({"catch/catch": {"lrr": 1}})
    with pytest.raises(UserError, match=r"unknown setting in task_defaults\['catch/catch'\] of agent tried 'lrr'"):
        configure(CATCH, "catch", {"tried": spec}, CATCH.budgets["smoke"])


def test_a_strangers_task_called_a_is_not_carlas() -> None:
    make = CATCH.tasks[0].make
    stranger = Suite("mine", 1, (Task("a", make, 2), Task("walker_walk", make, 2)), CATCH.budgets, ("covr",))
    agents = {name: registry.agent(name) for name in ("covr", "apl", "drqv2", "rad")}
    of_driving = configure(
        registry.suite("carla"), "carla", agents, registry.suite("carla").budgets["paper"], tasks=["a"], seeds=[0]
    )
    theirs = configure(stranger, "mine", agents, Budget("long", 10_000, 5_000, 1), tasks=["a"])
    assert [run.agent_config.get("guidance_weight") for run in of_driving][:2] == [2.0, 2.0]
    assert theirs[0].agent_config["guidance_weight"] == 1.0
    assert theirs[0].agent_config["lora_alpha"] == 16.0
    walking = configure(stranger, "mine", agents, Budget("long", 10_000, 5_000, 1), tasks=["walker_walk"])
    assert walking[2].agent_config["batch_size"] == 256
    assert walking[3].agent_config["augmentation"] == "translate"


def test_a_task_defaults_hold_in_every_suite_of_the_family() -> None:
    for name in ("dmc6", "dmc6-ar2", "ablation"):
        suite = registry.suite(name)
        (run,) = configure(
            suite, name, {"drqv2": DRQV2}, Budget("long", 10_000, 5_000, 1), tasks=["walker_walk"], seeds=[0]
        )
        assert run.agent_config["batch_size"] == 512


def test_a_budgets_settings_override_a_tasks_defaults_and_the_users_override_both() -> None:
    spec = spec_with({"catch/catch": {"lr": 0.2}})
    budgets = Budget("plain", 100, 50, 1), Budget("set", 100, 50, 1, overrides={"lr": 0.3})

    def lr(budget: Budget, task: str = "catch", **settings: str) -> float:
        (run,) = configure(CATCH, "catch", {"tried": spec}, budget, tasks=[task], overrides=settings)
        return float(run.agent_config["lr"])

    assert [lr(budgets[0], "catch_or_end"), lr(budgets[0]), lr(budgets[1]), lr(budgets[1], lr="0.4")] == [
        *(0.1, 0.2, 0.3, 0.4)
    ]


def test_a_budget_has_other_settings_for_a_stand_in_than_for_a_real_vlm() -> None:
    budget = Budget("b", 10_000, 5_000, 1, overrides={"covr.lora_alpha": 32.0}, stand_in={"covr.lora_alpha": 256.0})

    def alpha(**settings: str) -> float:
        (run,) = configure(
            CATCH, "catch", {"covr": registry.agent("covr")}, budget, tasks=["catch"], overrides=settings
        )
        return float(run.agent_config["lora_alpha"])

    assert alpha() == alpha(vlm="tiny-knowing") == 256
    assert alpha(vlm="some/model") == alpha(prior="zero") == 32
    assert alpha(lora_alpha="8") == 8
    wrong = replace(budget, stand_in={"covr.lora_alfa": 1.0})
    with pytest.raises(UserError, match=r"setting of budget b 'covr.lora_alfa'"):
        configure(CATCH, "catch", {"covr": registry.agent("covr")}, wrong)


def test_planning_many_runs_imports_each_agent_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found: list[str] = []
    look_up = registry.agent
    monkeypatch.setattr(registry, "agent", lambda ref: found.append(ref) or look_up(ref))
    agents = ("random", "drqv2", "curl", "rad", "dgc", "sac")
    runs = design(Request("dmc6", agents=agents, seeds=tuple(range(3)))).runs(
        device="cpu", threads=1, conv_kernel="torch"
    )
    assert len(runs) == 6 * 6 * 3
    assert {name: found.count(name) for name in agents} == dict.fromkeys(agents, 1)


OPEN = """from dataclasses import dataclass, field
from typing import Literal
from baselines.random import Random
from covr_bench import AgentSpec
@dataclass(frozen=True)
class Part: a: int = 1
@dataclass(frozen=True)
class Config:
    pair: tuple[int, int] = (1, 2)
    names: list[str] = field(default_factory=list)
    rate: float | None = 0.5
    name: str | None = "x"
    mode: Literal["a", 3] = "a"
    part: Part = field(default_factory=Part)
    text: str = ""
    def __post_init__(self):
        if self.rate == 9: raise RuntimeError("too fast")
AGENT = AgentSpec("open", Config, Random, "control")
"""


@pytest.mark.parametrize(
    ("name", "typed", "given", "kept"),
    [
        ("pair", "[3, 4]", (3, 4), [3, 4]),
        ("names", '["a", "b"]', ["a", "b"], ["a", "b"]),
        ("rate", "null", None, None),
        ("name", "null", None, None),
        ("mode", "3", 3, 3),
        ("part", '{"a": 7}', {"a": 7}, {"a": 7}),
        ("text", "null", "null", "null"),
        ("text", "[3]", "[3]", "[3]"),
    ],
)
def test_a_setting_of_any_type_can_be_given(name: str, typed: str, given: object, kept: object, tmp_path: Path) -> None:
    (file := tmp_path / "open.py").write_text(OPEN)
    for setting in (typed, given):
        plan = covr_bench.plan("catch", agents=[file], budget="smoke", out=tmp_path, settings={name: setting})
        assert plan.todo[0].agent_config[name] == kept


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("pair", "3,4", r"pair = '3,4': Input should be a valid tuple, written as \[3, 4\]"),
        ("part", "7", r"written as \{\"a\": 1\}"),
        ("rate", "9", "its Config raised RuntimeError: too fast"),
    ],
)
def test_a_bad_setting_says_how_it_is_written(name: str, value: str, complaint: str, tmp_path: Path) -> None:
    (file := tmp_path / "open.py").write_text(OPEN)
    with pytest.raises(UserError, match=complaint):
        covr_bench.plan("catch", agents=[file], budget="smoke", out=tmp_path, settings={name: value})


def test_the_example_budget_is_one() -> None:
    example = Path(__file__).parents[1] / "examples" / "my_budget.py"
    experiment = design(Request("catch", agents=("drqv2", "random"), budget=str(example)))
    assert (experiment.budget.name, experiment.seeds) == ("quick", (0, 1))
    assert experiment.cells[0].settings.agent["seed_steps"] == 200


def test_an_error_does_not_list_hundreds_of_names(tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text(BUDGET_FILE.format(overrides={"batch_sise": 8}))
    with pytest.raises(UserError) as error:
        design(Request("catch", agents=("drqv2",), budget=str(tmp_path / "b.py")))
    assert "Did you mean 'batch_size'" in str(error.value)
    assert len(str(error.value)) < 400


def test_an_environments_option_has_the_type_that_its_make_names() -> None:
    """It had that of the default: one that is None could not be set, nor a tuple, nor a whole number to a fraction."""

    def make(
        seed: int, *, wind: float | None = None, sizes: tuple[int, ...] = (1, 2), gravity: float = 1, plain=3
    ) -> Any:  # type: ignore[no-untyped-def]
        raise NotImplementedError

    task = Task("game", make, 1, max_episode_steps=10)
    chosen = {"env.wind": "0.5", "env.sizes": "[3, 4]", "env.gravity": "0.5", "env.plain": "4"}
    assert of_env(task, chosen) == {"wind": 0.5, "sizes": [3, 4], "gravity": 0.5, "plain": 4}
    assert of_env(task, {"env.wind": "null"}) == {"wind": None}
    with pytest.raises(UserError, match=r"env.sizes = 'x': Input should be a valid tuple"):
        of_env(task, {"env.sizes": "x"})
    with pytest.raises(UserError, match=r"env.plain = '0.5': Input should be a valid integer"):
        of_env(task, {"env.plain": "0.5"})
