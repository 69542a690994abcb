"""The sensors of the embedded CARLA server, by blueprint."""

from __future__ import annotations

from suites.carla.server.sensors.base import Sensor
from suites.carla.server.sensors.cameras import (
    Camera,
    CosmosCamera,
    DepthCamera,
    InstanceCamera,
    NormalsCamera,
    RgbCamera,
    SemanticCamera,
)
from suites.carla.server.sensors.clouds import Lidar, Radar, SemanticLidar
from suites.carla.server.sensors.dvs import DvsCamera
from suites.carla.server.sensors.events import CollisionSensor, LaneInvasion, Obstacle
from suites.carla.server.sensors.flow import OpticalFlowCamera
from suites.carla.server.sensors.navigation import Gnss, Imu
from suites.carla.server.things.actors import Actor

SENSOR_CLASSES: dict[str, type[Actor]] = {
    "sensor.camera.optical_flow": OpticalFlowCamera,
    "sensor.camera.cosmos_visualization": CosmosCamera,
    "sensor.camera.dvs": DvsCamera,
    "sensor.camera.instance_segmentation": InstanceCamera,
    "sensor.camera.normals": NormalsCamera,
    "sensor.camera.rgb": RgbCamera,
    "sensor.camera.depth": DepthCamera,
    "sensor.camera.semantic_segmentation": SemanticCamera,
    "sensor.lidar.ray_cast": Lidar,
    "sensor.lidar.ray_cast_semantic": SemanticLidar,
    "sensor.other.collision": CollisionSensor,
    "sensor.other.gnss": Gnss,
    "sensor.other.imu": Imu,
    "sensor.other.lane_invasion": LaneInvasion,
    "sensor.other.obstacle": Obstacle,
    "sensor.other.radar": Radar,
}

__all__ = ["SENSOR_CLASSES", "Camera", "Sensor"]
