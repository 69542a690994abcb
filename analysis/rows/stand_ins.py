"""Labels that say that something else stood in the place of the real system."""

from __future__ import annotations

STAND_INS = {
    "vlm=tiny": ("stand-in VLM", "a small model made for tests answers in the place of a real VLM"),
    "vlm=tiny-knowing": (
        "knowing stand-in VLM",
        "a small model that was taught the task answers for a real one",
    ),
    "vlm=scripted": ("scripted VLM", "a fixed rule answers in the place of a VLM"),
    "vlm=stand-in": ("stand-in VLM", "a plug-in that stands in for a real VLM answers"),
    "backend=embedded": ("stand-in simulator", "the embedded driving server, not CARLA itself"),
    "render=fast": ("fast rendering", "frames are drawn faster and differ from the published protocol's"),
}


def stand_ins(labels: str) -> list[tuple[str, str]]:
    """Badge and explanation of each label of `k=v,k=v` that marks a stand-in."""
    parts = (part.partition(":")[0] for part in labels.split(","))  # a plug-in's own name follows the colon
    return [STAND_INS[part] for part in parts if part in STAND_INS]
