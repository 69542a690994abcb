"""The scenarios: where they are driven and in which light. `stages` has their traffic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Scenario:
    """Where and in which light one drives.

    map: the embedded server's; real_map: the one of CARLA's that comes nearest. gentle: the share of full steer that
    is enough for its lanes. roll: throttle of a neutral pedal where controls are gentle; 0: the pedal stays as it is,
    on roads where one stops. weather: arguments of `carla.WeatherParameters`.
    """

    name: str
    map: str
    real_map: str
    gentle: float
    roll: float
    weather: Mapping[str, float]


CLEAR = {"cloudiness": 20.0, "sun_altitude_angle": 55.0, "sun_azimuth_angle": 30.0}
DUSK_RAIN = {
    "cloudiness": 70.0, "sun_altitude_angle": 9.0, "sun_azimuth_angle": 200.0, "precipitation": 35.0,
    "precipitation_deposits": 40.0, "wetness": 60.0, "fog_density": 6.0,
}  # fmt: skip
SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("hw", "highway", "Town04", 0.04, 0.1, CLEAR),
        Scenario("gp", "street_1", "Town10HD_Opt", 0.2, 0.0, CLEAR),
        Scenario("a", "suburb_1", "Town02", 0.2, 0.0, DUSK_RAIN),
    )
}
# What an embedded server's traffic is drawn from, by name, so that a larger catalogue does not change the tasks.
CAST = {
    *(
        f"vehicle.{name}"
        for name in (
            "audi.a2", "audi.tt", "bh.crossbike", "carlamotors.carlacola", "carlamotors.firetruck",
            "chevrolet.impala", "dodge.charger_2020", "ford.ambulance", "harley-davidson.low_rider",
            "lincoln.mkz_2020", "mercedes.coupe", "mercedes.sprinter", "mini.cooper_s", "mitsubishi.fusorosa",
            "nissan.patrol", "tesla.cybertruck", "tesla.model3", "toyota.prius", "volkswagen.t2",
        )
    ),
    *(f"walker.pedestrian.{number:04d}" for number in range(1, 13)),
}  # fmt: skip
