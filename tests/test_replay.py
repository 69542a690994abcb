from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covr_bench.kit.replay import Replay

SHAPE = (9, 2, 2)


def frame(number: int) -> np.ndarray:
    """A frame whose first bytes spell its number."""
    return (
        np.full((3, 2, 2), (number % 256), np.uint8)
        + np.arange(3, dtype=np.uint8)[:, None, None] * 0
        + (np.array([0, number // 256, 0], np.uint8)[:, None, None])
    )


class Recorder:
    """Feeds a replay as the loop does, and keeps every transition whole, as it was seen."""

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        self.episodes: list[dict[str, list]] = []
        self.frames = 0

    def _next(self) -> np.ndarray:
        self.frames += 1
        return frame(self.frames)

    def episode(self, length: int, terminated: bool) -> None:
        first = self._next()
        obs = np.concatenate([first] * 3)
        self.replay.start(obs)
        record: dict[str, list] = {"obs": [obs], "action": [], "reward": [], "discount": []}
        self.episodes.append(record)
        for i in range(length):
            action = np.array([self.frames], np.float32)
            obs = np.concatenate([obs[3:], self._next()])
            done = terminated and i == length - 1
            self.replay.add(action, float(self.frames % 7), done, obs)
            record["obs"].append(obs)
            record["action"].append(action)
            record["reward"].append(float((self.frames) % 7))
            record["discount"].append(0.0 if done else 1.0)

    def windows(self, nstep: int, gamma: float) -> dict[bytes, tuple]:
        """Every n-step transition by its first observation and action."""
        result = {}
        for episode in self.episodes:
            for i in range(len(episode["action"]) - nstep + 1):
                reward, factor = 0.0, 1.0
                for k in range(nstep):
                    reward += factor * episode["reward"][i + k]
                    factor *= gamma * episode["discount"][i + k]
                key = episode["action"][i].tobytes()
                result[key] = (episode["obs"][i], reward, factor, episode["obs"][i + nstep])
        return result


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=12),
    st.integers(1, 4),
    st.integers(12, 60),
)
def test_samples_are_transitions_as_they_were_seen(episodes: list[tuple[int, bool]], nstep: int, capacity: int) -> None:
    replay = Replay(capacity, SHAPE, 1, seed=0)
    recorder = Recorder(replay)
    for length, terminated in episodes:
        recorder.episode(length, terminated)
    windows = recorder.windows(nstep, 0.9)
    if not replay.can_sample(nstep):
        with pytest.raises(ValueError, match="window"):
            replay.sample(4, nstep)
        return
    batch = replay.sample(64, nstep, 0.9)
    for i in range(64):
        obs, reward, factor, next_obs = windows[batch.action[i].numpy().tobytes()]
        np.testing.assert_array_equal(batch.obs[i], obs)
        np.testing.assert_array_equal(batch.next_obs[i], next_obs)
        assert float(batch.reward[i]) == pytest.approx(reward, rel=1e-6)
        assert float(batch.discount[i]) == pytest.approx(factor, rel=1e-6)
        np.testing.assert_array_equal(replay.frames[batch.slot[i] % capacity], obs[-3:])


def test_sampling_is_uniform_over_windows() -> None:
    replay = Replay(100, SHAPE, 1, seed=1)
    recorder = Recorder(replay)
    for length in (5, 20, 3, 12):
        recorder.episode(length, terminated=False)
    actions = replay.sample(40_000, 3).action.numpy().ravel()
    values, counts = np.unique(actions, return_counts=True)
    assert len(values) == 3 + 18 + 1 + 10
    expected = 40_000 / len(values)
    assert np.abs(counts - expected).max() < 6 * expected**0.5


def test_sampling_repeats_with_the_seed() -> None:
    first, second, other = (Replay(50, SHAPE, 1, seed=seed) for seed in (3, 3, 4))
    for replay in (first, second, other):
        Recorder(replay).episode(30, terminated=True)
    a, b, c = (replay.sample(16).action for replay in (first, second, other))
    assert a.equal(b)
    assert not a.equal(c)


def test_each_frame_is_stored_once_and_memory_does_not_grow() -> None:
    replay = Replay(1000, (9, 84, 84), 6, seed=0)
    arrays = (replay.frames, replay.action, replay.reward, replay.discount, replay.first)
    per_slot = sum(array.nbytes for array in arrays) / replay.capacity
    assert per_slot * 126 / 125 < 22_000  # an episode of 125 transitions takes 126 slots
    before = [array.__array_interface__["data"] for array in arrays]
    obs = np.zeros((9, 84, 84), np.uint8)
    replay.start(obs)
    for _ in range(1500):
        replay.add(np.zeros(6, np.float32), 0.0, False, obs)
    after = (replay.frames, replay.action, replay.reward, replay.discount, replay.first)
    assert [array.__array_interface__["data"] for array in after] == before
    assert len(replay) == 1000


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=10), st.integers(12, 60))
def test_slots_round_trip(lengths: list[int], capacity: int) -> None:
    replay, copy = (Replay(capacity, SHAPE, 1, seed=0) for _ in range(2))
    recorder = Recorder(replay)
    for length in lengths:
        recorder.episode(length, terminated=False)
    oldest = max(0, replay.head - capacity)
    middle = (oldest + replay.head) // 2
    copy.put(oldest, replay.slots(oldest, middle))
    copy.put(middle, replay.slots(middle, replay.head))
    copy.head = replay.head
    for start in range(replay.oldest(), replay.head):
        np.testing.assert_array_equal(replay.obs(np.array([start])), copy.obs(np.array([start])))


EPISODES = st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=12)


def filled(episodes: list[tuple[int, bool]], capacity: int) -> tuple[Replay, Recorder]:
    replay = Replay(capacity, SHAPE, 1, seed=0)
    recorder = Recorder(replay)
    for length, terminated in episodes:
        recorder.episode(length, terminated)
    return replay, recorder


@settings(max_examples=40, deadline=None)
@given(EPISODES, st.integers(1, 4), st.integers(12, 60))
def test_starts_are_the_windows_that_are_drawn(episodes: list[tuple[int, bool]], nstep: int, capacity: int) -> None:
    replay, _ = filled(episodes, capacity)
    starts = replay.starts(nstep)
    assert replay.can_sample(nstep) == bool(len(starts))
    assert (np.diff(starts) > 0).all()
    if replay.can_sample(nstep):
        assert set(replay.sample(500, nstep).slot.tolist()) <= set(starts.tolist())
        for first, again in zip(replay.at(starts, nstep, 0.9), replay.at(starts, nstep, 0.9), strict=True):
            assert first.equal(again)


@settings(max_examples=40, deadline=None)
@given(EPISODES, st.integers(1, 3), st.integers(1, 30), st.integers(12, 60))
def test_newest_windows_are_every_one_of_the_newest(
    episodes: list[tuple[int, bool]], nstep: int, newest: int, capacity: int
) -> None:
    replay, _ = filled(episodes, capacity)
    starts = replay.starts(nstep)
    recent = starts[starts >= replay.head - nstep - newest]
    if not len(starts):
        with pytest.raises(ValueError, match="window"):
            replay.sample(4, nstep, newest=newest)
        return
    if not len(recent):  # an episode has just begun
        recent = starts[-1:]
    drawn = replay.sample(600, nstep, newest=newest).slot.tolist()
    assert set(drawn) == set(recent.tolist())


def test_more_newest_than_stored_is_plain_sampling() -> None:
    replays = [filled([(9, True), (7, False)], 40)[0] for _ in range(2)]
    assert replays[0].sample(50).slot.equal(replays[1].sample(50, newest=1000).slot)


@settings(max_examples=40, deadline=None)
@given(EPISODES, st.integers(12, 60))
def test_step_before_is_as_it_was_seen(episodes: list[tuple[int, bool]], capacity: int) -> None:
    replay, recorder = filled(episodes, capacity)
    before = {}
    for episode in recorder.episodes:
        pairs = [
            (0 * episode["obs"][0], 0 * episode["action"][0]),
            *zip(episode["obs"], episode["action"], strict=False),
        ]
        for action, pair in zip(episode["action"], pairs, strict=False):
            before[action.tobytes()] = pair
    if not replay.can_sample():
        return
    batch = replay.sample(64)
    obs, action = replay.before(batch.slot)
    for i in range(64):
        expected_obs, expected_action = before[batch.action[i].numpy().tobytes()]
        np.testing.assert_array_equal(obs[i], expected_obs)
        np.testing.assert_array_equal(action[i], expected_action)


@settings(max_examples=40, deadline=None)
@given(EPISODES, st.integers(1, 5), st.integers(12, 60))
def test_sequences_are_steps_in_a_row(episodes: list[tuple[int, bool]], length: int, capacity: int) -> None:
    replay, recorder = filled(episodes, capacity)
    if not replay.can_sample(length):
        return
    obs, action = replay.sequences(20, length)
    assert obs.shape == (length, 20, *SHAPE) and action.shape == (length, 20, 1)
    where = {a.tobytes(): (e, t) for e, one in enumerate(recorder.episodes) for t, a in enumerate(one["action"])}
    for i in range(20):
        episode, first = where[action[0, i].numpy().tobytes()]
        for t in range(length):
            np.testing.assert_array_equal(obs[t, i], recorder.episodes[episode]["obs"][first + t])
            np.testing.assert_array_equal(action[t, i], recorder.episodes[episode]["action"][first + t])


@settings(max_examples=40, deadline=None)
@given(EPISODES, st.integers(12, 60))
def test_progress_is_the_length_of_the_last_two_episodes(episodes: list[tuple[int, bool]], capacity: int) -> None:
    replay, _ = filled(episodes, capacity)
    lengths = [0, *(length for length, _ in episodes)]
    done, before = replay.progress()
    assert done == lengths[-1]
    assert before in (lengths[-2], 0)
    if sum(lengths[-2:]) + 6 < capacity:
        assert before == lengths[-2]


def test_greyscale_is_refused() -> None:
    with pytest.raises(ValueError, match="4 channels"):
        Replay(10, (4, 2, 2), 1, seed=0)


def test_a_longer_window_still_returns_what_nstep_says() -> None:
    """Transitions of one step, drawn only where three fit, and what follows them."""
    replay = Replay(26, SHAPE, 1, seed=0)
    recorder = Recorder(replay)
    for length in (7, 2, 3, 5, 9):  # the ring wraps
        recorder.episode(length, terminated=False)
    batch = replay.sample(500, 1, 0.9, window=3)
    actions, later = replay.actions(batch.slot, 3), replay.after(batch.slot, 3)
    one, three = recorder.windows(1, 0.9), recorder.windows(3, 0.9)
    taken = {
        episode["action"][i].tobytes(): np.stack(episode["action"][i : i + 3])
        for episode in recorder.episodes
        for i in range(len(episode["action"]) - 2)
    }
    drawn = {action.tobytes() for action in batch.action.numpy()}
    assert drawn == {replay.action[start % 26].tobytes() for start in replay.starts(3)}
    assert drawn < {replay.action[start % 26].tobytes() for start in replay.starts(1)}
    for i, key in enumerate(action.tobytes() for action in batch.action.numpy()):
        np.testing.assert_array_equal(batch.next_obs[i], one[key][3])
        assert float(batch.reward[i]) == one[key][1]
        np.testing.assert_array_equal(later[i], three[key][3])
        np.testing.assert_array_equal(actions[i], taken[key])


def test_whole_windows_are_found_behind_many_episodes_that_are_too_short() -> None:
    """One window in a thousand slots: drawing until it is hit would take as many tries."""
    replay, _ = filled([(5, False), *[(2, False)] * 400], capacity=2000)
    assert replay.can_sample(5)
    assert replay.sample(64, 5).slot.unique().tolist() == [0]
