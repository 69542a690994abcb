"""The pictures of the embedded CARLA server: a software rasteriser."""

from __future__ import annotations

from suites.carla.render.renderer import Picture, Renderer
from suites.carla.render.scene import Camera, Look, Scene, Weather

__all__ = ["Camera", "Look", "Picture", "Renderer", "Scene", "Weather"]
