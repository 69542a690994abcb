"""The walkers on offer: every pedestrian of CARLA 0.9.16."""

from __future__ import annotations

from typing import NamedTuple

_ADULT, _CHILD = (0.188, 0.188, 0.930), (0.150, 0.150, 0.650)  # half sizes of their boxes in metres
_TODDLER = (0.250, 0.250, 0.550)
SPEEDS = {"adult": ("0.0", "1.4", "3.0"), "child": ("0.0", "0.9", "1.8")}  # m/s: standing, walking, running


class Person(NamedTuple):
    """A walker. extent: half sizes in metres; colour of the clothes."""

    number: int
    age: str
    gender: str
    extent: tuple[float, float, float]
    colour: tuple[int, int, int]
    generation: int = 2

    @property
    def id(self) -> str:
        """The blueprint's."""
        return f"walker.pedestrian.{self.number:04d}"


# Those that the driving tasks draw, with the boxes that these tasks were defined with.
_FIRST = (
    (1, "adult", "female", (150, 60, 60)), (2, "adult", "male", (40, 60, 110)), (3, "adult", "male", (90, 90, 90)),
    (4, "adult", "female", (200, 180, 120)), (5, "adult", "male", (30, 90, 60)), (6, "adult", "male", (60, 40, 40)),
    (7, "adult", "female", (120, 60, 140)), (8, "adult", "female", (220, 220, 220)),
    (9, "child", "female", (220, 90, 140)), (10, "child", "female", (230, 190, 60)),
    (11, "child", "male", (60, 140, 200)), (12, "child", "male", (190, 60, 40)),
    (13, "child", "female", (90, 170, 110)), (14, "child", "male", (70, 80, 160)),
)  # fmt: skip
_POLICE = {30, 32}
_YOUNG = {48, 49}
_CLOTHES = ((62, 74, 92), (136, 48, 44), (196, 188, 170), (44, 96, 78), (88, 62, 48), (28, 30, 36), (164, 128, 62))


def _later(number: int) -> Person:
    """A walker of the second generation."""
    young, police = number in _YOUNG, number in _POLICE
    colour = (24, 32, 58) if police else _CLOTHES[number % len(_CLOTHES)]
    gender = "female" if number % 2 else "male"
    return Person(number, "child" if young else "adult", gender, _TODDLER if young else _ADULT, colour)


PEOPLE = (
    *(Person(number, age, gender, _CHILD if age == "child" else _ADULT, colour, 1)
      for number, age, gender, colour in _FIRST),
    *(_later(number) for number in range(15, 53)),
)  # fmt: skip
