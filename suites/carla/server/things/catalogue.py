"""The vehicles on offer: every vehicle of CARLA 0.9.16, with its box and an engine.

The boxes are those that a CARLA 0.9.16 server reports, as the Scenic project measured them (tools/carla/snapshots in
its repository). Three that the driving tasks draw keep the boxes that these tasks were defined with: `charger_2020` is
0.11 m narrower there to each side, `low_rider` 0.19 m and `crossbike` 0.05 m off in half their height.
"""

from __future__ import annotations

from typing import NamedTuple


class Model(NamedTuple):
    """A vehicle. extent: half length, width and height of its box in metres; mass in kg; torque: peak, in Nm.

    engine: `petrol`, `electric`, `diesel`, `motorbike` or `pedals`; look: a name of the renderer's shapes; hull: half
    sizes of what is drawn and collides, where CARLA's box is larger than the vehicle.
    """

    id: str
    extent: tuple[float, float, float]
    mass: float
    torque: float
    engine: str
    look: str
    base_type: str = "car"
    generation: int = 2
    special_type: str = ""
    wheels: int = 4
    drag: float = 0.30
    colours: tuple[str, ...] = ("17,37,103", "180,44,44", "240,240,240", "60,62,66", "14,14,14")
    hull: tuple[float, float, float] | None = None


MODELS = (
    Model("vehicle.audi.a2", (1.853, 0.895, 0.775), 1090, 150, "petrol", "HATCHBACK", generation=1),
    Model("vehicle.audi.etron", (2.428, 1.016, 0.825), 2490, 660, "electric", "SUV", generation=1,
          special_type="electric", drag=0.28),
    Model("vehicle.audi.tt", (2.091, 0.997, 0.693), 1420, 320, "petrol", "SPORTS", generation=1),
    Model("vehicle.bh.crossbike", (0.744, 0.43, 0.855), 95, 40, "pedals", "BICYCLE", base_type="bicycle",
          generation=1, wheels=2, drag=0.90),
    Model("vehicle.bmw.grandtourer", (2.306, 1.121, 0.834), 1550, 270, "petrol", "VAN", generation=1, drag=0.29),
    Model("vehicle.carlamotors.carlacola", (2.602, 1.308, 1.234), 5500, 700, "diesel", "TRUCK", base_type="truck",
          generation=1, drag=0.60),
    Model("vehicle.carlamotors.european_hgv", (3.968, 1.446, 1.731), 7500, 1600, "diesel", "TRUCK",
          base_type="truck", drag=0.60),
    Model("vehicle.carlamotors.firetruck", (4.234, 1.446, 1.914), 13500, 1700, "diesel", "TRUCK", base_type="truck",
          special_type="emergency", drag=0.70, colours=("180,20,20",)),
    Model("vehicle.chevrolet.impala", (2.679, 1.017, 0.704), 1700, 350, "petrol", "SEDAN", generation=1),
    Model("vehicle.citroen.c3", (1.994, 0.925, 0.809), 1070, 160, "petrol", "HATCHBACK", generation=1, drag=0.31),
    Model("vehicle.diamondback.century", (0.828, 0.291, 0.81), 90, 40, "pedals", "BICYCLE", base_type="bicycle",
          generation=1, wheels=2, drag=0.90),
    Model("vehicle.dodge.charger_2020", (2.503, 1.048, 0.767), 1920, 480, "petrol", "SEDAN"),
    Model("vehicle.dodge.charger_police", (2.487, 1.019, 0.771), 1970, 530, "petrol", "SEDAN", generation=1,
          special_type="emergency", drag=0.33, colours=("24,24,26", "235,235,235")),
    Model("vehicle.dodge.charger_police_2020", (2.619, 0.965, 0.819), 1970, 530, "petrol", "SEDAN",
          special_type="emergency", drag=0.34, colours=("24,24,26", "235,235,235")),
    Model("vehicle.ford.ambulance", (3.183, 1.176, 1.216), 3300, 550, "diesel", "VAN", base_type="van",
          special_type="emergency", drag=0.45, colours=("240,240,240",)),
    Model("vehicle.ford.crown", (2.683, 0.9, 0.787), 1890, 370, "petrol", "SEDAN", special_type="taxi", drag=0.33,
          colours=("228,184,32",)),
    Model("vehicle.ford.mustang", (2.359, 0.947, 0.65), 1650, 420, "petrol", "SPORTS", generation=1, drag=0.35),
    Model("vehicle.gazelle.omafiets", (0.922, 0.33, 0.888), 95, 40, "pedals", "BICYCLE", base_type="bicycle",
          generation=1, wheels=2, drag=1.00),
    Model("vehicle.harley-davidson.low_rider", (1.178, 0.382, 0.638), 390, 145, "motorbike", "MOTORBIKE",
          base_type="motorcycle", generation=1, wheels=2, drag=0.60),
    Model("vehicle.jeep.wrangler_rubicon", (1.933, 0.953, 0.939), 1920, 350, "petrol", "SUV", generation=1, drag=0.45),
    Model("vehicle.kawasaki.ninja", (1.022, 0.398, 0.762), 280, 115, "motorbike", "MOTORBIKE",
          base_type="motorcycle", generation=1, wheels=2, drag=0.50),
    Model("vehicle.lincoln.mkz_2017", (2.451, 1.064, 0.755), 1760, 370, "petrol", "SEDAN", generation=1),
    Model("vehicle.lincoln.mkz_2020", (2.446, 0.918, 0.746), 1760, 370, "petrol", "SEDAN"),
    Model("vehicle.mercedes.coupe", (2.514, 1.076, 0.825), 1675, 350, "petrol", "SPORTS", generation=1),
    Model("vehicle.mercedes.coupe_2020", (2.337, 0.906, 0.721), 1680, 370, "petrol", "SPORTS", drag=0.26),
    Model("vehicle.mercedes.sprinter", (2.957, 0.994, 1.28), 2450, 440, "diesel", "VAN", base_type="van", drag=0.38),
    Model("vehicle.micro.microlino", (1.104, 0.74, 0.688), 513, 90, "electric", "HATCHBACK", generation=1,
          special_type="electric", drag=0.35),
    Model("vehicle.mini.cooper_s", (1.903, 0.985, 0.738), 1280, 280, "petrol", "HATCHBACK", generation=1),
    Model("vehicle.mini.cooper_s_2021", (2.276, 1.049, 0.884), 1290, 280, "petrol", "HATCHBACK", drag=0.31),
    Model("vehicle.mitsubishi.fusorosa", (5.136, 1.972, 2.126), 6200, 800, "diesel", "BUS", base_type="bus",
          drag=0.65, hull=(5.136, 1.225, 1.6)),
    Model("vehicle.nissan.micra", (1.817, 0.923, 0.751), 1040, 160, "petrol", "HATCHBACK", generation=1, drag=0.33),
    Model("vehicle.nissan.patrol", (2.302, 0.966, 0.927), 2350, 420, "petrol", "SUV", generation=1, drag=0.38),
    Model("vehicle.nissan.patrol_2021", (2.783, 1.075, 1.023), 2750, 560, "petrol", "SUV", drag=0.38),
    Model("vehicle.seat.leon", (2.096, 0.908, 0.737), 1260, 250, "petrol", "HATCHBACK", generation=1),
    Model("vehicle.tesla.cybertruck", (3.137, 1.195, 1.049), 3000, 750, "electric", "PICKUP", base_type="truck",
          special_type="electric", drag=0.39),
    Model("vehicle.tesla.model3", (2.396, 1.082, 0.744), 1845, 420, "electric", "SEDAN", generation=1,
          special_type="electric", drag=0.23),
    Model("vehicle.toyota.prius", (2.257, 1.003, 0.762), 1450, 190, "petrol", "HATCHBACK", generation=1, drag=0.25),
    Model("vehicle.vespa.zx125", (0.909, 0.433, 0.795), 195, 55, "motorbike", "MOTORBIKE", base_type="motorcycle",
          generation=1, wheels=2, drag=0.70),
    Model("vehicle.volkswagen.t2", (2.24, 1.035, 1.019), 1300, 140, "petrol", "VAN", base_type="van", generation=1,
          drag=0.44),
    Model("vehicle.volkswagen.t2_2021", (2.221, 0.887, 0.994), 1400, 140, "petrol", "VAN", base_type="van", drag=0.44),
    Model("vehicle.yamaha.yzf", (1.095, 0.433, 0.765), 270, 115, "motorbike", "MOTORBIKE", base_type="motorcycle",
          generation=1, wheels=2, drag=0.50),
)  # fmt: skip
# Of the first generation, those with lamps to switch (CARLA's documentation of actors); of the second all have them.
_OLD_WITH_LAMPS = {
    "vehicle.audi.etron", "vehicle.audi.tt", "vehicle.chevrolet.impala", "vehicle.dodge.charger_police",
    "vehicle.ford.mustang", "vehicle.harley-davidson.low_rider", "vehicle.kawasaki.ninja", "vehicle.lincoln.mkz_2017",
    "vehicle.tesla.model3", "vehicle.vespa.zx125", "vehicle.volkswagen.t2", "vehicle.yamaha.yzf",
}  # fmt: skip
_WITHOUT_DOORS = {"vehicle.carlamotors.european_hgv", "vehicle.mitsubishi.fusorosa", "vehicle.tesla.cybertruck"}


def has_lights(model: Model) -> bool:
    """Whether CARLA's model has lamps to switch."""
    return model.generation == 2 or model.id in _OLD_WITH_LAMPS


def has_doors(model: Model) -> bool:
    """Whether CARLA's model has doors that open."""
    return model.generation == 2 and model.id not in _WITHOUT_DOORS
