"""Trained policies: found in the store, loaded, evaluated elsewhere and filmed."""

from __future__ import annotations

import inspect
import io
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
import torch

from covr_bench.cli.eval import summary
from covr_bench.cli.record import MIN_SIZE, example_episode, played
from covr_bench.config import registry
from covr_bench.config.run_config import RunConfig
from covr_bench.kit.api import Context
from covr_bench.kit.code import code_hash
from covr_bench.kit.errors import UserError
from covr_bench.kit.seeds import derive_seed, starts
from covr_bench.policies.load import acting, find_run
from covr_bench.policies.overlay import POLICY, VLM, Advice, Moment, Panel
from covr_bench.policies.play import TrainedPolicy
from covr_bench.run.checkpoint import Checkpoints, load_saved
from covr_bench.run.evaluate import evaluate
from covr_bench.run.randomness import seed_everything
from covr_bench.run.teacher import open_teacher
from results import provenance
from results.store import RunWriter, read, read_run, run_folder

if TYPE_CHECKING:
    from collections.abc import Callable

torch.set_num_threads(1)
SMALL = {
    "batch_size": 4, "hidden_dim": 16, "feature_dim": 8, "filters": 8, "model_batch_size": 2, "frames": 4,
    "block_size": 2, "steps": 3,
}  # fmt: skip
BASE = {"hidden_dim": 16, "feature_dim": 8}
RUN = "catch@smoke/catch/drqv2/0"


def store(
    out: Path,
    agent: str = "drqv2",
    seed: int = 0,
    *,
    init: int = 0,
    suite: str = "catch",
    task: str = "catch",
    **given: Any,
) -> RunConfig:
    """A finished run of 400 env steps in the store, with the weights an untrained agent has with torch seed `init`."""
    spec = registry.agent(agent)
    settings = {key: value for key, value in SMALL.items() if hasattr(spec.Config, key)} | given
    side = getattr(spec.Config(**settings), "image_size", 84)
    (chosen,) = [each for each in registry.suite(suite).tasks if each.name == task]
    config = RunConfig(
        f"{registry.suite(suite).name}@smoke/{task}/{spec.name}/{seed}", suite, 1, task, agent, seed, 400, 200, 2,
        chosen.action_repeat, settings, {"image_size": side}, out=str(out),
    )  # fmt: skip
    env = chosen.make(0, image_size=side)
    (action_dim,) = env.action_space.shape or ()
    torch.manual_seed(init)
    context = Context(env.observation_space.shape, action_dim, 2, 400, "cpu", seed, "play")
    made: Any = registry.make_agent(agent, settings, context)
    folder = run_folder(out, config.run_id)
    with RunWriter(out, config.run_id, action_repeat=chosen.action_repeat) as writer:
        record = {"config": config.as_dict(), "seeds": {"run": seed}, "command": "covr-bench run it"}
        provenance.begin(out, config.run_id, **record)
        writer.write("eval", 400, 200, {"return": [1.0]})
        writer.end()
        provenance.finish(out, config.run_id, "finished", wall_s=1.0)
    state = {"agent": made.state_dict(), "only_learning": list(getattr(made, "only_learning", ()))}
    Checkpoints(folder / "checkpoint").save_final(400, state | {"env_steps": 400, "agent_steps": 200})
    return config


def rows(out: Path, run_id: str) -> Any:
    frame = read_run(out, run_id)
    return frame[frame["kind"] == "eval"]


DRAWS = """
import random
from dataclasses import dataclass
import numpy as np
import torch
from covr_bench.kit.api import AgentSpec


@dataclass(frozen=True)
class Config: ...


class Drawing:
    def __init__(self, config, context):
        self.bias = torch.rand(1).item()

    def act(self, obs, env_step, *, explore):
        drawn = random.random() + np.random.rand() + torch.rand(1).item() + self.bias
        return np.full(1, drawn / 4 * torch.get_num_threads(), np.float32)

    def observe(self, transition): ...
    def update(self, replay, env_step): return {}
    def state_dict(self): return {}
    def load_state_dict(self, state): ...


AGENT = AgentSpec("drawing", Config, Drawing, "control")
"""


def drawn() -> tuple[Any, ...]:
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_a_policy_leaves_its_callers_random_states_and_threads_alone(tmp_path: Path) -> None:
    """To load one seeded the caller's generators with the run's seed and left torch with the run's threads."""
    file = tmp_path / "drawing.py"
    file.write_text(DRAWS)
    folder = run_folder(tmp_path, store(tmp_path, str(file)).run_id)
    obs = np.zeros((9, 84, 84), np.uint8)
    with acting(folder) as policy:  # as `eval` and `record` use it: alone in its process
        alone = [policy.agent.act(obs, 400, explore=False) for _ in range(2)]
        returns = evaluate(policy.agent, policy.env, starts(0, 2), 400)
        assert torch.get_num_threads() == 1
    torch.set_num_threads(2)
    try:
        seed_everything(3)
        undisturbed = [drawn() for _ in range(4)]
        seed_everything(3)
        mine = [drawn()]
        with TrainedPolicy(tmp_path, str(folder)) as policy:
            mine.append(drawn())
            beside = []
            for _ in range(2):
                beside.append(policy.act(obs))
                mine.append(drawn())
            assert policy.play(2) == returns
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert mine == undisturbed
    assert beside == alone


AGENTS = ["random", "sac", "rad", "drqv2", "taco", "curl", "svea", "madi", "spr", "mlr", "playvirtual", "covr", "dpl"]


@pytest.mark.parametrize("name", AGENTS)
def test_a_loaded_policy_acts_as_the_saved_one(name: str, tmp_path: Path) -> None:
    given = {"base": "sac", "base_settings": BASE, "vlm": "scripted"} if name in ("covr", "dpl") else {}
    config = store(tmp_path, name, init=5, **given)
    with acting(run_folder(tmp_path, config.run_id)) as policy:
        obs, _ = policy.env.reset(seed=1)
        torch.manual_seed(5)
        shape = policy.env.observation_space.shape
        same = registry.make_agent(name, config.agent_config, Context(shape, 1, 2, 400, "cpu", 0, "play"))
        assert np.array_equal(policy.agent.act(obs, 400, explore=False), same.act(obs, 400, explore=False))


def test_the_run_s_own_evaluation_is_repeated_exactly(cli: Callable[..., Any], tmp_path: Path) -> None:
    """On its own task and starts, with one row per metric beside, not among, the run's own."""
    store(tmp_path, init=3)
    result = cli("eval", RUN, "--out", tmp_path)
    assert result.code == 0, result.err
    with acting(run_folder(tmp_path, RUN)) as policy:
        expected = evaluate(policy.agent, policy.env, [derive_seed(0, "eval_episode", i) for i in range(2)], 400)
    (row,) = [row for row in rows(tmp_path, "catch@smoke-from-catch.catch/catch/drqv2/0").to_dict("records")
              if row["metric"] == "return"]  # fmt: skip
    assert list(row["episodes"]) == expected["return"]
    assert (row["env_steps"], row["agent_steps"], row["labels"]) == (400, 200, "trained_on=catch/catch")
    assert rows(tmp_path, RUN)["value"].tolist() == [1.0]
    assert f"{np.mean(expected['return']):.4g} ± " in result.out


def test_another_task_once_and_only_once(cli: Callable[..., Any], tmp_path: Path) -> None:
    for seed in (0, 1):
        store(tmp_path, seed=seed, init=seed)
    command = ["eval", RUN, "drqv2/1", "--task", "catch/catch_or_end", "--out", tmp_path]
    first, again = cli(*command), cli(*command)
    assert (first.code, again.code) == (0, 0), first.err + again.err
    assert "rows in" in first.out
    assert again.out.count("was already in") == 2
    assert [line for line in first.out.splitlines() if "return" in line] == [
        line for line in again.out.splitlines() if "return" in line
    ]
    frame = read(tmp_path, compact=False)
    mine = frame[(frame["kind"] == "eval") & (frame["task"] == "catch_or_end") & (frame["metric"] == "return")]
    assert mine["run_id"].tolist() == [f"catch@smoke-from-catch.catch/catch_or_end/drqv2/{seed}" for seed in (0, 1)]
    assert set(mine["action_repeat"]) == {1}
    table = cli("table", "--out", tmp_path, "--format", "csv").out
    assert "trained_on=catch/catch,catch_or_end,drqv2,,2," in table


def test_a_run_is_found_by_a_part_of_its_id_and_never_by_that_of_another_seed(tmp_path: Path) -> None:
    """`.../random/1` played the policy of seed 10."""
    store(tmp_path, "random", 0)
    store(tmp_path, "random", 10)
    assert find_run(tmp_path, "random/0").name == "0"
    assert find_run(tmp_path, "random/10").name == "10"
    for absent in ("catch@smoke/catch/random/1", "random/1", "1"):
        with pytest.raises(UserError, match="unknown trained run"):
            find_run(tmp_path, absent)


def test_an_evaluation_has_the_labels_of_the_run(cli: Callable[..., Any], tmp_path: Path) -> None:
    """A control counted as the stand-in VLM."""
    store(tmp_path, "dpl", prior="oracle", base="sac", base_settings=BASE)
    cli("eval", "dpl", "--out", tmp_path, "--episodes", "1")
    frame = read(tmp_path)
    labels = frame[frame["budget"].astype(str).str.contains("-from-")]["labels"].astype(str).unique()
    assert labels == ["trained_on=catch/catch,vlm=control:oracle"]


LEVEL = """
from dataclasses import dataclass
import numpy as np
from covr_bench import AgentSpec
@dataclass(frozen=True)
class Config:
    pass
class Level:
    def __init__(self, config, context): self.size = context.action_dim
    def act(self, obs, step, explore): return np.full(self.size, 0.1, np.float32)
    def update(self, replay, step): return {}
    def state_dict(self): return {}
    def load_state_dict(self, state): pass
AGENT = AgentSpec(name="level", Config=Config, make=Level, kind="control", replay_frames=0)
"""
GAME = """
from dataclasses import replace
from suites.catch import SUITE as CATCH
SUITE = replace(CATCH, name="mine", tasks=CATCH.tasks[:1])
"""


def test_changed_code_of_an_agent_or_a_suite_is_evaluated_and_said(cli: Callable[..., Any], tmp_path: Path) -> None:
    """The new code's return stood under the hash of the old; a suite's old result was shown for a new one."""
    agent, game, out = tmp_path / "level.py", tmp_path / "game.py", tmp_path / "out"
    agent.write_text(LEVEL)
    game.write_text(GAME)
    run = cli("run", "--suite", "catch", "--task", "catch", "--agent", agent, "--budget", "smoke", "--env-steps", "80",
              "--out", out, "--yes")  # fmt: skip
    assert run.code == 0, run.err
    ask = ("eval", "catch/level", "--out", out, "--episodes", "1", "--task", f"{game}/catch")
    assert "code=changed" not in cli(*ask).out
    assert "was already in" in cli(*ask).out
    game.write_text(GAME + "# another\n")
    assert "rows in" in cli(*ask).out
    agent.write_text(LEVEL.replace("0.1", "0.9"))
    changed = cli(*ask).out
    assert "rows in" in changed and "code=changed" in changed
    (file,) = out.glob("runs/mine@*/catch/*/0/provenance.json")
    assert json.loads(file.read_text())["sessions"][-1]["code"]["agent"] == code_hash(str(agent), "")
    frame = read(out)
    assert frame[frame["suite"] == "mine"]["labels"].astype(str).iloc[-1] == "code=changed,trained_on=catch/catch"


def test_new_weights_are_evaluated_anew(cli: Callable[..., Any], tmp_path: Path) -> None:
    config = store(tmp_path, init=0)
    assert "rows in" in cli("eval", RUN, "--out", tmp_path).out
    for path in (run_folder(tmp_path, RUN) / "checkpoint").glob("0*"):
        path.rename(path.with_name("gone"))
    store(tmp_path, init=1)
    assert "rows in" in cli("eval", RUN, "--out", tmp_path).out
    assert "was already in" in cli("eval", RUN, "--out", tmp_path).out
    evaluation = "catch@smoke-from-catch.catch/catch/drqv2/0"
    with acting(run_folder(tmp_path, config.run_id)) as policy:
        expected = evaluate(policy.agent, policy.env, [derive_seed(0, "eval_episode", i) for i in range(2)], 400)
        weights = policy.saved.sha256
    measured = rows(tmp_path, evaluation)
    assert [list(e) for e in measured[measured["metric"] == "return"]["episodes"]] == [expected["return"]]
    record = provenance.read(run_folder(tmp_path, evaluation) / "provenance.json")
    assert len(record["sessions"]) == 2
    before, after = record["sessions"][-1]["config_changes"]["evaluated"]
    assert before["run"] == RUN
    assert before["checkpoint"] != after["checkpoint"] == {"env_steps": 400, "sha256": weights}


def test_what_is_set_apart_from_the_run_is_kept_apart(cli: Callable[..., Any], tmp_path: Path) -> None:
    store(tmp_path)
    assert cli("eval", RUN, "--episodes", 3, "--seed", 7, "--out", tmp_path).code == 0
    evaluation = "catch@smoke-from-catch.catch/catch/drqv2-eval.episodes=3,eval.seed=7/0"
    seeds = provenance.read(run_folder(tmp_path, evaluation) / "provenance.json")["seeds"]
    assert [seeds[f"eval_episode_{i}"] for i in range(3)] == [derive_seed(7, "eval_episode", i) for i in range(3)]
    assert {len(episodes) for episodes in rows(tmp_path, evaluation)["episodes"]} == {3}


def test_the_task_is_drawn_as_the_policy_saw_it(tmp_path: Path) -> None:
    config = store(tmp_path, "rad")
    with acting(run_folder(tmp_path, config.run_id), "catch_or_end") as policy:
        assert policy.env.observation_space.shape == (9, 108, 108)
        assert policy.target.changes == {}
    with pytest.raises(UserError, match=r"\(9, 108, 108\) and actions \(1,\), and .* has observations \(9, 84, 84\)"), \
            acting(run_folder(tmp_path, config.run_id), "catch", ["env.image_size=84"]):  # fmt: skip
        pass


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["absent"], "unknown trained run in"),
        (["drqv2"], "'drqv2' is part of 2 runs; say more: catch@smoke/catch/drqv2/0, catch@smoke/catch/drqv2/1"),
        ([RUN, "--task", "catch/cach"], "unknown task of suite catch 'cach'. Did you mean 'catch'"),
        ([RUN, "--task", "cach/catch"], "unknown suite 'cach'. Did you mean 'catch'"),
        ([RUN, "--set", "lr=1"], "--set lr: a trained policy keeps its settings; only env.KEY"),
        ([RUN, "--set", "env.colour=1"], "unknown setting of task catch 'env.colour'"),
        ([RUN, "--set", "env.frame_stack=2"], "observations (9, 84, 84)"),
        ([RUN, "--task", "carracing/car_racing"], "actions (1,), and carracing/car_racing has observations (9, 84, 84) "
         "and actions (3,)"),
        ([RUN, "--device", "gpu"], "unknown device 'gpu'"),
    ],
)  # fmt: skip
def test_bad_input_is_named(cli: Callable[..., Any], tmp_path: Path, arguments: list[str], complaint: str) -> None:
    for seed in (0, 1):
        store(tmp_path, seed=seed)
    for command in ("eval", "record"):
        result = cli(command, *arguments, "--out", tmp_path)
        assert result.code == 2
        assert complaint in result.err
        assert "Traceback" not in result.err


def test_one_run_that_cannot_be_evaluated_does_not_keep_the_others(cli: Callable[..., Any], tmp_path: Path) -> None:
    for seed in (0, 1):
        store(tmp_path, seed=seed)
    (next((run_folder(tmp_path, RUN) / "checkpoint").glob("0*")) / "tensors.safetensors").write_bytes(b"damaged")
    result = cli(
        "eval", *(run_folder(tmp_path, f"catch@smoke/catch/drqv2/{seed}") for seed in (0, 1)), "--out", tmp_path
    )
    assert result.code == 2
    assert "does not match its checksum" in result.err
    assert "catch@smoke/catch/drqv2/1 after 400 env steps, on catch/catch: 2 episodes" in result.out


def test_an_evaluation_is_no_policy(tmp_path: Path, cli: Callable[..., Any]) -> None:
    store(tmp_path)
    cli("eval", RUN, "--out", tmp_path)
    assert find_run(tmp_path, "drqv2") == run_folder(tmp_path, RUN)  # its evaluation is passed over
    with pytest.raises(UserError, match="give the run that was evaluated"):
        find_run(tmp_path, str(run_folder(tmp_path, "catch@smoke-from-catch.catch/catch/drqv2/0")))


def test_what_a_policy_needs_may_be_gone(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    ours = Path(str(inspect.getsourcefile(registry.agent("drqv2").make)))
    file.write_text(ours.read_text().replace('name="drqv2"', 'name="mine"'))
    config = store(tmp_path, str(file))
    folder = run_folder(tmp_path, config.run_id)
    with acting(folder) as policy:
        assert policy.env_steps == 400
    file.write_text(file.read_text().replace("class Config(Settings):", "class Config:"))
    with pytest.raises(UserError, match=r"do not fit the agent .*mine\.py"), acting(folder):
        pass
    file.unlink()
    with pytest.raises(UserError, match=r"agent in .*mine\.py, and that file is gone"), acting(folder):
        pass
    (folder / "checkpoint").rename(folder / "lost")
    with pytest.raises(UserError, match=r"no checkpoint left .* trained by: covr-bench run it"), acting(folder):
        pass


def test_weights_of_other_shapes_are_refused(tmp_path: Path) -> None:
    config = store(tmp_path)
    file = run_folder(tmp_path, config.run_id) / "provenance.json"
    record = json.loads(file.read_text())
    record["config"]["agent_config"]["hidden_dim"] = 24
    file.write_text(json.dumps(record))
    with pytest.raises(UserError, match="do not fit the agent drqv2, whose code may have"), acting(file.parent):
        pass


@pytest.mark.deep
def test_a_guided_policy_is_evaluated_without_its_vlm(tmp_path: Path) -> None:
    store(tmp_path, "covr", base="sac", base_settings=BASE, vlm="tiny")
    program = f"""
import sys
for name in ("transformers", "peft"):
    sys.modules[name] = None  # an import of it fails
sys.argv = ["covr-bench", "eval", "covr", "--task", "catch_or_end", "--out", {str(tmp_path)!r}]
from covr_bench.cli.app import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    measured = rows(tmp_path, "catch@smoke-from-catch.catch/catch_or_end/covr/0")
    assert set(measured["labels"]) == {"trained_on=catch/catch,vlm=tiny"}


def decoded(data: Any) -> tuple[Any, list[np.ndarray]]:
    with av.open(data) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return (stream.codec_context.name, stream.codec_context.pix_fmt, stream.average_rate), frames


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "h264"), (".webm", "vp9")])
def test_a_video_shows_every_decision(cli: Callable[..., Any], tmp_path: Path, suffix: str, codec: str) -> None:
    """Catch has 20 control steps a second and repeats each action twice: 10 frames a second, 20 and the last one."""
    store(tmp_path)
    file = tmp_path / f"a{suffix}"
    result = cli("record", RUN, "--size", MIN_SIZE, "--episodes", 2, "-o", file, "--out", tmp_path)
    assert result.code == 0, result.err
    assert f"wrote {file}: 52 frames, 10 a second (real time)" in result.out
    (name, pixels, rate), frames = decoded(str(file))
    assert (name, pixels, rate) == (codec, "yuv420p", 10)
    assert len(frames) == 2 * (20 + 1 + 5)
    assert frames[0].shape[1] == MIN_SIZE < frames[0].shape[0]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-o", "a.avi"], "cannot record to 'a.avi'. Valid endings: .mp4, .webm."),
        (["--size", "301"], "--size 301: videos take an even number of pixels from 200 to 2160"),
        (["--size", "100"], "--size 100: videos"),
        (["-o", "absent/a.mp4"], "cannot write absent/a.mp4: No such file or directory"),
    ],
)
def test_bad_videos_are_refused(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], complaint: str
) -> None:
    store(tmp_path)
    monkeypatch.chdir(tmp_path)
    result = cli("record", RUN, *arguments, "--out", tmp_path)
    assert (result.code, complaint in result.err) == (2, True), result.err
    assert not list(tmp_path.glob("*.mp4"))


def test_without_its_library_recording_says_what_to_install(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    result = cli("record", RUN, "--out", tmp_path)
    assert (result.code, "pip install 'av>=14'" in result.err) == (2, True)


def test_the_vlm_is_asked_as_in_training_with_its_newest_adapter(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from covr.vlm.scripted import ScriptedPrior

    config = store(tmp_path, "covr", base="sac", base_settings=BASE, vlm="scripted", query_every=10)
    folder = run_folder(tmp_path, config.run_id)
    saved = load_saved(folder / "checkpoint")
    assert saved
    saved.state["agent"] |= {"rounds": 2, "adapter": 2}
    shutil.rmtree(folder / "checkpoint")
    Checkpoints(folder / "checkpoint").save_final(400, saved.state)
    for number, shift in ((1, -1.0), (2, 2.0), (3, -1.0)):  # of the third the checkpoint knows nothing
        tuned = ScriptedPrior()
        tuned.rounds, tuned.shift = number, [shift]
        tuned.save_adapter(folder / "adapters" / f"round-{number}")
    drawn: list[Moment] = []
    monkeypatch.setattr(Panel, "draw", lambda self, moment: drawn.append(moment) or np.zeros((240, 240, 3), np.uint8))
    asked: list[int] = []
    propose = ScriptedPrior.propose
    monkeypatch.setattr(ScriptedPrior, "propose", lambda *of: (asked.append(len(drawn)), propose(*of))[1])
    assert cli("record", "covr", "--out", tmp_path, "-o", tmp_path / "a.mp4").code == 0
    assert asked == [0, 5, 10, 15]  # every 10 env steps of 2 a decision
    assert [moment.advice.text for moment in drawn[:20]] == ["Action: [+1.00]"] * 20  # type: ignore[union-attr]
    assert drawn[20].advice is None
    drawn.clear()
    asked.clear()
    assert cli("record", "covr", "--out", tmp_path, "-o", tmp_path / "a.mp4", "--no-prior").code == 0
    assert asked == []
    assert all(moment.advice is None for moment in drawn)


def test_a_policy_that_a_vlm_taught_is_filmed_without_it(cli: Callable[..., Any], tmp_path: Path) -> None:
    store(tmp_path, "dgc", vlm=str(tmp_path / "absent"), hidden_dim=16, feature_dim=8)
    result = cli("record", "dgc", "--out", tmp_path, "-o", tmp_path / "a.mp4")
    assert result.code == 0, result.err


def test_a_policy_that_a_control_guided_is_filmed_without_it(cli: Callable[..., Any], tmp_path: Path) -> None:
    """A control is not shown pictures."""
    store(tmp_path, "dpl", base="sac", base_settings=BASE, prior="zero")
    result = cli("record", "dpl", "--out", tmp_path, "-o", tmp_path / "a.mp4")
    assert result.code == 0, result.err


def test_a_vlm_that_is_gone_can_be_left_out(cli: Callable[..., Any], tmp_path: Path) -> None:
    store(tmp_path, "covr", base="sac", base_settings=BASE, vlm=str(tmp_path / "absent"))
    result = cli("record", "covr", "--out", tmp_path, "-o", tmp_path / "a.mp4")
    assert (result.code, "--no-prior leaves it out" in result.err) == (2, True), result.err


def count(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((image == colour).all(axis=-1).sum())


def test_bars_grow_with_the_action() -> None:
    scene = np.zeros((240, 240, 3), np.uint8)

    def draw(action: list[float] | None, advice: list[float] | None, advised: bool) -> np.ndarray:
        told = Advice(np.float32(advice), "Action") if advice else None
        moment = Moment(scene, 8, None if action is None else np.float32(action), 1.0, 2.0, told)
        return Panel("a title", ["x", "a long name of a component"], advised).draw(moment)

    none, half, full = (draw(action, None, False) for action in (None, [0.5, 0.0], [1.0, 0.0]))
    assert none.shape[1] == 240
    assert none.shape[0] % 2 == 0
    assert count(none, POLICY) < count(half, POLICY) < count(full, POLICY)
    assert count(full, VLM) == 0
    assert count(draw([1.0, 0.0], [-0.5, 0.5], True), VLM) > count(draw([1.0, 0.0], None, True), VLM)
    assert np.array_equal(draw([9.0, 0.0], None, False)[:240], scene)  # out of range stays in the panel


def test_an_example_is_short_and_small(tmp_path: Path) -> None:
    config = store(tmp_path)
    data = example_episode(run_folder(tmp_path, config.run_id))
    (name, pixels, rate), frames = decoded(io.BytesIO(data))
    assert (name, pixels, rate) == ("h264", "yuv420p", 10)
    assert (len(frames), frames[0].shape) == (21, (168, 168, 3))
    assert len(data) < 50_000


def test_a_vlm_is_asked_about_the_task_it_acts_on_as_often_as_in_training(tmp_path: Path) -> None:
    """Trained on `catch`, of action repeat 2, before `catch_or_end`, of repeat 1."""
    config = store(tmp_path, "vbe", vlm="scripted", vlm_image_size=84)
    with acting(run_folder(tmp_path, config.run_id), "catch_or_end") as policy:
        agent: Any = policy.agent
        assert "A missed ball ends the game." in agent.prompt.user
        assert agent.context.action_repeat == agent.policy(explore=False).action_repeat == 1


def test_a_policy_by_hand_acts_as_the_one_that_is_evaluated(tmp_path: Path) -> None:
    config = store(tmp_path, "sac", init=5)
    folder = run_folder(tmp_path, config.run_id)
    obs = np.random.default_rng(0).integers(0, 256, (9, 84, 84), np.uint8)
    with acting(folder) as policy:
        expected = policy.agent.act(obs, 400, explore=False)
    with TrainedPolicy(tmp_path, str(folder)) as policy:
        assert np.array_equal(policy.act(obs), expected)


def test_seed_0_is_a_seed_of_starts_too(tmp_path: Path) -> None:
    config = store(tmp_path, "sac", 3, hidden_dim=16, feature_dim=8)
    with TrainedPolicy(tmp_path, str(run_folder(tmp_path, config.run_id))) as policy:
        assert policy.play(1, seed=3) == policy.play(1) != policy.play(1, seed=0)


def test_a_printed_deviation_is_that_of_a_sample() -> None:
    assert summary([1.0, 3.0]) == "2 ± 1.414 (n=2)"


def test_a_teacher_does_what_the_trained_policy_does_in_evaluation(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, store(tmp_path, "sac", init=5).run_id)
    with acting(folder) as policy:
        obs, _ = policy.env.reset(seed=1)
        act = open_teacher(str(folder), policy.env, 2, "")
        assert np.array_equal(act(obs), policy.agent.act(obs, 400, explore=False))


def test_a_film_says_how_many_steps_were_made_when_its_scene_was_seen(tmp_path: Path) -> None:
    with acting(run_folder(tmp_path, store(tmp_path, "random").run_id)) as policy:
        shown = list(played(policy, 1, 240))
    assert [moment.env_steps for moment in shown] == [*range(0, 41, 2)]
