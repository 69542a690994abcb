"""A question as an OpenAI chat request, and the text of the message that answers it."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from covr.vlm.prompts import Prompt


class NoAnswer(Exception):
    """A reply in which no model speaks; the message is the reply."""


def answer_of(reply: Any) -> tuple[str, bool]:
    """What the model says in the reply to a chat, and whether it ended that itself. Raises NoAnswer."""
    try:
        choice = reply["choices"][0]
        message = choice["message"]
        text = said(message.get("content")) or said(message.get("refusal"))
        return text, choice.get("finish_reason") != "length"
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise NoAnswer(reply if isinstance(reply, str) else json.dumps(reply)) from error


def said(content: Any) -> str:
    """The text of a message: a string, or the texts among its parts. Raises TypeError for anything else."""
    if isinstance(content, list):
        content = "".join(_text(part) for part in content)
    if content is not None and not isinstance(content, str):
        raise TypeError(f"a message whose content is a {type(content).__name__}")
    return (content or "").encode(errors="replace").decode()  # half a surrogate pair could not be written down


def _text(part: Any) -> str:
    """Of a part of a message; empty for what is no text, such as the model's reasoning."""
    if isinstance(part, dict) and part.get("type") in ("text", "output_text"):
        return part["text"] or ""
    return part if isinstance(part, str) else ""


def chat(prompt: Prompt, image: npt.NDArray[np.uint8]) -> list[dict[str, Any]]:
    """The messages of an OpenAI chat request, the image inlined as a PNG."""
    url = "data:image/png;base64," + base64.b64encode(png(image)).decode()
    messages = prompt.messages()
    messages[1]["content"] = [
        {"type": "image_url", "image_url": {"url": url}} if part["type"] == "image" else part
        for part in messages[1]["content"]
    ]
    return messages


def png(image: npt.NDArray[np.uint8]) -> bytes:
    """An RGB image, uint8 `(H, W, 3)`, as a PNG file (RFC 2083: 8 bits, colour type 2, no filter)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = image.shape[:2]
    rows = np.concatenate([np.zeros((height, 1), np.uint8), image.reshape(height, -1)], 1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 1)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
