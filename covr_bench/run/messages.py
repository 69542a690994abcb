"""What child processes say: a JSON object in a line."""

from __future__ import annotations

import json
from typing import Any


def message_in(line: str) -> dict[str, Any] | None:
    """The message of a line; None for what something else has printed there, such as a `sitecustomize`."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
