from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines import mrq
from covr_bench.kit import nets
from covr_bench.kit.errors import UserError
from covr_bench.kit.nets import Linear, PixelEncoder, backward_in_parts


def case(rows: int, width_in: int, width_out: int, seed: int = 0) -> tuple[Linear, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    return Linear(width_in, width_out), torch.randn(rows, width_in), torch.randn(rows, width_out)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 70), st.integers(1, 300), st.integers(1, 90), st.integers(0, 2**31))
def test_linear_equals_float64(rows: int, width_in: int, width_out: int, seed: int) -> None:
    layer, x, grad = case(rows, width_in, width_out, seed)
    inputs = [x.requires_grad_(), layer.weight, layer.bias]
    y = layer(x)
    exact = [t.detach().double().requires_grad_() for t in inputs]
    expected = torch.nn.functional.linear(*exact)
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(
        torch.autograd.grad(y, inputs, grad), torch.autograd.grad(expected, exact, grad.double()), strict=True
    ):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("wanted", range(1, 8))
def test_linear_has_gradients_only_where_wanted(wanted: int) -> None:
    layer, x, grad = case(6, 20, 10)
    inputs = [x, layer.weight, layer.bias]
    for i, tensor in enumerate(inputs):
        tensor.requires_grad_(bool(wanted >> i & 1))
    layer(x).backward(grad)
    assert [tensor.grad is not None for tensor in inputs] == [tensor.requires_grad for tensor in inputs]


def test_linear_of_other_shapes_and_types_is_torch_s() -> None:
    layer, x, _ = case(6, 20, 10)
    plain = torch.nn.Linear(20, 10)
    plain.load_state_dict(layer.state_dict())
    for other in (x[0], x.reshape(2, 3, 20)):
        assert torch.equal(layer(other), plain(other))
    assert layer.double()(x.double()).dtype == torch.float64


def test_linear_repeats_bit_for_bit() -> None:
    layer, x, grad = case(128, 1024, 50)
    results = [[layer(x), *torch.autograd.grad(layer(x), list(layer.parameters()), grad)] for _ in range(2)]
    assert all(map(torch.equal, *results))


def test_a_large_batch_is_backpropagated_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nets, "PART", 5)
    layer, x, target = case(12, 20, 3)
    sizes = []

    def loss(x: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.append(len(x))
        y = layer(x)
        return (y - target).square().mean(), y

    found, y = backward_in_parts(loss, x, target)
    assert sizes == [5, 5, 2]
    assert not y.requires_grad and not found.requires_grad
    expected, whole = loss(x, target)
    torch.testing.assert_close((found, y), (expected.detach(), whole.detach()))
    torch.testing.assert_close(layer.weight.grad, torch.autograd.grad(expected, layer.weight)[0])


@pytest.mark.parametrize(("layers", "least"), [(4, 15), (2, 7), (11, 43)])
def test_frames_that_are_too_small_are_refused(layers: int, least: int) -> None:
    PixelEncoder((3, least, least), kernel="torch", layers=layers)
    with pytest.raises(
        UserError, match=rf"frames of {least - 1} by 40 pixels are too small .* need {least} by {least}"
    ):
        PixelEncoder((3, least - 1, 40), kernel="torch", layers=layers)


def test_frames_that_are_too_small_for_mrq_are_refused() -> None:
    make_mrq((9, 31, 31))
    with pytest.raises(UserError, match="need 31 by 31"):
        make_mrq((9, 30, 31))


def make_mrq(shape: tuple[int, int, int]) -> Any:
    return mrq.Encoder(shape, 1, mrq.Config())
