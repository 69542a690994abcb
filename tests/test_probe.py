"""The probe: the same mathematics whatever the order of draws and names, and the first quantity that differs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from learner import AGENT, PLAIN

from covr_bench.kit.errors import UserError
from covr_bench.probe.differences import Mathematics, compare
from covr_bench.probe.draws import prepared_draws
from covr_bench.probe.probe import probe
from covr_bench.probe.trace import UPDATES, Quantity, Trace, read
from covr_bench.probe.watch import parameters


@pytest.fixture
def traced(tmp_path: Path) -> Callable[..., Trace]:
    def make(text: str = "", **changes: str) -> Trace:
        file = tmp_path / "learner.py"
        file.write_text(text or AGENT.format(**(PLAIN | changes)))
        return probe(str(file))

    return make


def test_unchanged_code_is_the_same(traced: Callable[..., Trace]) -> None:
    first, second = traced(), traced()
    assert compare(first, second).sentence() == "same mathematics"
    names = [each.name for each in first.quantities]
    assert sum("loss" in name for name in names) == UPDATES
    assert any("in an evaluation" in name for name in names) and any(name.startswith("in the replay") for name in names)


@pytest.mark.deep
def test_names_of_networks_do_not_matter(traced: Callable[..., Trace]) -> None:
    assert compare(traced(), traced(critic="value_network")).verdict is Mathematics.SAME


@pytest.mark.deep
def test_a_draw_of_another_shape_in_between_does_not_matter(traced: Callable[..., Trace]) -> None:
    """Torch's and numpy's streams would be moved on by it; prepared draws are not."""
    assert compare(traced(), traced(draw_first="torch.rand(77)")).verdict is Mathematics.SAME


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"discount": "0.99"}, "update 0 at step 2: target_q: "),
        ({"discount": "batch.discount * 0.9999"}, "update 0 at step 2: target_q: "),
        ({"noise": "0.999"}, "action 0 in training, step 0: "),
    ],
)
def test_the_first_quantity_that_differs_is_named(
    traced: Callable[..., Trace], changes: dict[str, str], first: str
) -> None:
    comparison = compare(traced(), traced(**changes))
    assert comparison.verdict is Mathematics.CHANGED
    assert comparison.sentence().startswith(f"changed: the first difference is {first}")


def test_another_default_is_a_change(traced: Callable[..., Trace]) -> None:
    other = AGENT.format(**PLAIN).replace("lr: float = 1e-2", "lr: float = 2e-2")
    sentence = compare(traced(), traced(other)).sentence()
    assert sentence == "changed: the first difference is setting lr: 0.01 in A, 0.02 in B"


@pytest.mark.deep
def test_a_setting_that_one_side_has_is_a_change_where_it_does_something(traced: Callable[..., Trace]) -> None:
    added = "lr: float = 1e-2\n    reward_scale: float = "
    idle, busy = (AGENT.format(**PLAIN).replace("lr: float = 1e-2", f"{added}{scale}") for scale in ("1.0", "2.0"))
    assert compare(traced(), traced(idle)).verdict is Mathematics.SAME
    assert compare(traced(idle), traced()).verdict is Mathematics.SAME
    scaled = busy.replace("batch.reward", "self.config.reward_scale * batch.reward")
    sentence = compare(traced(), traced(scaled)).sentence()
    assert sentence == "changed: the first difference is setting reward_scale: absent in A, 2.0 in B"


def test_other_draws_cannot_be_compared(traced: Callable[..., Trace]) -> None:
    other = AGENT.format(**PLAIN).replace("uniform(-1, 1, self.context.action_dim)", "uniform(-1, 1, (1, 2))[0]")
    comparison = compare(traced(), traced(other))
    assert comparison.verdict is Mathematics.NOT_COMPARABLE
    assert "draws of uniform (2,) in A, 0 in B" in comparison.sentence()


def test_an_agent_that_never_learns_is_told_what_to_do(traced: Callable[..., Trace]) -> None:
    never = AGENT.format(**PLAIN).replace("if not replay.can_sample():", "if True:")
    with pytest.raises(UserError, match=r"Learner made 0 updates .* shorten its warm-up .* replay_frames=0"):
        traced(never)


@pytest.mark.parametrize("agent", ["drqv2", "covr", "random"])
def test_ours(agent: str, tmp_path: Path) -> None:
    trace = probe(agent)
    assert trace.facts["dtype"] == "float64"
    trace.write(tmp_path / "a.trace")
    kept = read(tmp_path / "a.trace")
    assert compare(trace, kept).verdict is Mathematics.SAME
    assert torch.get_default_dtype() == torch.float32
    if agent == "random":
        return
    changed = probe(agent, {"discount": "0.9901"})
    first = compare(kept, changed).differences[0].name
    assert first.endswith("batch 0: reward" if agent == "drqv2" else "batch 0: discount")  # of three steps, of one


@pytest.mark.parametrize(
    "content", ["", "{}", "[1]\n", '{"format": 99, "facts": {}}\n', '{"format": 1, "facts": {}}\n[1]']
)
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.trace").write_text(content)
    with pytest.raises(ValueError, match="is no trace of a probe"):
        read(tmp_path / "x.trace")


def test_the_command(cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(AGENT.format(**PLAIN))
    (tmp_path / "other.py").write_text(AGENT.format(**(PLAIN | {"discount": "0.99"})))
    kept = cli("probe", tmp_path / "mine.py", "--save", tmp_path / "mine.trace")
    assert kept.code == 0 and "quantities of learner (float64)" in kept.out
    same = cli("probe", tmp_path / "mine.trace", tmp_path / "mine.py")
    assert same.code == 0 and "same mathematics" in same.out
    changed = cli("probe", tmp_path / "mine.trace", tmp_path / "other.py")
    assert changed.code == 3 and "update 0 at step 2: target_q" in changed.out
    nothing = cli("probe", tmp_path / "mine.py")
    assert nothing.code == 2 and "--save" in nothing.err


@given(shapes=st.lists(st.lists(st.integers(1, 4), max_size=3).map(tuple), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_draws_follow_from_kind_shape_and_number(shapes: list[tuple[int, ...]]) -> None:
    with prepared_draws():
        first = [torch.rand(shape) for shape in shapes]
    with prepared_draws():
        torch.randn(5), torch.randint(0, 3, (2,)), np.random.default_rng(3).normal(size=4)
        second = [np.random.default_rng(1).random(shape) for shape in shapes]
    for ours, theirs in zip(first, second, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-6)


def test_swapped_draws_are_the_same_numbers_with_the_second_of_each_pair_first() -> None:
    with prepared_draws():
        plain = [torch.randint(0, 99, (3, 2)) for _ in range(4)], torch.rand(3)
    with prepared_draws(("integer", (3, 2))):
        swapped = [torch.randint(0, 99, (3, 2)) for _ in range(4)], torch.rand(3)
    for i, j in enumerate((1, 0, 3, 2)):
        assert torch.equal(plain[0][i], swapped[0][j])
    assert torch.equal(plain[1], swapped[1]) and not torch.equal(plain[0][0], plain[0][1])


def test_draws_are_distributed_as_they_should() -> None:
    with prepared_draws():
        rng = np.random.default_rng(0)
        normal, uniform, whole = torch.randn(20_000), torch.empty(20_000).uniform_(-2, 4), rng.integers(3, 7, 20_000)
        chosen, order = rng.choice(5, 20_000, p=[0.5, 0.5, 0, 0, 0]), torch.randperm(50)
        moved = torch.empty(20_000).normal_(mean=3.0, std=0.5)
    assert abs(float(normal.mean())) < 0.03 and float(normal.std()) == pytest.approx(1, abs=0.02)
    assert float(uniform.mean()) == pytest.approx(1, abs=0.05) and float(uniform.min()) >= -2
    assert set(whole.tolist()) == {3, 4, 5, 6} and abs(whole.mean() - 4.5) < 0.05
    assert set(chosen.tolist()) == {0, 1} and abs(chosen.mean() - 0.5) < 0.02
    assert sorted(order.tolist()) == list(range(50)) and order.tolist() != list(range(50))
    assert float(moved.mean()) == pytest.approx(3, abs=0.02) and float(moved.std()) == pytest.approx(0.5, abs=0.02)


def test_the_functions_are_given_back() -> None:
    rand, rng = torch.rand, np.random.default_rng
    with prepared_draws():
        assert torch.rand is not rand
    assert torch.rand is rand and np.random.default_rng is rng


def test_a_large_array_is_kept_by_what_its_order_does_not_change() -> None:
    trace, values = Trace(), np.random.default_rng(0).normal(size=100)
    trace.add("a", values)
    trace.add("a", values[::-1].reshape(10, 10))
    first, second = trace.quantities
    assert first.shape != second.shape and first.values == pytest.approx(second.values, rel=1e-12)


@pytest.mark.parametrize(
    ("b", "verdict"), [(1 + 1e-12, "same mathematics"), (1 + 1e-6, "changed"), (float("nan"), "changed")]
)
def test_rounding_is_no_difference(b: float, verdict: str) -> None:
    facts = {"dtype": "float64", "draws": [], "defaults": {}}
    traces = [Trace(facts, [Quantity("q", (), (value,))]) for value in (1.0, b)]
    assert compare(*traces).verdict.value == verdict


@pytest.mark.parametrize(("name", "verdict"), [("recorded 3 at step 9: loss", "same mathematics"), ("q", "changed")])
def test_what_a_vlm_measures_is_rounded_to_float32(name: str, verdict: str) -> None:
    """Another processor's sums of float32 were another mathematics, and the gate failed there."""
    traces = [Trace({"dtype": "float64", "draws": []}) for _ in range(2)]
    for trace, value in zip(traces, (1.2803, 1.2803 * (1 + 1e-7)), strict=True):
        trace.add(name, value)
    assert compare(*traces).verdict == verdict


def test_parameters_are_found_once_by_their_path() -> None:
    class Part:
        def __init__(self) -> None:
            self.net = torch.nn.Linear(2, 1)
            self.same = self.net

    class Whole:
        def __init__(self) -> None:
            self.part, self.alpha = Part(), torch.nn.Parameter(torch.zeros(()))
            self.several = [torch.nn.Linear(1, 1)]

    assert list(parameters(Whole())) == [
        "part.net.weight", "part.net.bias", "alpha", "several.0.weight", "several.0.bias"
    ]  # fmt: skip


def test_what_is_no_number_on_both_sides_is_the_same() -> None:
    """Such as the held-out error of a round that held nothing out."""

    def trace(*values: float) -> Trace:
        found = Trace({"dtype": "float64", "draws": []})
        for i, value in enumerate(values):
            found.add(f"recorded {i}", value)
        return found

    nan = float("nan")
    assert compare(trace(nan, 1.0), trace(nan, 1.0)).verdict is Mathematics.SAME
    assert compare(trace(nan, 1.0), trace(2.0, 1.0)).verdict is Mathematics.CHANGED
    assert compare(trace(nan, 1.0), trace(nan, 1.5)).verdict is Mathematics.CHANGED
