"""A VLM of your own: covr-bench run --suite catch --budget smoke --agent vbe --vlm examples/vlm_plugin.py"""

import time

import numpy as np

from covr.vlm.base import VLMSpec, check_images, proposals_from_texts
from covr.vlm.grammar import format_action, parse
from covr_bench.kit.errors import UserError


class RedBall:
    """A rule in the place of a model: in catch, move the green paddle towards the red ball."""

    tunable = False

    def propose(self, images, prompt):
        started = time.perf_counter()
        texts = [self.answer(image, prompt.action_dim) for image in check_images(images)]
        parsed = [parse(text, prompt.action_dim) for text in texts]  # what states no action is masked
        statuses, actions = [one.status for one in parsed], [one.action for one in parsed]
        return proposals_from_texts(texts, statuses, actions, prompt.action_dim, time.perf_counter() - started)

    def answer(self, image, action_dim):
        newest = image if image.ndim == 3 else image[-1]  # of two frames
        red, green, _ = np.moveaxis(newest.astype(int), -1, 0)
        ball, paddle = red > green + 50, green > red + 50
        if not (ball.any() and paddle.any()):
            return "I see no ball, or no paddle."
        distance = (np.nonzero(ball)[1].mean() - np.nonzero(paddle)[1].mean()) / newest.shape[1]
        return format_action(np.full(action_dim, np.clip(20 * distance, -1, 1)))

    def finetune(self, samples, prompt):
        raise UserError("red-ball is a rule and cannot be tuned")

    def save_adapter(self, folder):
        raise UserError("red-ball has no adapter")

    def load_adapter(self, folder):
        raise UserError("red-ball has no adapter")

    def reset_adapter(self):
        pass  # it has none to forget

    def describe(self):
        return {"name": "red-ball", "decode": "rule", "parameters": 0, "stand_in": True}


VLM = VLMSpec("red-ball", lambda options: RedBall(), stand_in=True, doc="Follows the ball of catch by its colour.")
