"""What a provenance record looks like, so that a damaged one is named instead of met in the middle of a table."""

from __future__ import annotations

from typing import Any

from results.states import Status

ANY: dict[str, Any] = {}  # an object with any keys
_TEXT = (str, type(None))
_NUMBER = (int, float)
_WHOLE = (int,)
# By key the types of its value, the shape of an object, or in a list the shape of each element.
SHAPE: dict[str, Any] = {
    "run_id": str, "wall_s": _NUMBER, "seeds": ANY, "agent": ANY,
    "config": {
        "run_id": str, "suite": str, "task": str, "agent": str, "variant": str, "device": str, "conv_kernel": str,
        "seed": _WHOLE, "env_steps": _WHOLE, "threads": _WHOLE, "eval_episodes": _WHOLE, "starts_seed": _WHOLE,
        "agent_config": ANY, "env": ANY, "overrides": ANY, "code": ANY, "options": ANY, "evaluated": {"run": str},
    },
    "sessions": [{
        "started": str, "ended": _TEXT, "wall_s": (*_NUMBER, type(None)), "git_sha": _TEXT, "command": str, "code": ANY,
        "options": ANY, "accepted_changed_code": {"from": ANY, "to": ANY}, "config_changes": ANY,
    }],
    "environment": {
        "version": _TEXT, "git_sha": _TEXT, "content_sha256": _TEXT, "python": str, "platform": str, "packages": ANY,
        "cpu": _TEXT, "cpu_cores": (*_WHOLE, type(None)), "ram_bytes": _NUMBER, "gpus": [str], "gl_backend": _TEXT,
        "gl_vendor": _TEXT, "gl_renderer": _TEXT,
    },
}  # fmt: skip
_REQUIRED = ("status", "config", "sessions")


def fault(record: dict[str, Any]) -> str:
    """What is wrong with a record, in words; empty if nothing is."""
    for key in _REQUIRED:
        if key not in record:
            return f"{key} is missing"
    if record["status"] not in tuple(Status):
        return f"status is {record['status']!r}, not one of {', '.join(Status)}"
    if not record["sessions"]:
        return "sessions is empty"
    return _fault(record, SHAPE).removeprefix(".")


def completed(record: dict[str, Any]) -> dict[str, Any]:
    """The record with every field that is read without asking; what was not recorded is empty or 0."""
    environment = {"packages": {}, "gpus": []} | record.get("environment", {})
    empty = {"started": "", "ended": None, "wall_s": None, "git_sha": None, "command": ""}
    sessions = [empty | each for each in record["sessions"]]
    return {"wall_s": 0.0, "seeds": {}} | record | {"environment": environment, "sessions": sessions}


def _fault(value: Any, shape: Any) -> str:
    """What is wrong with a value, after where in it that is; empty if nothing is."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f" is {_shown(value)}, not an object"
        for key, part in shape.items():
            if key in value and (found := _fault(value[key], part)):
                return f".{key}{found}"
        return ""
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f" is {_shown(value)}, not a list"
        return next((f"[{index}]{found}" for index, each in enumerate(value) if (found := _fault(each, shape[0]))), "")
    return "" if isinstance(value, shape) and not isinstance(value, bool) else f" is {_shown(value)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
