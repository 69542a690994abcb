"""Episodes of one scenario on a CARLA server, through the client library: see `client` for the process around it."""

from __future__ import annotations

import importlib.metadata
import math
from typing import Any

import carla
import numpy as np
from numpy.typing import NDArray

from suites.carla.task.episode import DT, Tick
from suites.carla.task.population import MANAGER_PORT, clear, populate
from suites.carla.task.privileged import Privileged
from suites.carla.task.rig import Rig, Size
from suites.carla.task.scenarios import SCENARIOS
from suites.carla.task.stages import STAGES, Stage, Walk

EGO = "vehicle.tesla.model3"
EGO_LIFT = 0.3  # metres above the road at which the ego begins
SETTLE = 10  # ticks before the first picture: vehicles come to rest on their wheels, traffic sets off
CLOCK = 3  # ticks of an empty embedded world, so that every episode begins at the same simulated time
RELEASES = ("0.9.15", "0.9.16")


class Simulator:
    """Episodes of one scenario on a server, tick by tick.

    Args:
        host: of the server.
        port: its RPC port.
        scenario: a name of `SCENARIOS`.
        cameras: 1, 3 or 5 side by side.
        size: pixels of a camera's side.
        private: whether ticks have the state observation.
        timeout: seconds after which a call to the server fails.

    Raises:
        RuntimeError: the server does not answer, or its release is not supported or not the client's.
    """

    def __init__(
        self, host: str, port: int, scenario: str, *, cameras: int, size: int, private: bool, timeout: float
    ) -> None:
        self._scenario, self._cameras, self._private, self._timeout = SCENARIOS[scenario], cameras, private, timeout
        # One thread for all streams: a collision is then heard before the picture that was taken after it.
        self._client = carla.Client(host, port, 1)
        self._client.set_timeout(timeout)
        self.release = _checked_release(self._client.get_server_version())
        self._world = self._client.get_world()
        self.embedded = bool(self._world.get_blueprint_library().find(EGO).has_attribute("driver"))
        wanted = self._scenario.map if self.embedded else self._scenario.real_map
        if not self._world.get_map().name.endswith(wanted):
            self._world = self._client.load_world(wanted)
        self._settings_found = self._world.get_settings()
        settings = self._world.get_settings()
        settings.synchronous_mode, settings.fixed_delta_seconds = True, DT
        self._world.apply_settings(settings)
        self._obs_size: Size = (size, cameras * size)
        self._sizes = [self._obs_size]
        self._rig = Rig(cameras)
        self._walks: list[Walk] = []
        self._ego: Any = None

    def describe(self) -> tuple[str, bool]:
        """(release of the server, whether it is an embedded one)."""
        return self.release, self.embedded

    def reset(self, seed: int) -> Tick:
        """Begins the episode of a seed."""
        self._clear()
        rng = np.random.default_rng(seed)
        if self.embedded:
            self._world = self._client.reload_world(False)  # rain and indicators follow the clock
            for _ in range(CLOCK):
                self._world.tick()
        self._map = self._world.get_map()
        self._world.set_weather(carla.WeatherParameters(**self._scenario.weather))
        for light in self._world.get_actors().filter("traffic.traffic_light*"):
            light.set_state(carla.TrafficLightState.Green)
            light.freeze(True)
        self._people(rng)
        self._place = self._ego.get_location()
        return self._tick()

    def step(self, steer: float, pedal: float) -> Tick:
        """One control step. pedal: throttle where positive, brake where negative; both in -1..1."""
        self._ego.apply_control(
            carla.VehicleControl(throttle=max(pedal, 0.0), brake=max(-pedal, 0.0), steer=float(steer))
        )
        if not self._ego.is_alive:
            raise RuntimeError("the ego vehicle is gone: another client took the world")
        speed = self._ego.get_velocity().length()
        for walk in self._walks:
            walk.go_on(self._place, speed)
        tick = self._tick()
        if self._world.get_snapshot().find(self._ego.id) is None:  # `is_alive` says True where others destroyed it
            raise RuntimeError("the ego vehicle is gone: another client has destroyed it")
        return tick

    def state(self) -> NDArray[np.float32]:
        """What a scripted driver is told, float32 (3, 25, 7)."""
        return self._view.look()

    def picture(self, height: int, width: int) -> NDArray[np.uint8] | None:
        """The present view at another size, uint8 (height, width, 3); None if no camera of that size looks yet."""
        return self._rig.picture((height, width))

    def watch(self, height: int, width: int) -> None:
        """Keeps a camera of that size as well, from the next episode on."""
        if (height, width) not in self._sizes:
            self._sizes.append((height, width))

    def patience(self, timeout: float) -> None:
        """Sets the seconds after which a call to the server fails."""
        self._timeout = timeout
        self._client.set_timeout(timeout)

    def close(self) -> None:
        """Leaves the world as it was found, less what others had left in it."""
        self._clear()
        self._world.apply_settings(self._settings_found)

    def _clear(self) -> None:
        if not self.embedded and self._ego:
            self._client.get_trafficmanager(MANAGER_PORT).set_synchronous_mode(False)
        self._rig.stop()
        clear(self._client, self._world)
        self._rig, self._walks, self._ego = Rig(self._cameras), [], None

    def _people(self, rng: np.random.Generator) -> None:
        """Spawns the ego, the others and the sensors, and lets them settle."""
        begin, fill = STAGES[self._scenario.name]
        stage = Stage(self._world, self._map, rng, self.embedded)
        start = begin(stage)
        place = start.transform
        place.location.z += EGO_LIFT
        blueprint = stage.library.find(EGO)
        blueprint.set_attribute("role_name", "hero")
        self._ego = self._world.spawn_actor(blueprint, place)
        self._ego.apply_control(carla.VehicleControl(brake=1.0))
        fill(stage, start)
        others, self._walks = populate(self._client, self._world, stage)
        for _ in range(SETTLE):
            self._world.tick()
        self._view = Privileged(self._map, self._ego, others, rng)
        self._rig.attach(self._world, self._ego, self._sizes)

    def _tick(self) -> Tick:
        """Ticks, and gathers what there is to see."""
        frame = self._world.tick()
        self._rig.await_images(frame, self._timeout)
        contacts = self._rig.contacts(frame)
        transform, velocity = self._ego.get_transform(), self._ego.get_velocity()
        here = transform.location
        moved, self._place = here.distance(self._place), here
        lane = self._map.get_waypoint(here, False)
        # Lanes cross in a junction; there the car's own heading says where it is going.
        course = transform if lane is None or lane.is_junction else lane.transform
        ahead, picture = course.get_forward_vector(), self._rig.picture(self._obs_size)
        assert picture is not None
        return Tick(
            picture=picture,
            state=self._view.look() if self._private else None,
            lane_speed=velocity.x * ahead.x + velocity.y * ahead.y,
            speed=math.hypot(velocity.x, velocity.y),
            moved=moved,
            on_road=lane is not None,
            contacts=contacts,
        )


def _checked_release(server: str) -> str:
    """The server's release, if it is the client's."""
    client = importlib.metadata.version("carla")
    if server != client or server not in RELEASES:
        raise RuntimeError(
            f"the CARLA server is release {server}, the installed client {client}; both must be one of "
            f"{', '.join(RELEASES)}. Start that server, or install its client: pip install carla=={server}"
        )
    return server
