"""What a recording shows beside the scene: step, reward, return, and each action component as a bar."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Picture = npt.NDArray[np.uint8]  # (H, W, 3)
    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

BACKGROUND, TEXT, DIM, TRACK = (22, 24, 30), (235, 235, 235), (150, 155, 165), (52, 56, 66)
POLICY, VLM = (70, 190, 170), (240, 150, 50)
HALF_BAR = 0.36  # of a row's height


@dataclass(frozen=True)
class Advice:
    """A VLM's newest answer. action: float32 `(A,)`, None if it states none. text: what it wrote, or why nothing."""

    action: npt.NDArray[np.float32] | None
    text: str


@dataclass(frozen=True)
class Moment:
    """What is drawn of one decision. picture: the scene the policy saw. action, float32 `(A,)`: its answer, None once
    the episode is over. reward: what the action earned; total: with all before it. env_steps: in the episode so far."""

    picture: Picture
    env_steps: int
    action: npt.NDArray[np.float32] | None
    reward: float
    total: float
    advice: Advice | None = None


@dataclass(frozen=True)
class Panel:
    """The strip under the scene. title: one line. names: of the action's components. advised: a VLM is asked too."""

    title: str
    names: Sequence[str]
    advised: bool = False

    def draw(self, moment: Moment) -> Picture:
        """The scene with the strip under it, uint8 `(H', W, 3)`; H' is even if the scene's height is."""
        height, width = moment.picture.shape[:2]
        line = max(14, min(24, width // 24))
        rows = [self.title, f"step {moment.env_steps}   reward {moment.reward:+.3f}   return {moment.total:.2f}"]
        rows += [f"VLM: {moment.advice.text if moment.advice else ''}"] if self.advised else []
        strip = line * (len(rows) + len(self.names)) + line // 2
        canvas = Image.new("RGB", (width, height + strip + strip % 2), BACKGROUND)
        canvas.paste(Image.fromarray(moment.picture), (0, 0))
        pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(line * 0.68)
        top = height + line // 4
        for text, colour in zip(rows, (DIM, TEXT, VLM), strict=False):
            pen.text((line // 2, top + line / 2), _fitted(text, font, width - line), colour, font, anchor="lm")
            top += line
        if self.advised:
            pen.text((width - line // 2, top - line * 1.5), "policy", POLICY, font, anchor="rm")
        label = max(pen.textlength(name, font) for name in self.names)
        room = pen.textlength("+0.00 ", font) * (2 if self.advised else 1)
        left, right = line + min(label, width / 3), width - line // 2 - room
        for index, name in enumerate(self.names):
            pen.text((line // 2, top + line / 2), _fitted(name, font, width / 3), TEXT, font, anchor="lm")
            advice = moment.advice.action if moment.advice else None
            bars = [(POLICY, moment.action), (VLM, advice)] if self.advised else [(POLICY, moment.action)]
            self._bars(pen, font, (left, top, right, top + line), index, bars)
            top += line
        return np.asarray(canvas)

    def _bars(
        self,
        pen: ImageDraw.ImageDraw,
        font: Font,
        box: tuple[float, float, float, float],
        index: int,
        bars: Sequence[tuple[tuple[int, int, int], npt.NDArray[np.float32] | None]],
    ) -> None:
        """One component of each action from -1 to 1, each in its part of the row, with its value to the right."""
        left, top, right, bottom = box
        middle, centre = (left + right) / 2, (top + bottom) / 2
        reach = HALF_BAR * (bottom - top)
        pen.rectangle((left, centre - reach, right, centre + reach), TRACK)
        thick = 2 * reach / len(bars)
        for number, (colour, action) in enumerate(bars):
            if action is None or not math.isfinite(value := float(action[index])):
                continue
            end = middle + max(-1.0, min(1.0, value)) * (right - left) / 2
            upper = centre - reach + number * thick
            pen.rectangle((min(middle, end), upper, max(middle, end), upper + thick - 1), colour)
            step = pen.textlength("+0.00 ", font)
            pen.text((right + step * (number + 1), centre), f"{value:+.2f}", colour, font, anchor="rm")
        pen.line((middle, centre - reach, middle, centre + reach), DIM)


def _fitted(text: str, font: Font, width: float) -> str:
    """The text, its end cut off where it does not fit."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
