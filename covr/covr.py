"""COVR as published: a VLM guides the RL agent, and the agent's best experience tunes the VLM (`covr/loop.py`).

"COVR: Collaborative Optimization of VLMs and RL Agent for Visual-Based Control", AAAI 2026 (arXiv 2601.06122).
"""

from __future__ import annotations

from covr.config import COVRConfig
from covr.loop import CARLA, make
from covr.vlm.open import labels
from covr_bench.kit.api import AgentSpec

AGENT = AgentSpec(
    name="covr",
    Config=COVRConfig,
    make=make,
    kind="vlm",
    paper="Xia et al. 2026, arXiv 2601.06122",
    checked="Eq. 4 to 6 by hand; its base by itself until guidance",
    needs_vlm=True,
    labels=labels,
    wraps="base",
    task_defaults={"carla/hw": CARLA, "carla/gp": CARLA, "carla/a": CARLA},
)
