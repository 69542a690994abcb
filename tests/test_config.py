"""Settings: typed, checked, named; seeds: derived, never shared."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covr_bench.config import registry
from covr_bench.config.request import parse_pairs
from covr_bench.config.run_config import RunConfig
from covr_bench.config.settings import base_of, check_names, concerning, of_env, resolve, variant_name
from covr_bench.kit.errors import UserError
from covr_bench.kit.seeds import derive_seed
from results.store import RunId

DRQV2, RANDOM = registry.agent("drqv2"), registry.agent("random")
DMC6 = registry.suite("dmc6")
CARTPOLE, WALKER = DMC6.task("cartpole_swingup"), DMC6.task("walker_walk")
PAPER, SMOKE = DMC6.budgets["paper"], DMC6.budgets["smoke"]


def test_defaults_then_task_then_budget_then_user() -> None:
    assert resolve(DRQV2, CARTPOLE, PAPER, {}).agent["batch_size"] == 256
    assert resolve(DRQV2, WALKER, PAPER, {}).agent["batch_size"] == 512
    assert resolve(DRQV2, WALKER, SMOKE, {}).agent["batch_size"] == SMOKE.overrides["batch_size"]
    assert resolve(DRQV2, WALKER, SMOKE, {"batch_size": "7"}).agent["batch_size"] == 7
    assert resolve(DRQV2, WALKER, SMOKE, {"drqv2.batch_size": "8", "batch_size": "7"}).agent["batch_size"] == 8


def test_settings_survive_json() -> None:
    settings = resolve(DRQV2, CARTPOLE, PAPER, {"lr": "1e-3"}).agent
    assert settings["lr"] == 1e-3
    assert DRQV2.Config(**json.loads(json.dumps(settings))) == DRQV2.Config(lr=1e-3)


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("lr", "fast", "lr = 'fast': .*valid number"),
        ("lr", "-1", "lr = '-1': .*greater than 0"),
        ("batch_size", "1.5", "batch_size = '1.5': .*valid integer"),
    ],
)
def test_a_bad_value_is_named_with_what_is_valid(key: str, value: str, complaint: str) -> None:
    with pytest.raises(UserError, match=rf"bad setting of drqv2: {complaint}"):
        resolve(DRQV2, CARTPOLE, PAPER, {key: value})


@pytest.mark.parametrize("key", ["batchsize", "drqv2.batchsize", "env.image_siz", "random.batch_size", "lr2"])
def test_an_unknown_key_names_the_nearest(key: str) -> None:
    with pytest.raises(UserError, match=rf"unknown setting '{key}'.*Did you mean"):
        check_names("setting", {key: "1"}, [(DRQV2, None), (RANDOM, None)], DMC6.tasks)


@pytest.mark.parametrize("text", ["lr", "=1", ""])
def test_an_override_is_key_equals_value(text: str) -> None:
    with pytest.raises(UserError, match=r"key=value"):
        parse_pairs([text])


def test_overrides_are_given_once() -> None:
    assert parse_pairs(["lr=1e-3", " env.render = fast=er"]) == {"lr": "1e-3", "env.render": "fast=er"}
    with pytest.raises(UserError, match=r"'lr' twice"):
        parse_pairs(["lr=1", "lr=2"])


def test_task_settings_have_the_type_of_their_default() -> None:
    assert of_env(CARTPOLE, {"env.image_size": "64", "env.render": "fast", "lr": "1"}) == {
        "image_size": 64,
        "render": "fast",
    }
    with pytest.raises(UserError, match=r"env.image_size = 'big': .*valid integer"):
        of_env(CARTPOLE, {"env.image_size": "big"})
    with pytest.raises(UserError, match=r"unknown setting of task catch 'env.render'.*env.frame_stack"):
        of_env(registry.suite("catch").task("catch"), {"env.render": "fast"})


def test_a_variant_is_named_after_what_sets_it_apart() -> None:
    overrides = {"nstep": "1", "drqv2.lr": "1e-3", "env.render": "fast"}
    assert variant_name(DRQV2, None, overrides) == "env.render=fast,lr=1e-3,nstep=1"
    assert variant_name(RANDOM, None, overrides) == "env.render=fast"
    assert (
        variant_name(DRQV2, None, {"lr": "1", "drqv2.lr": "2"})
        == variant_name(DRQV2, None, {"drqv2.lr": "2", "lr": "1"})
        == "lr=2"
    )
    assert variant_name(DRQV2, None, {}) == ""


@settings(deadline=None)  # the first import of an agent takes its time
@given(
    st.dictionaries(
        st.sampled_from(
            ["lr", "rad.lr", "covr.lr", "covr.psi0", "psi0", "drqv2.nstep", "window", "env.render", "base"]
        ),
        st.sampled_from(["rad", "sac"]),
    ).map(lambda found: found | {"base": found.get("base", "rad")}),
    st.sampled_from(["covr", "rad", "sac", "drqv2", "random"]),
)
def test_what_concerns_an_agent_names_its_runs_alike(overrides: dict[str, str], name: str) -> None:
    spec = registry.agent(name)
    base = base_of(spec, overrides)
    mine = concerning(spec, base, overrides)
    assert mine.items() <= overrides.items()
    assert variant_name(spec, base, mine) == variant_name(spec, base, overrides)
    assert name == "covr" or "base" not in mine
    assert name == "drqv2" or "drqv2.nstep" not in mine


@given(values=st.dictionaries(st.sampled_from(["lr", "nstep", "discount", "env.render"]), st.text()))
def test_every_variant_fits_a_run_id(values: dict[str, str]) -> None:
    run_id = RunId("dmc6", "paper", "cartpole_swingup", "drqv2", variant_name(DRQV2, None, values), 0)
    assert RunId.parse(str(run_id)) == run_id


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_seeds_of_different_purposes_and_runs_differ(seed: int, other: int) -> None:
    purposes = [
        ("agent", 0),
        ("replay", 0),
        ("train_env", 0),
        ("train_episode", 0),
        ("train_episode", 1),
        ("eval_episode", 0),
    ]
    seeds = {derive_seed(run, name, index) for run in {seed, other} for name, index in purposes}
    assert len(seeds) == len(purposes) * len({seed, other})
    assert all(0 <= value < 2**31 for value in seeds)


def test_seeds_are_the_same_for_ever() -> None:
    assert derive_seed(0, "agent") == 1942722308
    assert derive_seed(0, "eval_episode", 0) == 127564008


def test_a_run_survives_json() -> None:
    config = RunConfig("s@b/t/a/0", "s", 1, "t", "a", 0, 100, 50, 2, 4, {"lr": 0.1}, {"image_size": 64})
    assert RunConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config
