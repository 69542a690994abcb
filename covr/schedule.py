"""APFT, adaptive progressive fine-tuning: at which environment steps a fine-tuning round is due.

The interval starts at psi_0 and grows with the round c = 1, 2, ...:

linear    psi_{c+1} = psi_c + psi_0       5k, 15k, 30k, 50k, 75k     five rounds in 100k steps, as the paper shows
printed   psi_{c+1} = psi_c + psi_c * c   5k, 15k, 45k, 165k         the formula as it is printed
"""

from __future__ import annotations

from typing import Literal, get_args

Growth = Literal["linear", "printed"]


def next_step(rounds_done: int, psi0: int = 5_000, growth: Growth = "linear") -> int:
    """The environment step at which round number `rounds_done + 1` is due; at least psi0, so never step 0.

    A round that finds nothing to learn from is not done: it stays due. Raises ValueError for psi0 < 1, a negative
    number of rounds or an unknown growth.
    """
    if growth not in get_args(Growth):
        raise ValueError(f"growth of the fine-tuning interval is {growth!r}; choose one of {get_args(Growth)}")
    if psi0 < 1 or rounds_done < 0:
        raise ValueError(f"psi0 = {psi0} must be at least 1 and rounds_done = {rounds_done} at least 0")
    step = interval = psi0
    for c in range(1, rounds_done + 1):
        interval += psi0 if growth == "linear" else interval * c
        step += interval
    return step


def finetune_steps(psi0: int = 5_000, growth: Growth = "linear", until: int = 100_000) -> tuple[int, ...]:
    """Every step of a run of `until` environment steps at which a round is due, `until` itself included."""
    steps: list[int] = []
    while (step := next_step(len(steps), psi0, growth)) <= until:
        steps.append(step)
    return tuple(steps)
