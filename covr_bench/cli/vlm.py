"""`covr-bench vlm ask` and `vlm bench`: what a vision-language model answers to COVR's question, and how fast."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from covr_bench.cli.options import path_argument, path_option
from covr_bench.cli.pictures import MAX_SIDE, MIN_SIDE, first_frames, read_image
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt
    from rich.console import Console
    from rich.table import Table

    from covr.vlm.base import DecodeMode, Proposals, VisionLanguagePrior
    from covr.vlm.prompts import Prompt
    from covr_bench.cli.pictures import Picture

BATCHES = (1, 32)
ROUNDS = 5
ROUND_S = 0.3  # seconds that each mode and batch is timed for in a round, at least
REASONS = {  # of every status but `ok`
    "no_action_word": "the text has no word 'Action:'",
    "no_match": "the text is not one answer in the prompt's form",
    "wrong_dim": "too few or too many numbers",
    "out_of_range": "a number outside [-1, 1]",
    "nonfinite": "nan or inf in place of a number",
    "truncated": "cut off before the answer was whole",
    "no_answer": "the server gave no answer",
    "nonfinite_model": "the model's logits are NaN or infinite",
}

vlm_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Ask a vision-language model what COVR asks it, or time it."
)


class Decode(str, Enum):
    forced = "forced"
    expect = "expect"
    generate = "generate"


TaskName = Annotated[str, typer.Option(metavar="TASK", help="Task of the suite, or SUITE/TASK.")]
SuiteName = Annotated[str, typer.Option(help="Suite name or a .py file that defines SUITE.")]
Vlm = Annotated[
    str, typer.Option(help="A name (covr-bench list vlms), a .py file, a folder or hub id, or openai:URL[#model].")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ... or auto.")]
ImageSize = Annotated[int, typer.Option(min=MIN_SIDE, max=MAX_SIDE, help="Side of the task's frames, in pixels.")]


@vlm_app.command("ask")
def ask_command(
    task: TaskName,
    image: Annotated[list[Path] | None, path_argument(help="Image files.")] = None,
    frame: Annotated[
        list[int] | None,
        typer.Option(min=0, max=2**32 - 1, metavar="SEED", help="The task's first frame of that seed; repeatable."),
    ] = None,
    suite: SuiteName = "dmc6",
    vlm: Vlm = "tiny",
    decode: Annotated[Decode | None, typer.Option(help="[forced; of a server: generate]")] = None,
    adapter: Annotated[Path | None, path_option(help="peft folder of a fine-tuned adapter.")] = None,
    image_size: ImageSize = 84,
    device: Device = "auto",
) -> None:
    """What the VLM is asked and answers about images: raw text, action or why there is none, time."""
    if not image and not frame:
        raise UserError("nothing to ask about: give image files, or --frame SEED for a frame of the task")
    pictures = [(str(path), read_image(path)) for path in image or ()]
    prompt, frames = question(suite, task, frame or (), image_size)
    pictures += [(f"frame of seed {seed}", picture) for seed, picture in zip(frame or (), frames, strict=True)]
    prior = open_vlm(vlm, device, decode.value if decode else None)
    if adapter:
        prior.load_adapter(adapter)
    ask(prior, prompt, pictures, _console())


@vlm_app.command("bench")
def bench_command(
    task: TaskName = "reacher_easy",
    suite: SuiteName = "dmc6",
    vlm: Vlm = "tiny",
    image_size: ImageSize = 84,
    device: Device = "auto",
) -> None:
    """Milliseconds per query of each decoding mode, warm, one image at a time and 32 at a time."""
    prompt, frames = question(suite, task, range(max(BATCHES)), image_size)
    prior = open_vlm(vlm, device, None)
    console = _console()
    with console.status("timing ..."):
        timings = bench(prior, prompt, frames)
    print_timings(timings, f"{described(prior)}\n{task}: {_size(frames[0])} frames, {_numbers(prompt)}", console)


def question(suite: str, name: str, seeds: Sequence[int], size: int) -> tuple[Prompt, list[Picture]]:
    """The prompt of `SUITE/TASK`, or of a task of the suite, and its first frame of each seed. Raises UserError."""
    from covr.vlm.prompts import task_prompt
    from covr_bench.config import registry

    _, _, task = registry.task(name, suite)
    action_dim, frames = first_frames(task, seeds, size)
    return task_prompt(task.instruction, action_dim), frames


def open_vlm(name: str, device: str, decode: DecodeMode | None) -> VisionLanguagePrior:
    """The VLM of that name; `device` is that of a model in this process. Raises UserError."""
    from covr.vlm.open import SERVER, open_prior
    from covr_bench.run import machine

    if name == "scripted" or name.startswith(SERVER):
        return open_prior(name, decode=decode)
    return open_prior(name, decode=decode, device=machine.device(device))


def propose(prior: VisionLanguagePrior, images: npt.NDArray[np.uint8], prompt: Prompt) -> Proposals:
    """The VLM's answers. Raises UserError if a server gives none; a run would only mask them."""
    answer = prior.propose(images, prompt)
    if "no_answer" in answer.statuses:
        raise UserError(f"the VLM server does not answer: {getattr(prior, 'last_error', '')}")
    return answer


def ask(prior: VisionLanguagePrior, prompt: Prompt, pictures: Sequence[tuple[str, Picture]], console: Console) -> None:
    """Print the prompt, and the answer to each picture. Raises UserError if a server gives none."""
    from covr_bench.cli.options import say

    say(console, f"{described(prior)}, decode {prior.describe()['decode']}")
    console.print(_grid([("system", prompt.system), ("user", f"{prompt.user}\n<image>")]))
    for name, picture in pictures:
        answer = propose(prior, picture[None], prompt)  # one by one: files may differ in size
        say(console, f"\n{name}, {_size(picture)}")
        console.print(_grid(_answer_lines(answer)))


def _answer_lines(answer: Proposals) -> list[tuple[str, str]]:
    """What to say of the answer to one image."""
    status = answer.statuses[0]
    action = _listed(answer.actions[0], "+.2f") if answer.valid[0] else f"none, {status}: {REASONS[status]}"
    lines = [("raw text", repr(answer.texts[0])), ("action", action)]
    if answer.variance is not None:
        lines.append(("deviation", _listed(answer.variance[0] ** 0.5, ".2f")))
    if answer.valid_mass is not None:
        lines.append(("valid mass", f"{answer.valid_mass[0]:.3f}"))
    return [*lines, ("time", f"{1e3 * answer.seconds:.1f} ms")]


@dataclass(frozen=True)
class Timing:
    """seconds: per query, wall time of the fastest round. statuses: of the answers to one batch."""

    decode: str
    batch: int
    seconds: float
    statuses: tuple[str, ...]


def bench(prior: VisionLanguagePrior, prompt: Prompt, frames: Sequence[Picture]) -> list[Timing]:
    """Every decoding mode at every batch, `generate` one by one first.

    Each is called once untimed; then they take turns, and the fastest turn counts: what else runs on the machine can
    only add to it.
    """
    import numpy as np

    from covr.vlm.base import DecodeMode
    from covr.vlm.hf import HFPrior

    images = np.stack(frames)

    def call(mode: DecodeMode, batch: int) -> Proposals:
        if isinstance(prior, HFPrior):
            prior.decode = mode
        return propose(prior, images[:batch], prompt)

    modes = get_args(DecodeMode) if isinstance(prior, HFPrior) else (prior.describe()["decode"],)
    cells = [(mode, batch) for mode in modes for batch in BATCHES]
    statuses = [call(*cell).statuses for cell in cells]
    rounds = [[_seconds(partial(call, *cell)) / cell[1] for cell in cells] for _ in range(ROUNDS)]
    fastest = [min(times) for times in zip(*rounds, strict=True)]
    return [Timing(*cell, seconds, of) for cell, seconds, of in zip(cells, fastest, statuses, strict=True)]


def _seconds(call: Callable[[], Proposals]) -> float:
    """Wall time of a call, the mean of as many as fill a round."""
    started, calls = time.perf_counter(), 0
    while not calls or time.perf_counter() - started < ROUND_S:
        call()
        calls += 1
    return (time.perf_counter() - started) / calls


def print_timings(timings: Sequence[Timing], title: str, console: Console) -> None:
    """The table; its ratios are to the first timing."""
    from rich import box
    from rich.table import Table

    from covr_bench.cli.options import say

    say(console, title)
    first = timings[0]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("decode")
    for column in ("batch", "ms per query", f"faster than\n{first.decode} one by one", "answers that\nare actions"):
        table.add_column(column, justify="right")
    for timing in timings:
        faster = f"{first.seconds / timing.seconds:.1f}x"
        actions = f"{timing.statuses.count('ok')} of {timing.batch}"
        table.add_row(timing.decode, str(timing.batch), f"{1e3 * timing.seconds:.2f}", faster, actions)
    console.print(table)
    if any("truncated" in timing.statuses for timing in timings):
        console.print("Answers of generate were cut off: its times are those of the longest text allowed.")


def described(prior: VisionLanguagePrior) -> str:
    """The VLM in a line: `VLM tiny: a stand-in for a real model, 1,189,760 parameters, float32 on cpu`."""
    facts = prior.describe()
    parts = ["a stand-in for a real model"] if facts["stand_in"] else []
    if facts["parameters"]:
        parts.append(f"{facts['parameters']:,} parameters")
    if "device" in facts:
        parts.append(f"{facts['dtype']} on {facts['device']}")
    if str(facts.get("path", "fast")) != "fast":
        parts.append(f"asked by its own steps ({str(facts['path']).removeprefix('plain: ')}), not by the fast path")
    if facts.get("rounds"):
        parts.append(f"tuned in {facts['rounds']} round{'s' if facts['rounds'] > 1 else ''}")
    return f"VLM {facts['name']}{':' if parts else ''} {', '.join(parts)}".rstrip()


def _grid(lines: Sequence[tuple[str, str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for name, text in lines:
        grid.add_row(Text(f"  {name}"), Text(text))
    return grid


def _listed(values: npt.NDArray[np.float32], form: str) -> str:
    return ", ".join(f"{value:{form}}" for value in values)


def _size(picture: Picture) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"


def _numbers(prompt: Prompt) -> str:
    return f"answers of {prompt.action_dim} number{'s' if prompt.action_dim > 1 else ''}"


def _console() -> Console:
    from rich.console import Console

    return Console()
