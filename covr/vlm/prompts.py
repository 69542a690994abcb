"""What the model is asked: a system text and, per task, a user text beside the image."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from covr_bench.kit.errors import UserError

ROLE = "You control a robot."
ASK = "Look at the image and answer with one action."


@dataclass(frozen=True)
class Prompt:
    """A question about one image whose answer is an action of `action_dim` numbers.

    image_first: the image stands before the user's text (the order Qwen's own examples use). By default it stands
    after, so that everything before the image is the same for every query and is computed once.
    """

    system: str
    user: str
    action_dim: int
    image_first: bool = False

    def messages(self, image: Any = None) -> list[dict[str, Any]]:
        """The chat, in the form transformers' chat templates take. image: put into the image's entry if given."""
        shown: dict[str, Any] = {"type": "image"} if image is None else {"type": "image", "image": image}
        text = {"type": "text", "text": self.user}
        return [
            {"role": "system", "content": self.system},
            {"role": "user", "content": [shown, text] if self.image_first else [text, shown]},
        ]


def task_prompt(instruction: str, action_dim: int, *, image_first: bool = False) -> Prompt:
    """The prompt of a task.

    instruction: the task and the camera's view, as `Task.instruction`; a first sentence "You are ..." becomes the
    system text's role. action_dim: numbers of an action.
    Raises UserError for an empty instruction or no action dimension.
    """
    if not instruction.strip():
        raise UserError("the task has no instruction to tell a vision-language model; set Task.instruction")
    if action_dim < 1:
        raise UserError(f"action_dim is {action_dim}; an action has at least one number")
    role, scene = ROLE, instruction.strip()
    sentences = re.split(r"(?<=\.) (?![a-z0-9])", scene, maxsplit=1)  # what follows an abbreviation begins small
    if scene.startswith("You are ") and len(sentences) > 1:
        role, scene = sentences
    return Prompt(f"{role} {ASK}", f"{scene}\n{answer_request(action_dim)}", action_dim, image_first)


def answer_request(action_dim: int) -> str:
    """The sentences that ask for the answer's form."""
    form = ", ".join(f"a{i + 1}" for i in range(action_dim))
    count = "1 number" if action_dim == 1 else f"{action_dim} numbers"
    return f"Give {count} from -1.00 to +1.00 with sign and two decimals, in this form only:\nAction: [{form}]"
