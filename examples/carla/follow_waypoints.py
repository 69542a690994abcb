"""Drive a car along the lanes of the client's own map: waypoints ahead give the steering, a target speed the pedals.

python examples/carla/follow_waypoints.py --metres 300 --speed 40
"""

from __future__ import annotations

import argparse
import math

import carla


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=2000)
    parser.add_argument("--metres", type=float, default=300.0)
    parser.add_argument("--speed", type=float, default=40.0, help="km/h")
    arguments = parser.parse_args()

    client = carla.Client(arguments.host, arguments.port)
    client.set_timeout(20.0)
    world = client.get_world()
    world_map = world.get_map()
    before = world.get_settings()
    settings = world.get_settings()
    settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.05
    world.apply_settings(settings)
    car = world.spawn_actor(world.get_blueprint_library().find("vehicle.tesla.model3"), world_map.get_spawn_points()[0])
    try:
        world.tick()
        travelled, farthest, last = 0.0, 0.0, car.get_location()
        while travelled < arguments.metres:
            car.apply_control(control_of(car, world_map, arguments.speed / 3.6))
            world.tick()
            here = car.get_location()
            travelled += here.distance(last)
            farthest = max(farthest, world_map.get_waypoint(here).transform.location.distance(here))
            last = here
        print(f"{travelled:.0f} m, at most {farthest:.2f} m from the middle of the lane")
    finally:
        car.destroy()
        world.apply_settings(before)


def control_of(car: carla.Vehicle, world_map: carla.Map, wanted: float) -> carla.VehicleControl:
    """Pure pursuit of a waypoint 0.8 s ahead, and a proportional speed controller; `wanted` in m/s."""
    place, speed = car.get_transform(), car.get_velocity().length()
    reach = max(4.0, 0.8 * speed)
    following = world_map.get_waypoint(place.location).next(reach)
    if not following:
        return carla.VehicleControl(brake=1.0)
    target = following[0].transform.location - place.location
    ahead, right = place.get_forward_vector(), place.get_right_vector()
    angle = math.atan2(target.x * right.x + target.y * right.y, target.x * ahead.x + target.y * ahead.y)
    wheels = math.atan2(2.0 * 2.9 * math.sin(angle), reach)  # 2.9 m between the axles
    pedal = 0.4 * (wanted - speed)
    return carla.VehicleControl(
        throttle=min(max(pedal, 0.0), 0.8), brake=min(max(-pedal, 0.0), 0.5), steer=min(max(wheels / 1.2, -1.0), 1.0)
    )


if __name__ == "__main__":
    main()
