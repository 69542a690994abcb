"""What COVR hands to its VLM, to its filter and to its base, and that each of its settings changes some of it."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast, get_args
from unittest import mock

import covr_stage
import numpy as np
import pytest
import torch
from covr_stage import ACTIONS, ENTROPY, EPISODE, Stage, action, reward
from hypothesis import given
from hypothesis import strategies as st

from covr import eddf, loop, priors, ralw, ranking
from covr.advice import Advice
from covr.config import COVRConfig as Config
from covr.loop import make
from covr.priors import Priors
from covr.selection import choose
from covr.vlm.base import FinetuneSettings, Proposals
from covr.vlm.measures import relative_error
from covr.vlm.prompts import task_prompt
from covr.vlm.scripted import ScriptedPrior
from covr_bench.kit.errors import UserError
from covr_bench.kit.replay import Replay

torch.set_num_threads(1)
SCORES = np.sin(np.arange(40.0)) ** 3 * 3


def slots_of(samples: Any) -> list[int]:
    """Which slots images show: every pixel of a frame is its slot's number."""
    newest = samples.images if samples.images.ndim == 4 else samples.images[:, 1]
    assert (newest == newest[:, :1, :1, :1]).all()
    return [int(image[0, 0, 0]) for image in newest]


def returns(slots: list[int], discount: float) -> list[float]:
    """g of slots: an episode of 5 steps takes 6 slots, the last without a step."""
    ends = [slot - slot % (EPISODE + 1) + EPISODE for slot in slots]
    return [
        sum(discount**i * reward(k) for i, k in enumerate(range(slot, end)))
        for slot, end in zip(slots, ends, strict=True)
    ]


def test_the_vlm_is_tuned_on_frames_their_own_actions_and_weights_over_what_was_kept(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.play(31)
    assert stage.rounds() == [10, 30]
    begins = [0, 12, 36]
    for number, samples in enumerate(stage.vlm.samples):
        held = [slot for slot in range(begins[number], begins[number + 1]) if slot % (EPISODE + 1) < EPISODE]
        scores = np.array(returns(held, 0.99), np.float32).astype(float)
        kept = [slot for slot, keep in zip(held, eddf.select(scores, ENTROPY), strict=True) if keep]
        assert 2 < len(kept) < len(held)
        assert slots_of(samples) == kept
        np.testing.assert_array_equal(samples.actions, [action(slot) for slot in kept])
        assert samples.weights == pytest.approx(ralw.weights(returns(kept, 0.99)), abs=1e-5)


def test_weights_are_over_those_samples_that_have_a_picture(tmp_path: Path) -> None:
    """A VLM that sees more pixels than the replay holds knows only the frames it was asked about."""
    stage = Stage(tmp_path, vlm_image_size=12, query_every=2, psi0=30)
    stage.play(31)
    (samples,) = stage.vlm.samples
    (scores, _, _, keep) = stage.chosen[0]
    held = [slot for slot in range(36) if slot % (EPISODE + 1) < EPISODE]
    drawn = [slot for slot in held if (slot - slot // (EPISODE + 1)) % 2 == 0]  # slots to agent steps
    kept = [(slot, score) for slot, score, kept in zip(held, scores, keep, strict=True) if kept and slot in drawn]
    np.testing.assert_array_equal(samples.actions, [action(slot) for slot, _ in kept])
    np.testing.assert_array_equal(samples.weights, ralw.weights([score for _, score in kept]))
    assert len(kept) < sum(keep)


class Numbered:
    """Answers an image with the number that its pixels hold, over 1000."""

    def propose(self, images: Any, prompt: Any) -> Proposals:
        numbers = images[:, 0, 0, 0].astype(np.float32) / 1000
        answers = np.repeat(numbers[:, None], prompt.action_dim, 1)
        count = len(images)
        return Proposals(answers, np.ones(count, np.bool_), ("",) * count, ("ok",) * count, 0.0)


@given(
    st.lists(st.lists(st.booleans(), min_size=1, max_size=9), min_size=1, max_size=6), st.booleans(), st.integers(1, 4)
)
def test_a_prior_is_the_answer_to_its_own_slot_or_the_one_held_there(
    asked: list[list[bool]], hold: bool, batch: int
) -> None:
    """asked: of each step of each episode whether the VLM is asked."""
    vlm: Any = Numbered()
    known = Priors(
        vlm,
        task_prompt("a task", 2),
        lambda replay, slots: np.repeat(np.uint8(slots), 12).reshape(-1, 2, 2, 3),
        lambda slots: slots,
        batch=batch,
        hold=hold,
        background=False,
    )
    replay, obs = Replay(128, (9, 2, 2), 2, seed=0), np.zeros((9, 2, 2), np.uint8)
    expected: dict[int, int] = {}  # the slot whose answer counts, by slot
    questions: list[int] = []
    for episode in asked:
        replay.start(obs)
        newest = -1
        for ask in episode:
            slot = replay.head - 1
            known.see(replay, ask)
            if ask:
                questions.append(slot)
            newest = slot if ask else (newest if hold else -1)
            expected[slot] = newest
            replay.add(np.zeros(2, np.float32), 0.0, False, obs)
    answered = set(questions[: len(questions) // batch * batch])
    actions, counts = known.of(torch.tensor(list(expected)))
    for source, given_action, counted in zip(expected.values(), actions, counts, strict=True):
        assert bool(counted) == (source in answered)
        if counted:
            assert given_action.tolist() == pytest.approx([source / 1000] * 2)


def test_a_question_does_not_wait_for_its_batch_for_ever(tmp_path: Path) -> None:
    stage = Stage(tmp_path, query_every=30, query_batch=32, psi0=200)
    with mock.patch.object(priors, "PATIENCE", 20):
        stage.play(85)
    assert [shape[0] for shape in stage.vlm.asked] == [1, 1, 1] and not stage.agent.advice.priors.unasked


def test_a_vlm_that_was_never_asked_is_no_success_without_a_word(tmp_path: Path) -> None:
    stage = Stage(tmp_path, query_batch=32)
    stage.play(5)
    warned: list[str] = []
    stage.services.warn = warned.append  # type: ignore[method-assign]
    stage.finish()
    assert stage.services.rows[-1][1]["valid_share"] == 0 and stage.services.rows[-1][1]["queries"] == 0
    assert warned == ["the VLM was not asked once: this is no agent with a VLM; tables mark it"]


def test_an_episode_that_was_given_up_is_not_learnt_from(tmp_path: Path) -> None:
    """Its returns are cut short, which is no fault of its actions."""
    whole, cut = (Stage(tmp_path / name, psi0=25) for name in ("whole", "cut"))
    whole.play(26)
    cut.play(10)
    cut.replay.abandon()
    cut.play(16)
    assert (whole.rounds(), cut.rounds()) == ([25], [25])
    assert whole.services.rows[-1][1]["collected"] - cut.services.rows[-1][1]["collected"] == EPISODE


def test_no_experience_asks_nothing_of_a_teacher(tmp_path: Path) -> None:
    """A round fell due while the only episode was given up, and the teacher was asked for none of its own."""
    stage = Stage(tmp_path, psi0=4, teacher="scripted")
    stage.play(3)
    stage.replay.abandon()
    with mock.patch.object(stage.services, "demonstrate", side_effect=AssertionError("asked")):
        stage.play(2)
    assert not stage.rounds()
    stage.play(20)
    assert stage.rounds()


def test_the_agents_clock_counts_decisions(tmp_path: Path) -> None:
    """An episode's last action may have fewer environment steps: their number over the repeat falls behind."""
    stage = Stage(tmp_path, repeat=3, clock="agent", query_every=1, query_batch=1)
    stage.replay.start(covr_stage.observation(0))
    for decision in range(30):
        stage.agent.update(stage.replay, 3 * decision - decision // 5)  # every fifth has two
        stage.replay.add(action(decision), 0.0, False, covr_stage.observation(decision + 1))
    assert len(stage.vlm.asked) == 30


@pytest.mark.parametrize("direction", get_args(eddf.Direction))
@pytest.mark.parametrize("compare", get_args(eddf.Compare))
def test_the_filter_is_eddf_as_the_switches_say(direction: Any, compare: Any) -> None:
    keep = choose(SCORES, 1.5, np.random.default_rng(0), direction=direction, compare=compare)
    assert keep.tolist() == eddf.select(SCORES, 1.5, direction, compare).tolist()
    drawn = choose(SCORES, 1.5, np.random.default_rng(0), rule="random", direction=direction, compare=compare)
    assert drawn.sum() == keep.sum() and drawn.tolist() != keep.tolist()


def test_the_switches_of_the_filter_differ() -> None:
    kept = {
        (d, c): choose(SCORES, 1.5, np.random.default_rng(0), direction=d, compare=c).sum()
        for d in get_args(eddf.Direction)
        for c in get_args(eddf.Compare)
    }
    assert kept["eq5", "z"] < kept["prose", "z"] and kept["eq5", "z"] != kept["eq5", "raw"]
    # sigmoid(1.5) of the range above the median, sigmoid(-1.5) of it
    z = eddf.zscores(SCORES)
    low, median, high = np.percentile(z, (25, 50, 75))
    for direction, share in (("eq5", 0.81757), ("prose", 0.18243)):
        assert kept[direction, "z"] == (z > median + share * (high - low)).sum()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_the_rule_top_keeps_the_share_asked_for(share: float) -> None:
    keep = choose(SCORES, 1.5, np.random.default_rng(0), rule="top", top_share=share)
    assert sorted(SCORES)[-int(share * len(SCORES)) :] == sorted(SCORES[keep])


@pytest.mark.parametrize("discount", [0.0, 0.5, 0.99])
def test_samples_are_scored_by_their_discounted_return(tmp_path: Path, discount: float) -> None:
    stage = Stage(tmp_path, return_discount=discount)
    stage.play(11)
    expected = returns([slot for slot in range(12) if slot % 6 < 5], discount)
    assert stage.chosen[0][0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("score", "of"), [("reward", reward), ("q", lambda slot: np.sin(np.float32(37) * action(slot)[0]))]
)
def test_samples_are_scored_as_the_ablations_say(tmp_path: Path, score: Any, of: Any) -> None:
    stage = Stage(tmp_path, score=score)
    stage.play(11)
    assert stage.chosen[0][0] == pytest.approx([of(slot) for slot in range(12) if slot % 6 < 5], abs=1e-5)


def test_samples_are_weighted_as_the_ablations_say(tmp_path: Path) -> None:
    for name in ("uniform", "random"):
        stage = Stage(tmp_path / name, weights=name, rule="top")
        stage.play(11)
        (samples,) = stage.vlm.samples
        assert len(samples) == 8
        if name == "uniform":
            assert samples.weights.tolist() == [1] * 8
        else:
            assert len(set(samples.weights.tolist())) == 8 and 0 <= samples.weights.min() < samples.weights.max() < 1


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, [10, 30, 60, 100]),
        ({"growth": "printed"}, [10, 30, 90]),
        ({"psi0": 20}, [20, 60]),
        ({"clock": "agent"}, [20, 60]),
    ],
)
def test_rounds_come_when_the_schedule_says(tmp_path: Path, settings: dict[str, Any], steps: list[int]) -> None:
    stage = Stage(tmp_path, repeat=2, **settings)
    stage.play(55)
    assert stage.rounds() == steps


def test_the_clock_of_the_questions_is_that_of_the_rounds(tmp_path: Path) -> None:
    for clock, share in (("env", 4), ("agent", 8)):
        stage = Stage(tmp_path / clock, repeat=2, clock=clock, query_every=8, query_batch=1)
        stage.play(48)
        assert len(stage.vlm.asked) == 48 // share


@pytest.mark.parametrize(("episodes", "collected"), [("finished", 10), ("cut", 12)])
def test_the_running_episode_is_collected_only_if_it_is_cut(tmp_path: Path, episodes: Any, collected: int) -> None:
    stage = Stage(tmp_path, episodes=episodes, psi0=12)
    stage.play(13)
    assert stage.services.rows[-1][1]["collected"] == collected


@pytest.mark.parametrize(("after", "begins"), [(0, 0), (1, 10), (3, 60)])
def test_guidance_begins_after_so_many_rounds(tmp_path: Path, after: int, begins: int) -> None:
    stage = Stage(tmp_path, guidance_after=after)
    stage.play(70)
    assert stage.base.guided == [step >= begins for step in range(70)]


@pytest.mark.parametrize("side", [6, 60])  # a VLM that sees what the agent sees, and one that pictures are drawn for
def test_old_priors_are_kept_asked_for_again_or_dropped(tmp_path: Path, side: int) -> None:
    found = {}
    for name in ("keep", "relabel", "drop"):
        stage = Stage(tmp_path / name, old_priors=name, query_batch=1, guidance_after=9, vlm_image_size=side)
        stage.play(10)
        before = stage.agent.advice.priors.actions.copy()
        stage.play(15)
        assert stage.rounds() == [10] and any(stage.vlm.shift or ())
        priors = stage.agent.advice.priors
        found[name] = (priors.actions[:6] - before[:6])[::2][:, 0]
        counting = priors.of(torch.arange(15))[1].nonzero().flatten().tolist()
        assert counting == ([14] if name == "drop" else [0, 2, 4, 7, 9, 12, 14])  # asked at 12, then the round
    assert not found["keep"].any()
    assert found["relabel"] == pytest.approx([stage.vlm.shift[0]] * 3, abs=0.011)  # type: ignore[index]


def test_only_slots_that_are_pictured_still_are_asked_about_again(tmp_path: Path) -> None:
    stage = Stage(tmp_path, old_priors="relabel", query_batch=1, guidance_after=9, vlm_image_size=60)
    stage.play(8)
    before = stage.agent.advice.priors.actions.copy()
    stage.agent.advice.frames.drop(4)  # those of slots 0 and 2
    stage.play(17)
    moved = (stage.agent.advice.priors.actions - before)[[0, 2, 4, 7], 0]
    assert moved.astype(bool).tolist() == [False, False, True, True]


def test_the_vlm_is_opened_with_the_settings_of_fine_tuning(tmp_path: Path) -> None:
    stage = Stage(
        tmp_path, vlm="some-vlm", decode="expect", vlm_device="cuda:1", vlm_dtype="int4", tuner="copy", lora_rank=3,
        lora_alpha=5.0, finetune_lr=0.01, finetune_epochs=7, finetune_min_steps=11, finetune_batch_size=13,
        micro_batch=17, label_smoothing=0.25,
    )  # fmt: skip
    assert stage.opened == {
        "name": "some-vlm",
        "decode": "expect",
        "device": "cuda:1",
        "dtype": "int4",
        "seed": 0,
        "tuner": "copy",
        "adapter_folder": tmp_path / "adapters" / "served",
        "settings": FinetuneSettings(
            rank=3, alpha=5.0, lr=0.01, epochs=7, min_steps=11, batch_size=13, micro_batch=17, label_smoothing=0.25
        ),
    }


def test_a_masked_answer_needs_no_variance() -> None:
    """A model's own numbers were NaN once: the answer is masked, and the run goes on."""
    told = np.array([[0.1], [np.nan], [0.001]], np.float32)

    class Expects:
        def propose(self, images: Any, prompt: Any) -> Proposals:
            statuses = ("ok", "nonfinite_model", "ok")
            actions = np.where(np.isfinite(told), np.float32(0), np.float32(np.nan))
            return Proposals(actions, np.isfinite(told)[:, 0], ("",) * 3, statuses, 0.0, told)

    replay = Replay(8, (9, 12, 12), 1, seed=0)
    black = np.zeros((9, 12, 12), np.uint8)
    images = np.zeros((3, 12, 12, 3), np.uint8)
    priors = Priors(
        cast("Any", Expects()),
        task_prompt("x.", 1),
        lambda replay, slots: images,
        lambda slots: slots,
        batch=3,
        hold=False,
        background=False,
    )
    replay.start(black)
    for _ in range(3):
        priors.see(replay, True)
        replay.add(np.zeros(1, np.float32), 0.0, False, black)
    slots = torch.arange(3)
    assert priors.of(slots)[0].isfinite().all()  # 0 times NaN would be NaN, in the loss and in its gradient
    assert priors.of(slots)[1].tolist() == [1, 0, 1]
    assert priors.variance_of(slots)[:, 0].tolist() == pytest.approx([0.1, 1, 0.01])
    priors.variance[:] = np.nan
    with pytest.raises(UserError, match="needs answers that tell their variance"):
        priors.variance_of(slots)


OTHER: dict[str, Any] = {
    "vlm": "scripted",
    "vlm_device": "cuda:1",
    "vlm_dtype": "bfloat16",
    "vlm_silent": "allow",
    "vlm_image_size": 7,
    "vlm_frames": 2,
    "query_every": 3,
    "decode": "forced",
    "base": "sac",
    "base_settings": {"lr": 1.0},
    "query_batch": 2,
    "queries": "async",
    "between_queries": "hold",
    "guidance_weight": 2.0,
    "guidance_trust": "variance",
    "prior": "zero",
    "tuner": "copy",
    "old_priors": "relabel",
    "guidance_after": 2,
    "guidance_schedule": "anneal",
    "guidance_to_encoder": True,
    "psi0": 15,
    "growth": "printed",
    "clock": "agent",
    "episodes": "cut",
    "teacher": "scripted",
    "score": "reward",
    "return_discount": 0.5,
    "rule": "random",
    "top_share": 0.4,
    "direction": "prose",
    "compare": "raw",
    "weights": "uniform",
    "labels": "policy",
    "accept": "better",
    "lora_rank": 3,
    "lora_alpha": 5.0,
    "finetune_lr": 0.01,
    "finetune_epochs": 7,
    "finetune_min_steps": 11,
    "finetune_batch_size": 13,
    "micro_batch": 17,
    "label_smoothing": 0.25,
    "vlm_episodes": 2,
}
"""Another value of every setting."""
WITH = {
    "top_share": {"rule": "top"},
    "growth": {"psi0": 3},
    "episodes": {"psi0": 12},
    "between_queries": {"query_every": 6},
    "vlm_silent": {"vlm": "silent"},
}
"""What else is set, where nothing would differ otherwise."""


def seen(folder: Path, **settings: Any) -> str:
    stage = Stage(folder, repeat=2, **settings)
    stage.play(32)
    stage.finish()
    return repr(stage.seen())  # as text: an error may be NaN


def test_every_setting_is_tried() -> None:
    assert set(OTHER) == {item.name for item in fields(Config)}


@pytest.mark.parametrize("name", OTHER)
def test_every_setting_does_something(tmp_path: Path, name: str) -> None:
    also: Any = WITH.get(name, {})
    assert seen(tmp_path, **also) == seen(tmp_path, **also)
    assert seen(tmp_path, **also) != seen(tmp_path, **(also | {name: OTHER[name]}))


def test_a_checkpoint_of_the_first_version_is_taken_up(tmp_path: Path) -> None:
    """Its layout, written out. Priors and frames are not in it if nothing was learnt yet."""
    capacity, later = 512, {"rounds": 0, "scored": True, "collected_from": 6, "tried_until": 12}
    answered = torch.full((capacity,), -1)
    answered[4] = 4
    state: dict[str, Any] = {
        "base": {},
        "metrics": {"guidance_loss": torch.tensor(0.5)},
        "priors": {
            "actions": torch.full((capacity, 2), 0.25),
            "valid": answered >= 0,
            "answered": answered,
            "source": answered,
            "waiting": [7],
            "stale": [3],
            "recent": [True],
            "last": 7,
            "statuses": {"ok": 5},
            "seconds": 1.5,
        },
        "frames": {"slots": []},
    }
    stage = Stage(tmp_path)
    stage.agent.load_state_dict(state | later)
    actions, known = stage.agent.advice.priors.of(torch.tensor([4, 5]))
    assert actions[0].tolist() == [0.25, 0.25] and known.tolist() == [1, 0]
    again = stage.agent.state_dict()
    assert set(again) == {*state, "clock", "adapter", "decisions", *later} and set(again["priors"]) > set(
        state["priors"]
    )
    for name, value in state["priors"].items():
        assert torch.equal(again["priors"][name], value) if name in Priors._ARRAYS else again["priors"][name] == value
    fresh = Stage(tmp_path)
    fresh.agent.load_state_dict({"base": {}, "metrics": {}} | dict.fromkeys(later, 0))
    fresh.play(11)
    assert fresh.rounds() == [10]


def test_what_was_made_to_act_cannot_learn(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    policy = make(stage.agent.config, replace(stage.context, services=None))
    with pytest.raises(UserError, match=r"made without Context\.services"):
        policy.update(stage.replay, 0)


def test_an_episode_that_ends_within_an_actions_repeats_is_asked_about_no_more_often() -> None:
    """At repeat 3 an episode of 22 steps ends one step after the 21st: 20 was passed once, not twice."""
    asked: list[bool] = []

    class Seen:
        def see(self, replay: Any, now: bool, good: Any = None) -> None:
            asked.append(now)

    advice = object.__new__(Advice)
    advice.config, advice.clock, advice.player, advice.vlm = Config(query_every=10), -1, None, ScriptedPrior()
    advice.frames, advice.priors = Seen(), Seen()  # type: ignore[assignment]
    steps = [*range(0, 22, 3), *range(22, 44, 3)]
    for step in steps:
        advice.ask(Replay(8, (3, 2, 2), 1, seed=0), step, 3)
    assert [step for step, now in zip(steps, asked[::2], strict=True) if now] == [0, 12, 21, 31, 40]


def test_rounds_tell_how_far_behind_the_priors_in_use_are(tmp_path: Path) -> None:
    """A question of the step a round is due at is answered before it."""
    stage = Stage(tmp_path, query_batch=1, guidance_after=9)
    stage.play(61)
    behind = [row["prior_rounds_behind"] for _, row in stage.services.rows if row["round"]]
    asked = np.arange(0, 62, 2)  # by agent step
    expected = [np.mean([sum(due >= each for due in (10, 30)[:done]) for each in asked[asked <= now]])
                for done, now in enumerate((10, 30, 60))]  # fmt: skip
    assert behind == pytest.approx(expected) and behind[2] > behind[1] > behind[0] == 0


def test_a_round_is_measured_on_the_newest_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = iter(np.sin(np.arange(1000)))
    monkeypatch.setattr(covr_stage.Services, "player", lambda self: lambda: np.full(ACTIONS, next(good), np.float32))
    monkeypatch.setattr(loop, "MEASURED", 3)
    stage = Stage(tmp_path, query_batch=1)
    stage.play(11)
    priors = stage.agent.advice.priors
    newest = np.array([7, 9, 12])  # of 0, 2, 4, 7, 9 and 12, which were asked about
    told = priors.good[newest]
    expected = relative_error(newest[:, None] / np.full(ACTIONS, 100, np.float32), told, told.mean(0), np.ones(3))
    assert stage.services.rows[-1][1]["prior_error"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("many", [1, 4, 256])
def test_q_values_are_each_of_its_own_action_however_many_at_once(tmp_path: Path, many: int) -> None:
    with mock.patch.object(ranking, "Q_BATCH", many):
        stage = Stage(tmp_path, score="q")
        stage.play(11)
    slots = [slot for slot in range(12) if slot % (EPISODE + 1) < EPISODE]
    assert stage.chosen[0][0] == pytest.approx([np.sin(np.float32(37) * action(slot)[0]) for slot in slots], abs=1e-5)


def test_a_teachers_steps_are_scored_to_the_end_of_their_episode(tmp_path: Path) -> None:
    """The stage's teacher shows the slots from 60 on, all in one episode."""
    stage = Stage(tmp_path, teacher="scripted", return_discount=0.9)
    stage.play(11)
    rewards = [reward(slot) for slot in range(60, 70)]
    expected = [sum(0.9**i * r for i, r in enumerate(rewards[k:])) for k in range(10)]
    assert stage.chosen[0][0] == pytest.approx(expected)


def test_a_round_that_is_undone_leaves_what_the_one_before_it_made(tmp_path: Path) -> None:
    stage = Stage(tmp_path, accept="better")
    tune, errors = stage.vlm.finetune, iter([0.5, 0.9])
    stage.vlm.finetune = lambda *given: replace(  # type: ignore[method-assign]
        tune(*given), heldout_error_weighted=next(errors), error_before_weighted=0.8
    )
    stage.play(11)
    kept = stage.vlm.shift
    stage.play(20)
    assert stage.rounds() == [10, 30] and [row["accepted"] for _, row in stage.services.rows[1:]] == [1, 0]
    assert any(kept or ()) and stage.vlm.shift == kept and stage.agent.adapter == 1


def test_the_weight_falls_with_environment_steps_whatever_the_clock(tmp_path: Path) -> None:
    for clock in ("env", "agent"):
        stage = Stage(tmp_path / clock, repeat=2, clock=clock, guidance_schedule="anneal")
        stage.play(51)
        assert stage.agent.weight == pytest.approx(1 - 100 / stage.context.total_env_steps)
