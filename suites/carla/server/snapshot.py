"""The world's state as every client receives it once a tick."""

from __future__ import annotations

import struct

import numpy as np

from suites.carla.server.things.actors import UNION_BYTES, Actor, Vehicle
from suites.carla.server.things.bodies import Bodies

_EPISODE = struct.Struct("<Qdf3iI")
_RECORD = np.dtype([
    ("id", "<u4"), ("state", "u1"), ("pose", "<f4", (6,)), ("velocity", "<f4", (3,)), ("turning", "<f4", (3,)),
    ("acceleration", "<f4", (3,)), ("union", f"V{UNION_BYTES}"),
])  # fmt: skip
assert _RECORD.itemsize == 119
ACTIVE = 1
MAP_CHANGED, LAMPS_CHANGED = 1, 2  # bits of the simulation state


def episode_header(episode: int, platform_time: float, delta: float, changes: int) -> bytes:
    """The head of a snapshot; times in seconds; changes: bits as above."""
    return _EPISODE.pack(episode, platform_time, delta, 0, 0, 0, changes)


def actor_records(actors: list[Actor], bodies: Bodies) -> bytes:
    """The records of the actors in a snapshot, 119 bytes each."""
    gears = bodies.rows["gear"]
    for actor in actors:
        if isinstance(actor, Vehicle):
            actor.gear = int(gears[actor.row])
    records = np.zeros(len(actors), _RECORD)
    records["id"] = [actor.id for actor in actors]
    records["state"] = ACTIVE
    records["union"] = [actor.state() for actor in actors]
    rows = np.array([actor.row for actor in actors], np.intp)
    moving = np.flatnonzero(rows >= 0)
    if len(moving):
        b = bodies.rows[rows[moving]]
        for field, names in _COLUMNS.items():
            records[field][moving] = np.stack([b[name] for name in names], axis=1)
        records["turning"][moving, 2] = b["yaw_rate"]
    for i in np.flatnonzero(rows < 0):
        actor = actors[i]
        location, rotation = actor.transform(bodies)
        records["pose"][i] = (*location, *rotation)
        if actor.parent and actor.parent.row >= 0:
            records["velocity"][i] = [bodies.rows[actor.parent.row][name] for name in _COLUMNS["velocity"]]
    return records.tobytes()


_COLUMNS = {
    "pose": ("x", "y", "z", "pitch", "yaw", "roll"),
    "velocity": ("vx", "vy", "vz"),
    "acceleration": ("ax", "ay", "az"),
}
