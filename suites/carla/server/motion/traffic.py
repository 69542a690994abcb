"""Vehicles that the server drives: they keep their lane and their gap, change lanes, take turns at junctions.

A client asks for it with the blueprint attribute `driver=server` and takes the vehicle over by sending any control.
Every vehicle has its own random numbers, from its `driver_seed`, so traffic does not depend on what else happens.
"""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suites.carla.maps import RoadMap
from suites.carla.server.motion import pilot
from suites.carla.server.motion.junctions import Junctions
from suites.carla.server.protocol.wire import VehicleControl
from suites.carla.server.things.actors import RED, YELLOW, Vehicle
from suites.carla.server.things.bodies import Bodies
from suites.carla.server.things.signals import Signals

PATH = 160.0  # metres planned ahead
REPLAN = 130.0  # metres left at which the path is extended
SIDEWAYS = 2.5  # m/s2 of lateral acceleration in bends
PAUSE = 4.0  # seconds between two lane changes
SIGNALLED = 2.5  # seconds the indicator goes on
SLOWER = 2.0  # m/s below the wanted speed from which a leader is worth overtaking
LEFT_BLINKER, RIGHT_BLINKER, BRAKE_LIGHT = 32, 16, 8


class Driver:
    """The driver of one vehicle.

    route: ids of the lanes from the present one on. path: (N, 4) x, y, metres along it, advised speed in m/s; at: index
    of the vehicle's place on it. wait: seconds until it may change lanes again.
    """

    def __init__(self, attributes: dict[str, str], lane: int, s: float) -> None:
        self.wanted = float(attributes["driver_speed"]) / 3.6
        self.headway = max(0.3, float(attributes["driver_gap"]))
        self.changes = float(attributes["driver_lane_changes"]) / 60.0  # a second
        self.random = random.Random(int(attributes["driver_seed"]))
        self.route = [lane]
        self.start = s  # metres of the first lane behind the path's beginning
        self.path: NDArray[np.float64] = np.zeros((0, 4))
        self.at = 0
        self.wait = PAUSE
        self.blinker = 0


class Traffic:
    """All server-driven vehicles of one world."""

    def __init__(self, road_map: RoadMap, signals: Signals) -> None:
        self._map = road_map
        self._signals = signals
        self._junctions = Junctions(road_map)
        self._pieces: dict[int, NDArray[np.float64]] = {}
        self._drivers: dict[Vehicle, Driver] = {}

    def drives(self, vehicle: Vehicle) -> bool:
        """Whether the server drives the vehicle."""
        return vehicle in self._drivers

    def join(self, vehicle: Vehicle, bodies: Bodies) -> None:
        """Drives the vehicle from now on, if its attributes ask for it and it stands by a lane."""
        if vehicle.attributes["driver"] != "server":
            return
        b = bodies.rows[vehicle.row]
        lane, s, _ = self._map.nearest_lane(b["x"], b["y"], b["yaw"])
        if lane >= 0:
            driver = self._drivers[vehicle] = Driver(vehicle.attributes, lane, s)
            self._plan(driver)

    def leave(self, vehicle: Vehicle) -> None:
        """Leaves the vehicle to the client."""
        if self._drivers.pop(vehicle, None):
            self._junctions.release(vehicle.id)
            vehicle.lights &= ~(LEFT_BLINKER | RIGHT_BLINKER | BRAKE_LIGHT)

    def drive(self, bodies: Bodies, delta: float) -> None:
        """Sets the controls of all driven vehicles for the next tick."""
        for vehicle, driver in self._drivers.items():
            self._drive(vehicle, driver, bodies, delta)

    def _drive(self, vehicle: Vehicle, driver: Driver, bodies: Bodies, delta: float) -> None:
        rows, row = bodies.rows, vehicle.row
        self._extend(vehicle, driver, rows[row]["half_x"])
        stop_at = self._stop_line(vehicle, driver, bodies)
        wanted = driver.wanted or math.inf
        driver.at, gap, ahead, speed = pilot.drive(rows, row, driver.path, driver.at, wanted, driver.headway, stop_at)
        b = rows[row]
        vehicle.control = driven_control(b)
        driver.wait -= delta
        if driver.wait <= PAUSE - SIGNALLED:
            driver.blinker = 0
        if driver.wait <= 0.0 and driver.changes > 0.0:
            self._consider_change(vehicle, driver, bodies, delta, gap, ahead, speed)
        lights = vehicle.lights & ~(LEFT_BLINKER | RIGHT_BLINKER | BRAKE_LIGHT)
        vehicle.lights = lights | driver.blinker | (BRAKE_LIGHT if b["brake"] > 0.02 else 0)

    def _stop_line(self, vehicle: Vehicle, driver: Driver, bodies: Bodies) -> float:
        """Metres along the path to the line where the vehicle must wait; inf when the way is free."""
        here = driver.path[driver.at, pilot.S] + driver.start
        ends = 0.0
        for lane_id in driver.route:
            lane = self._map.lanes[lane_id]
            begins, ends = ends, ends + lane.length
            if not lane.in_junction:
                light = self._signals.by_lane.get(lane_id)
                if light and ends > here and light.state_now in (RED, YELLOW):
                    return ends - driver.start
                continue
            if here >= ends + bodies.rows[vehicle.row]["half_x"]:
                self._junctions.release(vehicle.id, lane_id)
            elif not self._junctions.claim(vehicle.id, lane_id, begins - here, bodies.rows, vehicle.row):
                return begins - driver.start
            if begins - here > pilot.REACH:
                break
        return math.inf

    def _consider_change(
        self, vehicle: Vehicle, driver: Driver, bodies: Bodies, delta: float, gap: float, ahead: float, speed: float
    ) -> None:
        at_will = driver.random.random() < driver.changes * delta
        limit = driver.path[driver.at, pilot.SPEED]
        held_up = gap < 3.0 * max(speed, 5.0) and ahead < min(driver.wanted or limit, limit) - SLOWER
        if not (at_will or held_up) or speed < 3.0:
            return
        index, s = self._here(driver)
        lane, rows = self._map.lanes[driver.route[index]], bodies.rows
        sides = [(lane.left, lane.marking_left, LEFT_BLINKER), (lane.right, lane.marking_right, RIGHT_BLINKER)]
        if driver.random.random() < 0.5:
            sides.reverse()
        for other, marking, blinker in sides:
            if other is None or "broken" not in marking or lane.length - s < 2.0 * speed:
                continue
            begin = self._beside(other, bodies, vehicle.row)
            path = self._path([other, *self._map.lanes[other].successors[:1]], begin)
            room, its_speed = pilot.leader(path, 0, rows, vehicle.row)
            worth = at_will or its_speed > ahead + 1.0 or room > gap + 2.0 * speed
            safe = room > 6.0 + 0.8 * speed and pilot.free_beside(rows, vehicle.row, speed, blinker == RIGHT_BLINKER)
            if worth and safe:
                self._junctions.release(vehicle.id)  # its next junction may be another one, or have another lane
                driver.route, driver.start = [other], begin
                driver.blinker, driver.wait = blinker, PAUSE
                self._plan(driver)
                return

    def _beside(self, lane: int, bodies: Bodies, row: int) -> float:
        """Metres along a lane to the point nearest to a body."""
        b, target = bodies.rows[row], self._map.lanes[lane]
        away = (target.centre[:, 0] - b["x"]) ** 2 + (target.centre[:, 1] - b["y"]) ** 2
        return float(target.s[int(np.argmin(away))])

    def _here(self, driver: Driver) -> tuple[int, float]:
        """(index in the route, metres along that lane) of a driver."""
        s = driver.path[driver.at, pilot.S] + driver.start
        for index, lane in enumerate(driver.route):
            length = self._map.lanes[lane].length
            if s <= length:
                return index, s
            s -= length
        return len(driver.route) - 1, self._map.lanes[driver.route[-1]].length

    def _extend(self, vehicle: Vehicle, driver: Driver, tail: float) -> None:
        """Extends the path when it gets short. tail: metres that the vehicle reaches behind its middle."""
        left = driver.path[-1, pilot.S] - driver.path[driver.at, pilot.S]
        if left < REPLAN and self._map.lanes[driver.route[-1]].successors:
            index, driver.start = self._here(driver)
            lanes = [self._map.lanes[lane] for lane in driver.route[:index]]
            while lanes and lanes[-1].in_junction and driver.start < tail:  # it is not out of the junction yet
                driver.start += lanes.pop().length
            for lane in lanes:
                self._junctions.release(vehicle.id, lane.id)
            driver.route = driver.route[len(lanes) :]
            self._plan(driver)

    def _plan(self, driver: Driver) -> None:
        """Chooses lanes until the path is long enough; at a fork, by chance."""
        length = -driver.start + sum(self._map.lanes[lane].length for lane in driver.route)
        while length < PATH and self._map.lanes[driver.route[-1]].successors:
            driver.route.append(driver.random.choice(self._map.lanes[driver.route[-1]].successors))
            length += self._map.lanes[driver.route[-1]].length
        driver.path, driver.at = self._path(driver.route, driver.start), 0

    def _path(self, route: list[int], start: float) -> NDArray[np.float64]:
        """(N, 4) x, y, metres, advised speed along lanes, from `start` metres into the first one."""
        pieces, before = [], -start
        for lane in route:
            piece = self._piece(lane).copy()
            piece[:, pilot.S] += before
            before += self._map.lanes[lane].length
            pieces.append(piece)
        path = np.concatenate(pieces)
        path = path[max(0, int(np.searchsorted(path[:, pilot.S], 0.0, side="right")) - 1) :]
        return np.ascontiguousarray(path if len(path) > 1 else pieces[-1][-2:])

    def _piece(self, lane_id: int) -> NDArray[np.float64]:
        """One lane as a path: slow enough in bends for a sideways acceleration of `SIDEWAYS`."""
        if lane_id not in self._pieces:
            lane = self._map.lanes[lane_id]
            bend = np.abs(np.gradient(np.radians(lane.yaw), np.maximum(lane.s, 1e-6)))
            speed = np.minimum(lane.speed_limit, np.sqrt(SIDEWAYS / np.maximum(bend, 1e-6)))
            self._pieces[lane_id] = np.column_stack([lane.centre[:, 0], lane.centre[:, 1], lane.s, speed])
        return self._pieces[lane_id]


def driven_control(b: Any) -> VehicleControl:
    """What a body's pedals and wheel are set to, as CARLA reports it."""
    throttle, steer, brake = float(b["throttle"]), float(b["steer"]), float(b["brake"])
    return VehicleControl(throttle, steer, brake, reverse=bool(b["reverse"]), gear=int(b["gear"]))
