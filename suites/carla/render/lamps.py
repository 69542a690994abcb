"""Lamps that light the ground and what stands on it when it is dark: street lamps and headlamps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.jit import inlined
from suites.carla.render.scene import Scene
from suites.carla.render.view import View

LOW_BEAM, HIGH_BEAM = 2, 4  # CARLA's VehicleLightState flags
DAYLIGHT = 0.3  # of `Light.glow`: below this no lamp makes a difference
MOST = 24  # lamps that count at once, nearest first
STREET_RADIUS = 22.0  # metres a street lamp reaches
STREET_COLOUR = (0.86, 0.66, 0.40)
BEAM_COLOUR = (0.95, 0.93, 0.84)
LOW_REACH, HIGH_REACH = 38.0, 75.0  # metres
# Columns: x, y, z, direction x, direction y (0, 0 for a street lamp), reach in metres, red, green, blue.
COLUMNS = 9


def street_table(heads: NDArray[np.float32]) -> NDArray[np.float32]:
    """The street lamps at the positions of their heads (S, 3) as rows of the lamp table."""
    table = np.zeros((len(heads), COLUMNS), np.float32)
    table[:, :3], table[:, 5], table[:, 6:] = heads, STREET_RADIUS, STREET_COLOUR
    return table


def lamps_of(scene: Scene, street: NDArray[np.float32], view: View, glow: float) -> NDArray[np.float32]:
    """The lamps whose light may be in sight, float32 (L, 9), nearest first; none by day."""
    if glow < DAYLIGHT:
        return street[:0]
    lit = np.flatnonzero(scene.lights & np.uint32(LOW_BEAM | HIGH_BEAM))
    beams = np.empty((len(lit), COLUMNS), np.float32)
    yaw, front = np.radians(scene.pose[lit, 5]), scene.half_extents[lit, 0]
    beams[:, 3], beams[:, 4] = np.cos(yaw), np.sin(yaw)
    beams[:, :3] = scene.pose[lit, :3]
    beams[:, :2] += beams[:, 3:5] * front[:, None]
    beams[:, 5] = np.where(scene.lights[lit] & np.uint32(HIGH_BEAM), HIGH_REACH, LOW_REACH)
    beams[:, 6:] = BEAM_COLOUR
    table = np.concatenate([street, beams])
    dx, dy = table[:, 0] - view.x, table[:, 1] - view.y
    ahead = np.flatnonzero(dx * view.fx + dy * view.fy > -table[:, 5])
    nearest = ahead[np.argsort(np.hypot(dx[ahead], dy[ahead]), kind="stable")[:MOST]]
    chosen: NDArray[np.float32] = table[nearest]
    chosen[:, 6:] *= glow
    return chosen


@inlined
def lamp_light(lamps: NDArray[np.float32], x: float, y: float, z: float) -> tuple[float, float, float]:
    """RGB of the lamps' light at a point in metres."""
    r, g, b = 0.0, 0.0, 0.0
    for k in range(len(lamps)):
        dx, dy, reach = x - lamps[k, 0], y - lamps[k, 1], lamps[k, 5]
        flat = dx * dx + dy * dy
        if flat > reach * reach:
            continue
        ax, ay = lamps[k, 3], lamps[k, 4]
        if ax == 0.0 and ay == 0.0:
            fade = 1.0 - flat / (reach * reach)
            strength = fade * fade
        else:
            along = dx * ax + dy * ay
            if along < 0.3:
                continue
            across = (dy * ax - dx * ay) / (0.9 + 0.20 * along)
            strength = max(0.0, 1.0 - along / reach) * np.exp(-across * across) * min(1.0, along * 0.2)
        r, g, b = r + strength * lamps[k, 6], g + strength * lamps[k, 7], b + strength * lamps[k, 8]
    return r, g, b
