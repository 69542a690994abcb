"""Pictures for a VLM from the command line: image files, and first frames of a task."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image as PillowImage

    from suites.base import Task

    Picture = npt.NDArray[np.uint8]  # (H, W, 3)

MAX_SIDE = 1024  # pixels; a phone's photograph in full size would cost minutes and gigabytes
MIN_SIDE, MAX_RATIO = 8, 100  # Qwen's processor refuses much thinner pictures


def read_image(path: Path) -> Picture:
    """Read an image file.

    Args:
        path: The file.

    Returns:
        uint8 `(H, W, 3)`, no side longer than MAX_SIDE. Greyscale becomes colour, transparent parts become white, 16
        bits become 8.

    Raises:
        UserError: If the file is no readable image, or is too thin.
    """
    import numpy as np
    from PIL import Image

    image = _decoded(path)
    if min(image.size) < MIN_SIDE or max(image.size) > MAX_RATIO * min(image.size):
        raise UserError(
            f"{path} has {image.width}x{image.height} pixels; a VLM can be shown sides of {MIN_SIDE} pixels and more, "
            f"one at most {MAX_RATIO} times the other"
        )
    if image.mode == "F":
        raise UserError(f"{path} holds floating-point numbers of unknown range; save it with 8 bits a channel")
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip at 255
        image = Image.fromarray((np.clip(np.asarray(image), 0, 65535) // 257).astype(np.uint8))
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours)
    image = image.convert("RGB")
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    return np.asarray(image)


def _decoded(path: Path) -> PillowImage:
    from PIL import Image

    if not path.is_file():
        raise UserError(f"no image file {str(path)!r}")
    try:
        with Image.open(path) as image:
            picture: PillowImage = image.copy()  # some decoders read the file again later
    except Exception as error:  # Pillow's decoders raise many types, RuntimeError and SyntaxError among them
        raise UserError(f"{path} is no image that can be read: {error}") from error
    return picture


def first_frames(task: Task, seeds: Sequence[int], size: int) -> tuple[int, list[Picture]]:
    """Draw first frames of a task.

    Args:
        task: The task.
        seeds: Reset seeds.
        size: Height and width in pixels.

    Returns:
        How many numbers an action has, and the first frame after each reset, uint8 `(size, size, 3)`.

    Raises:
        UserError: If frames cannot be drawn.
    """
    from suites.gl import GLError, choose_backend

    if task.needs_gl:
        try:  # without a frame to draw no OpenGL is needed
            os.environ["MUJOCO_GL"] = choose_backend().name if seeds else "disabled"
        except GLError as error:
            raise UserError(str(error)) from error
    env = task.make(0, image_size=size, frame_stack=1)
    try:
        frames = [env.reset(seed=seed)[0].transpose(1, 2, 0).copy() for seed in seeds]
        return env.action_space.shape[0], frames  # type: ignore[index]
    finally:
        env.close()
