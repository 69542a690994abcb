"""Sets the scenery of a map beside its roads, the same every time: a highway's, a town's or a suburb's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.road_map import RoadMap
from suites.carla.maps.roads import Lane
from suites.carla.render import scenery_shapes as shapes
from suites.carla.render.mesh import Mesh, Rgb
from suites.carla.render.place import Triangles
from suites.carla.render.plots import Plots
from suites.carla.render.shadows import BOX, COLUMNS, CROWN

TREE_LIMIT, HOUSE_LIMIT, SMALL_LIMIT, GANTRY_LIMIT = 260.0, 600.0, 130.0, 400.0  # metres: left out beyond
FOREST = 75.0  # metres from the roads where trees end
DETAIL = 45.0  # metres: beyond this trees are drawn with few triangles
BRICK: tuple[Rgb, ...] = (
    (0.62, 0.42, 0.34), (0.70, 0.62, 0.52), (0.78, 0.74, 0.68), (0.58, 0.55, 0.52), (0.72, 0.55, 0.42),
    (0.52, 0.44, 0.42), (0.80, 0.76, 0.62),
)  # fmt: skip
RENDERED: tuple[Rgb, ...] = (
    (0.86, 0.84, 0.78), (0.78, 0.70, 0.60), (0.84, 0.78, 0.66), (0.70, 0.74, 0.76), (0.66, 0.46, 0.38),
)  # fmt: skip
TILES: tuple[Rgb, ...] = ((0.52, 0.27, 0.20), (0.36, 0.34, 0.35), (0.45, 0.32, 0.26), (0.30, 0.32, 0.36))
FLAT_ROOF: Rgb = (0.40, 0.40, 0.41)


class Scenery(NamedTuple):
    """triangles: all of it. street_lamps: float32 (S, 3), their heads. casters: float32 (K, 8), as in `shadows`.

    fixtures: float32 (F, 8), lamp posts and gantries as boxes: CARLA's semantic tag, x, y, z of the foot, yaw in
    radians, half sizes; the lamp posts first, in the order of `street_lamps`.
    """

    triangles: Triangles
    street_lamps: NDArray[np.float32]
    casters: NDArray[np.float32]
    fixtures: NDArray[np.float32]


@dataclass
class _Site:
    """A map's scenery under construction."""

    plots: Plots
    rng: np.random.Generator
    road_map: RoadMap
    meshes: list[Mesh] = field(default_factory=list)
    corners: list[NDArray[np.float32]] = field(default_factory=list)
    objects: list[tuple[int, int, int, float, float]] = field(default_factory=list)  # near, far, end, reach, limit
    count: int = 0
    lamps: list[tuple[float, float, float]] = field(default_factory=list)
    casters: list[tuple[float, ...]] = field(default_factory=list)
    posts: list[tuple[float, ...]] = field(default_factory=list)  # of lamps
    gantries: list[tuple[float, ...]] = field(default_factory=list)

    def ground(self, x: float, y: float) -> float:
        """Height of the ground beside the roads."""
        return self.road_map.terrain(x, y) + self.road_map.ground.kerb

    def lowest(self, x: float, y: float, yaw: float, half_x: float, half_y: float) -> float:
        """Height of the lowest ground at the corners of a rectangle."""
        cos, sin = math.cos(yaw), math.sin(yaw)
        corners = ((a, b) for a in (-half_x, half_x) for b in (-half_y, half_y))
        return min(self.ground(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in corners)

    def lamp(self, x: float, y: float, yaw: float, scale: float, limit: float) -> None:
        """Sets a street lamp at (x, y); its arm reaches to the left of `yaw` (radians)."""
        self.put(shapes.street_lamp(), None, x, y, yaw - math.pi / 2, scale, limit)
        reach, height = shapes.LAMP_ARM * scale, shapes.LAMP_HEIGHT * scale
        foot = self.ground(x, y)
        terrain = foot - self.road_map.ground.kerb
        self.lamps.append((x + reach * math.sin(yaw), y - reach * math.cos(yaw), terrain + height))
        half = 0.08 * scale
        self.posts.append((shapes.TAG_POLE, x, y, foot, yaw, half, half, height / 2))

    def put(
        self, near: Mesh, far: Mesh | None, x: float, y: float, yaw: float, scale: float, limit: float,
        foot: float | None = None,
    ) -> None:  # fmt: skip
        """Sets a shape on the ground at (x, y), turned by `yaw` radians; `far` stands in for it at a distance.

        foot: its height, where that is not the ground's.
        """
        start, foot = self.count, self.ground(x, y) if foot is None else foot
        for mesh in (near, far):
            if mesh is not None:
                cos, sin = math.cos(yaw) * scale, math.sin(yaw) * scale
                px, py, pz = mesh.anchor[..., 0], mesh.anchor[..., 1], mesh.anchor[..., 2]
                placed = np.stack([x + px * cos - py * sin, y + px * sin + py * cos, foot + pz * scale], axis=-1)
                self.corners.append(placed.astype(np.float32))
                self.meshes.append(mesh)
                self.count += len(mesh.part)
        middle = start + len(near.part)
        self.objects.append((start, middle, self.count, DETAIL if far else math.inf, limit))

    def finish(self) -> Scenery:
        corner = np.concatenate([np.zeros((0, 3, 3), np.float32), *self.corners])
        normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
        table = np.array(self.objects, np.float64).reshape(-1, 5)
        start, middle, end = table[:, :3].astype(np.int32).T
        has_far = np.isfinite(table[:, 3])
        far = np.where(has_far[:, None], np.stack([middle, end], axis=1), np.stack([start, middle], axis=1))
        triangles = Triangles(
            corner=corner,
            normal=normal.astype(np.float32),
            colour=np.concatenate([np.zeros((0, 3), np.float32), *(mesh.colour for mesh in self.meshes)]),
            material=np.concatenate([np.zeros(0, np.uint8), *(mesh.material for mesh in self.meshes)]),
            tag=np.concatenate([np.zeros(0, np.uint8), *(mesh.tag for mesh in self.meshes)]),
            lights=np.zeros(len(corner), np.uint32),
            ball=_balls(corner, start, middle),
            near=np.ascontiguousarray(np.stack([start, middle], axis=1).astype(np.int32)),
            far=np.ascontiguousarray(far.astype(np.int32)),
            reach=table[:, 3].astype(np.float32),
            limit=table[:, 4].astype(np.float32),
        )
        return Scenery(
            triangles,
            np.array(self.lamps, np.float32).reshape(-1, 3),
            np.array(self.casters, np.float32).reshape(-1, COLUMNS),
            np.array([*self.posts, *self.gantries], np.float32).reshape(-1, 8),
        )


def scenery_of(road_map: RoadMap) -> Scenery:
    """The scenery of a map, by its kind and by its roads alone."""
    site = _Site(Plots(road_map), np.random.default_rng(7), road_map)
    if road_map.scenery == "highway":
        _line_highway(site, road_map)
        _scatter_trees(site, spacing=11.0, share=0.36, conifers=0.4)
    elif road_map.scenery == "town":
        _build_along(site, road_map, gap=(0.0, 2.5), setback=(0.3, 0.8), width=(11.0, 22.0), town=True)
        _lamps_along(site, road_map, "sidewalk", spacing=32.0, trees=True)
        _build_behind(site)
        _scatter_trees(site, spacing=13.0, share=0.25, conifers=0.1)
    else:
        _build_along(site, road_map, gap=(5.0, 14.0), setback=(4.0, 7.0), width=(9.0, 13.0), town=False)
        _lamps_along(site, road_map, "sidewalk", spacing=40.0, trees=False)
        _scatter_trees(site, spacing=10.0, share=0.34, conifers=0.25)
    return site.finish()


def _balls(corner: NDArray[np.float32], start: NDArray[np.int32], end: NDArray[np.int32]) -> NDArray[np.float32]:
    out = np.empty((len(start), 4), np.float32)
    for k, (a, b) in enumerate(zip(start, end, strict=True)):
        points = corner[a:b].reshape(-1, 3)
        middle = (points.min(axis=0) + points.max(axis=0)) / 2
        out[k, :3], out[k, 3] = middle, np.linalg.norm(points - middle, axis=1).max()
    return out


def _along(lane: Lane, spacing: float, offset: float) -> Iterator[tuple[float, float, float]]:
    """(x, y, yaw in radians) each `spacing` metres along a lane, `offset` metres to the right of its right border."""
    for s in np.arange(spacing / 2, lane.length, spacing):
        yield _beside(lane, float(s), offset)


def _beside(lane: Lane, s: float, offset: float) -> tuple[float, float, float]:
    x, y = np.interp(s, lane.s, lane.centre[:, 0]), np.interp(s, lane.s, lane.centre[:, 1])
    yaw = math.radians(float(np.interp(s, lane.s, lane.yaw)))
    out = float(np.interp(s, lane.s, lane.width)) / 2 + offset
    return float(x) - out * math.sin(yaw), float(y) + out * math.cos(yaw), yaw


def _tree(site: _Site, x: float, y: float, conifers: float, scale: float) -> None:
    variant, turn = int(site.rng.integers(4)), float(site.rng.uniform(0, 2 * math.pi))
    shape = shapes.conifer if site.rng.uniform() < conifers else shapes.broadleaf
    site.put(shape(variant, True), shape(variant, False), x, y, turn, scale, TREE_LIMIT)
    radius = (1.8 if shape is shapes.conifer else 2.6) * scale
    site.casters.append((CROWN, x, y, 0.0, radius, radius, 2.6 * scale, 7.6 * scale))


def _scatter_trees(site: _Site, spacing: float, share: float, conifers: float) -> None:
    """Trees and bushes on free ground, on a jittered grid."""
    for y in np.arange(site.plots.low[1] + 5, site.plots.high[1] - 5, spacing):
        for x in np.arange(site.plots.low[0] + 5, site.plots.high[0] - 5, spacing):
            jitter = site.rng.uniform(-spacing / 2.5, spacing / 2.5, 2)
            tx, ty, kind = float(x + jitter[0]), float(y + jitter[1]), site.rng.uniform()
            # Fewer, the farther from the roads: in sight they are small, and the nearer ones hide them.
            if site.rng.uniform() > 1.25 - site.plots.from_road(tx, ty) / FOREST:
                continue
            if kind < share and site.plots.take(tx, ty, 0.0, 2.4, 2.4):
                _tree(site, tx, ty, conifers, float(site.rng.uniform(0.75, 1.3)))
            elif kind > 0.85 and site.plots.take(tx, ty, 0.0, 0.9, 0.9):
                site.put(
                    shapes.bush(int(site.rng.integers(3))),
                    None,
                    tx,
                    ty,
                    0.0,
                    float(site.rng.uniform(0.7, 1.5)),
                    SMALL_LIMIT,
                )


def _line_highway(site: _Site, road_map: RoadMap) -> None:
    """Crash barriers on both sides, lamps on the right, and a gantry now and then."""
    for lane in road_map.lanes:
        if lane.kind != "shoulder":
            continue
        rail = list(_along(lane, 4.0, 0.45))
        rail = [_beside(lane, 0.0, 0.45), *rail, _beside(lane, lane.length, 0.45)]
        for k in range(0, len(rail) - 1, 4):
            piece = [(x, y, road_map.terrain(x, y)) for x, y, _ in rail[k : k + 5]]
            site.put(shapes.rail(piece), None, 0.0, 0.0, 0.0, 1.0, SMALL_LIMIT * 1.4, road_map.ground.kerb)
        for x, y, _ in rail:
            site.plots.take(x, y, 0.0, 1.0, 1.0)
    rightmost = [lane for lane in road_map.lanes if lane.kind == "shoulder" and lane.lane_id < 0]
    for lane in rightmost:
        for x, y, yaw in _along(lane, 48.0, 1.3):
            site.lamp(x, y, yaw, 1.35, SMALL_LIMIT * 2)
        if lane.length > 250.0:
            x, y, yaw = _beside(lane, lane.length * 0.6, -8.0)
            site.put(shapes.gantry(10.0), None, x, y, yaw, 1.0, GANTRY_LIMIT)
            site.gantries.append((shapes.TAG_SIGN, x, y, site.ground(x, y), yaw, 0.39, 10.18, 3.95))


def _lamps_along(site: _Site, road_map: RoadMap, kind: str, spacing: float, trees: bool) -> None:
    """Street lamps on the pavements, and trees between them where the pavement is wide."""
    for lane in road_map.lanes:
        if lane.kind != kind or lane.in_junction:
            continue
        outer = -0.5 - float(lane.width[0]) * 0.12
        for index, (x, y, yaw) in enumerate(_along(lane, spacing / 2, outer)):
            if index % 2 == 0 and lane.lane_id < 0:
                site.lamp(x, y, yaw, 1.0, SMALL_LIMIT * 1.5)
            elif index % 2 == 1 and trees:
                _tree(site, x, y, 0.0, float(site.rng.uniform(0.55, 0.75)))


def _build_along(
    site: _Site, road_map: RoadMap, gap: tuple[float, float], setback: tuple[float, float],
    width: tuple[float, float], town: bool,
) -> None:  # fmt: skip
    """Houses along the outer sides of all pavements, as many as find room."""
    for lane in road_map.lanes:
        if lane.kind != "sidewalk" or lane.in_junction:
            continue
        s = 2.0
        while s < lane.length:
            wide = float(site.rng.uniform(*width))
            deep = float(site.rng.uniform(10.0, 15.0) if town else site.rng.uniform(7.5, 10.0))
            back = float(site.rng.uniform(*setback))
            x, y, yaw = _beside(lane, min(s + wide / 2, lane.length), back + 1.0 + deep / 2)
            if site.plots.take(x, y, yaw, wide / 2 - 0.4, deep / 2):
                _house(site, x, y, yaw, wide, deep, town)
                s += wide + float(site.rng.uniform(*gap))
            else:
                s += 3.0


def _house(site: _Site, x: float, y: float, yaw: float, wide: float, deep: float, town: bool) -> None:
    if town:
        storeys = int(site.rng.integers(3, 7))
        wall, roof = BRICK[int(site.rng.integers(len(BRICK)))], FLAT_ROOF
    else:
        storeys = int(site.rng.integers(1, 3))
        wall, roof = RENDERED[int(site.rng.integers(len(RENDERED)))], TILES[int(site.rng.integers(len(TILES)))]
    foot = site.lowest(x, y, yaw, wide / 2, deep / 2)
    site.put(shapes.house(wide, deep, storeys, wall, roof, not town), None, x, y, yaw, 1.0, HOUSE_LIMIT, foot)
    site.casters.append((BOX, x, y, yaw, wide / 2, deep / 2, 0.0, storeys * 3.3 + (1.5 if not town else 0.7)))


def _build_behind(site: _Site) -> None:
    """Taller houses behind the first row, for a skyline."""
    for y in np.arange(site.plots.low[1] + 20, site.plots.high[1] - 20, 30.0):
        for x in np.arange(site.plots.low[0] + 20, site.plots.high[0] - 20, 30.0):
            wide, deep = (float(v) for v in site.rng.uniform(12.0, 20.0, 2))
            if site.rng.uniform() < 0.7 and site.plots.take(float(x), float(y), 0.0, wide / 2 + 1, deep / 2 + 1):
                storeys = int(site.rng.integers(5, 12))
                wall = BRICK[int(site.rng.integers(len(BRICK)))]
                site.put(
                    shapes.house(wide, deep, storeys, wall, FLAT_ROOF, False),
                    None,
                    float(x),
                    float(y),
                    0.0,
                    1.0,
                    HOUSE_LIMIT,
                    site.lowest(float(x), float(y), 0.0, wide / 2, deep / 2),
                )
