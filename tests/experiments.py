"""Runs of an experiment whose suite, budget and agents are at hand as values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from covr_bench.config.experiment import compose
from covr_bench.config.request import Request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from covr_bench.config.run_config import RunConfig
    from covr_bench.kit.api import AgentSpec
    from suites.base import Budget, Suite


def configure(
    suite: Suite,
    ref: str,
    agents: Mapping[str, AgentSpec],
    budget: Budget,
    *,
    tasks: Sequence[str] = (),
    seeds: Sequence[int] = (),
    variants: Sequence[str] = (),
    overrides: Mapping[str, str] | None = None,
    device: str = "cpu",
    out: str = "results",
    **asked: Any,
) -> list[RunConfig]:
    """Every run that a request for these means; `asked` are other fields of the request."""
    names = {"tasks": tuple(tasks), "variants": tuple(variants), "seeds": tuple(seeds)}
    request = Request(ref, tuple(agents), **names, settings=dict(overrides or {}), out=out, **asked)
    return compose(request, suite, budget, agents).runs(device=device, threads=1, conv_kernel="torch")
