"""CARLA's towns, and the map of ours that comes nearest to each."""

from __future__ import annotations

# By what a script most likely drives there: wide roads, a town's streets, or a quiet quarter.
NEAREST = {
    "Town01": "suburb", "Town02": "suburb", "Town03": "street", "Town04": "highway", "Town05": "street",
    "Town06": "highway", "Town07": "suburb", "Town10HD": "street", "Town11": "suburb", "Town12": "street",
    "Town13": "highway", "Town15": "street",
}  # fmt: skip
LAYERED = "_Opt"  # ends the names of the towns whose layers can be unloaded


def nearest(town: str) -> str | None:
    """The map of ours for the name of a town of CARLA's; None for any other name."""
    return NEAREST.get(town.removesuffix(LAYERED))
