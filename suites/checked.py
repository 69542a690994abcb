"""What a stranger's tasks, budgets and suites are held to, field by field; see `covr_bench.kit.extensions`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from annotated_types import Ge, MinLen

Positive = Annotated[int, Ge(1)]
Seeds = Annotated[tuple[Annotated[int, Ge(0)], ...], MinLen(1)]


class Checked:
    """A dataclass that pydantic can check, also as a part of another."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"arbitrary_types_allowed": True, "revalidate_instances": "always"}
