"""What became of a VLM's answers: counted, stored as rows, and never silent."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from covr.vlm.base import Proposals, Proposer
    from covr.vlm.prompts import Prompt
    from covr_bench.kit.api import Services

OVER = 200  # answers: how many the latest are, and how many lie between two rows
WORDS = 200  # characters of an answer that are shown


class Answers:
    """The answers of one run. silent: `fail` or `allow`, of the agent's setting `vlm_silent`."""

    def __init__(self, silent: str, services: Services | None) -> None:
        self.silent, self.services = silent, services
        self.statuses: Counter[str] = Counter()
        self.seconds = 0.0
        self.recent: deque[bool] = deque(maxlen=OVER)
        self.stored = 0  # answers that the newest rows count
        self.words = ""  # of the latest without an action

    def add(self, answer: Proposals) -> None:
        self.words = words_of(answer) or self.words
        self.count(answer.statuses, answer.seconds)

    def count(self, statuses: Sequence[str], seconds: float) -> None:
        """What became of some answers, given together in `seconds`."""
        self.statuses.update(statuses)
        self.recent.extend(status == "ok" for status in statuses)
        self.seconds += seconds

    def store(self, step: int, all_of_them: bool = False) -> None:
        """Rows, and a word to the user where the latest answers hold no action."""
        asked = sum(self.statuses.values())
        if self.services is None or asked - self.stored < (1 if all_of_them else OVER):
            return
        self.stored = asked
        self.services.record(step, totals(self.statuses, self.seconds))
        if len(self.recent) == OVER and not any(self.recent):
            self.services.warn(
                f"none of the VLM's latest {OVER} answers states an action (`answers_*` in the rows say why)"
            )

    def finish(self, step: int) -> None:
        """The last rows. Raises UserError if no answer of the run stated an action."""
        self.store(step, all_of_them=True)
        tell_if_few(self.statuses, self.services)
        check_not_silent(self.statuses, self.silent, self.words)

    def state_dict(self) -> dict[str, Any]:
        return {
            "statuses": dict(self.statuses),
            "seconds": self.seconds,
            "recent": list(self.recent),
            "stored": self.stored,
            "words": self.words,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.statuses, self.seconds = Counter(state["statuses"]), state["seconds"]
        self.recent, self.stored = deque(state["recent"], maxlen=OVER), state["stored"]
        self.words = state.get("words", "")  # earlier versions did not store them


class Counted:
    """A VLM whose answers are counted on their way."""

    def __init__(self, vlm: Proposer, answers: Answers) -> None:
        self.vlm, self.answers = vlm, answers

    def propose(self, images: Any, prompt: Prompt) -> Proposals:
        answer = self.vlm.propose(images, prompt)
        self.answers.add(answer)
        return answer


def totals(statuses: Mapping[str, int], seconds: float) -> dict[str, float]:
    """Rows of the answers so far: how many, in how many seconds, and what became of them."""
    asked = sum(statuses.values())
    share = {"valid_share": statuses.get("ok", 0) / asked} if asked else {}
    counts = {f"answers_{status}": float(number) for status, number in sorted(statuses.items())}
    return {"queries": float(asked), "query_seconds": seconds} | share | counts


def words_of(answer: Proposals) -> str:
    """What the last answer without an action says, or why a server gave none; empty if all state one."""
    without = [text for text, status in zip(answer.texts, answer.statuses, strict=True) if status != "ok"]
    return " ".join(without[-1].split())[:WORDS] if without else ""


def tell_if_few(statuses: Mapping[str, int], services: Services | None) -> None:
    """A word to the user where most of a run's answers state no action, as those of a server that was lost do."""
    asked, acted = sum(statuses.values()), statuses.get("ok", 0)
    if services is not None and not asked:
        services.warn("the VLM was not asked once: this is no agent with a VLM; tables mark it")
    if services is not None and 0 < 2 * acted < asked:
        services.warn(
            f"{asked - acted} of the VLM's {asked} answers state no action ({_counted(statuses)}): this is hardly an "
            "agent with a VLM; tables mark it"
        )


def check_not_silent(statuses: Mapping[str, int], silent: str, words: str) -> None:
    """Raises UserError if the VLM was asked and never answered with an action, unless that is allowed.

    words: Of the last answer; empty if they are not known.
    """
    if silent == "allow" or not (asked := sum(statuses.values())) or statuses.get("ok"):
        return
    last = f"; the last: {words!r}" if words else ""
    raise UserError(
        f"the VLM was asked {asked} times and never answered with an action ({_counted(statuses)}{last}): these "
        "numbers are not those of an agent with a VLM. See `covr-bench vlm ask`; to keep such a run set "
        "vlm_silent=allow (--allow-silent-vlm)"
    )


def _counted(statuses: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {status}" for status, number in sorted(statuses.items()))
