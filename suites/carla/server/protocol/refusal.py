"""The error of a call that the server refuses."""

from __future__ import annotations


class CallError(Exception):
    """A call that CARLA refuses; the client sees the text."""
