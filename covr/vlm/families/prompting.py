"""A question as the text a processor takes: by the chat template, or the plain text of a processor that has none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from covr.vlm.prompts import Prompt

ANSWER = "Action: [+0.00]"  # any answer


def template_of(processor: Any) -> Any:
    """The chat template: the processor's, else its tokenizer's, None without one."""
    return getattr(processor, "chat_template", None) or getattr(processor.tokenizer, "chat_template", None)


def prompt_text(processor: Any, prompt: Prompt, frames: int = 1, marks: str = "") -> str:
    """The text that asks `prompt` about `frames` images, one after the other.

    marks: what stands for an image in front of a text without a template; empty where the processor puts it there.

    Raises:
        UserError: The chat template shows neither the task nor the images, whatever form of chat it is given.
    """
    template = template_of(processor)
    if template is None:
        return f"{marks * frames}{prompt.system} {prompt.user}"
    problem = "it leaves out the task's text or the image"
    for messages in _chats(prompt, frames, _image_token(processor)):
        try:
            text = _rendered(processor, template, messages)
        except Exception as error:  # a template refuses a role or a form by any exception
            problem = str(error).splitlines()[0] if str(error) else type(error).__name__
            continue
        if prompt.system in text and prompt.user in text and _shows(processor, text, messages, frames):
            return text
    raise UserError(f"the model's chat template cannot show this question: {problem}")


def _rendered(processor: Any, template: Any, messages: list[dict[str, Any]], **options: Any) -> str:
    options = {"add_generation_prompt": True} | options
    text = processor.tokenizer.apply_chat_template(messages, chat_template=_one(template), tokenize=False, **options)
    return str(text)


def _one(template: Any) -> Any:
    return template.get("default", next(iter(template.values()))) if isinstance(template, dict) else template


def _shows(processor: Any, text: str, messages: list[dict[str, Any]], frames: int) -> bool:
    """Whether the images are in the text: it changes with their number."""
    token = _image_token(processor)
    if token and text.count(token) == frames:
        return True
    without = [
        message | {"content": [part for part in message["content"] if part["type"] != "image"]}
        for message in messages
        if isinstance(message["content"], list)
    ]
    try:
        return bool(without) and _rendered(processor, template_of(processor), without) != text and not token
    except Exception:
        return False


def _image_token(processor: Any) -> str:
    return str(getattr(processor, "image_token", "") or "")


def _chats(prompt: Prompt, frames: int, token: str) -> Iterator[list[dict[str, Any]]]:
    """Forms of the chat, the usual first: templates differ in whether they take a system's turn, lists or texts."""
    images = [{"type": "image"}] * frames
    system, user = {"type": "text", "text": prompt.system}, {"type": "text", "text": prompt.user}
    both = {"type": "text", "text": f"{prompt.system}\n{prompt.user}"}

    def ordered(text: dict[str, str]) -> list[dict[str, str]]:
        return [*images, text] if prompt.image_first else [text, *images]

    yield [{"role": "system", "content": [system]}, {"role": "user", "content": ordered(user)}]
    yield [{"role": "system", "content": prompt.system}, {"role": "user", "content": ordered(user)}]
    yield [{"role": "user", "content": ordered(both)}]
    if token:  # a template of a language model, which knows text alone
        marks = token * frames
        text = f"{marks}\n{prompt.user}" if prompt.image_first else f"{prompt.user}\n{marks}"
        yield [{"role": "system", "content": prompt.system}, {"role": "user", "content": text}]
        yield [{"role": "user", "content": f"{prompt.system}\n{text}"}]


def end_of_answer(processor: Any, prompt: Prompt, declared: list[int]) -> int:
    """The token that ends an answer: what the chat template puts after one, else the checkpoint's first end token.

    Raises UserError if there is neither.
    """
    tokenizer, template = processor.tokenizer, template_of(processor)
    special = {*tokenizer.all_special_ids, *getattr(tokenizer, "added_tokens_decoder", {})}
    for messages in _chats(prompt, 1, _image_token(processor)) if template is not None else ():
        content: Any = ANSWER if isinstance(messages[-1]["content"], str) else [{"type": "text", "text": ANSWER}]
        try:
            said = [*messages, {"role": "assistant", "content": content}]
            text = _rendered(processor, template, said, add_generation_prompt=False)
        except Exception:  # see prompt_text
            continue
        if ANSWER not in text:
            continue
        after = tokenizer(text[text.rindex(ANSWER) + len(ANSWER) :], add_special_tokens=False).input_ids
        if after and after[0] in special:
            return int(after[0])
        break
    ends = [*declared, tokenizer.eos_token_id]
    if ends[0] is None:
        raise UserError("nothing says which token ends an answer: set eos_token_id in generation_config.json")
    return int(ends[0])
