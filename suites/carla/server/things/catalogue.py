"""The vehicles, walkers and props on offer: names of CARLA's blueprints with their dimensions and engines."""

from __future__ import annotations

from typing import NamedTuple


class Model(NamedTuple):
    """A vehicle. extent: half length, width and height in metres; mass in kg; torque: peak, in Nm.

    engine: `petrol`, `electric`, `diesel`, `motorbike` or `pedals`; look: a name of the renderer's shapes.
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


MODELS = (
    Model("vehicle.audi.a2", (1.853, 0.895, 0.775), 1090, 150, "petrol", "HATCHBACK", generation=1),
    Model("vehicle.audi.tt", (2.091, 0.997, 0.693), 1420, 320, "petrol", "SPORTS", generation=1),
    Model("vehicle.bh.crossbike", (0.744, 0.430, 0.855), 95, 40, "pedals", "BICYCLE", "bicycle", 1, "", 2, 0.9),
    Model("vehicle.carlamotors.carlacola", (2.602, 1.308, 1.234), 5500, 700, "diesel", "TRUCK", "truck", 1, drag=0.6),
    Model("vehicle.carlamotors.firetruck", (4.234, 1.446, 1.914), 13500, 1700, "diesel", "TRUCK", "truck", 2,
          "emergency", drag=0.7, colours=("180,20,20",)),
    Model("vehicle.chevrolet.impala", (2.679, 1.017, 0.704), 1700, 350, "petrol", "SEDAN", generation=1),
    Model("vehicle.dodge.charger_2020", (2.503, 1.048, 0.767), 1920, 480, "petrol", "SEDAN"),
    Model("vehicle.ford.ambulance", (3.183, 1.176, 1.216), 3300, 550, "diesel", "VAN", "van", 2, "emergency",
          drag=0.45, colours=("240,240,240",)),
    Model("vehicle.harley-davidson.low_rider", (1.178, 0.382, 0.638), 390, 145, "motorbike", "MOTORBIKE",
          "motorcycle", 1, "", 2, 0.6),
    Model("vehicle.lincoln.mkz_2020", (2.446, 0.918, 0.746), 1760, 370, "petrol", "SEDAN"),
    Model("vehicle.mercedes.coupe", (2.514, 1.076, 0.825), 1675, 350, "petrol", "SPORTS", generation=1),
    Model("vehicle.mercedes.sprinter", (2.957, 0.994, 1.280), 2450, 440, "diesel", "VAN", "van", drag=0.38),
    Model("vehicle.mini.cooper_s", (1.903, 0.985, 0.738), 1280, 280, "petrol", "HATCHBACK", generation=1),
    Model("vehicle.mitsubishi.fusorosa", (5.136, 1.225, 1.600), 6200, 800, "diesel", "BUS", "bus", drag=0.65),
    Model("vehicle.nissan.patrol", (2.302, 0.966, 0.927), 2350, 420, "petrol", "SUV", generation=1, drag=0.38),
    Model("vehicle.tesla.cybertruck", (3.137, 1.195, 1.049), 3000, 750, "electric", "PICKUP", "truck", 1, "electric",
          drag=0.39),
    Model("vehicle.tesla.model3", (2.396, 1.082, 0.744), 1845, 420, "electric", "SEDAN", "car", 1, "electric",
          drag=0.23),
    Model("vehicle.toyota.prius", (2.257, 1.003, 0.762), 1450, 190, "petrol", "HATCHBACK", generation=1, drag=0.25),
    Model("vehicle.volkswagen.t2", (2.240, 1.035, 1.019), 1300, 140, "petrol", "VAN", "van", 1, drag=0.44),
)  # fmt: skip


class Person(NamedTuple):
    """A walker. extent: half sizes in metres; colour of the clothes."""

    number: int
    age: str
    gender: str
    extent: tuple[float, float, float]
    colour: tuple[int, int, int]


_ADULT, _CHILD = (0.188, 0.188, 0.930), (0.150, 0.150, 0.650)
PEOPLE = tuple(
    Person(number, age, gender, _CHILD if age == "child" else _ADULT, colour)
    for number, age, gender, colour in (
        (1, "adult", "female", (150, 60, 60)), (2, "adult", "male", (40, 60, 110)), (3, "adult", "male", (90, 90, 90)),
        (4, "adult", "female", (200, 180, 120)), (5, "adult", "male", (30, 90, 60)), (6, "adult", "male", (60, 40, 40)),
        (7, "adult", "female", (120, 60, 140)), (8, "adult", "female", (220, 220, 220)),
        (9, "child", "female", (220, 90, 140)), (10, "child", "female", (230, 190, 60)),
        (11, "child", "male", (60, 140, 200)), (12, "child", "male", (190, 60, 40)),
    )
)  # fmt: skip


class Prop(NamedTuple):
    """A thing to put on the road. extent: half sizes in metres; mass in kg once its physics are switched on."""

    id: str
    extent: tuple[float, float, float]
    mass: float
    look: str
    colour: tuple[int, int, int]


PROPS = (
    Prop("static.prop.trafficcone01", (0.20, 0.20, 0.35), 4, "CONE", (230, 90, 30)),
    Prop("static.prop.constructioncone", (0.17, 0.17, 0.29), 3, "CONE", (230, 90, 30)),
    Prop("static.prop.streetbarrier", (0.61, 0.19, 0.54), 60, "BOX", (220, 140, 40)),
    Prop("static.prop.barrel", (0.30, 0.30, 0.45), 25, "BOX", (60, 80, 140)),
    Prop("static.prop.box01", (0.32, 0.31, 0.32), 10, "BOX", (170, 130, 80)),
    Prop("static.prop.container", (0.97, 0.61, 0.73), 400, "BOX", (40, 90, 60)),
)
