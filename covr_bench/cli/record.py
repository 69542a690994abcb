"""`covr-bench record`: a trained policy at work as a video."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covr_bench.cli.options import (
    DeviceName,
    OfTask,
    Out,
    SetEnv,
    StartSeed,
    TrustCode,
    console,
    path_option,
    say,
)
from covr_bench.kit.errors import UserError
from covr_bench.kit.seeds import starts
from covr_bench.policies.load import acting, find_run
from covr_bench.policies.video import SMALL_MP4, check_format, video_file, writing_video
from covr_bench.run.machine import device

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt
    from rich.console import Console

    from covr.guided import GuidedPolicy
    from covr.vlm.base import Proposals, VisionLanguagePrior
    from covr.vlm.prompts import Prompt
    from covr_bench.kit.api import Render
    from covr_bench.policies.load import Acting
    from covr_bench.policies.overlay import Advice, Moment

MIN_SIZE, MAX_SIZE = 200, 2160  # pixels; a panel narrower than that cannot be read
UNKNOWN_FPS = 30  # control steps a second, of a task that does not say
LAST_S = 0.5  # for which an episode's last frame stands
EXAMPLE_FPS, EXAMPLE_S = 10, 15


def record_command(
    run: Annotated[str, typer.Argument(help="A run's id, its folder, a part of its id, or hf:USER/NAME.")],
    task: OfTask = "",
    file: Annotated[Path, path_option("-o", "--output", help="MP4 or WebM by its ending.")] = Path("episode.mp4"),
    episodes: Annotated[int, typer.Option(min=1, help="Episodes, one after the other.")] = 1,
    size: Annotated[int, typer.Option(help="Height of the frames, in pixels.")] = 480,
    seed: StartSeed = None,
    prior: Annotated[bool, typer.Option("--prior/--no-prior", help="Ask the run's VLM, if any, beside it.")] = True,
    set_: SetEnv = None,
    device: DeviceName = "auto",
    trust_code: TrustCode = False,
    out: Out = Path("results"),
) -> None:
    """A video of a trained policy with its reward and action, and what the VLM would have done."""
    overrides = tuple(set_ or ())
    record(RecordOptions(run, file, task, episodes, size, seed, prior, overrides, device, out, trust_code), console())


@dataclass(frozen=True)
class RecordOptions:
    """The command line of `covr-bench record`; empty and None mean the run's own. size: height of the scene, pixels."""

    run: str
    file: Path
    task: str = ""
    episodes: int = 1
    size: int = 480
    seed: int | None = None
    prior: bool = True
    overrides: tuple[str, ...] = ()
    device: str = "auto"
    out: Path = Path("results")
    trust_code: bool = False


def record(options: RecordOptions, console: Console) -> None:
    """Play episodes of the deterministic policy and film them. Raises UserError."""
    from covr_bench.policies.overlay import Panel

    check_format(options.file)
    _check_size(options.size)
    folder = find_run(options.out, options.run)
    on = device(options.device)
    with (
        acting(folder, options.task, options.overrides, device=on, trust_code=options.trust_code) as policy,
        console.status("recording ..."),
    ):
        adviser = open_adviser(policy, folder) if options.prior else None
        rate, known = frame_rate(policy)
        seeds = starts(policy.config.seed if options.seed is None else options.seed, options.episodes)
        agent = policy.config.run_id.split("/")[2].partition("-")[0]
        said = f"{agent}, seed {policy.config.seed}, {policy.env_steps:,} steps, on {policy.target.name}"
        returns = []
        with video_file(options.file, rate) as video:
            for number, seed in enumerate(seeds, start=1):
                of = f", episode {number} of {len(seeds)}" if len(seeds) > 1 else ""
                panel = Panel(said + of, component_names(policy), adviser is not None)
                for moment in played(policy, seed, options.size, adviser):
                    video.add(panel.draw(moment))
                for _ in range(round(LAST_S * rate)):
                    video.add(panel.draw(moment))
                returns.append(moment.total)
    pace = "real time" if known else f"the task states no pace; {UNKNOWN_FPS} control steps a second assumed"
    say(console, f"{said}: return {', '.join(f'{value:.4g}' for value in returns)}")
    say(console, f"wrote {options.file}: {video.frames} frames, {float(rate):.4g} a second ({pace})")


def example_episode(run_folder: Path, size: int = 168) -> bytes:
    """A short, small video of the policy of the run in `run_folder`: MP4, H.264, without the panel.

    size: height of the frames, even, in pixels. The episode is the first of the run's evaluations, on the CPU: at most
    its first EXAMPLE_S seconds at at most EXAMPLE_FPS frames a second; tens of kilobytes at 84 pixels, below 300 at
    168. Agents that act through a VLM load it, others do not. Raises UserError as `acting` does, and without PyAV.
    """
    check_format(Path("example.mp4"))
    file = io.BytesIO()
    with acting(run_folder) as policy:
        rate, _ = frame_rate(policy)
        every = -(-rate // EXAMPLE_FPS)  # rounded up
        with writing_video(file, SMALL_MP4, rate / every) as video:
            for number, moment in enumerate(played(policy, starts(policy.config.seed, 1)[0], size)):
                if number > EXAMPLE_S * rate:
                    break
                if number % every == 0:
                    video.add(moment.picture)
    return file.getvalue()


def played(policy: Acting, seed: int, size: int, adviser: Adviser | None = None) -> Iterator[Moment]:
    """The decisions of one episode from that reset seed, and then its last scene. Raises UserError for NaN actions.

    size: height of the scene, pixels. adviser: asked beside the policy.
    """
    import numpy as np

    from covr_bench.policies.overlay import Moment
    from covr_bench.run.contract import Diverged, checked_action

    env, step = policy.env, policy.env_steps
    draw: Any = env.unwrapped.render_image
    obs_height, obs_width = (env.observation_space.shape or ())[1:] or (1, 1)  # a state has neither
    width = 2 * round(size * obs_width / obs_height / 2)
    guide = Guide(adviser, env.unwrapped.render_image) if adviser else None
    (action_dim,) = env.action_space.shape or ()
    obs, _ = env.reset(seed=seed)
    env_steps, total, done = 0, 0.0, False
    while not done:
        picture = np.array(draw(size, width))
        try:
            action = checked_action(policy.agent.act(obs, step, explore=False), action_dim, step)
        except Diverged as error:
            raise UserError(f"run {policy.config.run_id}: {error}") from error
        advice = guide.advice(obs) if guide else None
        obs, reward, terminated, truncated, info = env.step(action)
        total, done = total + float(reward), terminated or truncated
        yield Moment(picture, env_steps, action, float(reward), total, advice)
        env_steps += info["env_steps"]
    yield Moment(np.array(draw(size, width)), env_steps, None, float(reward), total)


def frame_rate(policy: Acting) -> tuple[Fraction, bool]:
    """Frames a second at which a video shows the task in real time, one frame a decision; whether the task says so."""
    fps = policy.env.unwrapped.metadata.get("render_fps")
    return Fraction(fps or UNKNOWN_FPS).limit_denominator(1000) / policy.target.action_repeat, bool(fps)


def component_names(policy: Acting) -> list[str]:
    """What the action's components are called: the environment's `action_names` if it has them, else a0, a1, ..."""
    (number,) = policy.env.action_space.shape or (0,)
    return list(getattr(policy.env.unwrapped, "action_names", ())) or [f"a{index}" for index in range(number)]


@dataclass(frozen=True)
class Adviser:
    """The VLM that a trained policy was guided by, as training left it."""

    guided: GuidedPolicy
    vlm: VisionLanguagePrior


def open_adviser(policy: Acting, folder: Path) -> Adviser | None:
    """The VLM of the run in `folder`; None if none guided its agent. Raises UserError if it is gone."""
    from covr.controls import VLM
    from covr.guided import GuidedPolicy

    if not isinstance(policy.agent, GuidedPolicy) or policy.agent.config.prior != VLM:
        return None
    try:
        return Adviser(policy.agent, policy.agent.open_vlm(folder))
    except UserError as error:
        raise UserError(f"{error}\nThe policy itself needs no VLM: --no-prior leaves it out") from error


class Guide:
    """The adviser in one episode, asked at its first step and then every `query_every` env steps."""

    def __init__(self, adviser: Adviser, render: Render) -> None:
        from covr.vlm_policy import vlm_policy
        from covr_bench.policies.overlay import Advice

        guided = adviser.guided
        self.vlm = adviser.vlm
        self.newest = Advice(None, "")
        self.policy = vlm_policy(self, guided.prompt, guided.config, guided.context, render)

    def propose(self, images: npt.NDArray[np.uint8], prompt: Prompt) -> Proposals:
        """The VLM's answer, kept to be shown."""
        from covr_bench.policies.overlay import Advice

        answer = self.vlm.propose(images, prompt)
        text = " ".join(answer.texts[0].split())
        refused = Advice(None, f"no action ({answer.statuses[0]}) {text}".rstrip())
        self.newest = Advice(answer.actions[0], text) if answer.valid[0] else refused
        return answer

    def advice(self, obs: npt.NDArray[np.uint8]) -> Advice:
        """The newest answer; asks for one if it is time to."""
        self.policy.act(obs, 0, explore=False)
        return self.newest


def _check_size(size: int) -> None:
    if size % 2 or not MIN_SIZE <= size <= MAX_SIZE:
        raise UserError(f"--size {size}: videos take an even number of pixels from {MIN_SIZE} to {MAX_SIZE}")
