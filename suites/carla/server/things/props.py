"""The things to put on the road: every prop of CARLA 0.9.16, as a box of its size, or a cone.

Sizes are those that a CARLA 0.9.16 server reports, as the Scenic project measured them (tools/carla/snapshots in its
repository). Masses are guesses; most are 60 kg a cubic metre of the box.
"""

from __future__ import annotations

from typing import NamedTuple


class Prop(NamedTuple):
    """A thing to put on the road. extent: half sizes in metres; mass in kg once its physics are switched on."""

    name: str
    extent: tuple[float, float, float]
    mass: float
    colour: tuple[int, int, int]
    look: str = "BOX"

    @property
    def id(self) -> str:
        """The blueprint's."""
        return f"static.prop.{self.name}"

    @property
    def size(self) -> str:
        """The blueprint's attribute, by the longest side."""
        longest = 2.0 * max(self.extent)
        return next((word for limit, word in _SIZES if longest < limit), "huge")


_SIZES = ((0.25, "tiny"), (1.0, "small"), (2.0, "medium"), (5.0, "big"))  # metres

# fmt: off
PROPS = (
    Prop("advertisement", (0.775, 0.143, 1.221), 65, (225, 225, 220)),
    Prop("aporosatree", (6.479, 6.292, 7.817), 3000, (52, 92, 44)),
    Prop("atm", (0.357, 0.437, 1.138), 85, (110, 114, 118)),
    Prop("barbeque", (0.473, 0.249, 0.632), 36, (110, 114, 118)),
    Prop("barrel", (0.23, 0.236, 0.403), 25, (60, 80, 140)),
    Prop("bench01", (0.772, 0.368, 0.485), 66, (140, 104, 66)),
    Prop("bench02", (0.782, 0.272, 0.255), 26, (140, 104, 66)),
    Prop("bench03", (0.792, 0.256, 0.256), 25, (140, 104, 66)),
    Prop("bike helmet", (0.093, 0.139, 0.086), 0.53, (110, 114, 118)),
    Prop("bin", (0.274, 0.319, 0.53), 22, (110, 114, 118)),
    Prop("box01", (0.326, 0.326, 0.346), 10, (170, 130, 80)),
    Prop("box02", (0.324, 0.324, 0.324), 16, (140, 104, 66)),
    Prop("box03", (0.33, 0.335, 0.324), 17, (140, 104, 66)),
    Prop("briefcase", (0.272, 0.091, 0.216), 2.6, (120, 70, 60)),
    Prop("brokentile01", (0.067, 0.088, 0.003), 0.1, (150, 146, 138)),
    Prop("brokentile02", (0.105, 0.076, 0.004), 0.1, (150, 146, 138)),
    Prop("brokentile03", (0.077, 0.072, 0.004), 0.1, (150, 146, 138)),
    Prop("brokentile04", (0.065, 0.063, 0.005), 0.1, (150, 146, 138)),
    Prop("busstop", (1.938, 0.947, 1.369), 1200, (225, 225, 220)),
    Prop("busstoplb", (0.947, 1.938, 1.369), 1200, (225, 225, 220)),
    Prop("calibrator", (0.774, 0.345, 0.101), 13, (225, 225, 220)),
    Prop("chainbarrier", (0.747, 0.119, 0.444), 19, (110, 114, 118)),
    Prop("chainbarrierend", (0.119, 0.119, 0.444), 3, (110, 114, 118)),
    Prop("clothcontainer", (0.62, 0.943, 0.905), 250, (110, 114, 118)),
    Prop("clothesline", (3.326, 0.559, 1.031), 920, (120, 70, 60)),
    Prop("coconutpalm", (4.302, 4.443, 10.157), 93000, (52, 92, 44)),
    Prop("colacan", (0.034, 0.036, 0.055), 0.1, (225, 225, 220)),
    Prop("constructioncone", (0.172, 0.172, 0.293), 3, (230, 90, 30), "CONE"),
    Prop("container", (0.966, 0.506, 0.857), 400, (40, 90, 60)),
    Prop("creasedbox01", (0.404, 0.356, 0.059), 4.1, (140, 104, 66)),
    Prop("creasedbox02", (0.817, 0.356, 0.106), 15, (140, 104, 66)),
    Prop("creasedbox03", (0.834, 0.356, 0.011), 1.6, (140, 104, 66)),
    Prop("cypresstree", (2.305, 2.314, 7.839), 20000, (52, 92, 44)),
    Prop("dirtdebris01", (0.929, 0.757, 0.074), 25, (150, 146, 138)),
    Prop("dirtdebris02", (0.929, 0.757, 0.074), 25, (150, 146, 138)),
    Prop("dirtdebris03", (0.929, 0.757, 0.094), 32, (150, 146, 138)),
    Prop("doghouse", (0.54, 0.636, 0.547), 90, (140, 104, 66)),
    Prop("foodcart", (1.142, 2.319, 1.787), 2300, (110, 114, 118)),
    Prop("fountain", (4.201, 4.201, 3.462), 29000, (150, 146, 138)),
    Prop("garbage01", (0.027, 0.027, 0.043), 0.1, (120, 70, 60)),
    Prop("garbage02", (0.027, 0.027, 0.005), 0.1, (120, 70, 60)),
    Prop("garbage03", (0.03, 0.03, 0.04), 0.1, (120, 70, 60)),
    Prop("garbage04", (0.029, 0.028, 0.034), 0.1, (120, 70, 60)),
    Prop("garbage05", (0.116, 0.116, 0.029), 0.19, (120, 70, 60)),
    Prop("garbage06", (0.183, 0.107, 0.038), 0.36, (120, 70, 60)),
    Prop("gardenlamp", (0.149, 0.141, 0.324), 3.3, (225, 225, 220)),
    Prop("glasscontainer", (0.977, 1.004, 0.894), 420, (110, 114, 118)),
    Prop("gnome", (0.183, 0.188, 0.441), 7.3, (150, 146, 138)),
    Prop("guitarcase", (0.621, 0.063, 0.247), 4.6, (140, 104, 66)),
    Prop("haybale", (0.624, 0.597, 0.597), 110, (140, 104, 66)),
    Prop("haybalelb", (0.624, 0.597, 0.597), 110, (140, 104, 66)),
    Prop("ironplank", (0.726, 0.587, 0.01), 2, (110, 114, 118)),
    Prop("kiosk_01", (0.813, 0.827, 1.623), 520, (225, 225, 220)),
    Prop("mailbox", (0.263, 0.219, 0.579), 16, (140, 104, 66)),
    Prop("maptable", (0.787, 0.309, 0.591), 69, (140, 104, 66)),
    Prop("mobile", (0.04, 0.004, 0.083), 0.1, (110, 114, 118)),
    Prop("motorhelmet", (0.1, 0.13, 0.129), 0.8, (110, 114, 118)),
    Prop("pergola", (2.515, 2.543, 1.771), 5400, (140, 104, 66)),
    Prop("plantpot01", (0.545, 0.238, 0.279), 17, (52, 92, 44)),
    Prop("plantpot02", (0.526, 0.215, 0.243), 13, (52, 92, 44)),
    Prop("plantpot03", (0.526, 0.215, 0.243), 13, (52, 92, 44)),
    Prop("plantpot04", (2.484, 0.368, 0.062), 27, (52, 92, 44)),
    Prop("plantpot05", (0.2, 0.2, 0.14), 2.7, (52, 92, 44)),
    Prop("plantpot06", (0.797, 0.797, 0.425), 130, (52, 92, 44)),
    Prop("plantpot07", (0.247, 0.238, 0.279), 7.9, (52, 92, 44)),
    Prop("plantpot08", (0.265, 0.265, 0.244), 8.2, (52, 92, 44)),
    Prop("plasticbag", (0.155, 0.201, 0.276), 4.1, (120, 70, 60)),
    Prop("plasticchair", (0.365, 0.375, 0.636), 42, (225, 225, 220)),
    Prop("plastictable", (1.241, 1.241, 1.24), 920, (140, 104, 66)),
    Prop("platformgarbage01", (1.817, 0.856, 0.166), 120, (120, 70, 60)),
    Prop("purse", (0.08, 0.166, 0.293), 1.9, (120, 70, 60)),
    Prop("shoppingbag", (0.237, 0.122, 0.3), 4.2, (120, 70, 60)),
    Prop("shoppingcart", (0.335, 0.604, 0.54), 52, (110, 114, 118)),
    Prop("shoppingtrolley", (0.253, 0.166, 0.547), 11, (110, 114, 118)),
    Prop("slide", (0.471, 2.061, 0.988), 460, (140, 104, 66)),
    Prop("streetbarrier", (0.607, 0.186, 0.535), 60, (220, 140, 40)),
    Prop("streetfountain", (0.143, 0.335, 0.63), 14, (52, 92, 44)),
    Prop("streetsign", (0.532, 0.063, 1.077), 17, (52, 92, 44)),
    Prop("streetsign01", (1.235, 0.151, 1.939), 170, (52, 92, 44)),
    Prop("streetsign04", (0.585, 0.062, 1.386), 24, (52, 92, 44)),
    Prop("swing", (2.053, 0.788, 1.286), 1000, (140, 104, 66)),
    Prop("swingcouch", (0.679, 1.181, 1.125), 430, (140, 104, 66)),
    Prop("table", (1.078, 1.076, 0.423), 240, (140, 104, 66)),
    Prop("trafficcone01", (0.441, 0.441, 0.567), 4, (230, 90, 30), "CONE"),
    Prop("trafficcone02", (0.228, 0.197, 0.591), 13, (230, 90, 30), "CONE"),
    Prop("trafficwarning", (1.187, 1.435, 1.785), 1500, (230, 90, 30)),
    Prop("trampoline", (2.066, 2.066, 1.401), 2900, (225, 225, 220)),
    Prop("trashbag", (0.189, 0.215, 0.351), 6.8, (120, 70, 60)),
    Prop("trashcan01", (0.318, 0.284, 0.424), 18, (110, 114, 118)),
    Prop("trashcan02", (0.262, 0.257, 0.523), 17, (110, 114, 118)),
    Prop("trashcan03", (0.315, 0.273, 0.467), 19, (110, 114, 118)),
    Prop("trashcan04", (0.394, 0.29, 0.508), 28, (110, 114, 118)),
    Prop("trashcan05", (0.394, 0.29, 0.508), 28, (110, 114, 118)),
    Prop("travelcase", (0.284, 0.164, 0.631), 14, (120, 70, 60)),
    Prop("vendingmachine", (0.436, 0.551, 1.054), 120, (110, 114, 118)),
    Prop("warningaccident", (0.653, 0.528, 0.93), 150, (230, 90, 30)),
    Prop("warningconstruction", (0.653, 0.528, 0.93), 150, (230, 90, 30)),
    Prop("wateringcan", (0.035, 0.097, 0.067), 0.11, (225, 225, 220)),
)
# fmt: on
MESH = Prop("mesh", (0.5, 0.5, 0.5), 10, (160, 160, 160))  # stands for what `static.prop.mesh` names
