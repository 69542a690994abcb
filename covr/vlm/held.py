"""A stranger's VLM, held to the contract: answers that break it would teach the agent nonsense."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from covr.vlm.base import Adviser, FinetuneReport, Proposals, VisionLanguagePrior
from covr.vlm.grammar import STATUSES
from covr_bench.kit.built import built, check_promised
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from covr.vlm.base import Samples, VLMOptions, VLMSpec
    from covr.vlm.prompts import Prompt

FACTS = ("name", "decode", "parameters", "stand_in")  # that `describe` promises
TUNING = ("finetune", "save_adapter", "load_adapter")


def opened(spec: VLMSpec, options: VLMOptions) -> VisionLanguagePrior:
    """What a spec makes. Raises UserError if it is no VLM."""
    owner = f"VLM {spec.name}"
    vlm = built(owner, Adviser, spec.make, options)  # type: ignore[type-abstract]
    if vlm.tunable:
        check_promised(owner, VisionLanguagePrior, vlm)
    ours = any(part.__module__.startswith("covr.vlm.") for part in type(vlm).__mro__)  # or made of ours: an HFPrior
    if ours:
        return vlm  # type: ignore[return-value]
    facts = built(f"{owner}, what its describe() gives,", Mapping, vlm.describe)  # type: ignore[type-abstract]
    if lacking := [fact for fact in FACTS if fact not in facts]:
        raise UserError(f"{owner}: its describe() gives no {', '.join(lacking)}; see covr.vlm.base.Adviser.describe")
    return Held(vlm, spec.name)


class Held:
    """Answers as `vlm` does, in the types of the contract; everything else is the VLM's own."""

    def __init__(self, vlm: Adviser, name: str) -> None:
        self.vlm, self.name = vlm, name

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "vlm":  # not there yet: a copy is being made
            raise AttributeError(attribute)
        if attribute in TUNING and not hasattr(self.vlm, attribute):
            raise UserError(f"VLM {self.name} cannot be tuned: it has no {attribute}")
        return getattr(self.vlm, attribute)

    def reset_adapter(self) -> None:
        """One that cannot be tuned is as it came."""
        if hasattr(self.vlm, "reset_adapter"):
            self.vlm.reset_adapter()

    def propose(self, images: Any, prompt: Prompt) -> Proposals:
        """Raises UserError where the answer breaks the contract."""
        answer = self.vlm.propose(images, prompt)
        for problem in problems(answer, len(images), prompt.action_dim):
            raise UserError(f"VLM {self.name}: {problem}; see covr.vlm.base.Proposals")
        mass, variance = (None if each is None else np.asarray(each) for each in (answer.valid_mass, answer.variance))
        actions, valid = np.asarray(answer.actions), np.asarray(answer.valid)
        return replace(answer, actions=actions, valid=valid, valid_mass=mass, variance=variance)

    def finetune(self, samples: Samples, prompt: Prompt) -> FinetuneReport:
        """Raises UserError where the VLM cannot be tuned, or gives no report of it."""
        report = self.__getattr__("finetune")(samples, prompt)
        if not isinstance(report, FinetuneReport):
            raise UserError(
                f"VLM {self.name}: finetune gave a {type(report).__name__}, and no FinetuneReport; see "
                "covr.vlm.base.FinetuneReport"
            )
        return report


def problems(answer: Any, asked: int, action_dim: int) -> Iterator[str]:
    """What breaks the contract in an answer to so many images, a phrase each."""
    if not isinstance(answer, Proposals):
        yield f"propose gave a {type(answer).__name__}, and no Proposals"
        return
    actions, valid = np.asarray(answer.actions), np.asarray(answer.valid)
    if actions.dtype != np.float32 or actions.shape != (asked, action_dim):
        yield f"its actions are {actions.dtype} {actions.shape}, for float32 {(asked, action_dim)}"
        return
    if valid.dtype != np.bool_ or valid.shape != (asked,) or len(answer.texts) != asked:
        yield f"valid is {valid.dtype} {valid.shape} with {len(answer.texts)} texts, for bool {(asked,)} and {asked}"
        return
    if unknown := set(answer.statuses) - set(STATUSES):
        yield f"its statuses hold {sorted(map(str, unknown))}, which are none of {', '.join(STATUSES)}"
    elif [status == "ok" for status in answer.statuses] != valid.tolist():
        yield "statuses are not 'ok' where valid is True, and nowhere else"
    if not isinstance(answer.seconds, numbers.Real) or not math.isfinite(answer.seconds):
        yield f"its seconds are {answer.seconds!r}, and no finite number"
    for name, array, shape in (
        ("variance", answer.variance, actions.shape),
        ("valid_mass", answer.valid_mass, (asked,)),
    ):
        if array is not None:
            yield from _not_numbers(name, np.asarray(array), shape, valid)
    stated = actions[valid]
    if wrong := [row.tolist() for row in stated if not (np.abs(row) <= 1).all()]:  # NaN compares false
        yield f"it calls {wrong[0]} a valid action; components are finite and in [-1, 1]"


def _not_numbers(
    name: str, told: npt.NDArray[Any], shape: tuple[int, ...], valid: npt.NDArray[np.bool_]
) -> Iterator[str]:
    """What is wrong with the numbers told beside the answers; those beside a masked one may be anything."""
    if not np.issubdtype(told.dtype, np.floating) or told.shape != shape:
        yield f"its {name} is {told.dtype} {told.shape}, for float32 {shape}"
    elif wrong := [row.tolist() for row in told[valid] if not (np.isfinite(row) & (row >= 0)).all()]:
        yield f"the {name} of a valid answer is {wrong[0]}; it is finite and not negative"
