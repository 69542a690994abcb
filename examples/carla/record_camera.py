"""Record what a car's cameras see, frame by frame in synchronous mode, as image files.

    python examples/carla/record_camera.py --frames 60 --out recording/

Writes `rgb_000123.png` and `labels_000123.png` (semantic segmentation in Cityscapes colours) per simulated frame.
"""

from __future__ import annotations

import argparse
import queue
from pathlib import Path

import carla


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=2000)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--size", default="320x180", help="pixels, WIDTHxHEIGHT")
    parser.add_argument("--out", type=Path, default=Path("recording"))
    arguments = parser.parse_args()
    width, height = (int(side) for side in arguments.size.split("x"))
    arguments.out.mkdir(parents=True, exist_ok=True)

    client = carla.Client(arguments.host, arguments.port)
    client.set_timeout(20.0)
    world = client.get_world()
    before = world.get_settings()
    settings = world.get_settings()
    settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.05
    world.apply_settings(settings)
    world.set_weather(carla.WeatherParameters.CloudySunset)
    actors: list[carla.Actor] = []
    try:
        library = world.get_blueprint_library()
        car = world.spawn_actor(library.find("vehicle.lincoln.mkz_2020"), world.get_map().get_spawn_points()[0])
        actors.append(car)
        streams: dict[str, queue.Queue[carla.Image]] = {}
        for name, kind in (("rgb", "sensor.camera.rgb"), ("labels", "sensor.camera.semantic_segmentation")):
            blueprint = library.find(kind)
            blueprint.set_attribute("image_size_x", str(width))
            blueprint.set_attribute("image_size_y", str(height))
            camera = world.spawn_actor(blueprint, carla.Transform(carla.Location(x=1.2, z=1.8)), attach_to=car)
            actors.append(camera)
            streams[name] = queue.Queue()
            camera.listen(streams[name].put)
        car.apply_control(carla.VehicleControl(throttle=0.5))
        for _ in range(arguments.frames):
            frame = world.tick()
            save(streams, frame, arguments.out)
        print(f"{2 * arguments.frames} pictures in {arguments.out}")
    finally:
        for actor in reversed(actors):
            if isinstance(actor, carla.Sensor):
                actor.stop()
            actor.destroy()
        world.apply_settings(before)


def save(streams: dict[str, queue.Queue[carla.Image]], frame: int, folder: Path) -> None:
    """Waits for the pictures of one frame and writes them."""
    for name, stream in streams.items():
        image = stream.get(timeout=10.0)
        while image.frame < frame:  # taken before this recording began
            image = stream.get(timeout=10.0)
        if name == "labels":
            image.convert(carla.ColorConverter.CityScapesPalette)
        image.save_to_disk(str(folder / f"{name}_{frame:06d}.png"))


if __name__ == "__main__":
    main()
