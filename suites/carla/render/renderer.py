"""Pictures of a scene on a map, by a software rasteriser on one core.

How a picture comes about: the actors' shapes are put into the world; triangles go through a depth buffer with several
samples a pixel; the ground, flat or a terrain, with kerbs, is found by intersecting each pixel's line of sight with it,
and its paint is averaged over the pixel exactly; the sky comes from a panorama. The same input gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps.road_map import RoadMap
from suites.carla.render import effects, image, sky
from suites.carla.render.ground_hit import bury
from suites.carla.render.lamps import lamps_of, street_table
from suites.carla.render.light import Light, light_of
from suites.carla.render.noise import tile
from suites.carla.render.place import Triangles, in_sight, place
from suites.carla.render.raster import Samples, draw, samples_of
from suites.carla.render.scene import Camera, Scene, Weather
from suites.carla.render.scenery import scenery_of
from suites.carla.render.shadows import cast, casters_of
from suites.carla.render.surfaces import FIRST_OBJECT, owners, paint_normals, paint_owners
from suites.carla.render.view import View, view_of

Picture = Literal["rgb", "depth", "semantic", "instance", "normals"]
Bytes = NDArray[np.uint8]
SIZES_KEPT = 4  # sizes of picture whose buffers are kept
SPARE = 50_000  # triangles of actors the buffers have room for before they are made anew
PICTURES = ("rgb", "depth", "semantic", "instance", "normals")


class Renderer:
    """Takes pictures of scenes on one map. Every picture is uint8 (height, width, 4), BGRA, alpha 255.

    One thread at a time: its buffers are used again for each picture.
    """

    def __init__(self, road_map: RoadMap) -> None:
        self.road_map = road_map
        self.scenery = scenery_of(road_map)
        self._all_lamps = self._street_lamps = street_table(self.scenery.street_lamps)
        self._noise, self._skyline = tile(1), sky.hills(2)
        self._panorama = np.empty((sky.ROWS, sky.COLUMNS, 3), np.float32)
        self._weather: Weather | None = None
        self._light: Light
        self._samples: dict[tuple[int, int], Samples] = {}

    def switch_lamps(self, shares: NDArray[np.float32], colours: NDArray[np.float32]) -> None:
        """Sets what each street lamp gives of its light, (S,), and its tint, (S, 3): 0 for none, 1 for all."""
        table = self._all_lamps.copy()
        table[:, 6:] *= shares[:, None] * colours
        self._street_lamps = table[shares > 0.0]

    def rgb(self, scene: Scene, camera: Camera) -> Bytes:
        """The scene in colour."""
        return self.render(scene, [("rgb", camera)])[0]

    def depth(self, scene: Scene, camera: Camera) -> Bytes:
        """Metres along the camera's axis, in CARLA's 24-bit code: (R + 256 G + 65536 B) / (2^24 - 1) * 1000."""
        return self.render(scene, [("depth", camera)])[0]

    def semantic(self, scene: Scene, camera: Camera) -> Bytes:
        """CARLA's semantic tag of each pixel, in the red channel; green and blue are 0."""
        return self.render(scene, [("semantic", camera)])[0]

    def render(self, scene: Scene, views: Sequence[tuple[Picture, Camera]]) -> list[Bytes]:
        """Several pictures of one scene; the work on the actors and on the weather is done once.

        Actors whose pose or extents are not finite are left out.
        Raises ValueError for an unknown picture or an unknown look of an actor.
        """
        unknown = sorted({kind for kind, _ in views} - set(PICTURES))
        if unknown:
            raise ValueError(f"unknown picture {unknown[0]!r}; known: {', '.join(PICTURES)}")
        scene = _finite(scene)
        seen_from = [view_of(camera, self._level(camera)) for _, camera in views]
        chosen = in_sight(scene, seen_from)
        actors, ids = place(scene, chosen), scene.actor_id[chosen]
        return [self._take(kind, scene, actors, ids, view) for (kind, _), view in zip(views, seen_from, strict=True)]

    def _level(self, camera: Camera) -> float:
        """Height of the terrain at a camera."""
        return self.road_map.terrain(camera.pose.x, camera.pose.y)

    def _take(self, kind: str, scene: Scene, actors: Triangles, ids: NDArray[np.uint32], view: View) -> Bytes:
        out = np.empty((view.height, view.width, 4), np.uint8)
        if kind == "rgb":
            self._take_rgb(scene, actors, view, out)
            return out
        view = view._replace(supersampling=1)
        samples, _ = self._drawn(actors, view)
        if kind == "depth":
            image.paint_depth(view, self.road_map.ground, samples, out)
        else:
            image.paint_tags(view, self.road_map.ground, self.scenery.triangles, actors, samples, out)
        if kind == "instance":
            paint_owners(samples, self._objects, owners(actors, ids), out)
        elif kind == "normals":
            paint_normals(view, self.road_map.ground, samples, self.scenery.triangles, actors, out)
        return out

    @cached_property
    def _objects(self) -> NDArray[np.uint16]:
        """(T,): the number of the map's object that each of its triangles belongs to."""
        scenery = self.scenery.triangles
        return owners(scenery, FIRST_OBJECT + np.arange(len(scenery.ball)))

    def _take_rgb(self, scene: Scene, actors: Triangles, view: View, out: Bytes) -> None:
        light = self._light_for(scene.weather)
        samples, drawn = self._drawn(actors, view)
        ground = self.road_map.ground
        cast(view, ground, light, self.scenery.casters, samples)
        cast(view, ground, light, casters_of(scene, ground), samples)
        lamps = lamps_of(scene, self._street_lamps, view, light.glow)
        colours = np.empty((view.height, view.width, 3), np.float32)
        lit = np.full((drawn, 3), -1.0, np.float32)
        image.paint_rgb(
            view, ground, light, self._noise, self._panorama, self._skyline, lamps,
            self.scenery.triangles, actors, samples, scene.time, lit, colours,
        )  # fmt: skip
        effects.shine(view, light, self.scenery.triangles, actors, samples, scene.time, colours)
        effects.rain(view, light, scene.time, colours)
        image.to_bytes(colours, out)

    def _light_for(self, weather: Weather) -> Light:
        if weather != self._weather:
            self._light, self._weather = light_of(weather), weather
            sky.paint(self._light, self._noise, self._panorama)
        return self._light

    def _drawn(self, actors: Triangles, view: View) -> tuple[Samples, int]:
        """The depth buffer of a view, drawn anew, and the number of triangles drawn.

        The arrays are kept for the next picture of that size.
        """
        size = (view.height * view.supersampling, view.width * view.supersampling)
        scenery = self.scenery.triangles
        triangles = len(scenery.material) + len(actors.material)
        samples = self._samples.get(size)
        if samples is None or len(samples.drawn) < triangles:
            samples = self._samples[size] = samples_of(view, triangles + SPARE)
            if len(self._samples) > SIZES_KEPT:
                del self._samples[next(iter(self._samples))]
        samples.nearness.fill(0.0)
        samples.seen.fill(-1)
        samples.shadow.fill(0)
        count = draw(view, scenery, 0, 0, samples)
        count = draw(view, actors, len(scenery.material), count, samples)
        if self.road_map.ground.hilly:
            bury(view, self.road_map.ground, samples)
        return samples, count


def _finite(scene: Scene) -> Scene:
    """The scene without actors that are nowhere."""
    kept = np.isfinite(scene.pose).all(axis=1) & np.isfinite(scene.half_extents).all(axis=1)
    if kept.all():
        return scene
    columns = ("pose", "half_extents", "look", "colour", "lights", "tag", "actor_id", "steer", "walked")
    return replace(scene, **{name: getattr(scene, name)[kept] for name in columns})
