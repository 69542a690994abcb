"""Who else is on the road: the vehicles and pedestrians of each scenario, by the `carla` client, for any server.

Everything is drawn from the episode's generator, in a fixed order: the same seed gives the same traffic.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import carla
import numpy as np

from suites.carla.task.scenarios import CAST

LIFT = 0.3  # metres above the road at which actors begin
BAY = 7.0  # metres from one parked vehicle to the next
STREET = 260.0  # metres without a junction that `gp` asks for
NOTICE = (1.2, 2.2)  # seconds before the ego would arrive that a pedestrian sets off
NEAR = 8.0  # metres from which it sets off however slow the ego is


@dataclass
class Walk:
    """A pedestrian's way: straight on for `length` metres once the ego is near `place`.

    notice: seconds before arrival, at the ego's speed, at which it sets off; inf: at once.
    """

    actor: Any
    place: Any  # carla.Location, on the ego's lane
    direction: Any  # carla.Vector3D
    speed: float
    length: float
    notice: float
    origin: Any = None  # where it set off; None: it waits

    def go_on(self, ego: Any, speed: float) -> None:
        """Sets off or stops when it is time. ego: carla.Location; speed: the ego's, in m/s."""
        if self.origin is None:
            if ego.distance(self.place) <= max(NEAR, self.notice * speed):
                self.origin = self.actor.get_location()
                self.actor.apply_control(carla.WalkerControl(self.direction, self.speed))
        elif self.speed and self.actor.get_location().distance(self.origin) >= self.length:
            self.speed = 0.0
            self.actor.apply_control(carla.WalkerControl(self.direction, 0.0))


class Vehicle(NamedTuple):
    """A planned vehicle. drives: whether it does; kph: wanted speed, 0 for the limit; changes: of lane, per minute."""

    blueprint: Any
    place: Any  # carla.Transform
    drives: bool = False
    kph: float = 0.0
    changes: float = 0.0


class Walker(NamedTuple):
    """A planned pedestrian; `begin` makes its `Walk`. stands: carla.Transform."""

    blueprint: Any
    stands: Any
    place: Any
    direction: Any
    speed: float
    length: float
    notice: float

    def begin(self, actor: Any) -> Walk:
        return Walk(actor, *self[2:])


@dataclass
class Stage:
    """An empty world to be filled. rng: of the episode; embedded: whether the server drives by itself."""

    world: Any
    map: Any
    rng: np.random.Generator
    embedded: bool
    vehicles: list[Vehicle] = field(default_factory=list)
    walkers: list[Walker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.library = self.world.get_blueprint_library()

    def blueprint(self, *kinds: str) -> Any:
        """The blueprint of a vehicle of one of the kinds (`base_type`), drawn, in a drawn colour."""
        blueprint = self.draw([b for b in self._known("vehicle.*") if b.get_attribute("base_type") in kinds])
        if blueprint.has_attribute("color"):
            blueprint.set_attribute("color", self.draw(blueprint.get_attribute("color").recommended_values))
        return blueprint

    def _known(self, kind: str) -> list[Any]:
        """The blueprints to draw from, by their ids."""
        found = sorted(self.library.filter(kind), key=lambda b: str(b.id))
        return [b for b in found if b.id in CAST] if self.embedded else found

    def draw(self, items: Any) -> Any:
        """One of the items, drawn."""
        return items[int(self.rng.integers(len(items)))]

    def park(self, place: Any, *kinds: str) -> None:
        """Plans a vehicle that stands still."""
        self.vehicles.append(Vehicle(self.blueprint(*kinds), raised(place)))

    def drive(self, place: Any, kph: float, changes: float, *kinds: str) -> None:
        """Plans a vehicle that drives."""
        self.vehicles.append(Vehicle(self.blueprint(*kinds), raised(place), True, kph, changes))

    def walk(
        self, start: Any, place: Any, direction: Any, speed: float, length: float, notice: float, ages: str = ""
    ) -> None:
        """Plans a pedestrian at `start` (carla.Location); the rest as in `Walk`. ages: `child`, `adult`, or any."""
        walkers = self._known("walker.pedestrian.*")
        blueprint = self.draw([b for b in walkers if str(b.get_attribute("age")).startswith(ages)])
        if blueprint.has_attribute("is_invincible"):
            blueprint.set_attribute("is_invincible", "false")
        yaw = math.degrees(math.atan2(direction.y, direction.x))
        stands = carla.Transform(start + carla.Location(z=1.0), carla.Rotation(yaw=yaw))
        self.walkers.append(Walker(blueprint, stands, place, direction, speed, length, notice))


def raised(place: Any) -> Any:
    """The same transform, a little above the ground."""
    return carla.Transform(place.location + carla.Location(z=LIFT), place.rotation)


def along(waypoint: Any, metres: float) -> Any:
    """The waypoint `metres` ahead, on the first branch at forks; None where the lane ends."""
    ahead = waypoint.next(metres) if metres > 0 else [waypoint]
    return ahead[0] if ahead else None


def beside(waypoint: Any, right: float) -> Any:
    """The location `right` metres to the right of a waypoint."""
    place = waypoint.transform
    return place.location + right * place.get_right_vector()


def any_spawn_point(stage: Stage) -> Any:
    """The waypoint of a drawn spawn point."""
    return stage.map.get_waypoint(stage.draw(stage.map.get_spawn_points()).location)


def highway(stage: Stage, ego: Any) -> None:
    """3 to 10 vehicles within 220 m ahead, on all lanes, at 40 to 75 km/h where 90 are allowed."""
    lanes = [ego]
    for side in ("get_left_lane", "get_right_lane"):
        lane = getattr(ego, side)()
        while lane and lane.lane_type == carla.LaneType.Driving and lane.lane_id * ego.lane_id > 0:
            lanes.append(lane)
            lane = getattr(lane, side)()
    for slot in range(int(stage.rng.integers(3, 11))):
        place = along(stage.draw(lanes), 25.0 + 20.0 * slot + float(stage.rng.uniform(0, 6)))
        kph, changes = stage.rng.uniform(40, 75), stage.rng.uniform(0, 3)
        if place:
            stage.drive(place.transform, float(kph), float(changes), "car", "van", "truck")


def long_street(stage: Stage) -> Any:
    """A spawn point with a long way to the next junction."""
    tried = [any_spawn_point(stage) for _ in range(40)]
    return max(tried, key=street_ahead)


def street_ahead(start: Any) -> float:
    """Metres without junction, at most `STREET`."""
    metres, waypoint = 0.0, start
    while metres < STREET and waypoint and not waypoint.is_junction:
        waypoint, metres = along(waypoint, 10.0), metres + 10.0
    return metres


def ghost_pedestrians(stage: Stage, ego: Any) -> None:
    """Parked vehicles on both sides; at three places a pedestrian steps out from behind one. No other traffic."""
    reach = street_ahead(ego)
    bays = [(metres, bay) for metres in np.arange(12.0, reach, BAY) if (bay := _bay(along(ego, float(metres))))]
    thirds = [[i for i, (at, _) in enumerate(bays) if low <= at / reach < low + 0.24] for low in (0.1, 0.4, 0.7)]
    places = {int(stage.draw(third)): None for third in thirds if third}
    kept_free = {metres + BAY for metres, _ in (bays[i] for i in places)}
    for i, (metres, bay) in enumerate(bays):
        lane = along(ego, float(metres))
        if i in places:
            stage.park(bay.transform, "van")
            _step_out(stage, lane, bay)
        elif metres not in kept_free and stage.rng.random() < 0.7:
            stage.park(bay.transform, "car", "van")
        opposite = _opposite_bay(lane)
        if opposite and i not in places and metres not in kept_free and stage.rng.random() < 0.3:
            stage.park(opposite.transform, "car")


def _step_out(stage: Stage, lane: Any, bay: Any) -> None:
    """A pedestrian just beyond the parked vehicle, which hides them from the ego."""
    ahead = 4.2 + float(stage.rng.uniform(0, 0.8))  # the longest van is 3.2 m from its middle to its nose
    start = bay.transform.location + ahead * bay.transform.get_forward_vector()
    start += float(stage.rng.uniform(0.0, 0.5)) * bay.transform.get_right_vector()
    right = bay.transform.get_right_vector()
    away = lane.transform.location.distance(bay.transform.location)
    place = lane.transform.location + ahead * lane.transform.get_forward_vector()
    speed, notice = (float(stage.rng.uniform(*span)) for span in ((1.1, 2.0), NOTICE))
    stage.walk(start, place, carla.Vector3D(-right.x, -right.y, 0.0), speed, away + 8.0, notice)


def _bay(lane: Any) -> Any:
    """Where one can park to the right of a lane, or None."""
    side = lane and lane.get_right_lane()
    fits = side and side.lane_type in (carla.LaneType.Parking, carla.LaneType.Shoulder) and side.lane_width > 1.9
    return side if fits else None


def _opposite_bay(lane: Any) -> Any:
    """Where one can park on the other side of a two-way street, or None."""
    oncoming = lane.get_left_lane()
    if not oncoming or oncoming.lane_type != carla.LaneType.Driving or oncoming.lane_id * lane.lane_id > 0:
        return None
    return _bay(oncoming)


def suburb(stage: Stage, ego: Any) -> None:
    """4 to 8 vans, trucks, bicycles, motorbikes and cars on winding roads, people on the verges, dusk and rain."""
    points = stage.map.get_spawn_points()
    count, here = int(stage.rng.integers(4, 9)), ego.transform.location
    taken = [here]
    for index in stage.rng.permutation(len(points)):
        place = points[int(index)]
        if len(taken) > count:
            break
        if min(place.location.distance(other) for other in taken) > 22.0:
            taken.append(place.location)
            kind = str(stage.rng.choice(["van", "motorcycle", "bicycle", "car"]))
            kph = float(stage.rng.uniform(12, 20)) if kind == "bicycle" else float(stage.rng.uniform(20, 32))
            stage.drive(place, kph, 0.0, kind)
    for _ in range(5):
        waypoint = along(ego, float(stage.rng.uniform(15, 150)))
        if waypoint and not waypoint.is_junction:
            start = beside(waypoint, waypoint.lane_width / 2 + 2.2)
            forward = waypoint.transform.get_forward_vector()
            sense = float(stage.rng.choice([-1.0, 1.0]))
            way = carla.Vector3D(sense * forward.x, sense * forward.y, 0.0)
            speed, length = float(stage.rng.uniform(0.8, 1.5)), _beside_roads(stage, start, way)
            if length > 0.0:
                stage.walk(start, start, way, speed, length, math.inf)


def _beside_roads(stage: Stage, start: Any, way: Any) -> float:
    """Metres, at most 12, that lead from `start` along a straight line without coming within a metre of a lane."""
    for metres in range(13):
        point = start + metres * way
        lane = stage.map.get_waypoint(point)
        if lane.transform.location.distance(carla.Location(point.x, point.y, 0.0)) < lane.lane_width / 2 + 1.0:
            return max(0.0, metres - 1.0)
    return 12.0


STAGES: dict[str, tuple[Callable[[Stage], Any], Callable[[Stage, Any], None]]] = {
    "hw": (any_spawn_point, highway),
    "gp": (long_street, ghost_pedestrians),
    "a": (any_spawn_point, suburb),
}
"""By scenario: what draws where the ego starts (a waypoint), and what fills the stage round it."""
