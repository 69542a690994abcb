"""`ablation`: COVR with one part taken away, or with one sentence of its paper read in another way.

It runs on the highway of `carla` by default, and on any task of ours. M1 to M11 are the rows of the paper's table 5.
The other variants are the readings where the paper is silent or contradicts itself (docs/covr.md). Where a reading is
an ablation as well, it is run once: M5 compares raw scores in EDDF; of the two values of lambda, one is the task's own.
"""

from __future__ import annotations

from dataclasses import replace

from suites import carracing, catch, dmc, driving
from suites.base import Suite, Variant


def _covr(name: str, doc: str, **settings: str) -> Variant:
    return Variant("covr", name, settings, doc)


def _reading(setting: str, value: str, doc: str) -> Variant:
    """A variant named as `--set` names it, so that both are the same runs."""
    return Variant("covr", f"{setting}={value}", {setting: value}, doc)


VARIANTS = (
    _covr("", "as published"),
    _covr("M1", "no EDDF: as many samples at random", rule="random"),
    _covr("M2", "no EDDF: the best 80% by return", rule="top", top_share="0.8"),
    _covr("M3", "no EDDF: the best 90% by return", rule="top", top_share="0.9"),
    _covr("M4", "no EDDF: the best 95% by return", rule="top", top_share="0.95"),
    _covr("M5", "no z-scores in EDDF", compare="raw"),
    _covr("M6", "reward in the place of the return", score="reward"),
    _covr("M7", "Q-value in the place of the return", score="q"),
    _covr("M8", "no RALW: equal weights", weights="uniform"),
    _covr("M9", "no RALW: random weights", weights="random"),
    Variant("top_return", "M10", {"top_share": "0.8"}, "no VLM: RL on 80% top returns, the rest at random"),
    Variant("top_return", "M11", {"top_share": "0.5"}, "no VLM: RL on 50% top returns, the rest at random"),
    Variant("top_return", "M11-text", {"top_share": "0.2"}, "M11 with the share that the text gives"),
    _reading("direction", "prose", "EDDF's threshold falls with entropy, as the text says"),
    _reading("growth", "printed", "the interval grows as the formula is printed: three rounds"),
    _reading("clock", "agent", "steps are agent steps"),
    _reading("between_queries", "hold", "the last prior holds until the next"),
    _reading("old_priors", "relabel", "stored priors are asked for again after each round"),
    _reading("old_priors", "drop", "beyond the paper: a round makes the answers before it void"),
    _reading("episodes", "cut", "the running episode enters D_f"),
    _reading("guidance_weight", "1", "lambda of DMControl"),
    _reading("guidance_weight", "2", "lambda of driving"),
    _reading("label_smoothing", "0", "no label smoothing"),
    _reading("accept", "better", "beyond the paper: a round that lowers no held-out error is undone"),
    _reading("score", "advantage", "beyond the paper: EDDF and RALW rank actions, not time"),
    _reading("score", "q_advantage", "beyond the paper: the same, by the critic"),
    _reading("labels", "policy", "beyond the paper: the VLM learns what the policy would do by now"),
    _reading("teacher", "scripted", "beyond the paper: can the VLM learn it, from whom plays well?"),
    _reading("guidance_schedule", "anneal", "beyond the paper: lambda falls to 0 at the end of the run"),
    _covr("guidance_trust=variance", "beyond the paper: lambda / sigma^2", guidance_trust="variance", decode="expect"),
    _reading("guidance_to_encoder", "true", "beyond the paper: Eq. 4's gradient reaches the encoder"),
)
SUITE = Suite(
    name="ablation",
    version=1,
    tasks=tuple(task for suite in (driving.SUITE, dmc.SUITES[0], carracing.SUITE, catch.SUITE) for task in suite.tasks),
    budgets={name: replace(budget, doc=f"As carla's: {budget.doc}") for name, budget in driving.SUITE.budgets.items()},
    agents=("covr", "top_return"),
    doc="COVR with one part taken away or read in another way, and without a VLM: table 5 and docs/covr.md.",
    default_tasks=("hw",),
    variants=VARIANTS,
)
