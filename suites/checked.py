"""What a stranger's tasks, budgets and suites are held to, field by field; see `covr_bench.kit.extensions`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from annotated_types import Ge, MinLen, Predicate

Positive = Annotated[int, Ge(1)]


def no_seed_twice(seeds: tuple[int, ...]) -> bool:
    """True. Raises ValueError for a seed that stands there twice: its run would be planned twice."""
    if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        raise ValueError(f"seed {', '.join(map(str, twice))} stands there twice; name it once")
    return True


Seeds = Annotated[tuple[Annotated[int, Ge(0)], ...], MinLen(1), Predicate(no_seed_twice)]


class Checked:
    """A dataclass that pydantic can check, also as a part of another."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"arbitrary_types_allowed": True, "revalidate_instances": "always"}
