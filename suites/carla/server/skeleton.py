"""The bones of walkers, by CARLA's names: a standing figure whose legs and arms swing as it walks."""

from __future__ import annotations

import math
from typing import NamedTuple

from suites.carla.server.protocol.wire import Rotation, Transform, Vector
from suites.carla.server.things.geometry import compose

STRIDE, SWING = 0.75, 25.0  # metres walked per half swing, degrees of a swing: as the pictures have it
_BACK, _FORTH = -1.0, 1.0  # sense of a limb's swing


class Bone(NamedTuple):
    """A bone. parent: its name; offset: from its parent's, forward, right and up, in heights of the walker.

    swing: how it turns with the stride, in shares of `SWING`.
    """

    name: str
    parent: str
    offset: tuple[float, float, float]
    swing: float = 0.0


def _limbs(side: str, sign: float) -> tuple[Bone, ...]:
    """The arm and the leg of a side; sign: -1 left, 1 right."""
    leg = _FORTH if side == "R" else _BACK
    return (
        Bone(f"crl_shoulder__{side}", "crl_spine01__C", (0.0, 0.03 * sign, 0.12)),
        Bone(f"crl_arm__{side}", f"crl_shoulder__{side}", (0.0, 0.08 * sign, 0.0), -leg),
        Bone(f"crl_foreArm__{side}", f"crl_arm__{side}", (0.0, 0.01 * sign, -0.17)),
        Bone(f"crl_hand__{side}", f"crl_foreArm__{side}", (0.02, 0.0, -0.15)),
        Bone(f"crl_thigh__{side}", "crl_hips__C", (0.0, 0.05 * sign, -0.02), leg),
        Bone(f"crl_leg__{side}", f"crl_thigh__{side}", (0.0, 0.0, -0.24)),
        Bone(f"crl_foot__{side}", f"crl_leg__{side}", (0.0, 0.0, -0.23)),
        Bone(f"crl_toe__{side}", f"crl_foot__{side}", (0.07, 0.0, -0.03)),
        Bone(f"crl_toeEnd__{side}", f"crl_toe__{side}", (0.04, 0.0, 0.0)),
        Bone(f"crl_eye__{side}", "crl_Head__C", (0.05, 0.02 * sign, 0.04)),
    )


BONES = (
    Bone("crl_root", "", (0.0, 0.0, -0.5)),  # the origin of a walker is half its height above its feet
    Bone("crl_hips__C", "crl_root", (0.0, 0.0, 0.53)),
    Bone("crl_spine__C", "crl_hips__C", (0.0, 0.0, 0.07)),
    Bone("crl_spine01__C", "crl_spine__C", (0.0, 0.0, 0.10)),
    Bone("crl_neck__C", "crl_spine01__C", (0.0, 0.0, 0.15)),
    Bone("crl_Head__C", "crl_neck__C", (0.01, 0.0, 0.05)),
    *_limbs("L", -1.0),
    *_limbs("R", 1.0),
)


def skeleton(place: Transform, height: float, walked: float) -> list[tuple[str, Transform, Transform, Transform]]:
    """Each bone's name and transforms: in the world, in the walker, and in its parent's.

    place: of the walker; height: in metres; walked: metres it has walked so far.
    """
    phase = SWING * math.sin(math.pi * walked / STRIDE)
    within: dict[str, Transform] = {"": Transform()}
    bones = []
    for bone in BONES:
        relative = Transform(Vector(*(part * height for part in bone.offset)), Rotation(bone.swing * phase, 0.0, 0.0))
        within[bone.name] = compose(within[bone.parent], relative)
        bones.append((bone.name, compose(place, within[bone.name]), within[bone.name], relative))
    return bones
