"""Draw frames of `catch` and `carla/hw`, ask the tasks' scripted players what is good there, and teach the tiny VLM.

    python examples/teach_tiny_vlm.py --out covr/vlm/knowing_adapter            # half an hour on one core
    python examples/teach_tiny_vlm.py --out /tmp/knowing --task catch/catch --frames 200 --steps 50

Frames are from episodes in which the player acts for a share of the time, drawn anew for each episode, and a random
action holds for the rest: what an agent that learns would see. Episodes are left after at most `LONGEST` steps and
every other frame is kept, so that there are many of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from covr.vlm.tiny_knowing import Lesson, Recipe, teach
from covr_bench.config import registry
from covr_bench.run.player import ScriptedPlayer

TASKS = {"catch/catch": 15_000, "catch/catch_or_end": 15_000, "carla/hw": 20_000}  # and the frames drawn of each
LONGEST = 200  # agent steps
SIZE = 84  # pixels, as agents ask a VLM about a frame


def draw(key: str, frames: int, seed: int) -> Lesson:
    """Episodes until there are so many frames."""
    suite, name = key.split("/")
    task = registry.suite(suite).task(name)
    env = task.make(seed, image_size=SIZE)
    player = ScriptedPlayer(task.player, env, task.repeat({}))
    rng = np.random.default_rng(seed)
    images: list[Any] = []
    actions: list[Any] = []
    while len(images) < frames:
        env.reset(seed=int(rng.integers(2**31)))
        share, left = rng.uniform(), int(rng.integers(1, LONGEST))
        while left:
            good = player.act()
            if left % 2:
                images.append(env.unwrapped.render_image(SIZE, SIZE).copy())
                actions.append(good)
            random = rng.uniform(-1, 1, good.shape).astype(np.float32)
            _, _, terminated, truncated, _ = env.step(good if rng.uniform() < share else random)
            left = 0 if terminated or truncated else left - 1
    env.close()
    return Lesson(key, task.instruction, np.stack(images)[:frames], np.stack(actions)[:frames])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--task", action="append", choices=TASKS, help="repeat for several; default: both")
    parser.add_argument("--frames", type=int, help="per task; default: those the shipped adapter was made with")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    lessons = []
    for key in options.task or TASKS:
        frames = options.frames or TASKS[key]
        print(f"drawing {frames} frames of {key}", flush=True)
        lessons.append(draw(key, frames, options.seed))
    teach(options.out, lessons, Recipe(seed=options.seed, steps=options.steps))
    print((options.out / "README.md").read_text())


if __name__ == "__main__":
    main()
