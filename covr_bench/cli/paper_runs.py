"""The runs that a paper's table needs, as requests: `covr-bench run --paper`. Imports no agent, hence no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.papers.published import PAPERS, SETS, paper_notes, published
from covr_bench.config.request import request
from covr_bench.kit.errors import UserError, unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from analysis.papers.published import Published
    from covr_bench.config.request import Request

ROUNDS = "rounds"  # of the VLM by itself: COVR on the highway
ABLATION = "ablation"  # the suite whose variants are table 5


@dataclass(frozen=True)
class PaperRuns:
    """What tables need. requests: in the order to run. notes: methods that have no run of ours, and why."""

    requests: tuple[Request, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, order=True)
class _Group:
    """Runs that one request can ask for. variants: of the suite. settings: what sets the agent apart."""

    suite: str
    tasks: tuple[str, ...]
    variants: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()


def paper_runs(papers: Sequence[str], given: Mapping[str, Any], origin: str) -> PaperRuns:
    """The runs of some tables, each once.

    Args:
        papers: As `paper_names` takes them.
        given: Values of `covr_bench.config.request.request`; agents, tasks and a suite choose among the table's.
        origin: Where they come from, for errors.

    Raises:
        UserError: An unknown table, an agent or task that is in none of them, nothing of them is chosen, or a setting
            or a VLM is given that none of their runs takes.
    """
    names = paper_names(papers)
    agents_by_group: dict[_Group, list[str]] = {}
    for name in names:
        numbers = [number for number in published("T1" if name == ROUNDS else name) if number.agent]
        for number in numbers:
            if name != ROUNDS or number.agent == "covr":
                _add(agents_by_group, numbers, number)
    _check_known("agent", given.get("agents"), (each for agents in agents_by_group.values() for each in agents), names)
    _check_known("task", given.get("tasks"), (each for group in agents_by_group for each in group.tasks), names)
    chosen = [values for group, agents in agents_by_group.items() if (values := _values(group, agents, given))]
    if not chosen:
        raise UserError(
            f"nothing of {', '.join(names)} is of the suite, agents, tasks and variants asked for together. "
            "`covr-bench run --paper TABLE --dry-run` shows what is"
        )
    _check_taken(chosen, given, names)
    requests = tuple(request(values, origin) for values in chosen)
    return PaperRuns(requests, tuple(note for name in names for note in without_runs(name)))


def _check_known(kind: str, asked: Iterable[str] | None, known: Iterable[str], papers: Sequence[str]) -> None:
    """Raises UserError for a name that is in none of the tables: it would not be run."""
    theirs = dict.fromkeys(known)
    for name in asked or ():
        if name not in theirs:
            raise UserError(
                f"{kind} {name!r} is in none of {', '.join(papers)}, which have {', '.join(theirs)}. "
                "`covr-bench run --suite` runs others; `--as METHOD=AGENT` puts an agent beside a method"
            )


def _check_taken(chosen: Sequence[Mapping[str, Any]], given: Mapping[str, Any], papers: Sequence[str]) -> None:
    """Raises UserError for what was given and is of no run: it would be passed over."""
    for key in given.get("settings") or {}:
        if not any(key in values["settings"] for values in chosen):
            owners = dict.fromkeys(name for values in chosen for name in _owners(values["agents"], values["settings"]))
            raise UserError(
                f"setting {key!r} is of no agent that {', '.join(papers)} runs here, which are {', '.join(owners)}"
            )
    if (vlm := given.get("vlm")) and not any(values["vlm"] == vlm for values in chosen):
        raise UserError(f"no run of {', '.join(papers)} takes --vlm {vlm}: leave it out")


def without_runs(paper: str) -> list[str]:
    """The methods of a table that have no run of ours, each with the reason."""
    if paper == ROUNDS:
        return []
    missing = dict.fromkeys(number.method.split(" at ")[0] for number in published(paper) if not number.agent)
    reasons: dict[str, str] = {}
    for note in sorted(paper_notes(paper), key=lambda note: "published only" not in note):
        for method in note.partition(": ")[0].split(", "):
            reasons.setdefault(method, note)
    texts = {method: reasons.get(method.split(" (")[0], "").partition(": ")[2] for method in missing}
    return [f"{method} is not run: {text or 'published only'}" for method, text in texts.items()]


def paper_names(texts: Iterable[str], others: Sequence[str] = (ROUNDS,)) -> list[str]:
    """The tables that some texts name, such as `T4`, `T1,T4` and `several`: each once, in this order.

    Args:
        texts: Keys of `analysis.papers.published.PAPERS` and `SETS`, alone or separated by commas.
        others: Further names that are valid.

    Raises:
        UserError: An unknown name.
    """
    names = [name.strip() for text in texts for name in text.split(",")]
    for name in names:
        if name not in (*PAPERS, *SETS, *others):
            raise unknown("paper table", name, (*PAPERS, *SETS, *others))
    return list(dict.fromkeys(each for name in names for each in SETS.get(name, (name,))))


def _add(agents_by_group: dict[_Group, list[str]], numbers: Iterable[Published], number: Published) -> None:
    """Put a method's agent to the requests of equal settings."""
    suite = number.suites[0]
    variants: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    if ABLATION in number.suites and number.variants[0]:  # M1 ... M11 are named by their suite
        suite, variants = ABLATION, (number.variants[0],)
    elif number.variants[0]:
        settings = _pairs(number.variants[0])
    settings += _pairs(number.labels)
    same = [each for each in numbers if each.method == number.method and each.suites[0] == number.suites[0]]
    tasks = tuple(dict.fromkeys(each.task for each in same))
    group = _Group(suite, tasks, variants, settings)
    if not variants:
        agents = agents_by_group.setdefault(group, [])
        agents += [number.agent] if number.agent not in agents else []
        return
    for other in [each for each in agents_by_group if each.suite == suite and each.variants and each.tasks == tasks]:
        agents = agents_by_group.pop(other)  # all variants in one request
        agents_by_group[_Group(suite, tasks, tuple(dict.fromkeys((*other.variants, *variants))))] = list(
            dict.fromkeys((*agents, number.agent))
        )
        return
    agents_by_group[group] = [number.agent]


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    """`k=v,k=v` as pairs."""
    parts = (part.partition("=") for part in text.split(",") if part)
    return tuple((name, value) for name, _, value in parts)


def _values(group: _Group, agents: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a request; empty if nothing of the group was asked for."""
    chosen = [agent for agent in agents if agent in (given.get("agents") or agents)]
    tasks = [task for task in group.tasks if task in (given.get("tasks") or group.tasks)]
    variants = [name for name in group.variants if name in (given.get("variants") or group.variants)]
    if (
        not chosen
        or not tasks
        or given.get("suite") not in (None, "", group.suite)
        or (group.variants and not variants)
    ):
        return {}
    own = dict(group.settings)
    vlm = own.pop("vlm", "") or (given.get("vlm") if _asks_a_vlm(chosen) else None)
    asked = given.get("settings") or {}
    owners = _owners(chosen, {**asked, **own})
    settings = {key: value for key, value in asked.items() if _concerns(key, owners)} | own
    named = {"suite": group.suite, "agents": chosen, "tasks": tasks, "variants": variants or None}
    return {**given, **named, "settings": settings, "vlm": vlm or None}


def _concerns(key: str, owners: Sequence[str]) -> bool:
    """Whether a setting may be one of these agents or of the task: `drqv2.lr` is none of `sac`."""
    owner, dot, _ = key.partition(".")
    return not dot or owner == "env" or owner in owners


def _owners(agents: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
    """Agents, and the bases that they wrap with these settings."""
    from covr_bench.config import registry
    from covr_bench.config.settings import base_of

    specs = [registry.agent(agent) for agent in agents]
    bases = [base.name for base in (base_of(spec, settings) for spec in specs) if base]
    return [*agents, *bases, *(spec.follows for spec in specs if spec.follows)]


def _asks_a_vlm(agents: Sequence[str]) -> bool:
    from covr_bench.config import registry

    return any(registry.agent(agent).needs_vlm for agent in agents)
