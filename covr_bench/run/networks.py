"""The networks of an agent, found by its attributes: agents name their parts, and need say no more."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

Network = dict[str, torch.Tensor]
"""Parameters by their path inside a network; a parameter that stands alone is called by the empty text."""


def networks(agent: object) -> dict[str, Network]:
    """Every network that can be reached from an agent's attributes, by its path, in order of finding.

    A parameter that several networks share counts for the first of them; a network with no other one is left out.
    """
    found: dict[str, Network] = {}
    _search(agent, "", found, set())
    return found


def _search(value: Any, path: str, found: dict[str, Network], seen: set[int]) -> None:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, nn.Module) and not path:  # the agent itself: its parts are the networks
        for name, each in [*value.named_parameters(recurse=False), *value.named_children()]:
            _search(each, name, found, seen)
    elif isinstance(value, nn.Module):
        new: Network = {name: each for name, each in value.named_parameters() if id(each) not in seen}
        seen.update(map(id, new.values()))
        if new:
            found[path] = new
    elif isinstance(value, nn.Parameter):
        found[path] = {"": value}
    elif isinstance(value, list | tuple):
        for i, each in enumerate(value):
            _search(each, f"{path}.{i}", found, seen)
    elif hasattr(value, "__dict__") and not isinstance(value, type) and not _foreign(value):
        for name, each in vars(value).items():
            _search(each, f"{path}.{name}".lstrip("."), found, seen)


def _foreign(value: object) -> bool:
    """Whether an object is of a library or of the loop, whose attributes are not the agent's."""
    module = type(value).__module__
    return module.split(".")[0] in {"torch", "numpy", "builtins", "pathlib"} or module.startswith("covr_bench.run")
