"""Draws a dm_control scene, faster than `physics.render` and with the same pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np
from dm_control import _render
from dm_control.mujoco import wrapper

if TYPE_CHECKING:
    from numpy.typing import NDArray

RENDER_MODES = ("exact", "fast")
FAST_QUALITY = {"shadowsize": 512, "numslices": 14, "numstacks": 8}
MAX_GEOMS = 1000  # a slack tendon alone is some thirty


class Camera:
    """Draws a fixed camera of `physics` at one size.

    render: `exact` gives the pixels of `physics.render(height, width, camera_id)`; `fast` is nearly identical and
    four to six times as fast: a coarser shadow map, bodies made of fewer triangles, no floor in the shadow map.
    floor_casts: whether `exact` draws the floor into the shadow map. Nothing lies below the floor to be shadowed, but
    at a body's silhouette multisampling evaluates the shadow beyond the body's surface, at times below the floor: one
    pixel in some thousand frames then differs by a few grey levels. False only where no body comes near the floor.
    """

    def __init__(
        self,
        physics: Any,
        height: int,
        width: int,
        *,
        camera_id: int = 0,
        render: str = "exact",
        floor_casts: bool = True,
    ) -> None:
        self._physics = physics
        self._floor_casts = floor_casts and render == "exact"
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._pixels = np.empty((height, width, 3), np.uint8)
        self._scene = mujoco.MjvScene(physics.model.ptr, MAX_GEOMS)
        self._option = mujoco.MjvOption()
        self._option.flags[mujoco.mjtVisFlag.mjVIS_RANGEFINDER] = False  # as dm_control: no beams of light
        self._perturb = mujoco.MjvPerturb()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = camera_id
        self._gl = _render.Renderer(width, height)
        self._context = self._make_context(height, width, render)

    def _make_context(self, height: int, width: int, render: str) -> Any:
        """A drawing context with a buffer of the image's size, where dm_control's own is 640 by 480."""
        visual = self._physics.model.vis
        settings = [(visual.global_, "offheight", height), (visual.global_, "offwidth", width)]
        if render == "fast":
            settings += [(visual.quality, name, value) for name, value in FAST_QUALITY.items()]
        saved = [(group, name, getattr(group, name)) for group, name, _ in settings]
        _assign(settings)
        try:  # the model's settings are read by this call only
            return wrapper.MjrContext(self._physics.model, self._gl)
        finally:
            _assign(saved)

    def frame(self) -> NDArray[np.uint8]:
        """The picture of the present state: uint8 `(height, width, 3)`, a new array."""
        model, data = self._physics.model.ptr, self._physics.data.ptr
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(model, data, self._option, self._perturb, self._camera, everything, self._scene)
        if not self._floor_casts:
            self._keep_planes_out_of_shadow_map()
        with self._gl.make_current() as gl:
            gl.call(self._draw)
        return np.array(self._pixels[::-1])  # OpenGL's first row is the bottom one

    def update_terrain(self) -> None:
        """Takes over the model's height fields, of which the graphics card has a copy; a reset may change them."""
        if self._physics.model.nhfield:
            with self._gl.make_current() as gl:
                gl.call(self._upload_terrain)

    def _upload_terrain(self) -> None:
        for index in range(self._physics.model.nhfield):
            mujoco.mjr_uploadHField(self._physics.model.ptr, self._context.ptr, index)

    def _keep_planes_out_of_shadow_map(self) -> None:
        for geom in self._scene.geoms[: self._scene.ngeom]:
            if geom.type == mujoco.mjtGeom.mjGEOM_PLANE:
                geom.category = mujoco.mjtCatBit.mjCAT_DECOR  # decoration casts no shadow; nothing else reads this

    def _draw(self) -> None:
        mujoco.mjr_render(self._rect, self._scene, self._context.ptr)
        mujoco.mjr_readPixels(self._pixels, None, self._rect, self._context.ptr)

    def close(self) -> None:
        """Frees the OpenGL context."""
        self._context.free()


def _assign(settings: list[tuple[Any, str, int]]) -> None:
    for group, name, value in settings:
        setattr(group, name, value)
