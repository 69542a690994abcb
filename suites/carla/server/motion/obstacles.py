"""What stands beside the roads and stops a vehicle: houses, trees and crash barriers, as boxes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps import RoadMap
from suites.carla.maps.roads import Lane
from suites.carla.render.renderer import Renderer
from suites.carla.render.shadows import CROWN
from suites.carla.server.things.bodies import OBSTACLE, Rows

BUILDINGS, VEGETATION, GUARD_RAIL = 3, 9, 28  # CARLA's semantic labels
TRUNK = 0.3  # metres: half thickness of a tree
RAIL_GAP, RAIL_PIECE = 0.45, 4.0  # metres from the shoulder's border, and of one straight piece
RAIL_HALF_WIDTH, RAIL_HALF_HEIGHT = 0.1, 0.4


def obstacles_of(road_map: RoadMap, renderer: Renderer) -> Rows:
    """The obstacles of a map, as the renderer draws them."""
    pieces = [_scenery(renderer.scenery.casters)]
    if road_map.scenery == "highway":
        pieces += [_rail(lane) for lane in road_map.lanes if lane.kind == "shoulder"]
    rows = np.concatenate(pieces)
    rows["z"] = [road_map.terrain(o["x"], o["y"]) for o in rows]
    return rows


def _scenery(casters: NDArray[np.float32]) -> Rows:
    rows = np.zeros(len(casters), OBSTACLE)
    tree = casters[:, 0] == CROWN
    rows["x"], rows["y"], rows["yaw"] = casters[:, 1], casters[:, 2], np.degrees(casters[:, 3])
    rows["half_x"] = np.where(tree, TRUNK, casters[:, 4])
    rows["half_y"] = np.where(tree, TRUNK, casters[:, 5])
    rows["half_z"] = rows["box_z"] = casters[:, 7] / 2.0
    rows["tag"] = np.where(tree, VEGETATION, BUILDINGS)
    return rows


def _rail(lane: Lane) -> Rows:
    """A barrier along the right border of a shoulder, in straight pieces."""
    s = np.linspace(0.0, lane.length, max(2, round(lane.length / RAIL_PIECE) + 1))
    yaw = np.radians(np.interp(s, lane.s, lane.yaw))
    out = np.interp(s, lane.s, lane.width) / 2.0 + RAIL_GAP
    x = np.interp(s, lane.s, lane.centre[:, 0]) - out * np.sin(yaw)
    y = np.interp(s, lane.s, lane.centre[:, 1]) + out * np.cos(yaw)
    rows = np.zeros(len(s) - 1, OBSTACLE)
    rows["x"], rows["y"] = (x[1:] + x[:-1]) / 2.0, (y[1:] + y[:-1]) / 2.0
    rows["yaw"] = np.degrees(np.arctan2(np.diff(y), np.diff(x)))
    rows["half_x"] = np.hypot(np.diff(x), np.diff(y)) / 2.0
    rows["half_y"] = RAIL_HALF_WIDTH
    rows["half_z"] = rows["box_z"] = RAIL_HALF_HEIGHT
    rows["tag"] = GUARD_RAIL
    return rows
