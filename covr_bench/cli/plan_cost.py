"""What a plan of `covr-bench run` costs: time, memory and disk, said before it starts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covr_bench.cli.options import say

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console

    from covr_bench.face import Preparation
    from covr_bench.run.cost.estimate import Cost

DAY_S = 86_400


def show_cost(preparation: Preparation, console: Console) -> float:
    """Print what the runs to do will cost; returns the estimated seconds."""
    from covr_bench.launch.base import HasNodes
    from covr_bench.run.cores import cores
    from covr_bench.run.machine import idle_gpus

    todo, workers, suite = preparation.plan.todo, preparation.workers, preparation.experiment.suite
    out = Path(preparation.experiment.request.out)
    each = _costs(preparation, console)
    times = [
        cost.seconds(config, suite.task(config.task).max_episode_steps) for cost, config in zip(each, todo, strict=True)
    ]
    seconds = max(sum(times) / workers, max(times))
    running = sorted((cost.running_bytes(config) for cost, config in zip(each, todo, strict=True)), reverse=True)
    disk = sum(running[:workers]) + sum(cost.agent_bytes for cost in each)
    free = shutil.disk_usage(_existing(out)).free
    threads = f"{todo[0].threads} torch thread{'s' if todo[0].threads > 1 else ''}"
    say(console, f"time: about {span(seconds)}, {workers} at a time, {threads} each on {todo[0].device}")
    elsewhere = isinstance(preparation.launcher, HasNodes)
    if not preparation.experiment.request.workers and not elsewhere and (limit := cores().reason(len(todo))):
        say(console, f"note: {limit}")
    if preparation.placement is None and (idle := idle_gpus(todo[0].device)):
        say(console, f"note: {idle}")
    if todo[0].device == "cpu":
        say(console, f"convolutions: {preparation.kernel.kernel}. {preparation.kernel.reason}")
    _show_memory(preparation, each, console)
    say(console, f"disk: up to {disk / 1e9:.1f} GB while they run, {free / 1e9:.0f} GB free")
    if disk > free:
        console.print("[bold]that is not enough disk: free some, or give another --out[/bold]", soft_wrap=True)
    return seconds


def vlm_costs(settings: Iterable[Mapping[str, Any]]) -> list[str]:
    """What each VLM among the runs' settings asks of this machine; under the empty name, where the run is."""
    from covr.vlm.cost import Tuning, statement

    asked: dict[tuple[Any, ...], None] = {}
    for each in settings:
        for place in _places(each):
            samples = each.get("finetune_min_steps", 0) * each.get("finetune_batch_size", 0)
            tuning = Tuning(samples, each["micro_batch"], each["lora_rank"]) if samples else None
            key = (*place, each.get("vlm_image_size", 84), tuning)
            asked[key] = None
    return [line for each in asked if (line := statement(*each))]


def check_vlms_fit(settings: Iterable[Mapping[str, Any]]) -> None:
    """Raises UserError if a VLM among the runs' settings can be had from nowhere, or is too large for this machine."""
    from covr.vlm.cost import lack_of_memory, out_of_reach
    from covr_bench.kit.errors import UserError
    from covr_bench.run.machine import ram_bytes

    for place in dict.fromkeys(place for each in settings for place in _places(each)):
        if lack := out_of_reach(place[0]) or lack_of_memory(*place, ram_bytes()):
            raise UserError(lack)


def _places(settings: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, dtype and device of what an agent's settings load: none if a control answers in the VLM's place."""
    names = (settings.get("vlm"), settings.get("tuner")) if settings.get("prior", "vlm") == "vlm" else ()
    device = settings.get("vlm_device") or settings[""]
    return [(name, settings.get("vlm_dtype", "auto"), device) for name in names if name]


def _show_memory(preparation: Preparation, costs: Sequence[Cost], console: Console) -> None:
    """Measured memory of the runs that need most, beside what there is."""
    from covr_bench.run.machine import ram_bytes

    todo, workers, placement = preparation.plan.todo, preparation.workers, preparation.placement
    each = sorted((cost.memory_bytes(config) for cost, config in zip(costs, todo, strict=True)), reverse=True)
    needed, there = sum(each[:workers]), ram_bytes()
    say(console, f"memory: up to {each[0] / 1e9:.1f} GB a run, {needed / 1e9:.1f} GB together, of {there / 1e9:.0f} GB")
    if needed > there:
        fits = max(1, int(there // each[0]))
        console.print(f"[bold]that is not enough memory: give --workers {fits}[/bold]", soft_wrap=True)
    gpu = max(cost.gpu_bytes for cost in costs)
    if gpu:
        of = f" of {placement.memory_bytes / 1e9:.0f} GB each" if placement and placement.memory_bytes else ""
        say(console, f"GPU memory: up to {gpu / 1e9:.1f} GB a run{of}, beside CUDA's own")


def _costs(preparation: Preparation, console: Console) -> list[Cost]:
    """The cost of each run to do. What is measured for it is shown; in one line where the output is no terminal."""
    from covr_bench.run.cost.estimate import costs

    shown: list[str] = []
    with console.status("looking up what each step costs ...") as status:

        def progress(text: str) -> None:
            status.update(text)
            if not shown:
                say(console, text)
            shown.append(text)

        return costs(
            preparation.plan.todo,
            preparation.facts,
            progress,
            lambda text: say(console, f"note: {text}"),
            lambda origin: say(console, f"costs: {origin}"),
        )


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.resolve().parent)


def span(seconds: float) -> str:
    """A time in minutes, hours or days."""
    minutes = seconds / 60
    if minutes < 100:
        return f"{max(minutes, 1):.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 2880 else f"{seconds / DAY_S:.1f} days"
