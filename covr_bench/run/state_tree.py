"""A state as JSON and tensors by their paths in it, which is how a checkpoint holds it."""

from __future__ import annotations

from typing import Any

import torch


def flatten(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    """JSON for `value`; its tensors go to `tensors` under their path.

    Raises TypeError for what cannot be held, keys of a dict that are neither all strings nor all integers among it.
    """
    if isinstance(value, torch.Tensor):
        while path in tensors:  # keys have slashes: {"a/b": ..., "a": {"b": ...}}
            path += "'"
        tensors[path] = value.detach().cpu().contiguous().clone()
        return {"$": "tensor", "at": path}
    if isinstance(value, dict):
        integers = [isinstance(key, int) and not isinstance(key, bool) for key in value]
        if not (all(integers) or all(isinstance(key, str) for key in value)):
            types = ", ".join(sorted({type(key).__name__ for key in value}))
            raise TypeError(f"{path} has keys of type {types}: a checkpoint holds strings, or integers, not both")
        kind = "ints" if value and all(integers) else "dict"
        return {"$": kind, "of": {str(key): flatten(item, f"{path}/{key}", tensors) for key, item in value.items()}}
    if type(value) in (list, tuple, torch.Size):  # a namedtuple would come back without its names
        kind = "list" if isinstance(value, list) else "tuple"
        return {"$": kind, "of": [flatten(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{path or 'it'} is a {type(value).__name__}, which a checkpoint cannot hold")


def unflatten(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """The inverse of `flatten`. Raises KeyError, TypeError or AttributeError for what it never makes."""
    if not isinstance(value, dict):
        return value
    kind = value["$"]
    if kind == "tensor":
        return tensors[value["at"]]
    if kind in ("list", "tuple"):
        items = [unflatten(item, tensors) for item in value["of"]]
        return items if kind == "list" else tuple(items)
    return {int(key) if kind == "ints" else key: unflatten(item, tensors) for key, item in value["of"].items()}


def copied(state: Any) -> Any:
    """The state as a checkpoint brings it back: nothing that happens to the run changes it."""
    tensors: dict[str, torch.Tensor] = {}
    return unflatten(flatten(state, "", tensors), tensors)


def has(state: Any, path: str) -> bool:
    """Whether that path of keys, "sac/critic", leads somewhere in a state of nested dicts."""
    for key in path.split("/"):
        if not isinstance(state, dict) or key not in state:
            return False
        state = state[key]
    return True


def without(state: dict[str, Any], path: str) -> dict[str, Any]:
    """The state without what is at that path; nothing of the one given is changed."""
    if not has(state, path):
        return state
    first, _, rest = path.partition("/")
    if not rest:
        return {key: part for key, part in state.items() if key != first}
    return state | {first: without(state[first], rest)}


def filled(state: dict[str, Any], path: str, other: dict[str, Any]) -> dict[str, Any]:
    """The state with what the other has at that path; nothing of the one given is changed."""
    first, _, rest = path.partition("/")
    return state | {first: filled(state.get(first, {}), rest, other[first]) if rest else other[first]}
