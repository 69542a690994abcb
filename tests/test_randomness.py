"""The global random states of a run."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from covr_bench.run.randomness import random_state, seed_everything, set_random_state


def draws() -> list[float]:
    return [float(torch.rand(1)), float(np.random.rand())]


def test_a_run_goes_on_where_fewer_gpus_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint of a machine with four, read where there is one."""
    restored = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device="cuda": restored.append(device))
    seed_everything(3)
    state = random_state() | {"cuda": [torch.get_rng_state()] * 4}
    drawn = draws()
    set_random_state(state)
    assert draws() == drawn
    assert restored == [0]


def test_pythons_own_generator_goes_on_as_well() -> None:
    seed_everything(3)
    state = random_state()
    drawn = random.random()
    set_random_state(state)
    assert random.random() == drawn
