"""What a run's VLM adds to its command: the runs of a paper's comparison of VLMs, and what each VLM costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def paper_requests(table: str) -> list[dict[str, Any]]:
    """What to ask for to make the runs that a paper's table compares, one request a VLM. Raises UserError."""
    from analysis.papers.published import PAPERS, published
    from covr_bench.kit.errors import UserError, unknown

    if table not in PAPERS:
        raise unknown("paper table", table, PAPERS)
    requests: list[dict[str, Any]] = []
    for number in published(table):
        parts = [*number.variants[-1].split(","), *number.labels.split(",")]
        settings = dict(part.split("=", 1) for part in parts if "=" in part)
        if vlm := settings.pop("vlm", ""):
            chosen: dict[str, Any] = {
                "suite": number.suites[0],
                "agents": [number.agent],
                "tasks": [number.task],
                "vlm": vlm,
            }
            chosen |= {"settings": settings}
            requests += [chosen] if chosen not in requests else []
    if not requests:
        raise UserError(f"the runs of the paper table {table!r} compare no VLMs: only `--paper vlm` is one command")
    return requests


def vlm_costs(settings: Iterable[Mapping[str, Any]]) -> list[str]:
    """What each VLM among the runs' settings asks of this machine; under the empty name, where the run is."""
    from covr.vlm.cost import statement

    asked: dict[tuple[str, str, str, int], None] = {}
    for each in settings:
        if each.get("prior", "vlm") == "vlm" and (name := each.get("vlm")):
            samples = each.get("finetune_min_steps", 0) * each.get("finetune_batch_size", 0)
            asked[name, each.get("vlm_dtype", "auto"), each.get("vlm_device") or each[""], samples] = None
    return [line for each in asked if (line := statement(*each))]
