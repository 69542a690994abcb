"""Draw frames of the DMControl tasks from random states and pre-train the tiny VLM on them.

    python examples/pretrain_tiny_vlm.py --out covr/vlm/tiny_weights            # six tasks; under an hour on two cores
    python examples/pretrain_tiny_vlm.py --out /tmp/tiny --task cartpole_swingup --frames 400 --steps 100

What the model is shown: where the parts of the scene are in the image, in poses drawn at random from wider ranges than
an agent reaches. It is never shown an action of a policy.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from covr.vlm.pretrain import Domain, Recipe, pretrain
from suites.base import Task
from suites.dmc import SUITES

FREE_SLIDE = 0.4  # metres around its place, for a sliding joint without limits
TARGET_REACH = 0.24  # metres: the reacher's target lies within the arena


def random_pose(physics: Any, rng: np.random.Generator) -> None:
    """Every joint uniformly within its limits, or a whole turn, or a hand's breadth; the reacher's target anywhere."""
    for joint in range(physics.model.njnt):
        kind, address = physics.model.jnt_type[joint], physics.model.jnt_qposadr[joint]
        low, high = physics.model.jnt_range[joint]
        if not physics.model.jnt_limited[joint]:
            low, high = (-np.pi, np.pi) if kind == 3 else (-FREE_SLIDE, FREE_SLIDE)  # 3: hinge
        physics.data.qpos[address] = physics.model.qpos0[address] + rng.uniform(low, high)
    for geom in range(physics.model.ngeom):
        if physics.model.id2name(geom, "geom") == "target":
            physics.model.geom_pos[geom, :2] = rng.uniform(-TARGET_REACH, TARGET_REACH, 2)
    physics.forward()


def places(physics: Any) -> np.ndarray[Any, Any]:
    """Where the middle of every geom is seen by camera 0, as slopes to its axis, float32 `(2 * geoms,)`."""
    rotation = physics.data.cam_xmat[0].reshape(3, 3)
    seen = (physics.data.geom_xpos - physics.data.cam_xpos[0]) @ rotation  # the camera looks along its -z
    slopes = seen[:, :2] / np.maximum(-seen[:, 2:], 1e-3)
    return np.clip(slopes, -1, 1).astype(np.float32).ravel()


def draw(task: Task, frames: int, seed: int, size: int) -> Domain:
    images, states = [], []
    rng = np.random.default_rng(seed)
    for render in ("exact", "fast"):  # half of the frames each: what a run may be set to draw
        env = task.make(seed=seed, image_size=size, render=render)
        env.reset(seed=seed)
        physics = env.unwrapped.physics  # type: ignore[attr-defined]
        for _ in range(frames // 2):
            random_pose(physics, rng)
            images.append(env.unwrapped.render_image(size, size).copy())  # type: ignore[attr-defined]
            states.append(places(physics))
        dim = env.action_space.shape
        env.close()
    assert dim is not None
    order = rng.permutation(len(images))  # the last ones are held out
    return Domain(task.name, task.instruction, dim[0], np.stack(images)[order], np.stack(states)[order])


def main() -> None:
    tasks = {task.name: task for task in SUITES[0].tasks}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--task", action="append", choices=tasks, help="repeat for several; default: all six")
    parser.add_argument("--frames", type=int, default=10_000, help="per task")
    parser.add_argument("--steps", type=int, help="of each stage; default: the recipe's")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    domains = []
    for name in options.task or tasks:
        print(f"drawing {options.frames} frames of {name}", flush=True)
        domains.append(draw(tasks[name], options.frames, options.seed, 84))
    recipe = Recipe(seed=options.seed)
    if options.steps:
        recipe = Recipe(seed=options.seed, see_steps=options.steps, answer_steps=options.steps)
    print(pretrain(options.out, domains, recipe))


if __name__ == "__main__":
    main()
