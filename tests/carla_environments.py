"""Users' environments for CARLA, unmodified: run in a process of its own, `carla_environments.py NAME FOLDER PORT`.

We ship none of them: FOLDER has a clone of the one that is named. They were written for clients 0.9.6 to 0.9.11. What
client 0.9.16 calls otherwise, and what stood at a fixed place of a town of CARLA's, is put right in `_older_client`:
a user does so in the environment itself.
"""

from __future__ import annotations

import random
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import carla
import numpy as np

ROUNDS, STEPS = 2, 12
ROAD_OF_TOWN04 = 45  # where deep_bisim4control's cars start; ours is another


def _older_client() -> None:
    """Gives the client the names it had."""
    for axis in "xyz":  # of a lidar's point, before 0.9.10
        setattr(carla.LidarDetection, axis, property(lambda found, axis=axis: getattr(found.point, axis)))
    carla.Vehicle.set_velocity = carla.Vehicle.set_target_velocity  # before 0.9.10
    carla.Vehicle.set_angular_velocity = carla.Vehicle.set_target_angular_velocity
    name, waypoint_of = carla.Map.name, carla.Map.get_waypoint_xodr
    carla.Map.name = property(lambda found: name.fget(found).rsplit("/", 1)[-1])  # before 0.9.12

    def waypoint(found: Any, road_id: int, lane_id: int, s: float) -> Any:
        return waypoint_of(found, _long_road(found) if road_id == ROAD_OF_TOWN04 else road_id, lane_id, s)

    carla.Map.get_waypoint_xodr = waypoint
    cross = np.cross  # numpy before 2.4 took vectors in the plane, too
    np.cross = lambda a, b: a[0] * b[1] - a[1] * b[0] if len(a) == 2 else cross(a, b)


def _long_road(world_map: Any) -> int:
    ends = [(w.road_id, w.lane_id) for w, _ in world_map.get_topology()]
    lanes = {road: {lane for other, lane in ends if other == road} for road, _ in ends}
    get = carla.Map.get_waypoint_xodr
    return next(road for road, found in lanes.items() if found >= {-1, -2, -3, -4} and get(world_map, road, -1, 300.0))


def gym_carla(folder: Path, port: int) -> None:
    """cjy1992/gym-carla: camera, lidar, a bird's eye view, traffic and walkers."""
    sys.path.insert(0, str(folder / "gym-carla"))
    from gym_carla.envs.carla_env import CarlaEnv

    env = CarlaEnv({
        "number_of_vehicles": 20, "number_of_walkers": 5, "display_size": 256, "max_past_step": 1, "dt": 0.1,
        "discrete": False, "discrete_acc": [-3.0, 0.0, 3.0], "discrete_steer": [-0.2, 0.0, 0.2],
        "continuous_accel_range": [-3.0, 3.0], "continuous_steer_range": [-0.3, 0.3],
        "ego_vehicle_filter": "vehicle.lincoln*", "port": port, "town": "Town03", "task_mode": "random",
        "max_time_episode": 1000, "max_waypt": 12, "obs_range": 32, "lidar_bin": 0.125, "d_behind": 12,
        "out_lane_thres": 2.0, "desired_speed": 8, "max_ego_spawn_times": 200, "display_route": True, "pixor_size": 64,
        "pixor": False,
    })  # fmt: skip
    for _ in range(ROUNDS):
        seen = env.reset()
        for _ in range(STEPS):
            seen, reward, _, info = env.step([2.0, 0.0])
        assert {name: part.shape for name, part in seen.items()} == {
            "camera": (256, 256, 3), "lidar": (256, 256, 3), "birdeye": (256, 256, 3), "state": (4,),
        }  # fmt: skip
        assert seen["camera"].std() > 10.0 and seen["lidar"].any() and seen["birdeye"].any()
        lateral, turned, speed, _ = seen["state"]
        assert abs(lateral) < 1.5 and abs(turned) < 0.3 and 0.5 < speed < 8.0 and np.isfinite(reward)
        assert len(info["waypoints"]) == 12


def deep_bisim4control(folder: Path, port: int) -> None:
    """facebookresearch/deep_bisim4control: five cameras among the Traffic Manager's cars on a highway."""

    class Agent:  # CARLA's own had this base until 0.9.11
        def __init__(self, vehicle: Any) -> None:
            self._vehicle, self._world = vehicle, vehicle.get_world()

        def _is_vehicle_hazard(self, vehicles: Any) -> tuple[bool, None]:
            return False, None

        _is_light_red = _is_vehicle_hazard

    class AgentState:
        NAVIGATING, BLOCKED_BY_VEHICLE, BLOCKED_RED_LIGHT = 1, 2, 3

    module = types.ModuleType("agents.navigation.agent")
    module.__dict__.update(Agent=Agent, AgentState=AgentState)
    sys.modules[module.__name__] = module
    below = "CARLA_0.9.8/PythonAPI/carla/agents/navigation"
    sys.path.insert(0, str(folder / "deep_bisim4control" / below))
    from carla_env import CarlaEnv

    env = CarlaEnv(changing_weather_speed=0.1, frame_skip=4, max_episode_steps=200, port=port)
    for _ in range(ROUNDS):
        env.reset()
        for _ in range(STEPS):
            seen, reward, _, _ = env.step(env.compute_steer_action())
        assert seen.shape == (3, 84, 252) and seen.std() > 10.0
        assert reward > 0.0 and env.dist_s > 1.0
        assert len(env.world.get_actors().filter("vehicle.*")) > 10
    env.finish()


def carla_roach(folder: Path, port: int) -> None:
    """zhejz/carla-roach: which light holds for a vehicle, by stop lines found from trigger volumes."""
    package = types.ModuleType("carla_gym")  # without what its own imports need
    package.__path__ = [str(folder / "carla-roach" / "carla_gym")]
    sys.modules["carla_gym"] = package
    from carla_gym.utils.traffic_light import TrafficLightHandler as Handler

    client = carla.Client("localhost", port)
    client.set_timeout(30.0)
    for town, lights in (("street", 3), ("suburb", 4)):
        world = client.load_world(town)
        settings = world.get_settings()
        settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.1
        world.apply_settings(settings)
        Handler.reset(world)
        assert Handler.num_tl == lights
        car = world.spawn_actor(world.get_blueprint_library().find("vehicle.audi.tt"), spot(world))
        car.set_simulate_physics(False)
        for light, lines, paths in zip(
            Handler.list_tl_actor, Handler.list_stopline_wps, Handler.list_junction_paths, strict=True
        ):
            light.set_state(carla.TrafficLightState.Yellow)
            car.set_transform(lines[0].previous(6.0)[0].transform)
            world.tick()
            state, ahead, found = Handler.get_light_state(car)
            assert (state, found) == (carla.TrafficLightState.Yellow, light.id)
            assert 4.0 < ahead[0] < 8.0 and abs(ahead[1]) < 1.0
            assert len(lines) == 1 and lines[0].next(1.0)[0].is_junction and len(paths) == lights - 1
            light.set_state(carla.TrafficLightState.Red)
        world.tick()
        assert len(Handler.get_stopline_vtx(car.get_location(), 2)) >= 1
        settings.synchronous_mode = False
        world.apply_settings(settings)


def spot(world: Any) -> Any:
    return world.get_map().get_spawn_points()[0]


ENVIRONMENTS: dict[str, Callable[[Path, int], None]] = {
    "gym-carla": gym_carla, "deep_bisim4control": deep_bisim4control, "carla-roach": carla_roach,
}  # fmt: skip

if __name__ == "__main__":
    random.seed(0)
    np.random.seed(0)
    _older_client()
    ENVIRONMENTS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
    print("done", flush=True)
