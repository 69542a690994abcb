"""The suites of `effect` by their questions: differences between arms, paired by seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.grids import MARK, Grid
from analysis.grids import to_csv as csv_text
from analysis.rows.final import AUC, definition, mean_and_deviation
from analysis.rows.scores import PROTOCOL, RunState, final_scores, protocol_name
from analysis.rows.stand_ins import stand_ins
from analysis.statistics.bootstrap import Estimate
from analysis.statistics.intervals import holm, t_quantile, t_tail

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

Place = tuple[str, str, str, str, str]  # suite, budget, setting, task, family
StandIn = tuple[str, str, str]  # the arm or the label, the badge, what it means
SUITES = ("effect", "effect-hw", "effect-cartpole")
QUESTIONS = (  # docs/effect.md: the question, the arm, what it is held against, the budget
    ("transmission", "dpl-prior=oracle", "dpl-prior=zero", "short"),
    ("dose", "dpl-prior=oracle:0.5", "dpl-prior=zero", "short"),
    ("placebo", "dpl-prior=zero", "drqv2", "short"),
    ("noise", "dpl-prior=uniform", "drqv2", "short"),
    ("strength", "dpl-guidance_weight=30,prior=oracle", "dpl-prior=oracle", "short"),
    ("knowledge", "dpl-vlm=tiny-knowing", "dpl-prior=zero", "short"),
    ("tuning", "covr-vlm=tiny-knowing", "covr-accept=never,vlm=tiny-knowing", "short"),
    ("learnable", "covr-teacher=scripted", "covr-prior=zero", "short"),
    ("late oracle", "covr-prior=oracle", "covr-prior=zero", "paper"),
    ("teaching", "covr", "covr-prior=zero", "paper"),
    ("better rounds", "covr_plus", "covr-prior=zero", "paper"),
)
SWITCHES = tuple(
    (name, f"covr-{name},vlm=tiny-knowing", "covr-vlm=tiny-knowing", "short")
    for name in (
        "accept=better",
        "score=advantage",
        "score=q_advantage",
        "labels=policy",
        "old_priors=relabel",
        "old_priors=drop",
        "guidance_schedule=anneal",
        "decode=expect,guidance_trust=variance",
        "guidance_to_encoder=true",
    )
)
FAMILIES = {"": QUESTIONS, "one switch": SWITCHES}  # p is corrected within each
CSV_COLUMNS = (
    "suite",
    "budget",
    "setting",
    "task",
    "family",
    "question",
    "arm",
    "control",
    "n",
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "stand_ins",
)
MAX_NAMED = 3  # arms with the same stand-in; more are counted
_ROUNDING = 1e-12  # deviation of differences that is none, relative to the largest score


@dataclass(frozen=True)
class Answer:
    """A question's difference, paired by seed. p: two-sided, of no difference; p_holm: corrected over the questions
    of its family that have pairs of runs for the same suite, budget, setting and task. stand_ins: what stood in for the
    real system."""

    suite: str
    budget: str
    setting: str
    task: str
    family: str
    question: str
    arm: str
    control: str
    n: int
    difference: Estimate
    p: float
    p_holm: float
    remarks: tuple[str, ...]
    stand_ins: tuple[StandIn, ...]


def effect(frame: pd.DataFrame) -> list[Answer]:
    """The answers that rows give, by suite, budget, setting and task; a question without a pair of runs has n = 0."""
    scores = final_scores(frame[frame["suite"].astype(str).isin(SUITES)], score=AUC)
    found = []
    for (suite, budget, setting, task), group in scores.groupby([*PROTOCOL, "task"], sort=True):
        for family, questions in FAMILIES.items():
            asked = [question for question in questions if question[3] == budget and (not family or suite == SUITES[0])]
            where = (str(suite), str(budget), str(setting), str(task), family)
            answers = [_answer(group, where, *question[:3]) for question in asked]
            corrected = holm([answer.p for answer in answers])
            found += [Answer(**{**vars(answer), "p_holm": p}) for answer, p in zip(answers, corrected, strict=True)]
    return found


def paired(ours: Sequence[float], theirs: Sequence[float]) -> tuple[Estimate, float]:
    """Mean of `ours - theirs` with Student's 95 % interval, and p of no difference; NaN where there is no spread.

    If a score is not finite, the question was asked and is not answered: the difference is NaN and p is 1.
    """
    scores = np.asarray([ours, theirs], np.float64)
    if not np.isfinite(scores).all():
        return Estimate(math.nan, math.nan, math.nan), 1.0
    apart = scores[0] - scores[1]
    n = len(apart)
    mean, spread = mean_and_deviation(apart)
    if n < 2 or spread <= _ROUNDING * np.abs(scores).max():
        return Estimate(mean, math.nan, math.nan), math.nan
    error = spread / math.sqrt(n)
    half = t_quantile(0.975, n - 1) * error
    return Estimate(mean, mean - half, mean + half), 2 * t_tail(abs(mean) / error, n - 1)


def _answer(scores: pd.DataFrame, where: Place, question: str, arm: str, control: str) -> Answer:
    ours, theirs = (_by_seed(scores, name) for name in (arm, control))
    seeds = sorted(set(ours) & set(theirs))
    found, p = paired([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])
    remarks = tuple(_remarks(scores, arm, control))
    sides = ((arm, ours), (control, theirs))
    remarks += tuple(
        f"{name} seed {seed}: not finite" for name, each in sides for seed in seeds if not math.isfinite(each[seed])
    )
    labelled_so = tuple(_stand_ins(scores, where[2], arm, control))
    return Answer(*where, question, arm, control, len(seeds), found, p, math.nan, remarks, labelled_so)


def _stand_ins(scores: pd.DataFrame, setting: str, arm: str, control: str) -> Iterator[StandIn]:
    yield from ((label, *each) for label in setting.split(",") for each in stand_ins(label))
    for name in dict.fromkeys((arm, control)):
        for label in sorted({each for text in scores["labels"][_names(scores) == name] for each in text.split(",")}):
            if label not in setting.split(","):
                yield from ((name, *each) for each in stand_ins(label))


def stood_in(answers: Sequence[Answer], *, badges: bool = False) -> list[str]:
    """What stood in for the real system in which arms, or by which label: explained, or as a badge."""
    found: dict[str, dict[str, None]] = {}
    for who, badge, meaning in (each for answer in answers for each in answer.stand_ins):
        found.setdefault(badge if badges else meaning, {})[who] = None
    few = {what: ", ".join(who) if len(who) <= MAX_NAMED else f"{len(who)} arms" for what, who in found.items()}
    return [f"{who}: {what}" for what, who in few.items()]


def _by_seed(scores: pd.DataFrame, name: str) -> dict[int, float]:
    """Scores of an arm's finished runs."""
    runs = scores[(_names(scores) == name) & (scores["status"] == RunState.FINISHED.value)]
    return dict(zip(runs["seed"].tolist(), runs["score"].tolist(), strict=True))


def _names(scores: pd.DataFrame) -> pd.Series:
    """Arms without their labels: what they were asked to be."""
    return scores["agent"] + np.where(scores["variant"] == "", "", "-") + scores["variant"]


def _remarks(scores: pd.DataFrame, arm: str, control: str) -> list[str]:
    lost = scores[_names(scores).isin([arm, control]) & (scores["status"] != RunState.FINISHED.value)]
    runs = zip(_names(lost), lost["seed"], lost["status"], strict=True)
    return [f"{name} seed {seed}: {status}" for name, seed, status in runs]


def by_place(answers: Sequence[Answer]) -> dict[Place, list[Answer]]:
    """Answers by suite, budget, setting, task and family."""
    found: dict[Place, list[Answer]] = {}
    for answer in answers:
        place = (answer.suite, answer.budget, answer.setting, answer.task, answer.family)
        found.setdefault(place, []).append(answer)
    return found


def labelled(answers: Sequence[Answer]) -> tuple[str, dict[str, Estimate]]:
    """What all answers of a figure have in common, in words, and by what is written beside a row its difference.

    A control that all are held against is named once, and so is a question that its arm's name repeats.
    """
    controls = {answer.control for answer in answers}
    common = f"each less {controls.pop()}" if len(controls) == 1 < len(answers) else ""
    found = {}
    for answer in answers:
        name = answer.question if answer.question in answer.arm else f"{answer.question}:  {answer.arm}"
        less = "" if common else f"  less  {answer.control}"
        lost = "" if math.isfinite(answer.difference.value) else ", not finite"
        found[f"{name}{less}  (n = {answer.n}{lost})"] = answer.difference
    return common, found


def to_grids(answers: Sequence[Answer]) -> list[Grid]:
    """A grid for each suite, budget, setting, task and family."""
    grids = []
    for (suite, budget, setting, task, family), chosen in by_place(answers).items():
        caption = (
            f"Difference in the {definition(AUC)}, paired by seed; mean and 95 % interval by Student's t, p corrected "
            "by Holm over these questions."
        )
        lines = [_line(answer) for answer in chosen]
        notes = tuple(f"{answer.question}: {'; '.join(answer.remarks)}" for answer in chosen if answer.remarks)
        notes += tuple(stood_in(chosen))
        header = ("question", "arm", "less", "n", "difference", "interval", "p")
        title = f"{protocol_name(suite, budget, setting)}: {task}" + (f", {family}" if family else "")
        grids.append(Grid(title, caption, header, tuple(lines), notes, 3))
    return grids


def _line(answer: Answer) -> tuple[str, ...]:
    value, low, high = answer.difference
    interval = "-" if math.isnan(low) else f"{low:+.1f} to {high:+.1f}"
    mark = MARK if answer.remarks else ""
    return (
        answer.question,
        answer.arm,
        answer.control,
        f"{answer.n}{mark}",
        f"{value:+.1f}" if math.isfinite(value) else "not finite" if answer.n else "not run",
        interval,
        "-" if math.isnan(answer.p_holm) else f"{answer.p_holm:.2g}",
    )


def to_csv(answers: Sequence[Answer]) -> str:
    """One line per question in full precision; columns `CSV_COLUMNS`."""
    lines: list[Sequence[object]] = []
    for answer in answers:
        place = (answer.suite, answer.budget, answer.setting, answer.task, answer.family)
        names = (*place, answer.question, answer.arm, answer.control)
        lines.append([*names, answer.n, *answer.difference, answer.p, answer.p_holm, "; ".join(stood_in([answer]))])
    return csv_text(CSV_COLUMNS, lines)
